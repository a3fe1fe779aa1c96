"""Tiny wheels and a tiny project, to try the set-up script for real without a network."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> str:
    """Write a wheel with one module that holds the version; returns its SHA-256."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name.replace('-', '_')}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry(name: str, version: str, checksum: str) -> str:
    return f"{name}=={version} \\\n    --hash=sha256:{checksum}\n"


PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# A build backend of the project's own. It says that it is at work in the file `building`, and takes a minute
# where there is a file `slow`: time to be killed in the middle of an installation.
BACKEND = """\
import time, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    Path("building").write_text("")
    if Path("slow").exists():
        time.sleep(60)
    name = "ciad-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, name), "w") as archive:
        archive.writestr("ciad.pth", str(Path.cwd()))
        archive.writestr("ciad-1.0.dist-info/METADATA",
                         "Metadata-Version: 2.1\\nName: ciad\\nVersion: 1.0\\nRequires-Dist: torch>=1\\n")
        archive.writestr("ciad-1.0.dist-info/WHEEL",
                         "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("ciad-1.0.dist-info/entry_points.txt", "[console_scripts]\\nciad-gui = program:main\\n")
        archive.writestr("ciad-1.0.dist-info/RECORD", "")
    return name
"""

PROGRAM = """\
import sys
import torch

def main():
    print("program", torch.version, sys.argv[1:])
    return 7
"""

"""Make the locks in `packaging/` from the ranges in `pyproject.toml`. Needs uv.

    python packaging/lock.py [torch-...+cpu-....whl ...]

`lock.txt` has what the program needs (and what installs it), `lock-test.txt` what the tests add. uv writes the hashes
of every file the registry has of a version. PyTorch's official CPU builds for Linux are not in that registry: the
SHA-256 of the wheels given on the command line (from PyTorch's own download page) go into `lock-cpu.txt`, beside those
it already has of this version.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from environment import LOCK, LOCK_CPU, LOCK_TEST, ROOT, entries

# One version of torch for all systems: the newest whose CPU build was at hand when the lock was made.
CHOSEN = "torch==2.13.0"

HEADER = """\
# Exact versions with the SHA-256 of their files, for Linux, macOS and Windows and Python 3.11 to 3.13.
# Made by packaging/lock.py; do not edit. `packaging/bootstrap.py` installs from it, and of the CUDA
# packages (nvidia-*, cuda-*, triton; Linux only) only what the installed torch asks for.
"""
HEADER_TEST = """\
# What the tests need besides lock.txt. Made by packaging/lock.py; do not edit.
# `packaging/bootstrap.py test` adds it to the environment.
"""
HEADER_CPU = """\
# PyTorch's CPU builds of the version in lock.txt: small, without CUDA, and in no general registry.
# Made by packaging/lock.py. `packaging/bootstrap.py` uses one if pip or uv was told where to find it.
"""


def compiled(*options: str) -> str:
    """Return the lock of the program and of what builds it, or of more, as `options` ask."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return subprocess.run(
        ["uv", "pip", "compile", "pyproject.toml", "-", *options, "--universal", "--python-version", "3.11",
         "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"],
        cwd=ROOT, input="\n".join([CHOSEN, *build]), stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip


def main(wheels: list[str]) -> None:
    program = compiled()
    LOCK.write_text(HEADER + program, encoding="utf-8")
    everything = entries(compiled("--extra", "test", "--constraint", str(LOCK)))
    added = [entry for entry in everything if entry not in entries(program)]
    LOCK_TEST.write_text("\n".join([HEADER_TEST.strip(), *added]) + "\n", encoding="utf-8")

    version = re.search(r"^torch==(\S+)", program, re.MULTILINE)
    assert version is not None
    build = f"torch=={version[1]}+cpu"
    old = LOCK_CPU.read_text(encoding="utf-8") if LOCK_CPU.exists() else ""
    checksums = set(re.findall(r"sha256:(\w+)", old)) if build in old else set()
    checksums |= {hashlib.sha256(Path(wheel).read_bytes()).hexdigest() for wheel in wheels}
    hashes = "".join(f" \\\n    --hash=sha256:{checksum}" for checksum in sorted(checksums))
    LOCK_CPU.write_text(HEADER_CPU + (f"{build}{hashes}\n" if checksums else ""), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

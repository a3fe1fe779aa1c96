"""Make `packaging/lock.txt` from the ranges in `pyproject.toml`, and `packaging/lock-cpu.txt`. Needs uv.

    python packaging/lock.py [torch-...+cpu-....whl ...]

uv writes the hashes of every file the registry has of a version. PyTorch's official CPU builds for Linux
are not in that registry: the SHA-256 of the wheels named on the command line (from PyTorch's own download
page) go into `lock-cpu.txt`, beside those it already has of this version.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "packaging" / "lock.txt"
LOCK_CPU = ROOT / "packaging" / "lock-cpu.txt"

# One version of torch for all systems: the newest whose CPU build was at hand when the lock was made.
CHOSEN = "torch==2.13.0\ntorchvision==0.28.0\n"

HEADER = """\
# Exact versions with the SHA-256 of their files, for Linux, macOS and Windows and Python 3.11 to 3.13.
# Made by packaging/lock.py; do not edit. `packaging/bootstrap.py` installs from it, and of the CUDA
# packages (nvidia-*, cuda-*, triton; Linux only) only what the installed torch asks for.
"""
HEADER_CPU = """\
# PyTorch's CPU builds of the version in lock.txt: small, without CUDA, and in no general registry.
# Made by packaging/lock.py. `packaging/bootstrap.py` uses one where pip or uv was told where to find it.
"""


def main(wheels: list[str]) -> None:
    compiled = subprocess.run(
        ["uv", "pip", "compile", "pyproject.toml", "--extra", "test", "--universal", "--python-version", "3.11",
         "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links",
         "--quiet", "--constraint", "-"],
        cwd=ROOT, input=CHOSEN, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    version = re.search(r"^torch==(\S+)", compiled, re.MULTILINE)
    assert version is not None
    build = f"torch=={version[1]}+cpu"
    old = LOCK_CPU.read_text(encoding="utf-8") if LOCK_CPU.exists() else ""
    checksums = set(re.findall(r"sha256:(\w+)", old)) if build in old else set()
    checksums |= {hashlib.sha256(Path(wheel).read_bytes()).hexdigest() for wheel in wheels}
    hashes = "".join(f" \\\n    --hash=sha256:{checksum}" for checksum in sorted(checksums))
    LOCK.write_text(HEADER + compiled, encoding="utf-8")
    LOCK_CPU.write_text(HEADER_CPU + (f"{build}{hashes}\n" if checksums else ""), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

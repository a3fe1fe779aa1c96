"""Writing a file so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path

_LONGEST = 24  # characters of a file's name in that of its temporary file, which may then be added to


def write_whole(path: Path, raw: bytes) -> None:
    """Write or replace a file in one step; its folder is made where it is missing.

    A link stays, and the file it leads to is written; an existing file keeps its mode. What is no file, such as a
    device or a pipe, gets the bytes as they are.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path = destination(path)
    mode = mode_of(path)
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(raw)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary(path.name))
    try:
        if mode is not None:
            temporary.touch(0o600)  # nobody else may read what is to be closed to others
        temporary.write_bytes(raw)
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def destination(path: Path) -> Path:
    """Return the path of the file that is written if `path` is to be: at the end of all links.

    Raises:
        OSError: the links lead in a circle.
    """
    found = Path(os.path.realpath(path)) if path.is_symlink() else path
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def mode_of(path: Path) -> int | None:
    """Return type and permissions of what is at a path, of its destination if that is a link; None if nothing is.

    Raises:
        OSError: nobody can tell, since a folder above may not be entered, or the name is too long.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _temporary(name: str) -> str:
    if len(name) > _LONGEST:  # a file system takes 255 bytes, or fewer
        name = f"{name[:_LONGEST]}-{zlib.crc32(os.fsencode(name)):08x}"
    return f".{name}.{os.getpid()}.part"

"""Files of the program's own: read if they are files of a reasonable size, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import time
import zlib
from pathlib import Path

from ciad_engine.counting import disk_size

_LONGEST = 24  # characters of a file's name in that of its temporary file, which may then be added to
MOST_TEXT = 64 * 2**20  # bytes of a card, of settings or of other JSON: far more than any has
MOST_WEIGHTS = 2 * 2**30  # bytes of a network or a checkpoint
SURELY_OLD = 24 * 3600.0  # seconds, after which no writer is still at its file
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # what some network file systems answer
_LEFTOVER = re.compile(r"\..*\.\d+\.part")


def check_regular(path: Path, most: int) -> None:
    """Refuse what is no regular file (a pipe, a device, a folder), or has more than `most` bytes.

    Raises:
        OSError: it is refused, or there is no such file; `strerror` says why.
    """
    _check(_looked_at(path), path, most)


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        OSError: it cannot be read, or is refused as by `check_regular`; `strerror` says why.
    """
    _check(_looked_at(path), path, most)  # first: to open a device may do something
    # Not blocking, if a pipe was put in its place meanwhile.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        _check(os.fstat(file.fileno()), path, most)
        raw = file.read(most + 1)  # it may grow, and a file of the system says that it has 0 bytes
    if len(raw) > most:
        raise _too_large(path, most)
    return raw


def _looked_at(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except ValueError as error:  # a name with a null character
        raise OSError(errno.EINVAL, "this cannot be the name of a file", str(path)) from error


def _check(found: os.stat_result, path: Path, most: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if found.st_size > most:
        raise _too_large(path, most)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than {disk_size(most)}, far too much for such a file", str(path))


def write_whole(path: Path, raw: bytes) -> None:
    """Write or replace a file in one step; its folder is made where it is missing.

    A link stays, and the file it leads to is written; an existing file keeps its mode. What is no file, such as a
    device or a pipe, gets the bytes as they are. After a crash or a power loss there is the old file or the new one,
    and the new one once this has returned.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path = destination(path)
    mode = mode_of(path)
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(raw)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    temporary = path.with_name(_temporary(path.name))
    try:
        if mode is not None:
            temporary.touch(0o600)  # nobody else may read what is to be closed to others
        write_synced(temporary, raw)
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(path)
        sync_folder(path.parent)
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


def write_synced(path: Path, raw: bytes) -> None:
    """Write a file; when this returns, a power loss does not undo its content."""
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


def sync_folder(folder: Path) -> None:
    """Make names that were changed in a folder outlast a power loss, on systems that can be asked for it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the content itself is safe
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@functools.cache  # once a folder: there may be thousands of files in it
def _remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > SURELY_OLD:
                        Path(entry.path).unlink()


def size_of(path: Path) -> int:
    """Return how many bytes a file, or all files below a folder, take; what cannot be seen counts as nothing."""
    total = 0
    with contextlib.suppress(OSError):
        if not path.is_dir():
            return path.stat().st_size
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total

"""The files in a folder, tar or zip, one after the other, read in memory.

Archives are untrusted: nothing of them is ever written to disk, names that point outside are
refused, links and devices are never followed, and every size is bounded before it is read.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import functools
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ciad_engine.errors import CiadError, DataError
from ciad_engine.jobs import Cancelled, Job

MAX_MEMBERS = 200_000
MAX_UNPACKED = 2 * 2**30  # bytes of a whole archive; CIFAR-10 has 0.19 GiB
MAX_READ = 64 * 2**20  # bytes of one member, or of one header of a tar


@dataclasses.dataclass(frozen=True)
class Member:
    """A regular file, or a folder of an archive.

    Attributes:
        name: its relative path with "/"; that of a folder ends with one.
        where: what messages call it.
    """

    name: str
    where: str
    _size: int = 0
    _read: Callable[[], bytes] = bytes

    def read(self, limit: int) -> bytes:
        """Return its bytes; only before the next member is taken.

        Raises:
            DataError: larger than `limit`, damaged, or not readable.
        """
        if self._size > limit:
            raise DataError(f"{self.where} has {self._size:,} bytes; at most {limit:,} make sense here.")
        try:
            raw = self._read()
        except DataError:
            raise
        except Exception as error:  # as in `in_archive`; also encryption and unknown compression of zips
            raise DataError(f"{self.where} cannot be read: {_reason(error)}.") from error
        if len(raw) != self._size:
            raise DataError(f"{self.where} is truncated: {len(raw):,} of {self._size:,} bytes.")
        return raw


def in_archive(path: Path, job: Job) -> Iterator[Member]:
    """The regular files and folders of a tar (plain, gzip, bzip2, xz) or zip, in the order they are stored.

    Raises:
        DataError: no such archive, damaged, truncated, too large, or a member points outside.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            # Recognised by content: a renamed archive is still the same archive.
            if start.startswith((b"PK\3\4", b"PK\5\6")):
                yield from _zip(file, path, job)
            elif (unpack := _unpacker(start)) is not None:
                with unpack(file) as stream:
                    yield from _tar(stream, file, path, job)
            else:
                raise DataError(
                    f"{path} is neither a folder nor an archive that can be read (tar, tar.gz, tar.bz2, tar.xz, zip)."
                )
    except (CiadError, Cancelled):
        raise
    except Exception as error:  # the unpackers answer damage with almost any kind of exception
        raise DataError(f"{path} cannot be read: {_reason(error)}. Fetch or pack it again.") from error


def _unpacker(start: bytes) -> Callable[[IO[bytes]], contextlib.AbstractContextManager[Any]] | None:
    """What unpacks a tar that starts so; None if it is none."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.open
    if start.startswith(b"BZh"):
        return bz2.open
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.open
    return contextlib.nullcontext if start[257:262] == b"ustar" else None


def in_folder(root: Path, files: list[Path], job: Job) -> Iterator[Member]:
    """The given files below `root`."""
    for done, path in enumerate(files):
        if done % 256 == 0:
            job.progress(done, len(files), f"Reading {root.name}")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}.") from error
        yield Member(path.relative_to(root).as_posix(), str(path), size, path.read_bytes)
    job.progress(len(files), len(files), f"Reading {root.name}")


class _Bounded:
    """A stream that refuses to be read endlessly; it also keeps the last block for `_tar`.

    `tarfile` reads the header extensions of a member at whatever size they claim.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path, self.last = stream, path, b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ or self.stream.tell() + size > MAX_UNPACKED:
            raise DataError(f"{self.path} unpacks to absurd sizes and was refused.")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, offset: int) -> int:
        if offset > MAX_UNPACKED:
            raise DataError(f"{self.path} unpacks to absurd sizes and was refused.")
        return int(self.stream.seek(offset))

    def tell(self) -> int:
        return int(self.stream.tell())


def _tar(stream: Any, packed: IO[bytes], path: Path, job: Job) -> Iterator[Member]:
    total = path.stat().st_size
    bounded = _Bounded(stream, path)
    skipped = 0
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]  # all it needs of a file
        for count, info in enumerate(tar):
            if count % 256 == 0:
                job.progress(min(packed.tell(), total), total, f"Reading {path.name}")
            name = _checked(info.name, count, path)
            tar.members.clear()  # the list would only grow
            if info.isreg() and not info.issparse():
                yield Member(name, f"{path}: {name}", info.size, functools.partial(_extract, tar, info))
            elif info.isdir():
                yield Member(f"{name}/", f"{path}: {name}")
            else:
                skipped += 1
    # `tarfile` takes damage between two members for the end; the true end is a block of zeros.
    if bounded.last.count(0) != tarfile.BLOCKSIZE:
        raise DataError(f"{path} is truncated or damaged. Fetch or pack it again.")
    _finish(skipped, total, path, job)


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    if file is None:
        return b""
    with file:
        return file.read()


def _zip(file: IO[bytes], path: Path, job: Job) -> Iterator[Member]:
    skipped = 0
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > MAX_UNPACKED:
            raise DataError(f"{path} unpacks to absurd sizes and was refused.")
        for count, info in enumerate(infos):
            if count % 256 == 0:
                job.progress(count, len(infos), f"Reading {path.name}")
            name, kind = _checked(info.filename, count, path), stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Member(f"{name}/", f"{path}: {name}")
            elif kind in (0, stat.S_IFREG):
                yield Member(name, f"{path}: {name}", info.file_size, functools.partial(_read, archive, info))
            else:
                skipped += 1
    _finish(skipped, len(infos), path, job)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with contextlib.closing(archive.open(info)) as file:
        return file.read(info.file_size + 1)  # never more than the header claims, which was checked


def _checked(name: str, count: int, path: Path) -> str:
    """Return a member's relative path, without "./" and the like.

    Nothing is written to disk, so names that are refused could do no harm; but no honest archive has them.
    """
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        raise DataError(f"{path} was refused: its member '{name[:100]}' points outside the archive.")
    if count >= MAX_MEMBERS:
        raise DataError(f"{path} was refused: it has more than {MAX_MEMBERS:,} members.")
    return PurePosixPath(name).as_posix()


def _finish(skipped: int, total: int, path: Path, job: Job) -> None:
    if skipped:
        job.note(f"{path.name}: {skipped} links or special files were not followed.")
    job.progress(total, total, f"Reading {path.name}")


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "it is truncated"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

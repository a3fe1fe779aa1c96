"""The files in a folder, tar or zip, one after the other, read in memory.

Archives are untrusted: nothing of them is ever written to disk, names that point outside are
refused, symbolic links and devices are never followed, and every size is bounded before it is read. A hard link is
another name of a file in the same archive, and is read as that. Reading can be cancelled at any block.
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
from collections.abc import Callable, Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ciad_engine.errors import CiadError, DataError
from ciad_engine.jobs import Cancelled, Job

MAX_MEMBERS = 200_000
MAX_UNPACKED = 2 * 2**30  # bytes of a whole archive; CIFAR-10 has 0.19 GiB
MAX_READ = 64 * 2**20  # bytes of one member, of one header of a tar, or of the directory of a zip
_BLOCK = 2**22  # bytes between two looks at the job


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
        except (DataError, Cancelled):
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
    try:
        tarfile.TarInfo.frombuf(start, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return None
    return contextlib.nullcontext


def in_folder(root: Path, files: list[Path], job: Job) -> Iterator[Member]:
    """The given files below `root`."""
    for done, path in enumerate(files):
        job.checkpoint()
        if done % 256 == 0:
            job.progress(done, len(files), f"Reading {root.name}")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}.") from error
        yield Member(path.relative_to(root).as_posix(), str(path), size, functools.partial(_start, path, size, job))
    job.progress(len(files), len(files), f"Reading {root.name}")


def _start(path: Path, size: int, job: Job) -> bytes:
    """Read as much of a file as it had when it was looked at."""
    with path.open("rb") as file:
        return _blocks(file, size, job)


def _blocks(file: Any, size: int, job: Job) -> bytes:
    """Read at most so many bytes, in blocks.

    Raises:
        Cancelled: through `job`.
    """
    found = []
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        job.checkpoint()
        found.append(block)
        size -= len(block)
    return b"".join(found)


class _Bounded:
    """A stream that refuses to be read endlessly, and can be cancelled; it also keeps the last block for `_tar`.

    `tarfile` reads the header extensions of a member at whatever size they claim.
    """

    def __init__(self, stream: Any, path: Path, job: Job) -> None:
        self.stream, self.path, self.job, self.last = stream, path, job, b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ or self.stream.tell() + size > MAX_UNPACKED:
            raise DataError(f"{self.path} unpacks to absurd sizes and was refused.")
        self.last = _blocks(self.stream, size, self.job)
        return self.last

    def seek(self, offset: int) -> int:
        if offset > MAX_UNPACKED:
            raise DataError(f"{self.path} unpacks to absurd sizes and was refused.")
        while self.stream.tell() + _BLOCK < offset:  # what is skipped is unpacked all the same
            self.job.checkpoint()
            before = self.stream.tell()
            if self.stream.seek(before + _BLOCK) == before:  # a compressed stream ends here
                break
        return int(self.stream.seek(offset))

    def tell(self) -> int:
        return int(self.stream.tell())


def _tar(stream: Any, packed: IO[bytes], path: Path, job: Job) -> Iterator[Member]:
    """Yield the members of a tar; its hard links come last, from a second look at the archive."""
    total = path.stat().st_size
    skipped = 0
    links: dict[str, str] = {}  # the name of a hard link -> that of its file, which comes before it
    with _walk(stream, path, job) as infos:
        for count, (tar, info) in enumerate(infos):
            if count % 256 == 0:
                job.progress(min(packed.tell(), total), total, f"Reading {path.name}")
            name = _checked(info.name, count, path)
            if info.isreg() and not info.issparse():
                links.pop(name, None)
                yield Member(name, f"{path}: {name}", info.size, functools.partial(_extract, tar, info))
            elif info.isdir():
                yield Member(f"{name}/", f"{path}: {name}")
            elif info.islnk():
                target = _tidied(info.linkname)
                links[name] = links.get(target, target)
            else:
                skipped += 1
    if links:
        stream.seek(0)
        skipped += yield from _linked(stream, path, links, job)
    _finish(skipped, total, path, job)


def _linked(stream: Any, path: Path, links: dict[str, str], job: Job) -> Generator[Member, None, int]:
    """Yield the hard links of a tar as members; returns how many are of nothing in the archive."""
    names: dict[str, list[str]] = {}
    for link, target in links.items():
        names.setdefault(target, []).append(link)
    with _walk(stream, path, job) as infos:
        for tar, info in infos:
            if info.isreg() and not info.issparse() and (found := names.pop(_tidied(info.name), None)):
                read = functools.cache(functools.partial(_extract, tar, info))
                for link in found:
                    yield Member(link, f"{path}: {link}", info.size, read)
    return sum(map(len, names.values()))


@contextlib.contextmanager
def _walk(stream: Any, path: Path, job: Job) -> Iterator[Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]:
    """Walk over the headers of a tar from where the stream is."""
    bounded = _Bounded(stream, path, job)

    def infos(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        for info in tar:
            job.checkpoint()
            tar.members.clear()  # type: ignore[attr-defined]  # the list would only grow
            yield tar, info

    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]  # all it needs of a file
        yield infos(tar)
    # `tarfile` takes damage between two members for the end; the true end is a block of zeros.
    if bounded.last.count(0) != tarfile.BLOCKSIZE:
        raise DataError(f"{path} is truncated or damaged. Fetch or pack it again.")


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    if file is None:
        return b""
    with file:
        return file.read()


class _Directory:
    """The file of a zip; its directory, which `zipfile` reads at once, may not list more than is sane."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > MAX_READ:
            raise DataError(f"{self.path} was refused: its list of members is absurdly long.")
        raw = self.file.read(size)
        if raw.count(b"PK\1\2") > MAX_MEMBERS:
            raise DataError(f"{self.path} was refused: it has more than {MAX_MEMBERS:,} members.")
        return raw


def _zip(file: IO[bytes], path: Path, job: Job) -> Iterator[Member]:
    skipped = 0
    with zipfile.ZipFile(_Directory(file, path)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > MAX_UNPACKED:
            raise DataError(f"{path} unpacks to absurd sizes and was refused.")
        for count, info in enumerate(infos):
            job.checkpoint()
            if count % 256 == 0:
                job.progress(count, len(infos), f"Reading {path.name}")
            name, kind = _checked(info.filename, count, path), stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith(("/", "\\")):
                yield Member(f"{name}/", f"{path}: {name}")
            elif kind in (0, stat.S_IFREG):
                yield Member(name, f"{path}: {name}", info.file_size, functools.partial(_read, archive, info, job))
            else:
                skipped += 1
    _finish(skipped, len(infos), path, job)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, job: Job) -> bytes:
    with contextlib.closing(archive.open(info)) as file:
        return _blocks(file, info.file_size + 1, job)  # never more than the header claims, which was checked


def _checked(name: str, count: int, path: Path) -> str:
    """Return a member's relative path with "/", without "./" and the like.

    Nothing is written to disk, so names that are refused could do no harm; but no honest archive has them.
    """
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        raise DataError(f"{path} was refused: its member '{name[:100]}' points outside the archive.")
    if count >= MAX_MEMBERS:
        raise DataError(f"{path} was refused: it has more than {MAX_MEMBERS:,} members.")
    return _tidied(name)


def _tidied(name: str) -> str:
    """Return a name with "/": some programs on Windows write the other one."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _finish(skipped: int, total: int, path: Path, job: Job) -> None:
    if skipped:
        job.note(f"{path.name}: {skipped} links or special files were not followed.")
    job.progress(total, total, f"Reading {path.name}")


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "it is truncated"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

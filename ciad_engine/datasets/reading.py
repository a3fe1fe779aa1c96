"""From the files of a folder or archive to a `DataSet`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from ciad_engine import imaging
from ciad_engine.datasets import class_folders, members, official
from ciad_engine.datasets.base import NOT_OFFICIAL, TEST, TRAIN, DataSet
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job
from ciad_engine.plain_text import plain

_LISTED = 0.1  # of the progress, when an archive's names are known
# Not the official files, but quoted by name: CIFAR-10 with every image stored as JPEG, as class folders and as batches
# made of them. By the parts' checksums; a decoder that rounds otherwise gives other ones, and then nothing is known.
_RE_ENCODED = "CIFAR-10, JPEG re-encoding"
_KNOWN = {
    "be283549e113fc19f44f8d2572b1d105d9fccae78cf22219f35bbd92e3f3fcb2": _RE_ENCODED,
    "1cbec74eb086526422faab1c0a1c369c8dd35384d83bed214064a6366f7974d5": _RE_ENCODED,
    "26b2ef72ae3a58d37d9c76239b46b31a9ad53e774f055128282526ceedcc8e90": _RE_ENCODED,
    "2fe6495eccabc45bc6faf80d42d3adc5e6b2a6acbde6bb357b3e41eaa6bedb0a": _RE_ENCODED,
}


def read(path: Path, job: Job, parts: tuple[str, ...]) -> DataSet:
    """Read the asked parts; one that is not there is None.

    Raises:
        DataError: nothing at that path, damaged, incomplete, or hostile.
    """
    try:
        if path.name in official.FILES and path.is_file():
            path = path.parent  # somebody pointed at one of the batches
        path = _named(path)
        if not path.is_dir() and not path.is_file():
            what = "is neither a folder nor a regular file" if path.exists() else "does not exist"
            raise DataError(f"{plain(path)} {what}. Name a folder or archive with a data set, or fetch CIFAR-10.")
        folder = path.is_dir()
        names = _in_folder(path, job) if folder else _in_archive(path, job)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataError(f"{plain(path)} cannot be read: {getattr(error, 'strerror', None) or error}.") from error

    def opened(wanted: Iterable[str]) -> Iterator[members.Member]:
        if folder:
            return members.in_folder(path, [path / name for name in wanted], job)
        return members.in_archive(path, job.part(_LISTED, 1))

    title = _title(path)
    if any(official.part_of(name) for name in names):  # batches go before pictures
        sets = official.read(opened(names), parts, path, job)
    else:
        chosen = class_folders.find(names, parts, path)
        wanted = [name for classes in chosen.values() for pictures in classes.values() for name in pictures]
        sets = class_folders.read(opened(wanted), chosen, title, job) if chosen else {}
    name = title
    for part, kind in ((TEST, "test images"), (TRAIN, "training images")):
        known = _KNOWN.get(sets[part].checksum) if part in sets else None
        if known is not None:
            sets[part] = dataclasses.replace(sets[part], source=f"{kind} of {known} ({NOT_OFFICIAL})")
            name = known
    genuine = bool(sets) and all(part.official for part in sets.values())
    if not genuine and any(part.domain == CIFAR10 for part in sets.values()):
        job.note(f"{plain(path)} is not the official CIFAR-10 (other checksums); its figures are labelled so.")
    return DataSet(sets.get(TRAIN), sets.get(TEST), name, genuine, path)


def files(path: Path, job: Job | None = None) -> list[Path]:
    """Return the files that `read` reads, of a folder by their names alone.

    Raises:
        OSError: the folder cannot be read.
    """
    if not path.is_dir():
        return [path]
    return [path / name for name in _in_folder(path, job or Job()) if not name.endswith("/")]


def _in_folder(root: Path, job: Job) -> list[str]:
    """The names worth reading below a folder, without walking all of it: it could be anybody's home."""
    for folder in (root, root / official.FOLDER):
        batches = [(folder / file).relative_to(root).as_posix() for file in official.FILES if (folder / file).is_file()]
        if any(official.part_of(name) for name in batches):
            return batches
    bases = (root, root / "images")
    for tops in ([base / part for base in bases for part in (TRAIN, TEST)], bases):
        names = [name for top in tops for name in _class_folders(top, root, job)]
        if any(not name.endswith("/") for name in names):
            return names
    return []


def _class_folders(top: Path, root: Path, job: Job) -> Iterator[str]:
    """The folders in `top` and the pictures directly in those."""
    for folder in sorted(top.iterdir()) if top.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            yield f"{folder.relative_to(root).as_posix()}/"
            for file in folder.iterdir():
                job.checkpoint()
                if file.suffix.lower() in imaging.EXTENSIONS and file.is_file():
                    yield file.relative_to(root).as_posix()


def _in_archive(path: Path, job: Job) -> list[str]:
    """The names in an archive, or as many as it takes to see that it holds batches."""
    names = []
    for member in members.in_archive(path, _Listing(job)):
        names.append(member.name)
        if official.part_of(member.name):
            break
    return names


class _Listing(Job):
    """The beginning of another job, without its notes: they come when the files are read."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job.part(0, _LISTED)

    def on_progress(self, done: int, total: int, text: str) -> None:
        self._job.progress(done, total, text)


def _named(path: Path) -> Path:
    """Return the same path with the folder's own name at its end, also of "." and ".."."""
    return path.resolve() if path.name in ("", "..") else path


def _title(path: Path) -> str:
    """Return a name that people recognise: with its parent's if the last one says nothing; of a root its path."""
    parent = _named(path.absolute().parent).name
    title = f"{parent}/{path.name}" if parent and path.name in ("images", TRAIN, TEST) else path.name
    return plain(title or path)

"""From the files of a folder or archive to a `DataSet`."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from ciad_engine import imaging
from ciad_engine.datasets import known, members, official
from ciad_engine.datasets.base import CLASS_NAMES, NOT_OFFICIAL, TEST, TRAIN, DataSet, ImageSet
from ciad_engine.errors import DataError, ImageError
from ciad_engine.jobs import Job

_MAX_PICTURE = 2**20  # bytes of one file; 32x32 pixels have 3072


def read(path: Path, job: Job, parts: tuple[str, ...]) -> DataSet:
    """Read the asked parts; one that is not there is None.

    Raises:
        DataError: nothing at that path, damaged, incomplete, or hostile.
    """
    if path.name in official.FILES and path.is_file():
        path = path.parent  # somebody pointed at one of the batches
    try:
        if path.is_dir():
            found = members.in_folder(path, _files(path, parts), job)
        elif path.is_file():
            found = members.in_archive(path, job)
        else:
            raise DataError(f"{path} does not exist. Name a folder or archive of CIFAR-10, or fetch it first.")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    collector = _Collector(path, parts)
    for member in found:
        collector.add(member)
    train = known.with_source(collector.finish(TRAIN), "training images")
    test = known.with_source(collector.finish(TEST), "test images")
    present = [part for part in (train, test) if part is not None]
    genuine = bool(present) and all(part.official for part in present)
    if present and not genuine:
        job.note(f"{path} is not the official CIFAR-10 (other checksums); its figures are labelled so.")
    return DataSet(train, test, known.name(train) or known.name(test) or _title(path), genuine, path)


def _files(root: Path, parts: tuple[str, ...]) -> list[Path]:
    """The files worth reading below a folder, without walking all of it: it could be anybody's home."""
    for folder in (root, root / official.FOLDER):
        batches = [folder / name for name in official.FILES if (folder / name).is_file()]
        if any(path.name != official.META for path in batches):
            return batches
    for folder in (root, root / "images"):
        splits = [folder / part for part in (TRAIN, TEST) if (folder / part).is_dir()]
        if splits or any((folder / name).is_dir() for name in CLASS_NAMES):
            wanted = [split for split in splits if split.name in parts] if splits else [folder]
            classes = [sub for top in wanted for sub in sorted(top.iterdir()) if sub.is_dir()]
            return [file for sub in classes for file in sorted(sub.iterdir()) if file.is_file()]
    return []


@dataclasses.dataclass
class _Folder:
    """Pictures of one part, by (class, file name)."""

    top: str  # the folder of the split, which must be the same for all
    pictures: dict[tuple[int, str], npt.NDArray[np.uint8]] = dataclasses.field(default_factory=dict)


class _Collector:
    """Takes file after file and keeps what belongs to a data set."""

    def __init__(self, path: Path, parts: tuple[str, ...]) -> None:
        self.path, self.parts = path, parts
        self.batches: dict[str, official.Batch] = {}
        self.folders: dict[str, _Folder] = {}

    def add(self, member: members.Member) -> None:
        place = PurePosixPath(member.name)
        where = str(self.path / place) if self.path.is_dir() else f"{self.path}: {place}"
        if place.name in official.FILES:
            self._add_batch(member, place.name, where)
        elif place.suffix.lower() in imaging.EXTENSIONS:
            self._add_picture(member, place, where)

    def _add_batch(self, member: members.Member, file: str, where: str) -> None:
        if file in self.batches:
            raise DataError(f"{where} is there a second time: name a folder or archive with one data set.")
        if file == official.META:
            official.check_meta(member.read(official.MAX_BYTES, where), where)
        elif official.part_of(file) in self.parts:
            self.batches[file] = official.read_batch(member.read(official.MAX_BYTES, where), file, where)

    def _add_picture(self, member: members.Member, place: PurePosixPath, where: str) -> None:
        if any(part.startswith((".", "__MACOSX")) for part in place.parts) or len(place.parts) < 2:
            return  # what desktops leave behind, and pictures that lie in no class folder
        top, name = place.parent.parent, place.parent.name
        part = _split(self.path if top == PurePosixPath() else top)
        if name not in CLASS_NAMES:
            if part is not None:
                raise DataError(f"{where}: '{name}' is no class of CIFAR-10 ({', '.join(CLASS_NAMES)}).")
            return
        part = part or TEST
        if part not in self.parts:
            return
        folder = self.folders.setdefault(part, _Folder(str(top)))
        if folder.top != str(top):
            raise DataError(
                f"{self.path} holds more than one {part} set ('{folder.top}' and '{top}'): name one of them."
            )
        folder.pictures[CLASS_NAMES.index(name), place.name] = _picture(member, where)

    def finish(self, part: str) -> ImageSet | None:
        """One part from all that was added; batches go before pictures where there are both."""
        assembled = official.assemble(self.batches, part, str(self.path))
        if assembled is not None or self.batches or part not in self.folders:
            return assembled
        pictures = self.folders[part].pictures
        missing = [CLASS_NAMES[i] for i in sorted(set(range(len(CLASS_NAMES))) - {label for label, _ in pictures})]
        if missing:
            raise DataError(f"{self.path}: its {part} set has no picture of the class {', '.join(missing)}.")
        keys = _interleaved(sorted(pictures))
        kind = "training" if part == TRAIN else "test"
        return ImageSet(
            np.stack([pictures[key] for key in keys]),
            np.array([label for label, _ in keys], np.int64),
            f"{kind} images of {_title(self.path)} ({NOT_OFFICIAL})",
            names=tuple(f"{part}/{CLASS_NAMES[label]}/{name}" for label, name in keys),
        )


def _title(path: Path) -> str:
    """A name people recognise: with its parent's where the last one says nothing."""
    path = path.absolute()
    return f"{path.parent.name}/{path.name}" if path.name in ("images", TRAIN, TEST) else path.name


def _split(folder: Path | PurePosixPath) -> str | None:
    return folder.name if folder.name in (TRAIN, TEST) else None


def _interleaved(keys: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first picture of every class, then the second ...: any beginning of the set is balanced."""
    counts = dict.fromkeys(range(len(CLASS_NAMES)), 0)
    ranks = {}
    for key in keys:
        ranks[key] = counts[key[0]]
        counts[key[0]] += 1
    return sorted(keys, key=lambda key: (ranks[key], key[0]))


def _picture(member: members.Member, where: str) -> npt.NDArray[np.uint8]:
    raw = member.read(_MAX_PICTURE, where)
    try:
        image, _ = imaging.decode(raw, where)
    except ImageError as error:
        raise DataError(str(error)) from error
    if image.size != (imaging.SIZE, imaging.SIZE):
        raise DataError(
            f"{where} is {image.width}x{image.height}; pictures of a data set have to be {imaging.SIZE}x{imaging.SIZE}."
            " Scale them first, so that all are scaled the same way, or open single pictures as images."
        )
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

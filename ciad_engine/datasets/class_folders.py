"""Pictures in class-named folders: `train/<class>/*` and `test/<class>/*`, or class folders without a split.

The classes are the folders' names in alphabetical order, which for CIFAR-10 is the order of its labels.
Which pictures make the data set is decided by names alone (`find`), before one of them is read.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from ciad_engine import imaging
from ciad_engine.datasets.base import NOT_OFFICIAL, TEST, TRAIN, ImageSet, listed
from ciad_engine.datasets.members import Member
from ciad_engine.domain import CIFAR10, MAX_SIZE, Domain, Pixels
from ciad_engine.errors import DataError, ImageError
from ciad_engine.jobs import Job
from ciad_engine.plain_text import plain

_MAX_PICTURE = 2**20  # bytes of one file; 64x64 pixels have 12,288
_SCALE = "Scale all pictures of a data set the same way first, or open single ones as images."

Chosen = dict[str, dict[str, list[str]]]  # part -> class -> names of its pictures
_Classes = dict[str, set[str]]  # class -> names of its pictures


def find(names: Iterable[str], parts: Collection[str], path: Path) -> Chosen:
    """Return the pictures that make the asked parts of a data set; a part that is not there is left out.

    Folders with a split go before class folders without one. Those are two or more folders beside each other that
    directly hold pictures, and a test set; but in a folder that is itself called `train` they are its training set.
    In a split every folder is a class, so an empty one is an error.

    Args:
        names: of members; those of folders end with "/".
        parts: TRAIN, TEST or both.
        path: of the folder or archive.

    Raises:
        DataError: more than one data set, only one class, two classes whose names are the same as plain text, or a
            class without pictures.
    """
    tops = _by_top(names)
    sets = _with_split(tops, path) or _without_split(tops)
    if len(sets) > 1:
        one, other = sorted(sets)[:2]
        raise DataError(f"{path} holds more than one data set ('{one}' and '{other}'): name one of them.")
    asked = {part: classes for found in sets.values() for part, classes in found.items() if part in parts}
    every = sorted({name for classes in asked.values() for name in classes})
    for part, classes in asked.items():
        missing = [name for name in every if not classes.get(name)]
        if missing:
            raise DataError(
                f"{path}: its {part} set has no picture of the class {listed(missing)}. Add some, or remove the class."
            )
    if len(every) == 1:
        raise DataError(f"{path}: all its pictures are of one class, '{every[0]}'; a data set has two or more.")
    if len({plain(name) for name in every}) < len(every):
        raise DataError(
            f"{path}: the names of two of its class folders ({listed(every)}) cannot be told apart as text; rename one."
        )
    return {part: {plain(name): sorted(classes[name]) for name in every} for part, classes in asked.items()}


def read(found: Iterable[Member], chosen: Chosen, title: str, job: Job) -> dict[str, ImageSet]:
    """Return the chosen pictures among the members as image sets by part; their sources quote `title`.

    Raises:
        DataError: a picture is damaged, too large, or of another size than the first one.
        Cancelled: through `job`.
    """
    wanted = {name for classes in chosen.values() for names in classes.values() for name in names}
    pictures: dict[str, Pixels] = {}
    first: Member | None = None
    size = 0
    for member in found:
        if member.name not in wanted:
            continue
        try:
            pixels, width, height = imaging.read_tile(member.read(_MAX_PICTURE), member.where, job)
        except ImageError as error:
            raise DataError(str(error)) from error
        if first is None:
            first, size = member, width
        if pixels is None and first is member:
            raise DataError(
                f"{member.where} is {width}x{height}; the pictures of a data set have to be square, of "
                f"at most {MAX_SIZE}x{MAX_SIZE}. {_SCALE}"
            )
        if pixels is None or width != size:
            raise DataError(
                f"{member.where} is {width}x{height}, but {first.where} is {size}x{size}; the pictures of "
                f"a data set have to be of one size. {_SCALE}"
            )
        pictures[member.name] = pixels
    return {part: _assemble(part, classes, pictures, size, title) for part, classes in chosen.items()}


def _by_top(names: Iterable[str]) -> dict[PurePosixPath, _Classes]:
    """Every folder that has folders, with those and the names of the pictures directly in them."""
    folders: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        pictures = folders.setdefault(folder, set())
        if not file.startswith(".") and os.path.splitext(file)[1].lower() in imaging.EXTENSIONS:  # noqa: PTH122 - faster
            pictures.add(name)
    tops: dict[PurePosixPath, _Classes] = {}
    for folder, pictures in folders.items():
        place = PurePosixPath(folder)
        # Not what desktops leave behind, nor pictures that lie in no class folder.
        if place.parts and not any(part.startswith((".", "__MACOSX")) for part in place.parts):
            name = unicodedata.normalize("NFC", place.name)  # macOS may write an "ü" as two characters
            tops.setdefault(place.parent, {}).setdefault(name, set()).update(pictures)
    return tops


def _with_split(tops: dict[PurePosixPath, _Classes], path: Path) -> dict[str, dict[str, _Classes]]:
    """The data sets with a split: where they lie, and the class folders of each part."""
    sets: dict[str, dict[str, _Classes]] = {}
    for top, classes in tops.items():
        part = top.name or path.name
        if part in (TRAIN, TEST) and any(classes.values()):
            sets.setdefault(str(top.parent if top.name else path.parent), {})[part] = classes
    return sets


def _without_split(tops: dict[PurePosixPath, _Classes]) -> dict[str, dict[str, _Classes]]:
    """The same of those without a split."""
    found = {top: {name: pictures for name, pictures in classes.items() if pictures} for top, classes in tops.items()}
    found = {top: classes for top, classes in found.items() if len(classes) > 1}
    # Class folders may have subfolders, which are no data set of their own.
    return {str(top): {TEST: classes} for top, classes in found.items() if top.name not in found.get(top.parent, {})}


def _assemble(part: str, classes: dict[str, list[str]], pictures: dict[str, Pixels], size: int, title: str) -> ImageSet:
    """The first picture of every class, then the second ...: any beginning of the set is balanced."""
    order = sorted(
        (rank, label, name) for label, names in enumerate(classes.values()) for rank, name in enumerate(names)
    )
    domain = Domain(tuple(classes), size)
    source = f"{'training' if part == TRAIN else 'test'} images of {title}"
    return ImageSet(
        np.stack([pictures[name] for _, _, name in order]),
        np.array([label for _, label, _ in order], np.int64),
        f"{source} ({NOT_OFFICIAL})" if domain == CIFAR10 else source,
        names=tuple(f"{part}/{domain.classes[label]}/{plain(name.rpartition('/')[2])}" for _, label, name in order),
        domain=domain,
    )

"""Labelled images: CIFAR-10 in any form, class-named folders of any classes, and the bundled samples.

`load` reads, by content and not by name:

- the official `cifar-10-python.tar.gz` or folder `cifar-10-batches-py`, or the folder it lies in;
- class-named folders `train/<class>/*.png` and `test/<class>/*.png` (or .jpg ...), or the folder
  that holds them as `images/`; class folders without a split are taken as a test set;
- a tar (also gzip, bzip2, xz) or zip of any of these, without unpacking it to disk.

A set has its own domain: the classes are the folders' names in alphabetical order, the image size is that of its
pictures. `ImageSet.matched` gives its images the labels of a bundle. The official files are recognised by their
MD5 sums; other data of CIFAR-10's domain is used as well, and says in `ImageSet.source` that it is not official.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ciad_engine import imaging
from ciad_engine.datasets import reading
from ciad_engine.datasets.base import TEST, TRAIN, DataSet, ImageSet, checksum
from ciad_engine.datasets.samples import SAMPLES, read_samples, samples, samples_path
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

# The endings of archives that `load` reads, as dialogs name them; it goes by the content itself.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")

__all__ = [
    "ARCHIVES",
    "SAMPLES",
    "TEST",
    "TRAIN",
    "DataSet",
    "ImageSet",
    "checksum",
    "choose",
    "files",
    "load",
    "looks_like_one",
    "read_samples",
    "samples",
    "samples_path",
]


def looks_like_one(path: Path) -> bool:
    """Return whether a path is meant as a data set: an archive, or a folder with no picture directly in it.

    Raises:
        OSError: the folder cannot be read.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises if a folder above may not be entered
        return path.name.lower().endswith(ARCHIVES)
    return not any(Path(name).suffix.lower() in imaging.EXTENSIONS for name in os.listdir(path))  # noqa: PTH208


def load(path: Path | str, job: Job | None = None) -> DataSet:
    """Read a data set in any of the forms above.

    Args:
        path: the folder or archive.
        job: told of progress, and of what was skipped or is not official.

    Raises:
        DataError: nothing there, no such data in it, damaged, incomplete, or hostile.
    """
    found = reading.read(_expanded(path), job or Job(), (TRAIN, TEST))
    if found.train is None and found.test is None:
        raise DataError(
            f"{path} holds no data set: neither batches of CIFAR-10 (data_batch_1 ... test_batch) nor two or more "
            "class folders with pictures in them (train/cat, test/cat, train/dog ...)."
        )
    return found


def choose(text: str, job: Job | None = None) -> ImageSet:
    """What a person named: "samples" for the bundled ones, else the test part of the data set at that path.

    The training part is taken where there is no test part.

    Raises:
        DataError: as `load` and `samples`.
    """
    if text == SAMPLES:
        return samples()
    test = reading.read(_expanded(text), job or Job(), (TEST,)).test
    if test is not None:
        return test
    train = load(text, job).train
    assert train is not None  # `load` raises where both are missing
    return train


def files(text: str) -> Iterator[Path]:
    """Yield the files of the data set that a person named, as `choose` takes it; none if there is no such data set."""
    if text == SAMPLES:
        yield samples_path()
        return
    with contextlib.suppress(DataError, OSError, ValueError):
        yield from reading.files(_expanded(text))


def _expanded(path: Path | str) -> Path:
    """Return a path with "~" replaced by the folder it stands for, unless there is something that is called so.

    Raises:
        DataError: nobody knows that folder.
    """
    path = Path(path)
    if os.path.exists(path):  # noqa: PTH110 - Path.exists raises if a folder above may not be entered
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        user = path.parts[0]
        hint = "set the variable HOME, or" if user == "~" else "there is no such user, or none with a folder;"
        text = f"{path}: nobody knows the folder that {user} stands for: {hint} name the whole path."
        raise DataError(text) from error

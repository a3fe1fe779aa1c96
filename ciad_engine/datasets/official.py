"""CIFAR-10 in its official Python layout: five training batches and a test batch, each a pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ciad_engine.datasets import batch_pickle
from ciad_engine.datasets.base import NOT_OFFICIAL, TEST, TRAIN, ImageSet
from ciad_engine.datasets.members import Member
from ciad_engine.domain import CIFAR10, Labels, Pixels
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

FOLDER = "cifar-10-batches-py"

# MD5 sums of the files in the published archive (`download.CIFAR10`); `tests/oracles` compares them with torchvision's.
TRAIN_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
TEST_MD5 = {"test_batch": "40351d587109b95175f43aff81a1287e"}
META, META_MD5 = "batches.meta", "5ff9c542aee3614f3951f8cda6e48888"
FILES = (*TRAIN_MD5, *TEST_MD5, META)

MAX_BYTES = 64 * 2**20  # of one file; the official ones have 31 million bytes
_VALUES = math.prod(CIFAR10.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class _Batch:
    """One file: uint8 (N, 3, 32, 32), int64 (N,), and whether it is the published one."""

    images: Pixels
    labels: Labels
    official: bool


def part_of(name: str) -> str:
    """Which part of the data set a member called so belongs to; "" for `batches.meta`, other files and folders."""
    file = name.rpartition("/")[2]
    return TRAIN if file in TRAIN_MD5 else TEST if file in TEST_MD5 else ""


def read(found: Iterable[Member], parts: Collection[str], path: Path, job: Job) -> dict[str, ImageSet]:
    """Read the asked parts, as far as there are batches of them; other members are skipped.

    Raises:
        DataError: a batch is damaged, hostile, not of CIFAR-10, missing or there twice.
        Cancelled: through `job`.
    """
    batches: dict[str, _Batch] = {}
    for member in found:
        file = member.name.rpartition("/")[2]
        if file in batches:
            raise DataError(f"{member.where} is there a second time: name a folder or archive with one data set.")
        if file == META:
            _check_meta(member.read(MAX_BYTES), member.where, job)
        elif part_of(file) in parts:
            batches[file] = _read_batch(member.read(MAX_BYTES), file, member.where, job)
    sets = {part: _assemble(batches, part, path) for part in parts}
    return {part: images for part, images in sets.items() if images is not None}


def _read_batch(raw: bytes, file: str, where: str, job: Job) -> _Batch:
    """Read one batch called `file`; `where` names it in errors.

    Raises:
        DataError: damaged, hostile, or not the shape and labels of CIFAR-10.
    """
    content = batch_pickle.read(raw, where, job)
    for key, what in ((b"data", "images"), (b"labels", "labels")):
        if key not in content:
            hint = " It looks like CIFAR-100." if b"fine_labels" in content else ""
            raise DataError(f"{where} has no {what} ('{key.decode()}') of CIFAR-10.{hint}")
    images, labels = _images(content[b"data"], where), _labels(content[b"labels"], where)
    if len(labels) != len(images):
        raise DataError(f"{where} has {len(images)} images but {len(labels)} labels.")
    return _Batch(images, labels, _md5(raw) == {**TRAIN_MD5, **TEST_MD5}.get(file))


def _images(data: Any, where: str) -> Pixels:
    """Return uint8 (N, 3, 32, 32) of an array of whole numbers, of shape (N, 3072), (N, 3, 32, 32) or (N, 32, 32, 3).

    Raises:
        DataError: it is no such array.
    """
    if not isinstance(data, np.ndarray):
        raise DataError(f"{where} has no images of CIFAR-10: its 'data' is not a NumPy array but {_described(data)}.")
    channels, height, width = CIFAR10.shape
    shape = data.shape[1:] if data.ndim and len(data) else None
    if shape == (height, width, channels):
        data = data.transpose(0, 3, 1, 2)
    elif shape not in ((_VALUES,), CIFAR10.shape):
        raise DataError(
            f"{where} holds an array of shape {data.shape} where CIFAR-10 has (images, {_VALUES}); also read are "
            f"(images, {channels}, {height}, {width}) and (images, {height}, {width}, {channels})."
        )
    low, high = float(data.min()), float(data.max())
    if data.dtype.kind not in "iu" or low < 0 or high > 255:
        raise DataError(
            f"{where} holds {data.dtype.name} numbers from {low:g} to {high:g} where CIFAR-10 has whole numbers from 0 "
            "to 255. Save the images as uint8."
        )
    return np.ascontiguousarray(data, np.uint8).reshape(-1, *CIFAR10.shape)


def _labels(found: Any, where: str) -> Labels:
    """Return int64 (N,) of a list, or an array of one axis, of whole numbers.

    Raises:
        DataError: it is none, or a number is no label.
    """
    if isinstance(found, np.ndarray) and found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if isinstance(found, np.ndarray) and found.ndim == 1:
        found = found.tolist()
    if not isinstance(found, list | tuple):
        raise DataError(
            f"{where} has no labels of CIFAR-10: its 'labels' is not a list of whole numbers but {_described(found)}."
        )
    for i, label in enumerate(found):
        if type(label) is not int or not 0 <= label < len(CIFAR10.classes):
            raise DataError(f"{where}: the label of image {i} is none of 0 to {len(CIFAR10.classes) - 1}.")
    return np.array(found, np.int64)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"of type {type(value).__name__}"


def _check_meta(raw: bytes, where: str, job: Job) -> None:
    """Check that `batches.meta` lists the classes in the order the labels are read in.

    Raises:
        DataError: damaged, or other classes or another order.
    """
    if _md5(raw) == META_MD5:
        return
    names: Any = batch_pickle.read(raw, where, job).get(b"label_names")
    found = [n.decode("latin-1") if isinstance(n, bytes) else n for n in names] if type(names) is list else names
    if found != list(CIFAR10.classes):
        raise DataError(f"{where} does not list the ten classes of CIFAR-10 in their order.")


def _assemble(batches: dict[str, _Batch], part: str, path: Path) -> ImageSet | None:
    """The training or test set from its batches, by file name; None where none of them is there.

    Raises:
        DataError: some of the training batches are missing.
    """
    wanted = [file for file in FILES if part_of(file) == part]
    missing = [file for file in wanted if file not in batches]
    if len(missing) == len(wanted):
        return None
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing. Fetch the data again (`ciad data fetch`).")
    read = [batches[file] for file in wanted]
    official = all(batch.official for batch in read)
    title = "CIFAR-10 training set" if part == TRAIN else "CIFAR-10 test set"
    return ImageSet(
        np.concatenate([batch.images for batch in read]),
        np.concatenate([batch.labels for batch in read]),
        title if official else f"{title} ({NOT_OFFICIAL})",
        official,
        names=tuple(f"{file}[{i}]" for file in wanted for i in range(len(batches[file].labels))),
    )


def _md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()

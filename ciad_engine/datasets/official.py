"""CIFAR-10 in its official Python layout: five training batches and a test batch, each a pickle."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ciad_engine import imaging
from ciad_engine.datasets import batch_pickle
from ciad_engine.datasets.base import CLASS_NAMES, NOT_OFFICIAL, TEST, TRAIN, ImageSet
from ciad_engine.errors import DataError

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
_VALUES = 3 * imaging.SIZE**2


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """One file: uint8 (N, 3, 32, 32), int64 (N,), and whether it is the published one."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    official: bool


def part_of(file: str) -> str:
    """Which part of the data set a batch file belongs to; `batches.meta` belongs to none ("")."""
    return TRAIN if file in TRAIN_MD5 else TEST if file in TEST_MD5 else ""


def read_batch(raw: bytes, file: str, where: str) -> Batch:
    """Read one batch called `file`; `where` names it in errors.

    Raises:
        DataError: damaged, hostile, or not the shape and labels of CIFAR-10.
    """
    content = batch_pickle.read(raw, where)
    data, labels = content.get(b"data"), content.get(b"labels")
    if not isinstance(data, np.ndarray) or type(labels) is not list:
        hint = " It looks like CIFAR-100." if b"fine_labels" in content else ""
        raise DataError(f"{where} has no images ('data') or no labels ('labels') of CIFAR-10.{hint}")
    if data.ndim != 2 or data.shape[1] != _VALUES or len(data) == 0:
        raise DataError(f"{where} holds an array of shape {data.shape} where CIFAR-10 has (images, {_VALUES}).")
    if len(labels) != len(data):
        raise DataError(f"{where} has {len(data)} images but {len(labels)} labels.")
    if not all(type(label) is int and 0 <= label < len(CLASS_NAMES) for label in labels):
        wrong = next(i for i, n in enumerate(labels) if type(n) is not int or not 0 <= n < len(CLASS_NAMES))
        raise DataError(f"{where}: the label of image {wrong} is none of 0 to {len(CLASS_NAMES) - 1}.")
    images = np.ascontiguousarray(data).reshape(-1, 3, imaging.SIZE, imaging.SIZE)
    return Batch(images, np.array(labels, np.int64), _md5(raw) == {**TRAIN_MD5, **TEST_MD5}.get(file))


def check_meta(raw: bytes, where: str) -> None:
    """Check that `batches.meta` lists the classes in the order the labels are read in.

    Raises:
        DataError: damaged, or other classes or another order.
    """
    if _md5(raw) == META_MD5:
        return
    names: Any = batch_pickle.read(raw, where).get(b"label_names")
    found = [n.decode("latin-1") if isinstance(n, bytes) else n for n in names] if type(names) is list else names
    if found != list(CLASS_NAMES):
        raise DataError(f"{where} does not list the ten classes of CIFAR-10 in their order.")


def assemble(batches: Mapping[str, Batch], part: str, where: str) -> ImageSet | None:
    """The training or test set from its batches, by file name; None where none of them is there.

    Raises:
        DataError: some of the training batches are missing.
    """
    wanted = [file for file in FILES if part_of(file) == part]
    missing = [file for file in wanted if file not in batches]
    if len(missing) == len(wanted):
        return None
    if missing:
        raise DataError(f"{where}: {', '.join(missing)} missing. Fetch the data again (`ciad data fetch`).")
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

"""What a data set is once it is read: arrays, and where they came from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ciad_engine import imaging

CLASS_NAMES: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)  # in label order
TRAIN, TEST = "train", "test"
NOT_OFFICIAL = "not the official files"  # stands in `ImageSet.source` wherever such data is quoted


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images of one kind.

    Attributes:
        images: uint8 (N, 3, 32, 32).
        labels: int64 (N,), indices into `CLASS_NAMES`.
        source: how figures computed on it are to be quoted, e.g. "CIFAR-10 test set" or
            "CIFAR-10 test set (not the official files)".
        official: the files had the published checksums.
        checksum: SHA-256 over the bytes of `images`, then of `labels` (little-endian); computed
            here when it is not given.
        names: one per image, e.g. "test/cat/0003.jpg" or "test_batch[17]".
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    source: str
    official: bool = False
    checksum: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.dtype != np.uint8 or self.images.shape != (count, 3, imaging.SIZE, imaging.SIZE):
            raise ValueError(f"images: wanted uint8 (N, 3, 32, 32), got {self.images.dtype} {self.images.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != (count,):
            raise ValueError(f"labels: wanted int64 ({count},), got {self.labels.dtype} {self.labels.shape}")
        if not self.names:
            object.__setattr__(self, "names", tuple(f"[{i}]" for i in range(count)))
        if len(self.names) != count:
            raise ValueError(f"names: wanted {count}, got {len(self.names)}")
        if not self.checksum:
            object.__setattr__(self, "checksum", checksum(self.images, self.labels))

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> ImageSet:
        """The images at `indices`, in that order, with a checksum of their own."""
        chosen = np.asarray(indices, dtype=np.int64)
        names = tuple(self.names[i] for i in chosen)
        return ImageSet(self.images[chosen], self.labels[chosen], self.source, self.official, "", names)


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A data set with its split; a part that was not there, or not asked for, is None.

    Attributes:
    name: what it is known as, else of the file or folder it came from.
        official: every part that is there has the published checksums.
    """

    train: ImageSet | None
    test: ImageSet | None
    name: str
    official: bool
    path: Path | None


def checksum(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> str:
    """SHA-256 over the bytes of the images, then of the labels."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()

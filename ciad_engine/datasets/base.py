"""What a data set is once it is read: arrays, and where they came from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ciad_engine.domain import CIFAR10, Domain, Labels, Pixels
from ciad_engine.errors import DataError

TRAIN, TEST = "train", "test"
NOT_OFFICIAL = "not the official files"  # stands in `ImageSet.source` wherever such data is quoted
_MOST_LISTED = 20  # classes in a message


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images of one kind.

    Attributes:
        images: uint8 (N, 3, domain.size, domain.size).
        labels: int64 (N,), indices into `domain.classes`.
        source: how figures computed on it are to be quoted, e.g. "CIFAR-10 test set" or
            "CIFAR-10 test set (not the official files)".
        official: the files had the published checksums.
        checksum: SHA-256 over the bytes of `images`, then of `labels` (little-endian); computed
            here when it is not given.
        names: one per image, e.g. "test/cat/0003.jpg" or "test_batch[17]".
        domain: classes and size of the images.
    """

    images: Pixels
    labels: Labels
    source: str
    official: bool = False
    checksum: str = ""
    names: tuple[str, ...] = ()
    domain: Domain = CIFAR10

    def __post_init__(self) -> None:
        count, shape = len(self.images), self.domain.shape
        if self.images.dtype != np.uint8 or self.images.shape != (count, *shape):
            raise ValueError(f"images: wanted uint8 {('N', *shape)}, got {self.images.dtype} {self.images.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != (count,):
            raise ValueError(f"labels: wanted int64 ({count},), got {self.labels.dtype} {self.labels.shape}")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.domain.classes):
            raise ValueError(f"labels: wanted 0 to {len(self.domain.classes) - 1}")
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
        return dataclasses.replace(
            self, images=self.images[chosen], labels=self.labels[chosen], checksum="", names=names
        )

    def matched(self, domain: Domain) -> ImageSet:
        """Return the same images with the labels their classes have in `domain`, matched by name.

        `domain` may have more classes. The checksum is another one if a label is.

        Raises:
            DataError: `domain` lacks classes of this set, or its images have another size.
        """
        if domain == self.domain:
            return self
        reasons = []
        if domain.size != self.domain.size:
            reasons.append(f"its images are {self.domain.size}x{self.domain.size}, not {domain.size}x{domain.size}")
        missing = [name for name in self.domain.classes if name not in domain.classes]
        if missing:
            reasons.append(f"it has classes that the bundle does not know: {listed(missing)}")
        if reasons:
            raise DataError(
                f"{self.source} does not fit the bundle: {'; '.join(reasons)}. Choose other data, or a bundle that was "
                "trained on these classes at this size."
            )
        labels = np.array([domain.classes.index(name) for name in self.domain.classes], np.int64)[self.labels]
        same = np.array_equal(labels, self.labels)
        return dataclasses.replace(self, labels=labels, domain=domain, checksum=self.checksum if same else "")


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

    @property
    def domain(self) -> Domain:
        """Classes and image size, which are those of both parts."""
        part = self.test if self.train is None else self.train
        assert part is not None  # no data set has neither
        return part.domain


def checksum(images: Pixels, labels: Labels) -> str:
    """SHA-256 over the bytes of the images, then of the labels."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def listed(names: Sequence[str]) -> str:
    """Class names in a message: the first of many."""
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")

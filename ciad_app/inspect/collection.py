"""A list of images as the gallery shows it, from a data set or from pictures of the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ciad_engine.attacks.base import AttackResult
    from ciad_engine.datasets import ImageSet
    from ciad_engine.imaging import Picture

UNKNOWN = -1  # the label of an image whose class nobody told us
YOURS = "Your images"
RECORDS = "From the results"
ORIGINAL_SIDE = 192  # of the copy of an original that is kept to show where an image came from


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of the gallery."""

    pixels: npt.NDArray[np.uint8]  # (3, size, size)
    label: int | None  # class number, None if unknown
    name: str  # for people, e.g. a file name
    note: str = ""  # how it was made square and small, or from which row it comes
    adversarial: npt.NDArray[np.uint8] | None = None  # (3, size, size), a stored adversarial image of it
    attack: AttackResult | None = None  # that made it, or failed
    evade: tuple[str, ...] = ()  # what that had to evade
    bundle: str = ""  # checksum of the bundle that it attacked
    original: npt.NDArray[np.uint8] | None = None  # (H, W, 3), a small copy of the picture it was made from


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images with labels and names."""

    title: str  # for the gallery's choice
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]  # (3, size, size) each; a data set's is not copied
    labels: npt.NDArray[np.int64]  # (N,), UNKNOWN without one
    names: Sequence[str]
    extras: tuple[Entry, ...] = ()  # the whole entries if there is more to them (the user's own)
    checksum: str = ""  # of a data set: others may have its title

    def __len__(self) -> int:
        return len(self.images)

    def entry(self, row: int) -> Entry:
        if self.extras:
            return self.extras[row]
        label = int(self.labels[row])
        return Entry(self.images[row], None if label == UNKNOWN else label, self.names[row])


def of_entries(title: str, entries: Sequence[Entry]) -> Collection:
    labels = np.array([UNKNOWN if e.label is None else e.label for e in entries], np.int64)
    return Collection(title, [e.pixels for e in entries], labels, [e.name for e in entries], tuple(entries))


def of_set(images: ImageSet) -> Collection:
    return Collection(images.source, images.images, images.labels, images.names, checksum=images.checksum)


def of_picture(picture: Picture, keep_original: bool = True) -> Entry:
    """A picture the user opened; nobody told its class. Of the original a small copy is kept, of up to 110 kB."""
    if not keep_original:
        return Entry(picture.pixels, None, picture.name, picture.note)
    step = -(-max(picture.original.shape[:2]) // ORIGINAL_SIDE)  # rounded up
    return Entry(picture.pixels, None, picture.name, picture.note, original=picture.original[::step, ::step].copy())

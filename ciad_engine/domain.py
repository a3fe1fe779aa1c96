"""What a data set and a trained system are about: their classes and the size of their images."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # an image (3, size, size), or a batch (N, 3, size, size)
Labels = npt.NDArray[np.int64]  # (N,), places in `Domain.classes`

MAX_SIZE = 64  # pixels: the networks are made for small images


@dataclasses.dataclass(frozen=True)
class Domain:
    """Classes and image size. Card, data set and run carry one, and it decides whether they fit each other.

    Attributes:
        classes: their names in label order.
        size: side of the square images in pixels.
    """

    classes: tuple[str, ...]
    size: int

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: wanted two or more different names, got {self.classes}")
        if not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"size: wanted 1 to {MAX_SIZE} pixels, got {self.size}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, rows, columns."""
        return (3, self.size, self.size)


CIFAR10 = Domain(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), 32)

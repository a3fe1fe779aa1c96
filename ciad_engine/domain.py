<<<<<<< HEAD
"""What a data set and a trained system are about: their classes and the size of their images."""
=======
"""What a classifier is for: its classes, and the size of its images."""
>>>>>>> core

from __future__ import annotations

import dataclasses

<<<<<<< HEAD
MAX_SIZE = 64  # pixels: the networks are made for small images


@dataclasses.dataclass(frozen=True)
class Domain:
    """Classes and image size. Card, data set and run carry one, and it decides whether they fit each other.

    Attributes:
        classes: their names in label order.
        size: side of the square images in pixels.
    """
=======

@dataclasses.dataclass(frozen=True)
class Domain:
    """The classes in label order, and the side of the square images in pixels."""
>>>>>>> core

    classes: tuple[str, ...]
    size: int

<<<<<<< HEAD
    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: wanted two or more different names, got {self.classes}")
        if not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"size: wanted 1 to {MAX_SIZE} pixels, got {self.size}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, rows, columns."""
        return (3, self.size, self.size)
=======
    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: colours, rows, columns."""
        return 3, self.size, self.size
>>>>>>> core


CIFAR10 = Domain(
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    32,
)

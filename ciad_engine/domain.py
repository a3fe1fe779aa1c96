"""What a classifier is for: its classes, and the size of its images."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Domain:
    """The classes in label order, and the side of the square images in pixels."""

    classes: tuple[str, ...]
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: colours, rows, columns."""
        return 3, self.size, self.size


CIFAR10 = Domain(
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    32,
)

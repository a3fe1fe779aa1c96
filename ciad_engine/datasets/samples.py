"""The bundled samples: generated images, since no CIFAR-10 image may be shipped.

Format of `resources/samples/samples.zip`:

- `card.json`: {"format": 1, "classes": [names in label order], "count": N, "sha256": checksum of
  images and labels as `ImageSet.checksum`, ...}, and whatever whoever made them wrote down: seed,
  recipe, accuracies, nearest training images;
- `images/<class>/<nnnn>.png`: 32x32 RGB, stored, numbered from 0000 in each class.

The archive is a class-folder data set by itself. `packaging/samples/archive.py` writes it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ciad_engine import resources
from ciad_engine.datasets import members, reading
from ciad_engine.datasets.base import TEST, ImageSet
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

SAMPLES = "samples"  # what people type
SOURCE = "CIAD samples (generated)"
FORMAT = 1
CARD = "card.json"
_ARCHIVE = ("samples", "samples.zip")


def samples_path() -> Path:
    """Where the archive of the bundled samples is, if it was installed."""
    return resources.path(*_ARCHIVE)


def samples() -> ImageSet:
    """The bundled samples.

    Raises:
        DataError: they were not installed, or are damaged.
    """
    return read_samples(samples_path())[0]


def read_samples(path: Path) -> tuple[ImageSet, dict[str, Any]]:
    """Images and card of a samples archive; the first image of every class, then the second ...

    Raises:
        DataError: missing, damaged, or not what its card says.
    """
    if not path.is_file():
        raise DataError(f"The bundled samples are missing ({path}): install CIAD again, or name a data set.")
    card = _card(path)
    images = reading.read(path, Job(), (TEST,)).test
    found = None if images is None else images.checksum
    if images is None or found != card.get("sha256"):
        raise DataError(f"{path} is damaged: its images are not those on its card. Install CIAD again.")
    names = tuple(name.removeprefix(f"{TEST}/") for name in images.names)
    return dataclasses.replace(images, source=SOURCE, names=names), card


def _card(path: Path) -> dict[str, Any]:
    for member in members.in_archive(path, Job()):
        if member.name == CARD:
            try:
                card = json.loads(member.read(members.MAX_READ))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: its {CARD} is not valid JSON ({error}). Install CIAD again.") from error
            if isinstance(card, dict) and card.get("format") == FORMAT and card.get("classes") == list(CIFAR10.classes):
                return card
            raise DataError(f"{path}: its {CARD} is of another format or for other classes.")
    raise DataError(f"{path} has no {CARD}: it is not a samples archive.")

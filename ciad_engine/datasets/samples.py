"""The bundled samples: generated images, since no CIFAR-10 image may be shipped.

Format of `resources/samples/samples.zip`:

- `card.json`: {"format": 1, "classes": [names in label order], "count": N, "sha256": checksum of
  images and labels as `ImageSet.checksum`, ...}, and whatever whoever made them wrote down: seed,
  recipe, accuracies, nearest training images;
- `images/<class>/<nnnn>.png`: 32x32 RGB, stored, numbered from 0000 in each class.

The archive is a class-folder data set by itself. The same images and card give the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ciad_engine import imaging, resources
from ciad_engine.datasets import members, reading
from ciad_engine.datasets.base import TEST, ImageSet, checksum
from ciad_engine.domain import CIFAR10, Labels, Pixels
from ciad_engine.errors import DataError
from ciad_engine.files import write_whole
from ciad_engine.jobs import Job

SAMPLES = "samples"  # what people type
SOURCE = "CIAD samples (generated)"
FORMAT = 1
CARD = "card.json"
WRITTEN_KEYS = frozenset({"format", "classes", "count", "sha256"})  # of the card: `write_samples` writes them
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


def write_samples(path: Path, images: Pixels, labels: Labels, card: Mapping[str, Any]) -> None:
    """Write a samples archive; see the module for its format.

    Args:
        images: uint8 (N, 3, 32, 32); `labels`: int64 (N,); every class at least once.
        card: what else is to be known of them; must not contain WRITTEN_KEYS.

    Raises:
        ValueError: shapes, labels or keys are not as above.
    """
    ImageSet(images, labels, SOURCE)  # checks shapes and types
    taken = WRITTEN_KEYS & set(card)
    if taken or set(labels.tolist()) != set(range(len(CIFAR10.classes))):
        raise ValueError(f"the card has {sorted(taken)}" if taken else "every class has to be there, and no other")
    # Read back, the images are interleaved by class; the checksum is of that order.
    ranks = np.array([int((labels[:i] == label).sum()) for i, label in enumerate(labels)])
    order = np.lexsort((labels, ranks))
    content = {
        "format": FORMAT,
        "classes": list(CIFAR10.classes),
        "count": len(images),
        "sha256": checksum(images[order], labels[order]),
        **card,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _store(archive, CARD, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        for i in order:
            name = f"images/{CIFAR10.classes[labels[i]]}/{ranks[i]:04d}.png"
            _store(archive, name, imaging.png_bytes(images[i]))
    write_whole(path, out.getvalue())


def _store(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # a fixed time, for the same bytes every time
    info.create_system, info.external_attr = 3, 0o100644 << 16
    archive.writestr(info, raw)


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
    raise DataError(f"{path} has no {CARD}: it is no samples archive.")

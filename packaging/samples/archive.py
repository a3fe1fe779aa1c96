"""Writes the archive of the bundled samples, whose format `ciad_engine/datasets/samples.py` describes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ciad_engine import imaging
from ciad_engine.datasets.base import ImageSet, checksum
from ciad_engine.datasets.samples import CARD, FORMAT, SOURCE
from ciad_engine.domain import CIFAR10, Labels, Pixels
from ciad_engine.files import write_whole

WRITTEN_KEYS = frozenset({"format", "classes", "count", "sha256"})  # of the card: `write_samples` writes them


def write_samples(path: Path, images: Pixels, labels: Labels, card: Mapping[str, Any]) -> None:
    """Write a samples archive. The same images and card give the same bytes.

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

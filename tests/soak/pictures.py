"""Damaged pictures: each is decoded to the wanted size, or refused with a reason."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image

from ciad_engine import imaging
from tests.soak.mutations import mutated
from tests.soak.tally import Tally

COUNT = 10_000
SIZE = 32


def originals() -> list[bytes]:
    """Return one small picture for each format, mode and way of storing."""
    colours = np.random.default_rng(0).integers(0, 256, (40, 56, 4), dtype=np.uint8)
    full = Image.fromarray(colours, "RGBA")
    kinds = (
        ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "L", {}), ("PNG", "1", {}),
        ("PNG", "LA", {}), ("PNG", "I;16", {}), ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}), ("JPEG", "CMYK", {}), ("GIF", "P", {}), ("BMP", "RGB", {}), ("BMP", "P", {}),
        ("TIFF", "RGB", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "I;16", {}), ("TIFF", "F", {}),
        ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("TIFF", "1", {"compression": "group4"}),
    )  # fmt: skip
    found = []
    for format_, mode, options in kinds:
        if mode in ("I;16", "F"):
            picture = Image.fromarray(colours[..., 0].astype(np.uint16 if mode == "I;16" else np.float32))
        else:
            picture = full.convert("RGB").convert(mode) if mode in ("CMYK", "P") else full.convert(mode)
        buffer = io.BytesIO()
        picture.save(buffer, format_, **options)
        found.append(buffer.getvalue())
    return found


def run(tally: Tally, draw: random.Random) -> None:
    known = originals()
    for number in range(tally.total):
        raw = mutated(draw.choice(known), draw)
        with tally.case(f"picture {number}"):
            picture = imaging.read_bytes(raw, "damaged", SIZE)
            assert picture.pixels.shape == (3, SIZE, SIZE)
            assert picture.pixels.dtype == np.uint8

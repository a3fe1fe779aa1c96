"""Damage to bytes, as transfers, disks and other people's programs do it, and as nobody would do it by accident."""

from __future__ import annotations

import random


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Return `raw` after one to three random changes."""
    for _ in range(draw.randint(1, 3)):
        raw = draw.choice(_CHANGES)(raw, draw)
    return raw


def _flip(raw: bytes, draw: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(draw.randint(1, 16)):
        if found:
            found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _head(raw: bytes, draw: random.Random) -> bytes:
    """Change a byte of the first hundred, in which a header has its sizes."""
    found = bytearray(raw)
    if found:
        found[draw.randrange(min(100, len(found)))] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    return bytes(found)


def _cut(raw: bytes, draw: random.Random) -> bytes:
    return raw[: draw.randint(0, len(raw))]


def _without(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(raw))
    return raw[:start] + raw[start + draw.randint(1, 64) :]


def _again(raw: bytes, draw: random.Random) -> bytes:
    """Repeat a piece, up to a hundred times."""
    start = draw.randint(0, len(raw))
    end = start + draw.randint(1, 200)
    return raw[:end] + raw[start:end] * draw.randint(1, 100) + raw[end:]


def _zeros(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(raw))
    length = min(draw.randint(1, 512), len(raw) - start)
    return raw[:start] + bytes(length) + raw[start + length :]


def _noise(raw: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(raw))
    return raw[:start] + draw.randbytes(draw.randint(1, 64)) + raw[start:]


_CHANGES = (_flip, _flip, _head, _head, _cut, _without, _again, _zeros, _noise)

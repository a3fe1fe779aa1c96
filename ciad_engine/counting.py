"""Counts with their nouns, as people write them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 image" or "1,200 images"; a plural that does not end in -s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"

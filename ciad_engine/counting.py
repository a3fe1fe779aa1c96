"""Counts, probabilities and lists as people write them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 image" or "1,200 images"; a plural that does not end in -s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def percent(probability: float) -> str:
    """Return a probability for people: "93%", "<1%"; "100%" only from 99.95% on."""
    if probability < 0.01:
        return "<1%"
    return ">99%" if 0.99 < probability < 0.9995 else f"{100 * probability:.0f}%"


def disk_size(count: int) -> str:
    """Return a number of bytes for people: "900 bytes", "12.3 MB"."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= 0.9995 * size:
            return f"{count / size:,.1f} {unit}"
    return counted(count, "byte")


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def capitalised(text: str) -> str:
    """Return the text as a sentence begins."""
    return text[:1].upper() + text[1:]

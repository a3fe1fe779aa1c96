"""Data sets that are not the official files but known by their content, so that they are quoted by name."""

from __future__ import annotations

import dataclasses

from ciad_engine.datasets.base import NOT_OFFICIAL, ImageSet

_RE_ENCODED = "CIFAR-10, JPEG re-encoding"
# Checksum of a part -> name. CIFAR-10 with every image stored as JPEG, as class-named folders and as batches
# made of them; a decoder that rounds otherwise gives other checksums, and then nothing is known.
_NAMES = {
    "be283549e113fc19f44f8d2572b1d105d9fccae78cf22219f35bbd92e3f3fcb2": _RE_ENCODED,
    "1cbec74eb086526422faab1c0a1c369c8dd35384d83bed214064a6366f7974d5": _RE_ENCODED,
    "26b2ef72ae3a58d37d9c76239b46b31a9ad53e774f055128282526ceedcc8e90": _RE_ENCODED,
    "2fe6495eccabc45bc6faf80d42d3adc5e6b2a6acbde6bb357b3e41eaa6bedb0a": _RE_ENCODED,
}


def name(part: ImageSet | None) -> str | None:
    """What a part is known as, e.g. "CIFAR-10, JPEG re-encoding"; None for official and for unknown data."""
    return None if part is None else _NAMES.get(part.checksum)


def with_source(part: ImageSet | None, kind: str) -> ImageSet | None:
    """The same part, quoted by its name where it is known; `kind` is "training images" or "test images"."""
    known = name(part)
    if part is None or known is None:
        return part
    return dataclasses.replace(part, source=f"{kind} of {known} ({NOT_OFFICIAL})")

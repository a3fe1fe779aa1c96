"""The arrangement of the paper's Figure 3 for one inspected image. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ciad_engine.figures.layout import Figure, Panel
from ciad_engine.inspection import Inspection, percent

if TYPE_CHECKING:
    from ciad_engine.detectors.base import Verdict


def of_inspection(found: Inspection, attacked: Sequence[tuple[str, Inspection]] = ()) -> Figure:
    """Image and mask, before and after each of the attacks that succeeded.

    `attacked` are inspections of the same image, each with an attack and what a person calls it.
    """
    versions = [("original", found.image, found.benign)]
    for title, each in attacked:
        if each.attacked_image is not None and each.adversarial is not None:
            versions.append((title, each.attacked_image, each.adversarial))
    return Figure(
        name="inspection",
        title=f"{found.name}: image and mask" if found.name else "Image and mask",
        rows=(
            tuple(Panel(image, (f"f1: {said(v.y1, v.p1, 0, found.classes)}",)) for _, image, v in versions),
            tuple(Panel(mask(v, 0), (f"f2: {said(v.y2, v.p2, 0, found.classes)}",)) for _, _, v in versions),
        ),
        heads=tuple(head for head, _, _ in versions),
        sides=("image", "mask (white: important)"),
    )


def mask(verdict: Verdict, row: int) -> npt.NDArray[np.uint8]:
    """Importance, which is 1 - mask, as a grey picture (3, size, size)."""
    grey = np.rint(255 * (1 - verdict.masks[row])).astype(np.uint8)
    return np.stack([grey] * 3)


def said(y: npt.NDArray[np.int64], p: npt.NDArray[np.floating], row: int, classes: tuple[str, ...]) -> str:
    """E.g. "cat, 93 %"."""
    return f"{classes[y[row]]}, {percent(float(p[row, y[row]]))}"

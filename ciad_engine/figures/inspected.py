"""The arrangement of the paper's Figure 3 for one inspected image. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ciad_engine.counting import percent
from ciad_engine.detectors import MASK
from ciad_engine.domain import Labels, Pixels
from ciad_engine.figures.layout import Figure, Panel
from ciad_engine.inspection import Inspection

if TYPE_CHECKING:
    from ciad_engine.detectors.base import Verdict

SIDES = ("image", "mask (white: important)")


def of_inspection(found: Inspection, attacked: Sequence[tuple[str, Inspection]] = ()) -> Figure:
    """Return image and mask, before and after each of the attacks that fooled f1; no masks if the bundle draws none.

    `attacked` are inspections of the same image, each with an attack and what a person calls it.
    """
    versions = [("original", found.image, found.benign)]
    for title, each in attacked:
        if each.attacked_image is not None and each.adversarial is not None:
            versions.append((title, each.attacked_image, each.adversarial))
    rows = [tuple(image_panel(image, verdict, 0, found.classes) for _, image, verdict in versions)]
    if found.benign.masks is not None:
        rows.append(tuple(mask_panel(verdict, 0, found.classes) for _, _, verdict in versions))
    about = "image and mask" if len(rows) > 1 else "image"
    return Figure(
        name="inspection",
        title=f"{found.name}: {about}" if found.name else about.capitalize(),
        rows=tuple(rows),
        heads=tuple(head for head, _, _ in versions),
        sides=SIDES[: len(rows)],
    )


def image_panel(image: Pixels, verdict: Verdict, row: int, classes: tuple[str, ...]) -> Panel:
    """Return an image with its class by f1; `row` is its place in the verdict."""
    return Panel(image, (f"f1: {said(verdict.y1, verdict.p1, row, classes)}",))


def mask_panel(verdict: Verdict, row: int, classes: tuple[str, ...]) -> Panel:
    """Return the mask of an image with its class by f2, whichever detector decides."""
    found = verdict.findings.get(MASK)
    if found is None or found.labels is None:
        return Panel(mask(verdict, row))
    return Panel(mask(verdict, row), (f"f2: {said(found.labels, found.probabilities, row, classes)}",))


def mask(verdict: Verdict, row: int) -> Pixels:
    """Return importance, which is 1 - mask, as a grey picture (3, size, size); the verdict has masks."""
    assert verdict.masks is not None
    grey = np.rint(255 * (1 - verdict.masks[row])).astype(np.uint8)
    return np.stack([grey] * 3)


def said(y: Labels, p: npt.NDArray[np.floating], row: int, classes: tuple[str, ...]) -> str:
    """Return class and probability, e.g. "cat, 93%"."""
    return f"{classes[y[row]]}, {percent(float(p[row, y[row]]))}"

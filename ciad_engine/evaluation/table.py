"""A table as people and files get it: cells that carry of how many and how sure they are."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ciad_engine.evaluation.statistics import Images, Scores, auroc, auroc_interval, share_interval, wilson

Value = str | int | float | None
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One value. A `share` also carries of how many (`n`) and its 95 % interval [`low`, `high`].

    That is Wilson's; where an image is among them more than once, `share_interval`'s, and none before the run is
    finished. A mean carries of how many, too.
    `area` marks an area under a ROC curve, whose interval is a bootstrap's, where it has one. `value` is None where
    there is nothing to compute it from.
    """

    value: Value
    n: int | None = None
    low: float | None = None
    high: float | None = None
    share: bool = False
    area: bool = False

    def text(self) -> str:
        """As a person reads it: "0.863 [0.840, 0.883]", "1,000", "–" for nothing."""
        if self.value is None:
            return "–"
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, int):
            return f"{self.value:,}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        decimals = 3 if abs(self.value) < 100 else 1
        return f"{self.value:,.{decimals}f}{interval}"


NO_SHARE = Cell(None, 0, share=True)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for screen, CSV and JSON: `name` is its file name, every row has one cell a column."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


def to_json(table: Table) -> dict[str, Any]:
    """The table as plain data; of a cell what differs from an empty one, so that a card stays readable."""
    defaults = {field.name: field.default for field in dataclasses.fields(Cell)}
    rows = [
        [{key: value for key, value in dataclasses.asdict(cell).items() if value != defaults.get(key)} for cell in row]
        for row in table.rows
    ]
    return {**dataclasses.asdict(table), "rows": rows}


def from_json(content: Mapping[str, Any]) -> Table:
    """The table that `to_json` made plain data of. Raises KeyError, TypeError or ValueError where it is none."""
    rows = tuple(tuple(Cell(**{"value": None, **cell}) for cell in row) for row in content["rows"])
    columns = tuple(content["columns"])
    if any(len(row) != len(columns) for row in rows):
        raise ValueError("a row has not as many cells as there are columns")
    return Table(content["name"], content["title"], columns, rows, tuple(content["notes"]))


def render_text(table: Table, width: int | None = None) -> str:
    """The table for a terminal: title, aligned columns, notes.

    Turned on its side: there are few attacks and many measures, so a line a measure stays readable. Attacks for
    which a line of `width` characters has no room come below the others, under the measures' names once more.
    """
    cells = [[cell.text() for cell in row] for row in table.rows]
    lines = [list(line) for line in zip(table.columns, *cells, strict=True)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    blocks: list[list[int]] = [[]]
    for k in range(1, len(widths)):
        taken = widths[0] + sum(2 + widths[other] for other in (*blocks[-1], k))
        if blocks[-1] and width is not None and taken > width:
            blocks.append([])
        blocks[-1].append(k)

    def aligned(words: Sequence[str], block: Sequence[int]) -> str:
        return "  ".join(words[k].ljust(widths[k]) for k in (0, *block)).rstrip()

    rule = ["-" * w for w in widths]
    parts = ["\n".join(aligned(line, block) for line in (lines[0], rule, *lines[1:])) for block in blocks]
    notes = (textwrap.fill(note, min(width or 100, 100), subsequent_indent="  ") for note in table.notes)
    return "\n".join((table.title, "", "\n\n".join(parts), "", *notes))


def shares(
    items: Sequence[Item], holds: Callable[[Item], bool], images: Images | None = None, finished: bool = True
) -> Cell:
    """The share of items that hold; for `images` and `finished` see `share_of`."""
    return share_of(np.fromiter((holds(item) for item in items), np.bool_, len(items)), images, finished)


def share_of(held: npt.NDArray[np.bool_], images: Images | None = None, finished: bool = True) -> Cell:
    """The share that `held` (N,).

    `images` (N,) says of which image each is: where one is there several times, the interval is `share_interval`'s, and
    left out as `area`'s is before the run is `finished`.
    """
    if images is None or len(np.unique(images)) == len(held):
        return share(int(held.sum()), len(held))
    low, high = _share_interval(held.tobytes(), images.tobytes()) if finished else (None, None)
    return Cell(float(held.mean()), len(held), low, high, share=True)


def area(positive: Scores, negative: Scores, finished: bool, images: Images) -> Cell:
    """AUROC of scores that belong to `images`; of a run that is `finished` with its bootstrap interval.

    While a run fills its tables, the interval would cost more of the processor than it tells.
    """
    interval = _interval(positive.tobytes(), negative.tobytes(), images.tobytes()) if finished else None
    low, high = interval or (None, None)
    return Cell(auroc(positive, negative), len(positive), low, high, area=True)


@functools.lru_cache(maxsize=128)  # a second each on ten thousand images, and asked for again with every look
def _interval(positive: bytes, negative: bytes, images: bytes) -> tuple[float, float] | None:
    return auroc_interval(np.frombuffer(positive), np.frombuffer(negative), np.frombuffer(images, dtype=np.int64))


@functools.lru_cache(maxsize=128)
def _share_interval(held: bytes, images: bytes) -> tuple[float, float]:
    return share_interval(np.frombuffer(held, np.bool_), np.frombuffer(images, np.int64))


def share(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), share=True) if n else NO_SHARE


def over(statistic: Callable[[Sequence[float]], np.floating], values: Sequence[float]) -> Cell:
    return Cell(float(statistic(values)), len(values)) if values else Cell(None, 0)

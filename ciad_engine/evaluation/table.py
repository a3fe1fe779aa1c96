"""Tables for people and files: cells with their number of images and their interval."""

from __future__ import annotations

import dataclasses
import functools
import html
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ciad_engine import detectors
from ciad_engine.evaluation.statistics import (
    Images,
    Scores,
    auroc,
    auroc_interval,
    mean_interval,
    share_interval,
    wilson,
)

Value = str | int | float | None
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One value. A `rate` also has its number of images (`n`) and its 95% interval [`low`, `high`].

    The interval is Wilson's; if an image counts more than once, `statistics.share_interval`'s, and missing until the
    run is finished. A mean has its number of images, too, and may have a bootstrap interval. `area` marks an area under
    a ROC curve, with a bootstrap interval if there is one. `value` is None if there is nothing to compute it from.
    """

    value: Value
    n: int | None = None
    low: float | None = None
    high: float | None = None
    rate: bool = False
    area: bool = False

    def text(self) -> str:
        """Return the cell for people: "0.863 [0.840, 0.883]", "1,000", "–" for nothing."""
        if self.value is None:
            return "–"
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, int):
            return f"{self.value:,}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        decimals = 3 if abs(self.value) < 100 else 1
        return f"{self.value:,.{decimals}f}{interval}"

    def text_with_count(self) -> str:
        """Return the same, and of how many images a rate or area is: "0.863 [0.840, 0.883], n 1,000"."""
        return self.text() if self.n is None or self.low is None else f"{self.text()}, n {self.n:,}"


NO_RATE = Cell(None, 0, rate=True)


@dataclasses.dataclass(frozen=True)
class Column:
    """A measure: `key` names it in files, `title` is for people, `short` for narrow places (the title if empty).

    A heading can change without changing data, because files use the key.
    """

    key: str
    title: str
    short: str = ""

    @property
    def heading(self) -> str:
        return self.short or self.title


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a row of a table is about.

    Attributes:
        attack: registry name, "*" for all attacks together; `title`: for people, with norm and distinctive settings.
        norm: the distance that the attack keeps small.
        settings: of the attack.
        detector: its name; "" in rows that are not about a detector.
    """

    attack: str
    title: str
    norm: str
    settings: Mapping[str, Any]
    detector: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for screen, CSV and JSON: one row per attack, setting and detector, one cell per column.

    Attributes:
        name: of its file; `title`: for people.
        subjects: what each row is about; `cells`: one tuple per subject, one cell per column.
        notes: what a reader has to know.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    subjects: tuple[Subject, ...]
    cells: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.subjects) != len(self.cells) or any(len(row) != len(self.columns) for row in self.cells):
            raise ValueError(f"table {self.name}: it has not one row per subject and one cell per column")

    def only(self, detectors: Sequence[str], keys: Collection[str] | None = None) -> Table:
        """Return the rows about these detectors, with the columns of these keys; all columns by default."""
        kept = [k for k, subject in enumerate(self.subjects) if subject.detector in detectors]
        places = [k for k, column in enumerate(self.columns) if keys is None or column.key in keys]
        return dataclasses.replace(
            self,
            columns=tuple(self.columns[k] for k in places),
            subjects=tuple(self.subjects[k] for k in kept),
            cells=tuple(tuple(self.cells[k][place] for place in places) for k in kept),
        )

    def cell(self, attack: str, key: str, detector: str = "") -> Cell:
        """Return one cell; `attack` is a subject's title.

        Raises:
            KeyError: there is no such row or column.
        """
        for subject, row in zip(self.subjects, self.cells, strict=True):
            if (subject.title, subject.detector) == (attack, detector):
                for column, cell in zip(self.columns, row, strict=True):
                    if column.key == key:
                        return cell
        raise KeyError((attack, key, detector))

    def turned(self) -> tuple[list[str], list[tuple[Column, str, list[Cell]]]]:
        """Return the table with one line per measure and one column per attack: there are few attacks, many measures.

        Returns:
            The titles of the attacks; and per line the measure, its heading and the cells. With several detectors a
            measure has a line for each that has it, and for the rows without a detector.
        """
        attacks = list(dict.fromkeys(subject.title for subject in self.subjects))
        names = list(dict.fromkeys(subject.detector for subject in self.subjects))
        rows = {(s.title, s.detector): row for s, row in zip(self.subjects, self.cells, strict=True)}
        lines = []
        for k, column in enumerate(self.columns):
            for name in names:
                cells = [rows[attack, name][k] if (attack, name) in rows else Cell(None) for attack in attacks]
                if len(names) > 1 and all(cell.value is None and cell.n is None for cell in cells):
                    continue  # the detector has no such measure
                heading = f"{column.heading}: {detectors.title(name)}" if name and len(names) > 1 else column.heading
                lines.append((column, heading, cells))
        return attacks, lines


def filled(
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[Subject, dict[str, Cell]]],
    notes: Sequence[str],
) -> Table:
    """Return a table with those of `columns` that any row has, in their order."""
    used = [column for column in columns if any(column.key in cells for _, cells in rows)]
    return Table(
        name,
        title,
        tuple(used),
        tuple(subject for subject, _ in rows),
        tuple(tuple(cells.get(column.key, Cell(None)) for column in used) for _, cells in rows),
        tuple(notes),
    )


def to_json(table: Table) -> dict[str, Any]:
    """Return the table as plain data; cells without the fields that have their default, so that files stay readable."""
    defaults = {field.name: field.default for field in dataclasses.fields(Cell)}
    cells = [
        [{key: value for key, value in dataclasses.asdict(cell).items() if value != defaults.get(key)} for cell in row]
        for row in table.cells
    ]
    return {**dataclasses.asdict(table), "cells": cells}


def from_json(content: Mapping[str, Any]) -> Table:
    """Return the table that `to_json` made plain data of.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    return Table(
        content["name"],
        content["title"],
        tuple(Column(**column) for column in content["columns"]),
        tuple(Subject(**subject) for subject in content["subjects"]),
        tuple(tuple(Cell(**{"value": None, **cell}) for cell in row) for row in content["cells"]),
        tuple(content["notes"]),
    )


def render_text(table: Table, width: int | None = None) -> str:
    """Return the table for a terminal: title, aligned columns, notes.

    Attacks that do not fit into lines of `width` characters come below the others, under the measures once more.
    """
    attacks, measures = table.turned()
    lines = [["", *attacks], *([heading, *(cell.text() for cell in cells)] for _, heading, cells in measures)]
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


def render_html(table: Table) -> str:
    """Return the table as HTML, for word processors and spreadsheets: one line per measure."""

    def line(words: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(word)}</{tag}>" for word in words) + "</tr>"

    attacks, measures = table.turned()
    body = "".join(line([heading, *(cell.text_with_count() for cell in cells)], "td") for _, heading, cells in measures)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return f"<h3>{html.escape(table.title)}</h3><table border='1'>{line(['', *attacks], 'th')}{body}</table>{notes}"


def render_markdown(table: Table) -> str:
    """Return the table as Markdown: one line per measure."""

    def line(words: Sequence[str]) -> str:
        return f"| {' | '.join(word.replace('|', chr(92) + '|') for word in words)} |"

    attacks, measures = table.turned()
    head = [f"# {table.title}", "", line(["", *attacks]), line(["---"] * (1 + len(attacks)))]
    body = [line([heading, *(cell.text_with_count() for cell in cells)]) for _, heading, cells in measures]
    return "\n".join([*head, *body, "", *(f"- {note}" for note in table.notes), ""])


def rates(
    items: Sequence[Item], holds: Callable[[Item], bool], images: Images | None = None, finished: bool = True
) -> Cell:
    """Return the rate of items that hold; for `images` and `finished` see `rate_of`."""
    return rate_of(np.fromiter((holds(item) for item in items), np.bool_, len(items)), images, finished)


def rate_of(held: npt.NDArray[np.bool_], images: Images | None = None, finished: bool = True) -> Cell:
    """Return the rate of true entries of `held` (N,).

    `images` (N,) is the image that each entry belongs to. If an image counts more than once, the interval is
    `share_interval`'s, and missing as long as the run is not `finished`.
    """
    if images is None or len(np.unique(images)) == len(held):
        return rate(int(held.sum()), len(held))
    low, high = _share_interval(held.tobytes(), images.tobytes()) if finished else (None, None)
    return Cell(float(held.mean()), len(held), low, high, rate=True)


def area(positive: Scores, negative: Scores, finished: bool, images: Images) -> Cell:
    """Return the AUROC of scores that belong to `images`, with its bootstrap interval if the run is `finished`.

    While a run fills its tables, the interval would cost more processor time than it is worth.
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


def rate(k: int, n: int) -> Cell:
    """Return the rate k/n with Wilson's interval."""
    return Cell(k / n, n, *wilson(k, n), rate=True) if n else NO_RATE


def mean(values: Scores) -> Cell:
    """Return the mean of values, one per image, with its bootstrap interval; NaN is not counted."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Cell(None, 0)
    low, high = mean_interval(values) or (None, None)
    return Cell(float(values.mean()), len(values), low, high)


def over(statistic: Callable[[Sequence[float]], np.floating], values: Sequence[float]) -> Cell:
    """Return a statistic of values, with their number."""
    return Cell(float(statistic(values)), len(values)) if values else Cell(None, 0)

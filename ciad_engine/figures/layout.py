"""A figure as plain data, and where its parts lie; how it is drawn is the business of svg.py and png.py."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from ciad_engine.domain import Pixels
from ciad_engine.plain_text import plain

# In units of an SVG's user space, which a browser shows as pixels.
IMAGE, GAP, LINE, MARGIN, SIDE = 128, 18, 17, 24, 96
TITLE_SIZE, TEXT_SIZE = 15, 13
CHARACTER = 6.4  # mean width of a character at TEXT_SIZE, to break lines by


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture, uint8 (3, h, w), and the lines below it."""

    pixels: Pixels
    caption: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """Rows of panels of one size.

    Attributes:
        name: the files' name, without suffix.
        title: above it, one line.
        rows: the panels, each row of the same length; None leaves a place empty.
        heads: above the columns, sides: left of the rows; none, or one for each.
        notes: below, one paragraph each.
    """

    name: str
    title: str
    rows: tuple[tuple[Panel | None, ...], ...]
    heads: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Words:
    """A line of text whose baseline begins (`anchor` "start"), is centred ("middle") or ends ("end") at (x, y).

    `turned`, it runs upwards instead.
    """

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: int = TEXT_SIZE
    bold: bool = False
    turned: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A square of IMAGE by IMAGE whose upper left corner lies at (x, y)."""

    x: float
    y: float
    pixels: Pixels


@dataclasses.dataclass(frozen=True)
class Stroke:
    """A line through points; with `dashes` (drawn, left out, ...) broken; `filled`, thinly, with what it encloses."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    dashes: tuple[float, ...] = ()
    filled: bool = False


@dataclasses.dataclass(frozen=True)
class Page:
    """Everything placed on width by height; strokes lie below the words. `name` is its file's, without suffix."""

    name: str
    title: str
    width: float
    height: float
    pictures: tuple[Picture, ...]
    words: tuple[Words, ...]
    strokes: tuple[Stroke, ...] = ()


def place(figure: Figure) -> Page:
    """Where everything lies."""
    columns = max(len(row) for row in figure.rows)
    left = MARGIN + (SIDE if figure.sides else 0)
    middle = [left + column * (IMAGE + GAP) + IMAGE / 2 for column in range(columns)]
    width = max(left + columns * IMAGE + (columns - 1) * GAP + MARGIN, 520)
    words, y = title_words(figure.title, width)
    if figure.heads:
        y += LINE
        words += [Words(x, y - 6, head, "middle", bold=True) for x, head in zip(middle, figure.heads, strict=True)]
    pictures = []
    for number, row in enumerate(figure.rows):
        if figure.sides:
            for line, text in enumerate(textwrap.wrap(figure.sides[number], int(SIDE / CHARACTER))):
                words.append(Words(MARGIN, y + LINE * (line + 1), text))
        for column, panel in enumerate(row):
            if panel is None:
                continue
            pictures.append(Picture(left + column * (IMAGE + GAP), y, panel.pixels))
            for line, text in enumerate(panel.caption):
                words.append(Words(middle[column], y + IMAGE + LINE * (line + 1), text, "middle"))
        captions = max((len(panel.caption) for panel in row if panel is not None), default=0)
        y += IMAGE + captions * LINE + GAP
    below, y = note_words(figure.notes, width, y)
    return Page(figure.name, figure.title, width, y + MARGIN, tuple(pictures), (*words, *below))


def title_words(title: str, width: float) -> tuple[list[Words], float]:
    """The title in lines, on a page of this width, and where what comes below can begin."""
    per_line = int((width - 2 * MARGIN) / (CHARACTER * TITLE_SIZE / TEXT_SIZE * 1.15))  # bold is wider
    words, y = [], float(MARGIN)
    for text in textwrap.wrap(plain(title), per_line):
        y += LINE * 1.1
        words.append(Words(MARGIN, y, text, size=TITLE_SIZE, bold=True))
    return words, y + LINE


def note_words(notes: Sequence[str], width: float, y: float) -> tuple[list[Words], float]:
    """A paragraph a note from `y` on, and where they end."""
    words = []
    for note in notes:
        for text in textwrap.wrap(note, int((width - 2 * MARGIN) / CHARACTER)):
            y += LINE
            words.append(Words(MARGIN, y, text))
        y += LINE / 3
    return words, y

"""Charts of lines and steps as plain data, and where their parts lie on a page."""

from __future__ import annotations

import dataclasses
import math
import textwrap

import numpy as np
import numpy.typing as npt

from ciad_engine.figures.layout import CHARACTER, LINE, MARGIN, Page, Stroke, Words, note_words, title_words

Values = npt.NDArray[np.float64]

# Told apart by people with any colour vision (Okabe and Ito 2008), and by the dashes in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00", "#6A3D9A")
DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2), (9, 3, 2, 3), (5, 5), (1, 3), (12, 3), (4, 2, 1, 2))
BENIGN, ADVERSARIAL, POOLED = "#5a6b7b", "#D55E00", "#555555"  # the two kinds of images; all attacks together

PLOT, PER_ROW = 250, 3  # side of a plot's frame; plots beside each other
_LEFT, _RIGHT, _BELOW, _SAMPLE = 58, 26, 42, 26  # room for the labels of the axes; a line of the legend begins with
_GREY = "#b0b0b0"


@dataclasses.dataclass(frozen=True)
class Series:
    """A line through (x, y), float64 (N,) each; `filled` down to the axis where it encloses something."""

    label: str
    x: Values
    y: Values
    colour: str
    dashes: tuple[float, ...] = ()
    filled: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """One frame with axes. `marks` are upright lines at an x, each with its word."""

    title: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    series: tuple[Series, ...]
    marks: tuple[tuple[float, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Chart:
    """Plots of one size beside and below each other; `name` is the files' name, without suffix."""

    name: str
    title: str
    plots: tuple[Plot, ...]
    notes: tuple[str, ...] = ()


def line_style(place: int, pooled: bool = False) -> tuple[str, tuple[float, ...]]:
    """Return colour and dashes of the line at this place in a plot; `pooled`: it is of all attacks together."""
    if pooled:
        return POOLED, ()
    again = place // len(COLOURS)  # a colour seen before comes with other dashes
    return COLOURS[place % len(COLOURS)], DASHES[(place + again) % len(DASHES)]


def steps(edges: Values, heights: Values) -> tuple[Values, Values]:
    """The outline (x, y) of bars of these `heights` (N,) between `edges` (N + 1,), from the axis to the axis."""
    x = np.repeat(edges, 2)
    return x, np.concatenate(([0.0], np.repeat(heights, 2), [0.0]))


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high], about as many as `wanted`."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.999)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def place(chart: Chart) -> Page:
    """Where everything lies."""
    across = min(PER_ROW, max(1, len(chart.plots)))
    each = _LEFT + PLOT + _RIGHT
    width = 2 * MARGIN + max(across * each, 520)
    words, y = title_words(chart.title, width)
    strokes: list[Stroke] = []
    for start in range(0, len(chart.plots), across):
        bottom = y
        for column, plot in enumerate(chart.plots[start : start + across]):
            placed, drawn, end = _place_plot(plot, MARGIN + column * each + _LEFT, y)
            words += placed
            strokes += drawn
            bottom = max(bottom, end)
        y = bottom + LINE
    below, y = note_words(chart.notes, width, y)
    return Page(chart.name, chart.title, width, y + MARGIN, (), (*words, *below), tuple(strokes))


def _place_plot(plot: Plot, left: float, top: float) -> tuple[list[Words], list[Stroke], float]:
    """Words and strokes of a plot whose frame begins at `left`, and where it ends below."""
    words, strokes, y = [], [], top
    for text in textwrap.wrap(plot.title, int(PLOT / CHARACTER)):
        y += LINE
        words.append(Words(left, y, text, bold=True))
    y += 8
    (x0, x1), (y0, y1) = plot.x_range, plot.y_range

    def at(px: float, py: float) -> tuple[float, float]:
        return left + PLOT * (px - x0) / (x1 - x0), y + PLOT * (1 - (py - y0) / (y1 - y0))

    for value in ticks(x0, x1):
        across = at(value, y0)[0]
        strokes.append(Stroke(((across, y), (across, y + PLOT)), "#e4e4e4"))
        words.append(Words(across, y + PLOT + LINE - 2, f"{value:g}", "middle"))
    for value in ticks(y0, y1):
        up = at(x0, value)[1]
        strokes.append(Stroke(((left, up), (left + PLOT, up)), "#e4e4e4"))
        words.append(Words(left - 6, up + 4, f"{value:g}", "end"))
    words.append(Words(left + PLOT / 2, y + PLOT + 2 * LINE, plot.x_label, "middle"))
    words.append(Words(left - _LEFT + 12, y + PLOT / 2, plot.y_label, "middle", turned=True))
    for one in plot.series:
        points = _thinned([at(*point) for point in zip(np.clip(one.x, x0, x1), np.clip(one.y, y0, y1), strict=True)])
        strokes.append(Stroke(points, one.colour, 1.8, one.dashes, one.filled))
    for value, word in plot.marks:
        if x0 < value < x1:
            across = at(value, y0)[0]
            strokes.append(Stroke(((across, y), (across, y + PLOT)), "#000000", 1.0, (3, 3)))
            words.append(Words(across + 3, y + LINE, word))
    corners = ((left, y), (left + PLOT, y), (left + PLOT, y + PLOT), (left, y + PLOT), (left, y))
    strokes.append(Stroke(corners, _GREY))
    y += PLOT + _BELOW
    for one in plot.series:
        lines = textwrap.wrap(one.label, int((PLOT - _SAMPLE) / CHARACTER))
        strokes.append(Stroke(((left, y + LINE - 4), (left + _SAMPLE - 6, y + LINE - 4)), one.colour, 2.4, one.dashes))
        for text in lines:
            y += LINE
            words.append(Words(left + _SAMPLE, y, text))
    return words, strokes, y


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The points without those so near the last one kept that nobody could see them."""
    kept = points[:1]
    for point in points[1:-1]:
        if abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) > 0.4:
            kept.append(point)
    return (*kept, *points[-1:]) if len(points) > 1 else tuple(points)

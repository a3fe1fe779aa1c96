"""The probabilities of f1 and of a detector by class, side by side, in a place that never moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPalette, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from ciad_app.widgets.build import FollowsFont
from ciad_engine import counting
from ciad_engine.counting import counted

# Okabe and Ito's blue and vermilion: told apart under every common colour blindness.
COLOURS = (QColor("#0072b2"), QColor("#d55e00"))
# Of a column's headings, the longest that fits is shown.
F1, F2 = ("f1: the image", "f1 image", "f1"), ("f2: the mask", "f2 mask", "f2")
_MIDDLE_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_MIDDLE_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
NONE = -1
MOST = 10  # classes that find room
_SMALLEST_ROW = 0.62  # of the height of a line


def telling(probabilities: Sequence[npt.NDArray[np.floating]], always: Iterable[int]) -> npt.NDArray[np.intp]:
    """The classes to show, in label order: the MOST of the highest probability in any of the vectors (classes,).

    The class that each vector has first, and those in `always`, are among them even if others are higher.
    """
    highest = np.max(probabilities, axis=0)
    if len(highest) <= MOST:
        return np.arange(len(highest))
    first = list(dict.fromkeys([*always, *(int(p.argmax()) for p in probabilities)]))
    others = [k for k in np.argsort(-highest, kind="stable").tolist() if k not in first]
    return np.sort(np.array([*first, *others][:MOST]))


def percent(value: float, signed: bool = False) -> str:
    """A probability as the engine's sentences have it; a change of one in percentage points, "≈0" for a tiny one."""
    if not signed:
        return counting.percent(value)
    if 0 < abs(value) < 0.005:
        return "≈0"
    return f"{100 * value:+.0f}" if round(100 * value) else "0"


class ProbabilityBars(FollowsFont, QWidget):
    """One row per class: its name, the bar of f1, the bar of the detector, each with its percentage.

    The top class of each is in bold and has a triangle before its bar. With `signed=True` the bars show changes in
    percentage points, from the middle to either side. Of many classes a part is shown; the tool tip sums up the rest.
    """

    def __init__(self, name: str, hint: str, signed: bool = False) -> None:
        super().__init__()
        self._hint, self._signed = hint, signed
        self._headings: tuple[tuple[str, ...], ...] = ()
        self._classes: tuple[str, ...] = ()
        self.columns: tuple[npt.NDArray[np.floating], ...] = ()  # (p1, p2) of all classes, or nothing
        self._rows: npt.NDArray[np.intp] = np.arange(0)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.fit_font()

    def fit_font(self) -> None:
        """Room for rows whose letters are not much smaller than those of the window, whatever its font size."""
        row = _SMALLEST_ROW * QFontMetricsF(self.font()).height()
        self.setMinimumSize(150, round((MOST + 1) * row))

    def sizeHint(self) -> QSize:
        return QSize(260, 200)

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(self._classes[k] for k in self._rows)

    def set_hint(self, text: str) -> None:
        """Say what would have to be done to fill the bars."""
        self._hint = text
        self.update()

    def clear(self) -> None:
        self.columns = ()
        self._describe()

    def show_values(
        self,
        classes: Sequence[str],
        p1: npt.NDArray[np.floating],
        p2: npt.NDArray[np.floating],
        rows: npt.NDArray[np.intp] | None = None,
        second: tuple[str, ...] = F2,
    ) -> None:
        """Show two vectors (classes,): probabilities in [0, 1], or changes in [-1, 1] if signed.

        Args:
            rows: the classes to show; by default those of `telling`.
            second: headings of the second column, the longest first.
        """
        self._classes, self.columns = tuple(classes), (p1, p2)
        self._rows = telling((p1, p2), ()) if rows is None else rows
        self._headings = (F1, second)
        if self._signed:
            self._headings = tuple((f"{short}: change", short) for *_, short in self._headings)
        self._describe()

    def _describe(self) -> None:
        told = []
        for (heading, *_), values in zip(self._headings, self.columns, strict=False):
            order = np.argsort(-np.abs(values))[:3]
            each = ", ".join(f"{self._classes[i]} {percent(values[i], self._signed)}" for i in order)
            told.append(f"{heading}: {each}")
        more = len(self._classes) - len(self._rows)
        if self.columns and more:
            rest = (f"{heading[-1]} {percent(self._rest(k), self._signed)}" for k, heading in enumerate(self._headings))
            told.append(f"{counted(more, 'class', 'classes')} without a row, together: {', '.join(rest)}")
        self.setAccessibleDescription("; ".join(told) or self._hint)
        self.setToolTip("\n".join(told))
        self.update()

    def _rest(self, column: int) -> float:
        """The sum of a column over the classes without a row."""
        return float(np.delete(self.columns[column], self._rows).sum())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        painter.setPen(text)
        if not self.columns:
            painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._hint)
            return
        row = self.height() / (len(self._rows) + 1)
        plain = QFont(self.font())
        plain.setPixelSize(round(min(max(row * 0.88, 8), QFontMetricsF(self.font()).height() * 1.05)))
        bold = QFont(plain)
        bold.setBold(True)
        metrics = QFontMetricsF(bold)
        names = min(max(metrics.horizontalAdvance(c) for c in self.shown) + 6, self.width() * 0.4)
        numbers = metrics.horizontalAdvance("+100" if self._signed else ">99%") + 4
        half = (self.width() - names) / 2
        for column, values in enumerate(self.columns):
            left = names + column * half
            painter.setFont(bold)
            painter.setPen(text)
            indent = metrics.height() * 0.6
            wordings = self._headings[column]
            fitting = (w for w in wordings if metrics.horizontalAdvance(w) <= half - indent - 4)
            painter.drawText(QRectF(left + indent, 0, half, row), _MIDDLE_LEFT, next(fitting, wordings[-1]))
            top = NONE if self._signed else int(np.argmax(values))
            for line, i in enumerate(self._rows, 1):
                painter.setFont(bold if i == top else plain)
                cell = QRectF(left, row * line, half - 6, row)
                self._paint_bar(painter, cell, float(values[i]), COLOURS[column], i == top, numbers)
        leading = set() if self._signed else {int(np.argmax(v)) for v in self.columns}
        for line, i in enumerate(self._rows, 1):
            painter.setFont(bold if i in leading else plain)
            painter.setPen(text)
            name = QFontMetricsF(painter.font()).elidedText(self._classes[i], Qt.TextElideMode.ElideMiddle, names - 4)
            painter.drawText(QRectF(0, row * line, names - 4, row), _MIDDLE_RIGHT, name)

    def _paint_bar(
        self, painter: QPainter, cell: QRectF, value: float, colour: QColor, top: bool, numbers: float
    ) -> None:
        text = self.palette().color(QPalette.ColorRole.WindowText)
        marker = min(cell.height() * 0.5, 9)
        track = cell.adjusted(marker + 3, cell.height() * 0.1, 0, -cell.height() * 0.1)
        numeral = QRectF(cell.right() - numbers, cell.top(), numbers - 2, cell.height())
        if self._signed:
            track.setRight(numeral.left())
        ground, fill = QColor(text), QColor(colour)
        ground.setAlpha(22)
        fill.setAlpha(255 if top or self._signed else 130)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ground)
        painter.drawRect(track)
        painter.setBrush(fill)
        bar = QRectF(track.left(), track.top(), value * track.width(), track.height())
        if self._signed:
            middle = track.center().x()
            painter.drawRect(QRectF(middle, track.top(), value * track.width() / 2, track.height()).normalized())
            painter.setPen(text)
            painter.drawLine(QPointF(middle, track.top()), QPointF(middle, track.bottom()))
        else:
            painter.drawRect(bar)
            if top:
                painter.setBrush(text)
                y, x = cell.center().y(), cell.left()
                tip = [(x, y - marker / 2), (x, y + marker / 2), (x + marker, y)]
                painter.drawPolygon(QPolygonF([QPointF(*p) for p in tip]))
                if numeral.left() < bar.right() and bar.width() > numbers:  # into the bar rather than across its end
                    numeral.moveRight(bar.right() - 3)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(text)
        painter.drawText(numeral, _MIDDLE_RIGHT, percent(value, self._signed))
        if top and bar.right() > numeral.left():  # what of the number lies on the full colour is white
            painter.save()
            painter.setClipRect(bar)
            painter.fillRect(bar, fill)
            painter.setPen(QColor("white"))
            painter.drawText(numeral, _MIDDLE_RIGHT, percent(value))
            painter.restore()

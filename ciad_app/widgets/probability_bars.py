"""The probabilities of both classifiers for every class, side by side, in a place that never moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPalette, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from ciad_engine import inspection

# Okabe and Ito's blue and vermilion: told apart under every common colour blindness.
COLOURS = (QColor("#0072b2"), QColor("#d55e00"))
# Of each column, the longest that fits is shown.
HEADINGS = (("f1: the image", "f1 image", "f1"), ("f2: the mask", "f2 mask", "f2"))
CHANGES = (("f1: change", "f1"), ("f2: change", "f2"))
_MIDDLE_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_MIDDLE_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
NONE = -1
_ROWS = 11  # ten classes and the heading
_SMALLEST_ROW = 0.62  # of the height of a line


def percent(value: float, signed: bool = False) -> str:
    """A probability as the engine's sentences have it; a change of one in percentage points, "≈0" for a tiny one."""
    if not signed:
        return inspection.percent(value)
    if 0 < abs(value) < 0.005:
        return "≈0"
    return f"{100 * value:+.0f}" if round(100 * value) else "0"


class ProbabilityBars(QWidget):
    """One row a class: its name, the bar of f1, the bar of f2, each with its percentage.

    The top class of each classifier is in bold and has a triangle before its bar. With
    `signed=True` the bars show changes in percentage points, from the middle to either side.
    """

    def __init__(self, name: str, hint: str, signed: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name, self._hint, self._signed = name, hint, signed
        self._headings = CHANGES if signed else HEADINGS
        self._classes: tuple[str, ...] = ()
        self._columns: tuple[npt.NDArray[np.floating], ...] = ()
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._fit_height()

    def _fit_height(self) -> None:
        """Room for rows whose letters are not much smaller than those of the window, whatever its font size."""
        row = _SMALLEST_ROW * QFontMetricsF(self.font()).height()
        self.setMinimumSize(150, round(_ROWS * row))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit_height()

    def sizeHint(self) -> QSize:
        return QSize(260, 200)

    @property
    def columns(self) -> tuple[npt.NDArray[np.floating], ...]:
        """What is shown: (p1, p2), or nothing."""
        return self._columns

    def set_hint(self, text: str) -> None:
        """Say what would have to be done to fill the bars."""
        self._hint = text
        self.update()

    def clear(self) -> None:
        """Show the hint."""
        self.show_values((), None, None)

    def show_values(
        self, classes: Sequence[str], p1: npt.NDArray[np.floating] | None, p2: npt.NDArray[np.floating] | None
    ) -> None:
        """Show two vectors (classes,): probabilities in [0, 1], or changes in [-1, 1] if signed."""
        self._classes = tuple(classes)
        self._columns = () if p1 is None or p2 is None else (p1, p2)
        told = []
        for (heading, *_), values in zip(self._headings, self._columns, strict=bool(self._columns)):
            order = np.argsort(-np.abs(values))[:3]
            told.append(f"{heading}: " + ", ".join(f"{classes[i]} {percent(values[i], self._signed)}" for i in order))
        self.setAccessibleDescription("; ".join(told) or self._hint)
        self.setToolTip("\n".join(told))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        painter.setPen(text)
        if not self._columns:
            painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._hint)
            return
        row = self.height() / (len(self._classes) + 1)
        plain = QFont(self.font())
        plain.setPixelSize(round(min(max(row * 0.88, 8), QFontMetricsF(self.font()).height() * 1.05)))
        bold = QFont(plain)
        bold.setBold(True)
        metrics = QFontMetricsF(bold)
        names = max(metrics.horizontalAdvance(c) for c in self._classes) + 6
        numbers = metrics.horizontalAdvance("+100" if self._signed else ">99 %") + 4
        half = (self.width() - names) / 2
        for column, values in enumerate(self._columns):
            left = names + column * half
            painter.setFont(bold)
            painter.setPen(text)
            indent = metrics.height() * 0.6
            wordings = self._headings[column]
            fitting = (w for w in wordings if metrics.horizontalAdvance(w) <= half - indent - 4)
            painter.drawText(QRectF(left + indent, 0, half, row), _MIDDLE_LEFT, next(fitting, wordings[-1]))
            top = NONE if self._signed else int(np.argmax(values))
            for i, value in enumerate(values):
                painter.setFont(bold if i == top else plain)
                cell = QRectF(left, row * (i + 1), half - 6, row)
                self._paint_bar(painter, cell, float(value), COLOURS[column], i == top, numbers)
        leading = set() if self._signed else {int(np.argmax(v)) for v in self._columns}
        for i, name in enumerate(self._classes):
            painter.setFont(bold if i in leading else plain)
            painter.setPen(text)
            painter.drawText(QRectF(0, row * (i + 1), names - 4, row), _MIDDLE_RIGHT, name)

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

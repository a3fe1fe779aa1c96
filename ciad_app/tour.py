"""A tour: a few steps, each beside what it is about, none of which stops anybody from using the window."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from ciad_app.widgets.build import button, in_column, in_row, label

_RING = 3  # pixels
_GAP = 10  # pixels between a step and what it is about
_LETTERS = 46  # in a line


@dataclasses.dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        target: what it is about.
        missing: says what has to be done before there is something to see; "" if nothing.
    """

    title: str
    text: str
    target: QWidget
    missing: Callable[[], str] = lambda: ""


class _Ring(QWidget):
    """A frame around what a step is about."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(QPen(self.palette().highlight().color(), 2 * _RING))
        painter.drawRect(self.rect())


class Tour(QFrame):
    """Shows one step at a time in `window`; it ends with the last one, or when somebody skips the rest."""

    ended = Signal()

    def __init__(self, window: QWidget, steps: Sequence[Step]) -> None:
        super().__init__(window)
        self._window = window
        self._steps, self.place = tuple(steps), 0
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAutoFillBackground(True)
        self.setAccessibleName("Tour")
        self._ring = _Ring(window)
        self.title, self.text = label(), label(wrap=True)
        self.missing = label(wrap=True)
        self.missing.setStyleSheet("font-weight: bold")
        self.back = button("Back", slot=lambda: self.go(self.place - 1))
        self.next = button("Next", slot=lambda: self.go(self.place + 1))
        self.skip = button("End tour", "Help > Tour begins it again.", self.end)
        self.title.setTextFormat(Qt.TextFormat.RichText)
        self._layout = in_column(
            self.title, self.text, self.missing, in_row(self.skip, None, self.back, self.next), parent=self, margins=12
        )
        window.installEventFilter(self)
        self.go(0)
        self._ring.show()
        self.show()

    def go(self, place: int) -> None:
        """Show a step; the one behind the last ends the tour."""
        if place >= len(self._steps):
            self.end()
            return
        self.place = max(place, 0)
        step = self._steps[self.place]
        self.title.setText(f"<b><big>{step.title}</big></b> &nbsp; {self.place + 1} of {len(self._steps)}")
        self.text.setText(" ".join(step.text.split()))
        self.back.setEnabled(self.place > 0)
        self._scroll_to(step.target)
        self.next.setText("Next" if self.place + 1 < len(self._steps) else "Finish")
        self.update_missing()

    def _scroll_to(self, target: QWidget) -> None:
        above = target.parentWidget()
        while above is not None and above is not self._window:
            if isinstance(above, QScrollArea):
                above.ensureWidgetVisible(target)
            above = above.parentWidget()

    def update_missing(self) -> None:
        """Say what is missing for this step, if anything; called when something has changed."""
        missing = self._steps[self.place].missing()
        self.missing.setText(missing)
        self.missing.setVisible(bool(missing))
        self._arrange()

    def end(self) -> None:
        """Take the tour away."""
        self._window.removeEventFilter(self)
        self._ring.deleteLater()
        self.hide()
        self.ended.emit()
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._arrange()
        return super().eventFilter(watched, event)

    def _arrange(self) -> None:
        """Stand beside the target: on the side with most room, inside the window."""
        window, target = self._window, self._steps[self.place].target
        self.setFixedWidth(_LETTERS * self.fontMetrics().averageCharWidth())
        frame = 2 * self.frameWidth()
        self.setFixedHeight(self._layout.heightForWidth(self.width() - frame) + frame)
        around = QRect(target.mapTo(window, QPoint(0, 0)), target.size()).adjusted(-_RING, -_RING, _RING, _RING)
        self._ring.setGeometry(around.intersected(window.rect()))
        self._ring.raise_()
        sides = {
            around.left(): QPoint(around.left() - self.width() - _GAP, around.top()),
            window.width() - around.right(): QPoint(around.right() + _GAP, around.top()),
        }
        across, x = max((room, place.x()) for room, place in sides.items())
        y = around.top()
        if across < self.width() + _GAP:  # above or below it
            x = around.center().x() - self.width() // 2
            above = around.top() - self.height() - _GAP
            y = around.bottom() + _GAP if around.bottom() + _GAP + self.height() < window.height() else above
        x = min(max(x, _GAP), window.width() - self.width() - _GAP)
        y = min(max(y, _GAP), window.height() - self.height() - _GAP)
        self.move(x, y)
        self.raise_()

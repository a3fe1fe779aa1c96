"""The bar that offers to go on with an interrupted evaluation: it waits, and never stands in the way."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QStyle

from ciad_app.widgets.build import button, in_row, label

_SURE = "Remove this run and all its rows for good? If another window or terminal still computes it, that ends, too."


class ContinueBar(QFrame):
    """A sentence and two buttons; hidden until `offer`."""

    accepted = Signal()  # Continue was pressed
    discarded = Signal()  # Discard was pressed, and confirmed

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        icon = QLabel()
        size = self.style().pixelMetric(QStyle.PixelMetric.PM_SmallIconSize)
        standard = self.style().standardIcon(QStyle.StandardPixmap.SP_MessageBoxInformation)
        icon.setPixmap(standard.pixmap(size, size))
        self.label = label(wrap=True)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        of_continue = "Compute the missing images of this run with the settings it was started with"
        self.go_on = button("Continue", of_continue, self._left)
        self.discard = button("Discard", "Remove this run and its rows from the results database", self._right)
        in_row(icon, (self.label, 1), self.go_on, self.discard, parent=self, margins=(8, 4, 8, 4))
        self._text = ""
        self._asking = False  # whether Discard was pressed once, and the buttons mean Keep and Remove
        self.setVisible(False)

    def offer(self, text: str) -> None:
        self._text = text
        self._ask(False)
        self.setVisible(True)

    def _ask(self, asking: bool) -> None:
        self._asking = asking
        self.label.setText(_SURE if asking else self._text)
        self.go_on.setText("Keep" if asking else "Continue")
        self.discard.setText("Remove" if asking else "Discard")

    def _left(self) -> None:
        if self._asking:
            self._ask(False)
        else:
            self.accepted.emit()

    def _right(self) -> None:
        if self._asking:
            self.discarded.emit()
        else:
            self._ask(True)

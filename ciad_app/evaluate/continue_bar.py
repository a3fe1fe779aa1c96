"""The bar that offers to go on with an interrupted evaluation: it waits, and never stands in the way."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QStyle, QWidget

_SURE = "Remove this run and all its rows for good? If another window or terminal still computes it, that ends, too."


class ContinueBar(QFrame):
    """A sentence and two buttons; hidden until `offer`.

    Signals:
        accepted(): Continue was pressed.
        discarded(): Discard was pressed, and confirmed.
    """

    accepted = Signal()
    discarded = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        icon = QLabel()
        size = self.style().pixelMetric(QStyle.PixelMetric.PM_SmallIconSize)
        standard = self.style().standardIcon(QStyle.StandardPixmap.SP_MessageBoxInformation)
        icon.setPixmap(standard.pixmap(size, size))
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.go_on = QPushButton("Continue")
        self.go_on.setToolTip("Compute the missing images of this run with the settings it was started with")
        self.discard = QPushButton("Discard")
        self.discard.setToolTip("Remove this run and its rows from the results database")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 4, 8, 4)
        layout.addWidget(icon)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.go_on)
        layout.addWidget(self.discard)
        self._text = ""
        self._asking = False  # whether Discard was pressed once, and the buttons mean Keep and Remove
        self.go_on.clicked.connect(self._left)
        self.discard.clicked.connect(self._right)
        self.setVisible(False)

    def offer(self, text: str) -> None:
        """Show the bar with this sentence."""
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

    def withdraw(self) -> None:
        """Hide the bar."""
        self.setVisible(False)

"""What every page is built of, in few words: labels, buttons, choices, rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from PySide6.QtCore import QEvent, QSignalBlocker, Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QBoxLayout, QComboBox, QHBoxLayout, QLabel, QLayout, QPushButton, QVBoxLayout, QWidget

Part = QWidget | QLayout | tuple[QWidget | QLayout, int] | None  # with its stretch; None takes the room that is left

Margins = int | tuple[int, int, int, int] | None
Box = TypeVar("Box", bound=QBoxLayout)


def label(text: str = "", *, wrap: bool = False, selectable: bool = False, quiet: bool = False) -> QLabel:
    """Make a label; `quiet` is paler than what can be set."""
    made = QLabel(text)
    made.setWordWrap(wrap)
    if selectable:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if quiet:
        made.setForegroundRole(QPalette.ColorRole.PlaceholderText)
    return made


def label_of(widget: QWidget, text: str) -> QLabel:
    """Make the label of a widget, to which its key leads."""
    made = QLabel(text)
    made.setBuddy(widget)
    return made


def button(text: str, tip: str = "", slot: Callable[[], object] | None = None) -> QPushButton:
    """Make a button; `slot` is called without arguments."""
    made = QPushButton(text)
    made.setToolTip(tip)
    if slot is not None:
        made.clicked.connect(lambda: slot())
    return made


def choice(name: str = "", tip: str = "", short: bool = False) -> QComboBox:
    """Make a choice for `refill`; `short` does not ask for the width of its longest entry."""
    made = QComboBox()
    made.setAccessibleName(name)
    made.setToolTip(tip)
    if short:
        made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return made


def refill(box: QComboBox, entries: Mapping[Any, str], wanted: object = None) -> None:
    """Offer these entries (data -> text) silently; current is that with the data `wanted`, by default as before."""
    chosen = box.currentData() if wanted is None else wanted
    with QSignalBlocker(box):
        box.clear()
        for data, text in entries.items():
            box.addItem(text, data)
        box.setCurrentIndex(max(0, box.findData(chosen)))


def in_row(*parts: Part, parent: QWidget | None = None, margins: Margins = None, spacing: int = -1) -> QHBoxLayout:
    """Lay out side by side, as the layout of `parent` or to be put into another one."""
    return _lay_out(QHBoxLayout(), parts, parent, margins, spacing)


def in_column(*parts: Part, parent: QWidget | None = None, margins: Margins = None, spacing: int = -1) -> QVBoxLayout:
    """Lay out below each other; see `in_row`."""
    return _lay_out(QVBoxLayout(), parts, parent, margins, spacing)


def _lay_out(box: Box, parts: Sequence[Part], parent: QWidget | None, margins: Margins, spacing: int) -> Box:
    if parent is not None:
        parent.setLayout(box)
    if margins is not None:
        box.setContentsMargins(*(margins if isinstance(margins, tuple) else 4 * (margins,)))
    if spacing >= 0:
        box.setSpacing(spacing)
    for part in parts:
        inner, stretch = part if isinstance(part, tuple) else (part, 0)
        if inner is None:
            box.addStretch(1)
        elif isinstance(inner, QWidget):
            box.addWidget(inner, stretch)
        else:
            box.addLayout(inner, stretch)
    return box


class FollowsFont:
    """Mixed into a widget, before Qt's class: `fit_font` is called when the font changes."""

    def fit_font(self) -> None:
        raise NotImplementedError

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)  # type: ignore[misc]
        if event.type() == QEvent.Type.FontChange:
            self.fit_font()

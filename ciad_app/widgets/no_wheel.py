"""Scrolling past a setting must not change it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QWidget


class NoWheel(QObject):
    """Lets the wheel scroll what a setting stands in instead of changing a value nobody chose to change."""

    def spare(self, editor: QWidget) -> None:
        """The wheel changes `editor` only while it has the keyboard, which the wheel no longer gives it."""
        editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        editor.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

"""The right end of the status bar: what runs, how far it is, how long it takes, and Cancel."""

from __future__ import annotations

import time

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QProgressBar, QWidget

from ciad_app.durations import duration
from ciad_app.widgets.build import button, in_row
from ciad_app.widgets.elided_label import ElidedLabel
from ciad_app.worker import Engine

_LETTERS = 44  # of the text at most: the rest of the status bar is for messages
_SETTLE = 2.0  # seconds before a remaining time is worth showing


def remaining(seconds: float, done: int, total: int) -> str:
    """The remaining time for people, where `done` units took `seconds` and `total` were to do; "" if unknown."""
    if seconds < _SETTLE or done <= 0 or done >= total:
        return ""
    return f"about {duration(seconds * (total - done) / done)} left"


class ProgressLine(QWidget):
    """Shown while the engine is busy; keeps its place otherwise, so that nothing moves."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._started = time.monotonic()
        self._first = self._last = 0  # units done when this text was first seen, and lately
        self._text = ""
        self.label = ElidedLabel(most=_LETTERS)
        self.bar = QProgressBar(textVisible=False)
        self.bar.setFixedWidth(180)
        self.bar.setAccessibleName("Progress")
        self.cancel = button("Cancel", "Stop the running work", engine.cancel_current)
        self.cancel.clicked.connect(self._cancelling)
        in_row(self.label, self.bar, self.cancel, parent=self, margins=0)
        # Short work comes and goes within the delay: the line does not flicker for it.
        self._delay = QTimer(self, singleShot=True, interval=150)
        self._delay.timeout.connect(lambda: self.setVisible(True))
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.setSizePolicy(policy)
        self.setVisible(False)
        engine.busy_changed.connect(self._busy)
        engine.progress.connect(self._progress)

    def _busy(self, busy: bool) -> None:
        self._text = ""
        self.cancel.setEnabled(True)
        if busy:
            self._started = time.monotonic()
            self.bar.setRange(0, 0)
            self.label.setText("Working …")
            self._delay.start()
        else:
            self._delay.stop()
            self.setVisible(False)
            self.label.clear()  # the room of the last text is free for messages

    def _progress(self, done: int, total: int, text: str) -> None:
        if text != self._text or done < self._last:  # the next stretch of work, or a continued one
            self._text, self._started, self._first = text, time.monotonic(), done
        self._last = done
        self.cancel.setEnabled(True)
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        left = remaining(time.monotonic() - self._started, done - self._first, total - self._first)
        if self._engine.tells_time:
            left = ""
        self.label.setText(", ".join(part for part in (text, left) if part) or "Working …")

    def _cancelling(self) -> None:
        self.cancel.setEnabled(False)
        self.label.setText("Cancelling …")

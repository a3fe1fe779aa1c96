"""The right end of the status bar: what runs, how far it is, how long it takes, and Cancel."""

from __future__ import annotations

from PySide6.QtWidgets import QProgressBar, QWidget

from ciad_app.later import Later
from ciad_app.widgets.build import button, in_row
from ciad_app.widgets.elided_label import ElidedLabel
from ciad_app.worker import Engine

_LETTERS = 44  # of the text at most: the rest of the status bar is for messages


class ProgressLine(QWidget):
    """Shown while the engine is busy; keeps its place otherwise, so that nothing moves."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.label = ElidedLabel(most=_LETTERS)
        self.bar = QProgressBar(textVisible=False)
        self.bar.setFixedWidth(180)
        self.bar.setAccessibleName("Progress")
        self.cancel = button("Cancel", "Stop the running work", engine.cancel_current)
        self.cancel.clicked.connect(self._cancelling)
        in_row(self.label, self.bar, self.cancel, parent=self, margins=0)
        # Short work comes and goes within the delay: the line does not flicker for it.
        self._delay = Later(self, 150, lambda: self.setVisible(True))
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.setSizePolicy(policy)
        self.setVisible(False)
        engine.busy_changed.connect(self._busy)
        engine.progress.connect(self._progress)

    def _busy(self, busy: bool) -> None:
        self.cancel.setEnabled(True)
        if busy:
            self.bar.setRange(0, 0)
            self.label.setText("Working …")
            self._delay.start()
        else:
            self._delay.stop()
            self.setVisible(False)
            self.label.clear()  # the room of the last text is free for messages

    def _progress(self, done: int, total: int, text: str) -> None:
        self.cancel.setEnabled(True)
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.label.setText(text or "Working …")

    def _cancelling(self) -> None:
        self.cancel.setEnabled(False)
        self.label.setText("Cancelling …")

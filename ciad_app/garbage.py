"""Collect Python's garbage in the window's thread only.

Python's collector runs in whichever thread happens to allocate: the engine thread, usually. If a cycle holds an object
of Qt, that thread would destroy it under the window's feet, and the program end with a segmentation fault at a random
moment.
"""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

INTERVAL_MS = 250


class Collector(QObject):
    """Takes over from the automatic collector while it lives; made and used in the window's thread."""

    def __init__(self) -> None:
        super().__init__()
        gc.disable()
        self._timer = QTimer(self, interval=INTERVAL_MS)
        self._timer.timeout.connect(self.collect)
        self._timer.start()

    def collect(self) -> None:
        """Do what the automatic collector would have done by now: the oldest generation that is due."""
        due = [count > limit > 0 for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        for generation in (2, 1, 0):
            if due[generation]:
                gc.collect(generation)
                return

    def spare_what_is_loaded(self) -> None:
        """Never look again at what is there now (imported modules): a full round would take 0.1 s."""
        gc.collect()
        gc.freeze()

    def stop(self) -> None:
        """Give back to the automatic collector."""
        self._timer.stop()
        gc.enable()

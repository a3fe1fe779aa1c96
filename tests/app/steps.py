"""What tests of the window share."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QColor, QImage


def actions(window):
    """The window's actions by their texts."""
    found = window.findChildren(QAction, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return {a.text().replace("&", ""): a for a in found if a.text() and a.menu() is None}


def picture(colour="red"):
    image = QImage(8, 8, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    return image


def busy_work(session, job):
    """Work for the engine that goes on until it is cancelled."""
    for i in range(100_000):
        job.progress(i, 100_000, "Attacking")
        time.sleep(0.002)

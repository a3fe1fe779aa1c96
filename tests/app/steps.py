"""What tests of the window share."""

from __future__ import annotations

import time

from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QAction, QColor, QImage


def actions(window):
    """The actions of the window and of the page it shows, by their texts."""
    direct = Qt.FindChildOption.FindDirectChildrenOnly
    found = [made for parent in (window, window.shown) for made in parent.findChildren(QAction, options=direct)]
    return {a.text().replace("&", ""): a for a in found if a.text() and a.menu() is None}


def urls(*places):
    """A drop of local paths, or of addresses."""
    data = QMimeData()
    data.setUrls([QUrl(one) if isinstance(one, str) else QUrl.fromLocalFile(str(one)) for one in places])
    return data


def picture(colour="red"):
    image = QImage(8, 8, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    return image


def busy_work(session, job):
    """Work for the engine that goes on until it is cancelled."""
    for i in range(100_000):
        job.progress(i, 100_000, "Attacking")
        time.sleep(0.002)

"""A colour map as a strip with words at its ends: what the colours of a pane mean."""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QLinearGradient, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QSizePolicy, QWidget

from ciad_app.widgets.build import FollowsFont


class ColourBar(FollowsFont, QWidget):
    """Paints `low` [gradient] `high` in one line as high as the text."""

    def __init__(self, colours: str, low: str, high: str) -> None:
        super().__init__()
        self._map = pg.colormap.get(colours)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.set_ends(low, high)

    def set_ends(self, low: str, high: str) -> None:
        self._low, self._high = low, high
        self.setAccessibleName(f"Colour bar from {low} to {high}")
        self.setToolTip(f"{low} … {high}" if low else "")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, round(QFontMetricsF(self.font()).height()) + 2)

    def fit_font(self) -> None:
        self.updateGeometry()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        metrics = QFontMetricsF(self.font())
        # The words share three quarters of the width, the strip keeps the rest.
        most, elide = self.width() * 3 / 4, Qt.TextElideMode.ElideRight
        high = metrics.elidedText(self._high, elide, most / 2)
        low = metrics.elidedText(self._low, elide, most - metrics.horizontalAdvance(high))
        strip = QRectF(self.rect()).adjusted(
            metrics.horizontalAdvance(low) + 6, 3, -metrics.horizontalAdvance(high) - 6, -3
        )
        middle = int(Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(self.rect(), middle | int(Qt.AlignmentFlag.AlignLeft), low)
        painter.drawText(self.rect(), middle | int(Qt.AlignmentFlag.AlignRight), high)
        if strip.width() > 0:
            gradient = QLinearGradient(strip.topLeft(), strip.topRight())
            for stop in range(17):
                gradient.setColorAt(stop / 16, self._map.map(stop / 16, mode="qcolor"))
            painter.fillRect(strip, gradient)

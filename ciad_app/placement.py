"""Place a window so that all of it can be seen: plain rectangles, no screens."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRect


def placed(wanted: QRect, screens: Sequence[QRect]) -> QRect:
    """Return the rectangle for a window's frame that was at `wanted`, on the screen that its middle is on.

    Args:
        screens: the free part of each, the primary one first. The screen it was on may be gone, or a smaller one.
    """
    screen = next((one for one in screens if one.contains(wanted.center())), None)
    place = screen or screens[0]
    size = wanted.size().boundedTo(place.size())
    found = QRect(wanted.topLeft(), size)
    if screen is None:
        found.moveCenter(place.center())
    corner = place.bottomRight() - QPoint(size.width() - 1, size.height() - 1)
    left = min(max(found.left(), place.left()), corner.x())
    top = min(max(found.top(), place.top()), corner.y())
    found.moveTopLeft(QPoint(left, top))
    return found

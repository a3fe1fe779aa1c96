"""One small image shown with hard pixels, zoomable, with a marked pixel and a hint while it is empty."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPalette, QPen, QResizeEvent
from PySide6.QtWidgets import QGraphicsRectItem, QLabel

from ciad_engine.domain import CIFAR10

_STEPS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}

_FRAME = 2.5  # pixels that the frame of the focus is wide
_VEIL = 150  # of 255: how much of a dimmed picture is covered
_GRID = 12  # pixels of the screen that one of the image must have for lines between them

Pixel = tuple[int, int]  # row, column


class ImagePane(pg.GraphicsView):  # type: ignore[misc]
    """Shows an array (size, size) through a colour map, or (size, size, 3) as it is, with fixed levels.

    The items are made once; `set_image` only exchanges the pixels, so nothing moves. Levels are
    fixed because two panes are to be compared. Panes of one picture are linked by their owner:
    it connects `pixel_changed` and `view_changed` and calls `mark` and `show_part` on the others.
    """

    pixel_changed = Signal(object)  # (row, column) under the mouse or the keyboard's cursor, None outside
    view_changed = Signal(QRectF)  # what the user zoomed or panned to
    reset_asked = Signal()  # double click or key 0

    def __init__(self, name: str, hint: str, levels: tuple[float, float], colours: str | None = None) -> None:
        """`name` is for screen readers, `colours` a colour map of pyqtgraph, `levels` what its ends mean."""
        super().__init__()
        self.setAccessibleName(name)
        self.setMinimumSize(80, 80)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.array: npt.NDArray[np.generic] | None = None  # what is shown
        self._levels = levels
        self._pixel: Pixel | None = None
        self._dimmed = False
        self._part: QRectF | None = None  # what is shown, also after the pane has got another size; None for all of it
        self._size = 1  # side of the image; `set_size` gives it its first value

        self.view = pg.ViewBox(invertY=True, lockAspect=True, enableMenu=False)
        self.view.disableAutoRange()
        self.item = pg.ImageItem(axisOrder="row-major")
        if colours is not None:
            self.item.setColorMap(pg.colormap.get(colours))
        self.view.addItem(self.item)
        self._marks = [self._frame("#000000", 4), self._frame("#ffffff", 1.6)]
        self.setCentralItem(self.view)

        self._note = QLabel("", self)  # in a corner of the picture, part of every copy of it
        self._note.setStyleSheet("background: rgba(0, 0, 0, 150); color: white; padding: 1px 4px;")
        self._note.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._note.hide()
        self._hint = QLabel(hint, self)
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setWordWrap(True)
        self._hint.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.view.sigRangeChangedManually.connect(lambda *_: self.view_changed.emit(self.view.targetRect()))
        self.view.sigResized.connect(lambda _: self.show_part(self._part))
        self._follow_palette()
        self.set_size(CIFAR10.size)

    def _frame(self, colour: str, width: float) -> QGraphicsRectItem:
        frame = QGraphicsRectItem()
        frame.setPen(pg.mkPen(colour, width=width))  # cosmetic: the width is in pixels of the screen
        frame.setVisible(False)
        self.view.addItem(frame)
        return frame

    @property
    def hint(self) -> str:
        return self._hint.text()

    def set_hint(self, text: str) -> None:
        """Say what would have to be done to fill the pane."""
        self._hint.setText(text)

    def dim(self, on: bool) -> None:
        """Show the picture paler: it is not of now."""
        if on != self._dimmed:
            self._dimmed = on
            self.viewport().update()

    def set_note(self, text: str) -> None:
        """Write a few letters into the corner of the picture; they are seen while there is a picture."""
        self._note.setText(text)
        self._note.adjustSize()
        self._place_note()

    def _place_note(self) -> None:
        self._note.move(self.width() - self._note.width() - 4, 4)
        self._note.setVisible(bool(self._note.text()) and self.array is not None)

    def set_levels(self, levels: tuple[float, float]) -> None:
        """Change what the ends of the colour map mean."""
        self._levels = levels
        self.item.setLevels(levels)

    def set_size(self, size: int) -> None:
        """Expect images of this side from now on; nothing happens if they have it already."""
        if size != self._size:
            self._size = size
            self.view.setLimits(xMin=-size, xMax=2 * size, yMin=-size, yMax=2 * size, minXRange=2, minYRange=2)
            self.show_part(None)

    def set_image(self, array: npt.NDArray[np.generic] | None) -> None:
        """Show (size, size) or (size, size, 3), or with None the hint."""
        self.array = array
        self._hint.setVisible(array is None)
        self._place_note()
        if array is None:
            self.item.clear()
        else:
            self.set_size(len(array))
            self.item.setImage(array, levels=self._levels, autoLevels=False)

    def mark(self, pixel: Pixel | None) -> None:
        """Frame the pixel (row, column), or none."""
        self._pixel = pixel
        for frame in self._marks:
            if pixel is not None:
                frame.setRect(QRectF(pixel[1] - 0.4, pixel[0] - 0.4, 1.8, 1.8))  # around it, not over it
            frame.setVisible(pixel is not None)

    @property
    def part(self) -> tuple[float, float, float, float] | None:
        """Left, top, width and height of the part that is shown, in pixels of the image; None for the whole."""
        shown, whole = self.view.targetRect().getRect(), (0.0, 0.0, float(self._size), float(self._size))
        return None if np.allclose(shown, whole) else shown

    def show_part(self, part: QRectF | None) -> None:
        """Zoom to a part given in pixels of the image, or with None to the whole image."""
        self._part = part
        self.view.setRange(part or QRectF(0, 0, self._size, self._size), padding=0)

    def _mouse_moved(self, position: QPointF) -> None:
        where = self.view.mapSceneToView(position)
        pixel = (int(np.floor(where.y())), int(np.floor(where.x())))
        inside = all(0 <= i < self._size for i in pixel) and self.view.sceneBoundingRect().contains(position)
        self.pixel_changed.emit(pixel if inside else None)

    def drawForeground(self, painter: QPainter, rect: QRectF) -> None:
        """Draw lines between large pixels of a part; frame the pane that has the keyboard's focus."""
        super().drawForeground(painter, rect)
        zoomed = self.part is not None
        if zoomed and self.array is not None and self.view.viewPixelSize()[0] * _GRID <= 1:
            self._draw_grid(painter)
        if self._dimmed and self.array is not None:
            veil = QColor(self.palette().color(QPalette.ColorRole.Window))
            veil.setAlpha(_VEIL)
            painter.fillRect(rect, veil)
        if self.hasFocus():
            painter.resetTransform()
            painter.setPen(QPen(self.palette().color(QPalette.ColorRole.Highlight), 2 * _FRAME))
            painter.drawRect(self.viewport().rect())

    def _draw_grid(self, painter: QPainter) -> None:
        shown = self.view.viewRect().intersected(QRectF(0, 0, self._size, self._size))
        area = self.view.mapViewToScene(shown.topLeft()), self.view.mapViewToScene(shown.bottomRight())
        painter.setPen(QPen(QColor(128, 128, 128, 110), 0))
        for line in range(self._size + 1):
            across = self.view.mapViewToScene(QPointF(line, line))
            if shown.left() <= line <= shown.right():
                painter.drawLine(QPointF(across.x(), area[0].y()), QPointF(across.x(), area[1].y()))
            if shown.top() <= line <= shown.bottom():
                painter.drawLine(QPointF(area[0].x(), across.y()), QPointF(area[1].x(), across.y()))

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.viewport().update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset_asked.emit()

    def leaveEvent(self, event: QEvent) -> None:
        self.pixel_changed.emit(None)
        super().leaveEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows move the marked pixel, + and - zoom around it, 0 shows the whole image."""
        step = _STEPS.get(Qt.Key(event.key()))
        plain = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
        if step is not None and event.modifiers() in plain:
            row, column = self._pixel or (self._size // 2, self._size // 2)
            last = self._size - 1
            inside = (min(max(row + step[0], 0), last), min(max(column + step[1], 0), last))
            self.pixel_changed.emit(inside)
        elif event.text() in ("+", "-"):
            centre = None if self._pixel is None else QPointF(self._pixel[1] + 0.5, self._pixel[0] + 0.5)
            factor = 0.8 if event.text() == "+" else 1.25
            self.view.scaleBy((factor, factor), center=centre)
            self.view_changed.emit(self.view.targetRect())
        elif event.text() == "0":
            self.reset_asked.emit()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is not None:  # pyqtgraph also calls it without one, before our label exists
            self._hint.setGeometry(self.rect().adjusted(8, 8, -8, -8))
            self._place_note()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange:
            self._follow_palette()
        super().changeEvent(event)

    def _follow_palette(self) -> None:
        """pyqtgraph does not restyle itself; a pane is a shade away from the window in either theme."""
        base = self.palette().color(QPalette.ColorRole.Window)
        self.setBackground(QColor(base.darker(108)) if base.lightness() > 127 else QColor(base.darker(130)))

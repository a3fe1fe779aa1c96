"""A page or column that scrolls where the window is smaller than it, instead of being squeezed until texts overlap."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget


class _Holder(QWidget):
    """Asks for the least height of its content at a width; Qt's scroll area would give it the height it likes best."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._content = content
        content.setParent(self)
        policy = self.sizePolicy()
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def sizeHint(self) -> QSize:
        return self._content.sizeHint()

    def minimumSizeHint(self) -> QSize:
        return self._content.minimumSizeHint()

    def heightForWidth(self, width: int) -> int:
        layout = self._content.layout()
        least = self._content.minimumSizeHint().height()
        return max(least, layout.minimumHeightForWidth(width)) if layout is not None else least

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._content.setGeometry(self.rect())

    def event(self, event: QEvent) -> bool:
        handled = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:  # the content's least size may be another now
            self.updateGeometry()
        return handled


class Scrolled(QScrollArea):
    """Holds `content` as large as there is room, and no smaller than its own minimum."""

    def __init__(self, content: QWidget, column: bool = False) -> None:
        """A `column` scrolls up and down only, and asks for the width of its content."""
        super().__init__()
        self._column = column
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keyboard goes through what is in it
        if column:
            self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._holder = _Holder(content)
        self.setWidget(self._holder)

    def minimumSizeHint(self) -> QSize:
        least = super().minimumSizeHint()
        if self._column:
            least.setWidth(self._holder.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width())
        return least

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if self._column and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

"""The presenter view: both images, both masks, two bars and the sentence, in letters that the last row can read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from ciad_app.inspect.pane_grid import IMPORTANCE_MAP, NO_MASK, TITLES, importance
from ciad_app.inspect.verdict_bar import NOTHING, Sign
from ciad_app.widgets.build import in_column, in_row, label
from ciad_app.widgets.image_pane import ImagePane
from ciad_app.widgets.probability_bars import COLOURS
from ciad_engine import inspection
from ciad_engine.counting import percent
from ciad_engine.inspection import Inspection

LETTERS = 30  # times higher than its letters is the view; no text in it is smaller
_WORD, _SENTENCE = 1.7, 1.25  # letters of the verdict's word and of its sentence, of the others
KEYS = "F11: back · Ctrl+Return: attack · Space: blink · Alt+→: next image"


class Bar(QWidget):
    """One probability, with what it is of above it."""

    def __init__(self, colour: QColor) -> None:
        super().__init__()
        self._colour, self.text, self.value = colour, "", 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_value(self, text: str, value: float) -> None:
        self.text, self.value = text, value
        self.setAccessibleName(f"{text}: {percent(value)}" if text else "")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, round(2.5 * self.fontMetrics().height()))

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.text:
            return
        painter, line = QPainter(self), self.fontMetrics().height()
        ink = self.palette().color(QPalette.ColorRole.Text)
        painter.setPen(ink)
        said = percent(self.value)
        room = self.width() - self.fontMetrics().horizontalAdvance(f" {said}")
        words = self.fontMetrics().elidedText(self.text, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QRectF(0, 0, room, line), Qt.AlignmentFlag.AlignLeft, words)
        painter.drawText(QRectF(0, 0, self.width(), line), Qt.AlignmentFlag.AlignRight, said)
        place = QRectF(QPointF(0, 1.1 * line), QPointF(self.width(), 2.3 * line))
        painter.fillRect(place, self.palette().color(QPalette.ColorRole.AlternateBase).darker(110))
        place.setWidth(self.value * self.width())
        painter.fillRect(place, self._colour)


class Presenter(QWidget):
    """Shows what page Inspect shows, and nothing that can be set."""

    def __init__(self) -> None:
        super().__init__()
        light, mask = (0.0, 255.0), (0.0, 1.0)
        self.panes = (
            ImagePane("Original image, large", "", light),
            ImagePane("Adversarial image, large", "", light),
            ImagePane("Mask of the original image, large", "", mask, IMPORTANCE_MAP),
            ImagePane("Mask of the adversarial image, large", "", mask, IMPORTANCE_MAP),
        )
        self.captions = tuple(QLabel() for _ in self.panes)
        self.sign, self.word, self.sentence = Sign(96), label(), label(wrap=True)
        self.bars = tuple(Bar(colour) for colour in COLOURS)
        self.keys = label(KEYS, wrap=True, quiet=True)
        for text in (*self.captions, self.word, self.sentence):
            text.setTextFormat(Qt.TextFormat.PlainText)  # a class may have any name
        grid = QGridLayout()
        grid.setSpacing(6)
        for place, (caption, pane) in enumerate(zip(self.captions, self.panes, strict=True)):
            row, column = 2 * (place // 2), place % 2
            grid.addWidget(caption, row, column)
            grid.addWidget(pane, row + 1, column)
            grid.setRowStretch(row + 1, 1)
            grid.setColumnStretch(column, 1)
            caption.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            pane.setMinimumSize(40, 40)
            pane.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        said: QVBoxLayout = in_column(
            in_row(self.sign, (self.word, 1)), self.sentence, None, *self.bars, None, self.keys, spacing=16
        )
        self._row = in_row((grid, 3), (said, 2), parent=self, margins=16, spacing=24)
        for pane in self.panes:
            pane.view_changed.connect(self.show_part)
            pane.reset_asked.connect(lambda: self.show_part(None))
        self._found: Inspection | None = None
        self.tell("Select an image first.")

    def show_image(self, pixels: npt.NDArray[np.uint8] | None) -> None:
        """Show an image that nobody has looked at yet, or None."""
        self._found = None
        for pane in self.panes:
            pane.set_image(None)
        self.panes[0].set_image(None if pixels is None else pixels.transpose(1, 2, 0))
        for caption in self.captions:
            caption.setText("")

    def tell(self, sentence: str) -> None:
        """Say why there is no verdict."""
        self._say(NOTHING, sentence)
        for bar in self.bars:
            bar.show_value("", 0.0)

    def show_inspection(self, found: Inspection, explanation: inspection.Explanation) -> None:
        """Show an image and, if it was attacked, what became of it."""
        self._found = found
        self._show_pictures(found)
        for caption, title in zip(self.captions, (*TITLES, "Where f1 looks", "Where f1 looks"), strict=True):
            caption.setText(title)
        for caption in () if found.adversarial is not None else self.captions[1::2]:
            caption.setText("")
        self._say(explanation.headline, explanation.text)
        verdict = found.adversarial or found.benign
        y1, finding = int(verdict.y1[0]), verdict.chosen
        self.bars[0].show_value(f"The classifier: {found.classes[y1]}", float(verdict.p1[0, y1]))
        if finding.labels is None:
            self.bars[1].show_value("", 0.0)
        else:
            y2 = int(finding.labels[0])
            self.bars[1].show_value(f"{finding.title}: {found.classes[y2]}", float(finding.probabilities[0, y2]))

    def _show_pictures(self, found: Inspection, blinking: bool = False) -> None:
        after = found.adversarial
        first, image = found.benign, found.image
        if blinking and after is not None and found.attacked_image is not None:
            first, image = after, found.attacked_image
        pictures = (image, found.attacked_image)
        for pane, picture in zip(self.panes[:2], pictures, strict=True):
            pane.set_image(None if picture is None else picture.transpose(1, 2, 0))
        for pane, verdict in zip(self.panes[2:], (first, after), strict=True):
            mask = None if verdict is None else importance(verdict)
            pane.set_hint(NO_MASK if verdict is not None else "")
            pane.set_image(mask)

    def show_part(self, part: QRectF | None) -> None:
        """Show the same part of the image in all panes, None for the whole."""
        for pane in self.panes:
            pane.show_part(part)

    def blink(self, on: bool) -> None:
        """Show the adversarial image in the original's place."""
        if self._found is not None:
            self._show_pictures(self._found, on)
            self.captions[0].setText(TITLES[on and self._found.adversarial is not None])

    def _say(self, kind: str, sentence: str) -> None:
        self.sign.set_kind(kind)
        self.word.setText(kind)
        self.sentence.setText(sentence)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The letters grow with the view; a size in a style sheet, as a font of one's own would not be inherited."""
        super().resizeEvent(event)
        size = -(-self.height() // LETTERS)
        self.setStyleSheet(f"QWidget {{ font-size: {size}px }}")
        self.word.setStyleSheet(f"font-size: {round(_WORD * size)}px; font-weight: bold")
        self.sentence.setStyleSheet(f"font-size: {round(_SENTENCE * size)}px")

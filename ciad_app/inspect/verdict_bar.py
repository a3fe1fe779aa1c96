"""The verdict in words, large, with a sign that is shape and word before it is colour."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPalette, QPen, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QSizePolicy, QWidget

from ciad_app.widgets.build import FollowsFont, label
from ciad_engine.inspection import ADVERSARIAL, BENIGN, FALSE_ALARM, UNFAMILIAR, Explanation

NOTHING = ""
# Okabe and Ito's vermilion and blue; white on either has a contrast above 3.8.
ALARM, CALM = QColor("#d55e00"), QColor("#0072b2")
_SENTENCE, _EVIDENCE, _OTHERS = 1.5, 1.0, 0.95  # their letters, of the window's
_SHRINK = (1.0, 0.9, 0.8, 0.7, 0.66, 0.6)  # a long text gets smaller letters rather than lines nobody sees


class Sign(QWidget):
    """What the detector said as a shape: triangle for "adversarial", disc for "benign".

    Filled where it is right as far as anybody knows, hollow where the truth is known to be the
    other (false alarm, missed); a dashed ring for "not known yet", with a question mark for an unfamiliar picture.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._side = size
        self.setFixedSize(size, size)
        self.set_kind(NOTHING)

    def set_kind(self, kind: str) -> None:
        """Show a headline of `ciad_engine.inspection`, or NOTHING."""
        self.kind = kind
        self.setAccessibleName(f"Sign: {kind.lower() or 'no verdict yet'}")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(self._side, self._side)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        s = self._side / 32  # drawn on a 32x32 grid
        painter.scale(s, s)
        if self.kind in (NOTHING, UNFAMILIAR):
            grey = self.palette().color(QPalette.ColorRole.PlaceholderText)
            painter.setPen(QPen(grey, 2, Qt.PenStyle.DashLine))
            painter.drawEllipse(QRectF(4, 4, 24, 24))
            if self.kind == UNFAMILIAR:
                font = self.font()
                font.setPixelSize(18)
                font.setBold(True)
                painter.setFont(font)
                painter.drawText(QRectF(4, 4, 24, 24), Qt.AlignmentFlag.AlignCenter, "?")
            return
        right, alarm = self.kind in (ADVERSARIAL, BENIGN), self.kind in (ADVERSARIAL, FALSE_ALARM)
        colour = ALARM if alarm else CALM
        painter.setPen(_pen(colour, 3))
        painter.setBrush(colour if right else self.palette().color(QPalette.ColorRole.Window))
        if alarm:
            painter.drawPolygon(QPolygonF([QPointF(16, 3.5), QPointF(29.5, 28), QPointF(2.5, 28)]))
        else:
            painter.drawEllipse(QRectF(3, 3, 26, 26))
        painter.setPen(_pen(QColor("white") if right else colour, 3.4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if alarm:
            painter.drawLine(QPointF(16, 12), QPointF(16, 19))
            painter.drawPoint(QPointF(16, 24.3))
        elif right:
            painter.drawPolyline(QPolygonF([QPointF(9.5, 16.5), QPointF(14, 21), QPointF(22.5, 11.5)]))
        else:
            painter.drawLine(QPointF(11, 11), QPointF(21, 21))
            painter.drawLine(QPointF(21, 11), QPointF(11, 21))


def _pen(colour: QColor, width: float) -> QPen:
    return QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)


class VerdictBar(FollowsFont, QFrame):
    """The sign, its word, the sentence, and below them the evidence; at the right a line for each other detector.

    Its height never changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAccessibleName("Verdict")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.sign = Sign(52)
        self.word = label(selectable=True)
        self.sentence, self.evidence = label(wrap=True, selectable=True), label(wrap=True, selectable=True)
        self.others = label(selectable=True)
        self._others: tuple[str, ...] = ()
        self.others.setAccessibleName("The other detectors")
        self.others.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.others.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.sentence.setAccessibleName("Verdict in words")
        self.evidence.setAccessibleName("Evidence of the verdict")
        for each in (self.word, self.sentence, self.evidence, self.others):
            each.setTextFormat(Qt.TextFormat.PlainText)  # a class may have any name
        for each in (self.sentence, self.evidence):
            # The text must never push the panes: it wraps within the fixed height.
            each.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = self._layout = QGridLayout(self)
        layout.setContentsMargins(12, 6, 12, 6)
        layout.setHorizontalSpacing(12)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.sign, 0, 0, 2, 1)
        layout.addWidget(self.word, 0, 1)
        layout.addWidget(self.sentence, 0, 2)
        layout.addWidget(self.evidence, 1, 1, 1, 2)
        layout.addWidget(self.others, 0, 3, 2, 1)
        layout.setColumnStretch(2, 7)
        layout.setColumnStretch(3, 4)
        self.fit_font()
        self.show_verdict(NOTHING, "No image is selected.", "")

    def show_explanation(self, found: Explanation) -> None:
        self.show_verdict(found.headline, found.text, found.evidence, found.others)

    def show_verdict(self, kind: str, sentence: str, evidence: str, others: Sequence[str] = ()) -> None:
        """Show a headline of `ciad_engine.inspection`, or NOTHING, and the words of an `Explanation`."""
        self._others = tuple(others)
        self.sign.set_kind(kind)
        self.word.setText(kind)
        self.sentence.setText(sentence)
        self.sentence.setToolTip(sentence)
        self.evidence.setText(evidence)
        self.evidence.setToolTip(evidence)
        self.others.setToolTip("\n".join(others))
        self.setAccessibleDescription(" ".join(part for part in (kind, sentence, evidence, *others) if part))
        self._fit_texts()

    def fit_font(self) -> None:
        word = self._scaled(1.75)
        word.setBold(True)
        self.word.setFont(word)
        self.word.setMinimumWidth(self.word.fontMetrics().horizontalAdvance(ADVERSARIAL))
        for text, factor in ((self.sentence, _SENTENCE), (self.evidence, _EVIDENCE)):
            text.setFixedHeight(2 * QFontMetrics(self._scaled(factor)).lineSpacing())
        self._fit_texts()

    def _scaled(self, factor: float) -> QFont:
        font = self.font()
        size = font.pointSizeF()
        if size <= 0:  # a font given in pixels
            size = font.pixelSize() * 0.75
        font.setPointSizeF(size * factor)
        return font

    def _fit_texts(self) -> None:
        """The largest letters with which each text fits its place, whose height never changes."""
        for text, factor in ((self.sentence, _SENTENCE), (self.evidence, _EVIDENCE)):
            room = QRect(0, 0, text.width(), text.height())
            for shrink in _SHRINK:
                font = self._scaled(factor * shrink)
                needed = QFontMetrics(font).boundingRect(room, int(Qt.TextFlag.TextWordWrap), text.text())
                if needed.height() <= room.height() and needed.width() <= room.width():
                    break
            text.setFont(font)
        self._fit_others()

    def _fit_others(self) -> None:
        """A line each, cut where it is too long; if there are too many, the last one counts the rest."""
        font = self._scaled(_OTHERS)
        metrics = QFontMetrics(font)
        most = max(self.others.height() // metrics.lineSpacing(), 2)
        shown = list(self._others)
        if len(shown) > most:
            shown[most - 1 :] = [f"and {len(shown) - most + 1} more"]
        width = self.others.width()
        self.others.setFont(font)
        self.others.setText("\n".join(metrics.elidedText(line, Qt.TextElideMode.ElideRight, width) for line in shown))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._layout.activate()  # the labels have their new width now
        self._fit_texts()

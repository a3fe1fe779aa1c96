"""The quiz: which of these two was attacked?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QWidget

from ciad_app.inspect.collection import Entry
from ciad_app.inspect.quiz_state import Tally
from ciad_app.latest import Latest
from ciad_app.widgets.build import button, in_column, in_row, label
from ciad_app.widgets.image_pane import ImagePane
from ciad_app.worker import Engine, Session
from ciad_engine import attacks, inspection
from ciad_engine.counting import percent
from ciad_engine.errors import DataError
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from ciad_engine.systems import System

ATTACK = "fgsm"
_TRIES = 12  # images, until one is found that the classifier gets right and the attack fools
_SIZE = QSize(900, 620)
_ASKING = "Which of these two was attacked?"


def attacked(system: System, entries: Sequence[Entry], strength: int, job: Job) -> Inspection:
    """Return the first of some images that f1 classifies correctly and an attack of this strength fools.

    Raises:
        DataError: there is none.
    """
    for entry in entries[:_TRIES]:
        attack = attacks.create(ATTACK, eps=float(strength))
        found = inspection.inspect(system, entry.pixels, entry.name, entry.label, attack, job)
        right = entry.label is None or int(found.benign.y1[0]) == entry.label
        if right and found.attacked_image is not None:
            return found
    raise DataError(f"None of {min(_TRIES, len(entries))} images could be attacked at strength {strength}: ask again.")


class Quiz(QDialog):
    """Asks, counts and explains; the strength of the attack follows the answers."""

    def __init__(self, engine: Engine, entries: Sequence[Entry], seed: int, parent: QWidget | None = None) -> None:
        """Ask about `entries` in an order that `seed` decides."""
        super().__init__(parent)
        self.setWindowTitle("Quiz")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._entries, self._draw = list(entries), random.Random(seed)
        self._task = Latest(engine)
        engine.ready.connect(self.close)  # another bundle may have other classes
        self.tally = Tally()
        self.found: Inspection | None = None  # what the question is about
        self.attacked_side = 0
        self.asking = False  # an answer is awaited
        light = (0.0, 255.0)
        self.panes = (ImagePane("Left picture", "", light), ImagePane("Right picture", "", light))
        self.difference = ImagePane("Magnified difference", "The difference comes with the answer", light)
        self.question, self.explanation, self.score = label(_ASKING), label(wrap=True), label()
        self.choices = (
            button("Left (←)", "The left picture was attacked", lambda: self.answer(0)),
            button("Right (→)", "The right picture was attacked", lambda: self.answer(1)),
        )
        self.next = button("Next (Space)", "Ask about another picture", self.ask)
        close = button("Close", slot=self.close)
        for text, factor in ((self.question, 1.8), (self.explanation, 1.3), (self.score, 1.3)):
            font = text.font()
            font.setPointSizeF(factor * font.pointSizeF())
            text.setFont(font)
            text.setTextFormat(Qt.TextFormat.PlainText)
        self.explanation.setMinimumHeight(3 * self.explanation.fontMetrics().lineSpacing())
        self.explanation.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        for each in (*self.choices, self.next, close):
            each.setAutoDefault(False)
        for pane in (*self.panes, self.difference):
            pane.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        # Shortcuts: a button would take the arrows for the way to the next button.
        for key, slot in (
            ("Left", self.choices[0].click),
            ("Right", self.choices[1].click),
            ("Space", self.next.click),
        ):
            QShortcut(QKeySequence(key), self).activated.connect(slot)
        in_column(
            in_row((self.question, 1), self.score),
            (in_row(*((pane, 1) for pane in (*self.panes, self.difference))), 1),
            self.explanation,
            in_row(*self.choices, None, self.next, close),
            parent=self,
        )
        self.resize(_SIZE)
        self.ask()

    def ask(self) -> None:
        """Prepare the next question."""
        self._draw.shuffle(self._entries)
        entries, strength = tuple(self._entries), self.tally.strength
        self._set(False)
        self.next.setEnabled(False)
        self.explanation.setText("An attack is being made …")

        def work(session: Session, job: Job) -> Inspection:
            return attacked(session.system, entries, strength, job)

        self._task.submit(work, self._asked, failed=self._failed, cancelled=self._cancelled, text="Quiz", urgent=True)

    def _asked(self, found: Inspection) -> None:
        self.found = found
        self.attacked_side = self._draw.randrange(2)
        for side, pane in enumerate(self.panes):
            image = found.attacked_image if side == self.attacked_side else found.image
            assert image is not None
            pane.set_image(image.transpose(1, 2, 0))
            pane.set_note("")
        self.difference.set_image(None)
        self.explanation.setText("")
        self.score.setText(self.tally.text)
        self._set(True)

    def _failed(self, reason: str) -> None:
        self.explanation.setText(reason)
        self.next.setEnabled(True)

    def _cancelled(self) -> None:
        self._failed("Cancelled.")

    def answer(self, side: int) -> None:
        """Take the answer that the picture on this side (0 or 1) was attacked, and explain."""
        found = self.found
        if not self.asking or found is None or found.adversarial is None:
            return
        right = side == self.attacked_side
        strength = self.tally.strength
        self.tally = self.tally.answered(right)
        before, after = int(found.benign.y1[0]), int(found.adversarial.y1[0])
        word = ("left", "right")[self.attacked_side]
        seen = percent(float(found.adversarial.p1[0, after]))
        self.explanation.setText(
            f"{'Correct' if right else 'Wrong'}: the {word} one was attacked. No value changed by more than {strength}"
            f" of 255, and the classifier now says {found.classes[after]} ({seen}) instead of {found.classes[before]}."
        )
        gain = 128 // strength  # the largest change is white or black
        changed = inspection.difference(found.image, found.attacked_image, gain)
        self.difference.set_image(changed.transpose(1, 2, 0))
        self.difference.set_note(f"×{gain}")
        self.panes[self.attacked_side].set_note("attacked")
        self.score.setText(self.tally.text)
        self._set(False)
        self.next.setEnabled(True)

    def _set(self, asking: bool) -> None:
        self.asking = asking
        for choice in self.choices:
            choice.setEnabled(asking)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._task.drop()
        super().closeEvent(event)

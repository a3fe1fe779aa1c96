"""The quiz as plain data: how strong the next attack is, and how the class has done so far."""

from __future__ import annotations

import dataclasses
from typing import Self

STRENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of 255; what FGSM may change
_IN_A_ROW = 2  # correct answers after which the attack becomes weaker: it settles where 71% are correct


@dataclasses.dataclass(frozen=True)
class Tally:
    """The score so far.

    Attributes:
        place: of the strength in STRENGTHS.
        streak: correct answers since the strength changed last.
    """

    asked: int = 0
    correct: int = 0
    place: int = STRENGTHS.index(16)
    streak: int = 0

    @property
    def strength(self) -> int:
        return STRENGTHS[self.place]

    def answered(self, right: bool) -> Self:
        """Return the score after an answer: weaker after two correct ones in a row, stronger after a wrong one."""
        streak, step = (self.streak + 1 if right else 0), 0
        if not right:
            step = 1
        elif streak == _IN_A_ROW:
            step, streak = -1, 0
        place = min(max(self.place + step, 0), len(STRENGTHS) - 1)
        return dataclasses.replace(self, asked=self.asked + 1, correct=self.correct + right, place=place, streak=streak)

    @property
    def text(self) -> str:
        """Return the score in words."""
        if not self.asked:
            return f"Strength {self.strength} of 255"
        return f"{self.correct} of {self.asked} correct · strength {self.strength} of 255"

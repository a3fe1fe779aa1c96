"""Boxes for numbers that understand every notation of one, and say why they refuse what is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from PySide6.QtCore import QLocale, QPoint, Qt
from PySide6.QtGui import QFocusEvent, QKeyEvent, QValidator
from PySide6.QtWidgets import QDoubleSpinBox, QSpinBox, QToolTip

from ciad_engine import typed_numbers
from ciad_engine.typed_numbers import NotANumberError

_MOST_DECIMALS = 323  # that Qt takes: no digit of a float is lost
_ENDS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
_LONGEST = 15  # digits after the point; a number with more is shown with an exponent


def digits_of(value: float) -> int:
    """Return the digits after the point with which a float is written exactly."""
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


if TYPE_CHECKING:
    _Box = QDoubleSpinBox
else:
    _Box = object  # Qt knows no common class of both that has a value


class _Typed(_Box):
    """What a spin box makes of the text that a person types: Qt would drop each key that it does not expect.

    Attributes:
        read: the text of a number, with a point, to the number; raises NotANumberError.
    """

    read: Callable[[str], float]
    _before: float | None = None  # the number when typing began

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._before is None:
            self._before = self.value()
        super().keyPressEvent(event)
        if event.key() in _ENDS:  # the number that is there now counts
            self._before = None

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._before = None

    def _bare(self, text: str) -> str:
        """Return the text without the unit, which stands there, and which a person may have typed, too."""
        bare, unit = text.strip(), self.suffix().strip()
        while unit and bare.endswith(unit):
            bare = bare.removesuffix(unit).strip()
        return bare

    def _read(self, text: str) -> float:
        # Qt would take one of both signs for a separator of thousands and read "0,5" as 5.
        return self.read(self._bare(text).replace(",", "."))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        try:
            good = self.minimum() <= self._read(text) <= self.maximum()
        except NotANumberError:
            good = False
        return QValidator.State.Acceptable if good else QValidator.State.Intermediate, text, position

    def valueFromText(self, text: str) -> float:
        try:
            return self._read(text)
        except NotANumberError:
            return self.value()

    def fixup(self, text: str) -> str:
        """Say why what was typed is refused; the number from before comes back, not what its first digits mean."""
        typed = self._bare(text)
        why = ""
        try:
            self._read(text)
        except NotANumberError as error:
            why = error.why
        if typed:
            low, high = self.textFromValue(self.minimum()), self.textFromValue(self.maximum())
            kind = "a whole number" if self.read is typed_numbers.whole else "a number"
            said = f"'{typed_numbers.shown(typed)}' is not {kind} from {low} to {high}{why}."
            QToolTip.showText(self.mapToGlobal(QPoint(0, self.height())), said, self)
        if self._before is None:
            return text
        self.setValue(self._before)
        return self.text()


class WholeBox(_Typed, QSpinBox):  # type: ignore[misc]
    """A box for a whole number of at most 31 bits."""

    read = staticmethod(typed_numbers.whole)

    def valueFromText(self, text: str) -> int:
        return int(super().valueFromText(text))


class LargeWholeBox(_Typed, QDoubleSpinBox):
    """A box for a whole number that a QSpinBox does not hold."""

    read = staticmethod(typed_numbers.whole)

    def __init__(self) -> None:
        super().__init__(decimals=0)


class NumberBox(_Typed, QDoubleSpinBox):
    """A box for any number. Shows 0.001 rather than 0.0010000000, though it takes as many digits.

    Args:
        digits: after the point, that the smallest step changes.
    """

    read = staticmethod(typed_numbers.number)

    def __init__(self, digits: int) -> None:
        super().__init__(decimals=_MOST_DECIMALS)
        self._least = 10.0**-digits
        plain = self.locale()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)

    def textFromValue(self, value: float) -> str:
        digits = digits_of(value)
        if digits > _LONGEST:
            return repr(value).replace(".", self.locale().decimalPoint())
        return self.locale().toString(value, "f", digits)

    def stepBy(self, steps: int) -> None:
        """Change the second digit of the number, as Qt's adaptive steps do, and less only near 0."""
        value = self.value()
        size = abs(value) / (1.01 if value * steps < 0 else 1)  # downwards from 1 the steps are those below 1
        step = max(self._least, 10.0 ** (math.floor(math.log10(size)) - 1) if size else 0.0)
        self.setValue(round(value + steps * step, max(digits_of(value), digits_of(step))))
        self.selectAll()

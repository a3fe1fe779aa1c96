"""Numbers as people type them: on the command line, in a form of the window."""

from __future__ import annotations

import math
import re
from decimal import Decimal

# Other signs for the same, as text from a page or an East Asian keyboard has them; float() knows all digits itself.
_SAME = str.maketrans("−－＋．٫，ｅＥ", "--+..,eE")
_LONGEST = 40  # characters of a text that a message repeats


class NotANumberError(ValueError):
    """A text is not a number of the kind; `why` is "" or ends a sentence that says so."""

    def __init__(self, text: str, why: str = "") -> None:
        self.why = f": {why}" if why else ""
        super().__init__(f"'{shown(text)}' is not a number{self.why}")


def shown(text: str) -> str:
    """Return the text as a message repeats it: cut if it is long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def number(text: str) -> float:
    """Return the finite number that a text says, with or without sign, exponent and spaces before groups of three.

    Raises:
        NotANumberError: it says none, or one that a float does not hold.
    """
    plain = _plain(text)
    try:
        found = float(plain)
    except ValueError:
        why = "write a point, not a comma" if _is_number(plain.replace(",", ".")) else ""
        raise NotANumberError(text, why) from None
    if not math.isfinite(found):
        raise NotANumberError(text, "it is too large" if any(map(str.isdigit, plain)) else "it has to be finite")
    if found == 0 and any(digit.isdecimal() and int(digit) for digit in re.split("[eE]", plain)[0]):
        raise NotANumberError(text, "it is too close to 0")
    return found


def whole(text: str) -> int:
    """Return the whole number that a text says; "1e3" and "16.0" are whole, too, but "1.000" may mean a thousand.

    Raises:
        NotANumberError: it says none.
    """
    found = number(text)
    if re.fullmatch(r"[+-]?\d+(\.\d{3,})+", _plain(text)):
        raise NotANumberError(text, "write it without separators")
    if not found.is_integer():
        raise NotANumberError(text)
    exact = Decimal(_plain(text)) if found else Decimal(0)  # a float holds 16 digits
    if exact != exact.to_integral_value():
        raise NotANumberError(text)
    return int(exact)


def _plain(text: str) -> str:
    text = re.sub(r"^([+-])\s+", r"\1", text.translate(_SAME).strip())
    return re.sub(r"(?<=\d)\s(?=\d{3}(?!\d))", "", text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

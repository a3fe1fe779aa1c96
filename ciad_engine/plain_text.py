"""Text that any terminal, window, file and database takes, made of names and paths that strangers chose.

A file name may hold bytes that are no text (Python reads them as lone surrogates, which no UTF-8 file takes), and
any name, card or plan may hold escapes that move a terminal's cursor or turn the direction of writing around.
"""

from __future__ import annotations

import re
from typing import Any

REPLACEMENT = "\ufffd"  # the sign for what is no text
_BLANK = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"  # they separate words, and a name has one line
# Control characters, changes of direction, lone surrogates, and the two that are never characters.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(value: object) -> str:
    """Return a name or path, or any other object's text, as one line that can be shown and stored.

    Tabs and line ends become blanks, everything else that is no visible text becomes U+FFFD.
    """
    return _UNSHOWN.sub(lambda found: " " if found[0] in _BLANK else REPLACEMENT, str(value))


def storable(text: str) -> str:
    """Return a text with U+FFFD for what no UTF-8 file and no database takes; all else stays."""
    return _SURROGATE.sub(REPLACEMENT, text)


def plain_lines(text: str) -> str:
    """Return a text of several lines with each of them made `plain`; only "\\n" ends a line."""
    return "\n".join(map(plain, text.split("\n")))


def plain_data(value: Any) -> Any:
    """Return what JSON can hold with every text in it, keys included, made `plain`."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain_data(key): plain_data(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain_data, value))
    return value

"""The attacks done on each image since the start, so that one can go back and compare."""

from __future__ import annotations

import collections

from ciad_app.inspect.collection import Entry
from ciad_engine.inspection import Inspection

MOST = 6  # attacks that a figure has room for
_IMAGES = 500  # remembered; an inspection is some 30 kB

Key = tuple[str, bytes]


class History:
    """Inspections with an attack, by image, the oldest images forgotten first."""

    def __init__(self) -> None:
        self._found: collections.OrderedDict[Key, list[tuple[Inspection, str]]] = collections.OrderedDict()

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()

    def add(self, entry: Entry, found: Inspection, title: str) -> int:
        """Remember an attack under the attack's `title`; returns its row."""
        key = _key(entry)
        rows = self._found.setdefault(key, [])
        rows.append((found, title))
        self._found.move_to_end(key)
        while len(self._found) > _IMAGES:
            self._found.popitem(last=False)
        return len(rows) - 1

    def get(self, entry: Entry, row: int) -> Inspection:
        """The inspection of a row."""
        return self._found[_key(entry)][row][0]

    def succeeded(self, entry: Entry) -> list[tuple[str, Inspection]]:
        """The latest attacks that succeeded, MOST at most, each with its name; of one done twice the later."""
        found = {_named(each, title): each for each, title in self._found.get(_key(entry), []) if _succeeded(each)}
        return list(found.items())[-MOST:]

    def lines(self, entry: Entry) -> list[str]:
        """One line a row for people."""
        return [_line(found, title) for found, title in self._found.get(_key(entry), [])]


def _key(entry: Entry) -> Key:
    return entry.name, entry.pixels.tobytes()


def _succeeded(found: Inspection) -> bool:
    return found.attack is not None and bool(found.attack.success[0])


def _named(found: Inspection, title: str) -> str:
    """The attack's title and the first of its numbers."""
    assert found.attack is not None
    numbers = (f"{value:g}" for value in found.attack.settings.values() if isinstance(value, (int, float)))
    return f"{title} {next(numbers, '')}".strip()


def _line(found: Inspection, title: str) -> str:
    result, name = found.attack, _named(found, title)
    assert result is not None
    if not result.success[0]:
        return f"✘ {name}: {result.reason[0]}"
    return f"✔ {name} → {found.classes[result.label_after[0]]}, L2 {result.l2[0]:.2f}"

"""The attacks done on each image since the start, so that one can go back and compare."""

from __future__ import annotations

import collections

from ciad_app.inspect.collection import Entry
from ciad_engine import attacks
from ciad_engine.attacks.words import GIVEN, TARGET, TARGET_CLASS, UNTARGETED
from ciad_engine.inspection import Inspection

MOST = 6  # attacks that a figure has room for
_IMAGES = 500  # remembered; an inspection is some 30 kB

Key = tuple[str, bytes]


def name_of(found: Inspection) -> str:
    """Return the attack's title, its first number, its target, and the detector it was to evade, with its rule."""
    assert found.attack is not None
    title, settings = attacks.title(found.attack.attack), found.attack.settings
    number = next((f"{value:g}" for value in settings.values() if isinstance(value, (int, float))), "")
    target = settings.get(TARGET, UNTARGETED)
    if target == GIVEN:
        target = found.classes[settings[TARGET_CLASS]]
    aimed = "" if target == UNTARGETED else f" at {target}"
    return f"{title} {number}".strip() + aimed + (f", evading {', '.join(found.evade)}" if found.evade else "")


def line_of(found: Inspection) -> str:
    """One line for people: the attack and what came of it."""
    result, name = found.attack, name_of(found)
    assert result is not None
    if not result.fooled[0]:
        return f"✘ {name}: {result.reason[0]}"
    outcome = f"→ {found.classes[result.label_after[0]]}, L2 {result.l2[0]:.2f}"
    return f"✔ {name} {outcome}" if result.success[0] else f"✘ {name} {outcome}, but {result.reason[0]}"


class History:
    """Inspections with an attack, by image, the oldest images forgotten first."""

    def __init__(self) -> None:
        self._done: collections.OrderedDict[Key, list[Inspection]] = collections.OrderedDict()

    def clear(self) -> None:
        self._done.clear()

    def add(self, entry: Entry, found: Inspection) -> int:
        """Remember an attack on an image; returns its row."""
        key = _key(entry)
        rows = self._done.setdefault(key, [])
        rows.append(found)
        self._done.move_to_end(key)
        while len(self._done) > _IMAGES:
            self._done.popitem(last=False)
        return len(rows) - 1

    def get(self, entry: Entry, row: int) -> Inspection:
        return self._done[_key(entry)][row]

    def row_of(self, entry: Entry, found: Inspection) -> int | None:
        """Return the row of the same attack with the same result, or None."""
        assert found.attack is not None
        wanted = (found.attack.attack, found.attack.settings, found.evade, found.attack.images.tobytes())
        for row, known in enumerate(self._done.get(_key(entry), [])):
            attack = known.attack
            if attack and (attack.attack, attack.settings, known.evade, attack.images.tobytes()) == wanted:
                return row
        return None

    def remove(self, entry: Entry, row: int) -> None:
        """Forget one attack."""
        del self._done[_key(entry)][row]

    def fooled(self, entry: Entry) -> list[tuple[str, Inspection]]:
        """The latest attacks that fooled f1, MOST at most, each with its name; of one done twice the later."""
        rows = self._done.get(_key(entry), [])
        return list({name_of(found): found for found in rows if found.attacked_image is not None}.items())[-MOST:]

    def lines(self, entry: Entry) -> list[str]:
        return [line_of(found) for found in self._done.get(_key(entry), [])]


def _key(entry: Entry) -> Key:
    return entry.name, entry.pixels.tobytes()

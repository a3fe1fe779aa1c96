"""The smallest strength at which an attack fools the classifier, and at which it gets past a detector, too.

Importing this module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ciad_engine import attacks, inspection
from ciad_engine.attacks.base import Attack, FittedAttack
from ciad_engine.errors import SettingError
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from ciad_engine.systems import System

BUDGET = "eps"  # the setting that is varied
STRENGTHS = (*range(1, 17), 18, 20, 22, 24, 28, 32, 48, 64, 128, 255)  # of 255


@dataclasses.dataclass(frozen=True)
class Smallest:
    """What was found; None if no strength that was tried does it.

    Attributes:
        fooling: the attack of the smallest strength that fools the classifier.
        passing: the same, and the detector that decides does not flag the image.
        reached: the largest strength that was tried; larger ones of STRENGTHS can do no more.
    """

    fooling: Inspection | None
    passing: Inspection | None
    reached: int = STRENGTHS[-1]


def find(
    system: System, known: Inspection, name: str, settings: Mapping[str, Any], evade: Sequence[str], job: Job
) -> Smallest:
    """Try the strengths in rising order, for an attack may fail with a larger one where a smaller one succeeds.

    Args:
        known: record of the image; its detector and rule decide.
        name, settings: the attack; its budget is replaced.
        evade: what the attacker knows; only the attack that is to pass the detector tries to evade it.

    Raises:
        SettingError: the attack has no budget, or is fitted to many images.
        Cancelled: through `job`.
    """
    _check(name)
    plain = _Series(system, known, ())
    evading = _Series(system, known, evade) if evade else plain
    fooling: Inspection | None = None
    for place, strength in enumerate(STRENGTHS):
        job.progress(place, len(STRENGTHS), "Smallest change")
        attack = attacks.create(name, **{**settings, BUDGET: float(strength)})
        for series in dict.fromkeys((plain, evading) if fooling is None else (evading,)):
            found = series.attacked(attack, strength, job)
            if found is None or found.adversarial is None:
                continue
            fooling = fooling or found
            if not found.adversarial.adversarial[0]:
                return Smallest(fooling, found, strength)
        if evading.ended and (plain.ended or fooling is not None):
            return Smallest(fooling, None, strength)
    return Smallest(fooling, None)


def sentence(found: Smallest, detector: str) -> str:
    """Return the result in words; `detector` is what people call the one that decides."""
    whole = STRENGTHS[-1]
    more = "" if found.reached == whole else f" Beyond {found.reached} its settings let this attack change no more."
    if found.fooling is None:
        return f"No strength up to {found.reached} of {whole} fools f1 with this attack.{more}"
    first = f"f1 is fooled at strength {_strength(found.fooling)} of {whole}"
    if found.passing is None:
        return f"{first}; {detector} flags every image that fools f1.{more}"
    return f"{first}; {detector} first misses it at {_strength(found.passing)}."


class _Series:
    """An attack at rising strengths.

    Attributes:
        ended: whether larger strengths can do no more: two gave the same image, and it keeps within the smaller one.
            Steps that are few and short do not reach a larger budget's edge.
    """

    def __init__(self, system: System, known: Inspection, evade: Sequence[str]) -> None:
        self.ended = False
        self._system, self._known, self._evade = system, known, evade
        self._strength, self._last = 0, known.image

    def attacked(self, attack: Attack, strength: int, job: Job) -> Inspection | None:
        """Return the record with the attack of this strength; None if it has ended."""
        if self.ended:
            return None
        found = inspection.attacked(self._system, self._known, attack, job, self._evade)
        assert found.attack is not None
        image = found.attack.candidates[0]
        # An attack may also give the image back because it failed: that says nothing of larger strengths.
        change = int(np.abs(image.astype(np.int16) - self._known.image).max())
        self.ended = 0 < change < self._strength and np.array_equal(image, self._last)
        self._strength, self._last = strength, image
        return found


def _check(name: str) -> None:
    if _has_budget(attacks.get(name)):
        return
    fitted = issubclass(attacks.get(name), FittedAttack)
    reason = "makes one change for all images" if fitted else "has no budget that could be the smallest"
    *others, last = [cls.title for cls in attacks.usable().values() if _has_budget(cls)]
    raise SettingError(f"{attacks.title(name)} {reason}: choose {', '.join(others)} or {last}.")


def _has_budget(attack: type[Attack]) -> bool:
    """Return whether the attack has a budget for each image."""
    return BUDGET in {field.name for field in dataclasses.fields(attack)} and not issubclass(attack, FittedAttack)


def _strength(found: Inspection) -> str:
    assert found.attack is not None
    return f"{found.attack.settings[BUDGET]:g}"

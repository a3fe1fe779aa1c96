"""The smallest strength at which an attack fools the classifier, and at which it gets past a detector, too.

Importing this module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ciad_engine import attacks, inspection
from ciad_engine.errors import SettingError
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from ciad_engine.systems import System

BUDGET = "eps"  # the setting that is varied
STRENGTHS = (*range(1, 17), 18, 20, 22, 24, 28, 32, 48, 64, 128, 255)  # of 255


@dataclasses.dataclass(frozen=True)
class Smallest:
    """What was found; None if no strength of STRENGTHS does it.

    Attributes:
        fooling: the attack of the smallest strength that fools the classifier.
        passing: the same, and the detector that decides does not flag the image.
    """

    fooling: Inspection | None
    passing: Inspection | None


def find(
    system: System, known: Inspection, name: str, settings: Mapping[str, Any], evade: Sequence[str], job: Job
) -> Smallest:
    """Try the strengths in rising order, for an attack may fail with a larger one where a smaller one succeeds.

    Args:
        known: record of the image; its detector and rule decide.
        name, settings: the attack; its budget is replaced.
        evade: what the attacker knows; the attack that is to pass the detector tries to evade it.

    Raises:
        SettingError: the attack has no budget.
        Cancelled: through `job`.
    """
    if BUDGET not in {field.name for field in dataclasses.fields(attacks.get(name))}:
        raise SettingError(f"{attacks.title(name)} has no budget that could be the smallest: choose FGSM, BIM or PGD.")
    fooling: Inspection | None = None
    for place, strength in enumerate(STRENGTHS):
        job.progress(place, len(STRENGTHS), "Smallest change")
        attack = attacks.create(name, **{**settings, BUDGET: float(strength)})
        found = inspection.attacked(system, known, attack, job, evade)
        if found.adversarial is None:
            continue
        fooling = fooling or found
        if not found.adversarial.adversarial[0]:
            return Smallest(fooling, found)
    return Smallest(fooling, None)


def sentence(found: Smallest, detector: str) -> str:
    """Return the result in words; `detector` is what people call the one that decides."""
    if found.fooling is None:
        return f"No change of up to {STRENGTHS[-1]} of 255 fools f1 with this attack."
    first = f"f1 is fooled from {_strength(found.fooling)} of 255"
    if found.passing is None:
        return f"{first}; {detector} flags every image that fools it."
    return f"{first}, {detector} from {_strength(found.passing)}."


def _strength(found: Inspection) -> str:
    assert found.attack is not None
    return f"{found.attack.settings[BUDGET]:g}"

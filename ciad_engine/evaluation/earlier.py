"""Adversarial images that another run has made already: of the same network, images, attack and settings.

What an attack does depends on the attacked network alone. So another g or f2 beside the same f1 is evaluated
in seconds, on the very images on which the other one was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ciad_engine import attacks as registry
from ciad_engine.attacks.fitted import FittedAttack
from ciad_engine.errors import RunError
from ciad_engine.evaluation import plan as plans
from ciad_engine.runs import Database, Row, Run


@dataclasses.dataclass(frozen=True)
class Earlier:
    """Rows of another run, by position, that hold for this one but for what the detector says of them."""

    database: Database
    run: Run
    attack: str
    rows: Mapping[int, Row]

    def has(self, positions: Sequence[int]) -> bool:
        return all(position in self.rows for position in positions)

    def images(self, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Uint8 (N, 3, 32, 32); of a failed attack the benign image."""
        return np.stack([self.database.image(self.run.key, self.attack, position) for position in positions])


def find(
    database: Database, plan: plans.Plan, choice: plans.AttackChoice, versions: Mapping[str, str], device: str
) -> Earlier | None:
    """The run with the most rows that this attack has computed already, or None.

    Only on the same device with the same versions, where it would compute the same images again.
    """
    if not plan.attacked_network or issubclass(registry.get(choice.name), FittedAttack):
        return None  # an attack that is fitted depends on which images are left over, too
    best: Earlier | None = None
    for run in database.runs():
        label = _same(run, plan, choice, versions, device)
        if label is None or run.key == plan.key():
            continue
        rows = {row.position: row for row in database.rows(run.key, label)}
        if rows and (best is None or len(rows) > len(best.rows)):
            best = Earlier(database, run, label, rows)
    return best


def _same(
    run: Run, plan: plans.Plan, choice: plans.AttackChoice, versions: Mapping[str, str], device: str
) -> str | None:
    """The attack's label in `run` where that run has made it do the same, else None."""
    if run.device != device or any(run.versions.get(name) != version for name, version in versions.items()):
        return None
    try:
        other = plans.from_json(run.plan)
    except RunError:
        return None
    alike = (
        plans.can_go_on(run)
        and (other.data_checksum, other.seed) == (plan.data_checksum, plan.seed)
        and other.attacked_network == plan.attacked_network
        and choice in other.attacks
    )
    return other.labels[other.attacks.index(choice)] if alike else None

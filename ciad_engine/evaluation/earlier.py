"""Adversarial images that another run has made already: of the same network, images, attack and settings.

The result of an attack depends on the attacked network and on the detectors that it has to evade. So another g or f2
beside the same f1 is evaluated in seconds, on the very same images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ciad_engine import attacks as registry
from ciad_engine.attacks.base import FittedAttack
from ciad_engine.errors import RunError
from ciad_engine.evaluation import planning, records
from ciad_engine.runs import BENIGN, Busy, Database, Row, Run


@dataclasses.dataclass(frozen=True)
class Earlier:
    """Rows of another run, by position, that hold for this one except for the scores of its detectors.

    Its images have `size` pixels a side.
    """

    database: Database
    run: Run
    attack: str
    rows: Mapping[int, Row]
    size: int

    def images(self, positions: Sequence[int]) -> dict[int, npt.NDArray[np.uint8]]:
        """Return the images that can be read, uint8 (3, H, W) by position; for a failed attack the benign image."""
        found = {}
        for position in positions:
            try:
                found[position] = self.database.image(self.run.key, self.attack, position, self.size)
            except Busy:
                raise
            except RunError:  # it is damaged, and is computed anew
                continue
        return found


def find(
    database: Database, plan: planning.Plan, choice: planning.AttackChoice, versions: Mapping[str, str], device: str
) -> Earlier | None:
    """Return the run in which this attack has computed the most rows already, or None.

    Only one that was begun on this device with these versions, where it would compute the same images again. One with
    a row that is damaged is left out.
    """
    if not plan.attacked_network or issubclass(registry.get(choice.name), FittedAttack):
        return None  # an attack that is fitted depends on which images are left over, too
    own = plan.key()
    alike = [
        (database.counts(run.key).get(label, 0), run, label)
        for run in database.runs()
        if run.key != own and (label := _same(run, plan, choice, versions, device)) is not None
    ]
    for count, run, label in sorted(alike, key=lambda each: each[0], reverse=True):
        if count == 0:
            break
        try:
            every = [row for name in (BENIGN, label) for row in database.rows(run.key, name)]
            checked = records.with_more(run, planning.of_run(run), [], every)
        except Busy:
            raise
        except RunError:  # it is damaged; `ciad runs show` says so
            continue
        rows = {row.position: row for row in checked if row.attack == label}
        return Earlier(database, run, label, rows, plan.size)
    return None


def _same(
    run: Run, plan: planning.Plan, choice: planning.AttackChoice, versions: Mapping[str, str], device: str
) -> str | None:
    """The attack's label in `run` where that run has made it do the same, else None."""
    if run.device != device or any(run.versions.get(name) != version for name, version in versions.items()):
        return None
    if not planning.can_go_on(run):
        return None
    other = planning.of_run(run)
    alike = (
        (other.data_checksum, other.seed) == (plan.data_checksum, plan.seed)
        and (other.attacked_network, other.evade) == (plan.attacked_network, plan.evade)
        and choice in other.attacks
    )
    return other.labels[other.attacks.index(choice)] if alike else None

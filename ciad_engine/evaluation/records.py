"""The rows of a run as the tables ask for them, and what every table says below itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from ciad_engine import attacks
from ciad_engine.attacks.words import NORMS
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.statistics import Images
from ciad_engine.runs import BENIGN, Database, Row, Run

POOLED = "*"  # in the place of a label: the pairs of all attacks together
TOGETHER = (
    "All together: an image is there once for each attack it fell to; the intervals are those of different images, by a"
    " bootstrap that draws images, each with all of these."
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image's benign row and its row after an attack."""

    benign: Row
    adversarial: Row


@dataclasses.dataclass(frozen=True)
class Records:
    """A run's rows; those of the attacks by the labels of its plan."""

    run: Run
    plan: planning.Plan
    benign: list[Row]
    attacked: dict[str, list[Row]]

    def fooled(self, attack: str) -> list[Pair]:
        """The images with which the attack fooled the network it was run on, each with its benign image."""
        benign = {row.position: row for row in self.benign}
        return [Pair(benign[row.position], row) for row in self.attacked[attack] if row.success]

    def pairs(self, attack: str) -> list[Pair]:
        """The adversarials that count: those of `fooled` that f1 got right before and gets wrong now."""
        return [p for p in self.fooled(attack) if right(p.benign) and not right(p.adversarial)]

    @functools.cached_property
    def groups(self) -> dict[str, list[Pair]]:
        """The pairs of each attack, and of several different attacks all together."""
        pairs = {attack: self.pairs(attack) for attack in self.attacked}
        if len(pairs) > 1 and len({choice.name for choice in self.plan.attacks}) == len(pairs):
            pairs[POOLED] = [pair for each in pairs.values() for pair in each]
        return pairs

    @property
    def together(self) -> tuple[str, ...]:
        """What is to be known of the attacks pooled, where they are."""
        return (TOGETHER,) if POOLED in self.groups else ()


def right(row: Row) -> bool:
    """Whether f1 names the row's image right."""
    return row.y1 == row.label


def images_of(pairs: Sequence[Pair]) -> Images:
    """Of which image each pair is, int64 (N,)."""
    return np.array([pair.benign.position for pair in pairs], dtype=np.int64)


def load(database: Database, key: str) -> Records:
    run = database.run(key)
    plan = planning.from_json(run.plan)
    by_attack: dict[str, list[Row]] = {BENIGN: [], **{label: [] for label in plan.labels}}
    for row in database.rows(run.key):
        by_attack[row.attack].append(row)
    return Records(run, plan, by_attack.pop(BENIGN), by_attack)


def attack_title(label: str) -> str:
    """Return the label with title and norm in place of the attack's name, as the paper writes them: "FGSM (L∞)"."""
    return "All together" if label == POOLED else planning.titled(label, _with_norm)


def _with_norm(name: str) -> str:
    norm = attacks.norm(name)
    return f"{attacks.title(name)} ({NORMS[norm]})" if norm else name


def setting(plan: planning.Plan) -> str:
    return f" (transferred from the {plan.attacked.replace('_', ' ')})" if plan.transferred else ""


def about_run(records: Records) -> tuple[str, ...]:
    plan, run = records.plan, records.run
    notes = [
        f"Data: {plan.data}; n = {plan.limit:,} images, seed {plan.seed}. Bundle: {plan.bundle}"
        f" ({plan.bundle_checksum[:12]}). Run {run.short}. Intervals: 95 %; Wilson, AUROC by bootstrap over images.",
        "Attacks: " + "; ".join(choice.text() for choice in plan.attacks) + ".",
    ]
    if not plan.official:
        notes.append(
            f"Not computed on the official CIFAR-10 files but on: {plan.data}."
            " Keep that in mind when comparing with the paper."
        )
    if not run.finished:
        parts = {
            "benign": len(records.benign),
            **{attack_title(name): len(rows) for name, rows in records.attacked.items()},
        }
        sofar = ", ".join(f"{name} {count:,} of {plan.limit:,}" for name, count in parts.items())
        notes.append(f"The run is not finished: {sofar}.")
    return tuple(notes)

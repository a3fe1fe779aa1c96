"""The rows of a run as tables need them, the thresholds that apply to them, and the notes that every table carries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ciad_engine import attacks, bundles, detectors
from ciad_engine.attacks.base import AttackResult
from ciad_engine.attacks.words import OWN_CLASS
from ciad_engine.counting import counted
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10, Pixels
from ciad_engine.errors import RunError
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.statistics import Images, Scores
from ciad_engine.evaluation.table import Subject
from ciad_engine.runs import BENIGN, Database, Row, Run

Thresholds = Mapping[float, Threshold]  # by false positive rate

POOLED = "*"  # in the place of an attack's label: all attacks together
_TOGETHER = (
    "All attacks together: an image counts once per attack that succeeded on it; intervals are bootstrapped over"
    " images."
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image's benign row and its row after an attack."""

    benign: Row
    adversarial: Row


@dataclasses.dataclass(frozen=True)
class Records:
    """A run's rows, read once: what tables, curves and files say agrees even if the run grows meanwhile.

    Attributes:
        rows: in the order in which they were computed.
        notes: what was noticed about the attacked network (`attacks.checks`); by label if an old run noted it there.
    """

    run: Run
    plan: planning.Plan
    rows: list[Row]
    notes: dict[str, tuple[str, ...]]

    @functools.cached_property
    def benign(self) -> list[Row]:
        """The rows of the benign images."""
        return [row for row in self.rows if row.attack == BENIGN]

    @functools.cached_property
    def attacked(self) -> dict[str, list[Row]]:
        """The rows of each attack by its label in the plan."""
        return {label: [row for row in self.rows if row.attack == label] for label in self.plan.labels}

    def fooled(self, attack: str) -> list[Pair]:
        """Return the images that fooled the attacked network, each with its benign image."""
        benign = {row.position: row for row in self.benign}
        return [Pair(benign[row.position], row) for row in self.attacked[attack] if row.fooled]

    def pairs(self, attack: str) -> list[Pair]:
        """Return the adversarial images that count: f1 is correct before the attack, and not after it."""
        return [p for p in self.fooled(attack) if correct(p.benign) and not correct(p.adversarial)]

    @functools.cached_property
    def accepted(self) -> frozenset[int]:
        """The positions of the images that f1 classifies correctly and no detector flags that the attacker knows."""
        known = self.plan.evade
        return frozenset(row.position for row in self.benign if correct(row) and not any(flags(d, row) for d in known))

    def attempts(self, attack: str) -> list[Row]:
        """Return the attack's rows of `accepted` images that it was tried on; on the others nothing can be evaded."""
        return [row for row in self.attacked[attack] if tried(row) and row.position in self.accepted]

    @functools.cached_property
    def groups(self) -> dict[str, list[Pair]]:
        """The pairs of each attack and, if several different attacks were run, of all together."""
        pairs = {attack: self.pairs(attack) for attack in self.attacked}
        if len(pairs) > 1 and len({choice.name for choice in self.plan.attacks}) == len(pairs):
            pairs[POOLED] = [pair for each in pairs.values() for pair in each]
        return pairs

    @functools.cached_property
    def detectors(self) -> tuple[str, ...]:
        """The detectors that scored every row, in the order of the tables; the paper's before there is a row."""
        names = set.intersection(*(set(row.scores) for row in self.rows)) if self.rows else {detectors.MASK}
        return tuple(detectors.in_order(names))

    def classifies(self, detector: str) -> bool:
        """Return whether the detector has a class of its own."""
        return not self.benign or self.benign[0].scores[detector].label is not None

    @property
    def about_groups(self) -> tuple[str, ...]:
        """How attacks are pooled, if they are."""
        return (_TOGETHER,) if POOLED in self.groups else ()


def subject(plan: planning.Plan, attack: str, detector: str = "") -> Subject:
    """Return what a table's row is called; `attack` is a label of the plan, or POOLED."""
    if attack == POOLED:
        return Subject(POOLED, "All attacks together", "", {}, detector)
    choice = plan.attacks[plan.labels.index(attack)]
    return Subject(choice.name, plan.title(attack), attacks.norm(choice.name), choice.parameters(), detector)


def correct(row: Row) -> bool:
    """Return whether f1 classifies the row's image correctly."""
    return row.y1 == row.label


def tried(row: Row) -> bool:
    """Return whether the attack was tried: the attacked network was right, and the target was another class."""
    return row.label_before == row.label and row.reason != OWN_CLASS


def flags(detector: bundles.Evaded, row: Row) -> bool:
    """Return whether the detector that was to be evaded flags the row's image."""
    found = row.scores[detector.name]
    return found.label != row.y1 if detector.rule == detectors.DISAGREEMENT else found.value > detector.threshold


def attack_result(plan: planning.Plan, row: Row, image: Pixels) -> AttackResult:
    """Return what the attack of a row did, as if it had just been run on this image alone.

    Args:
        image: uint8 (3, H, W), the row's image; the benign one if the attack did not fool the classifier.
    """
    choice = plan.attacks[plan.labels.index(row.attack)]
    of_row = (
        "fooled", "reason", "label_before", "label_after", "confidence_after", "l0_values", "l0_pixels", "l2", "linf",
        "forwards", "backwards", "steps",
    )  # fmt: skip
    facts: dict[str, Any] = {name: np.array([getattr(row, name)]) for name in of_row}
    return AttackResult(
        images=image[None],
        candidates=image[None],
        evaded=np.array([row.evaded is not False]),
        ssim=np.array([np.nan if row.ssim is None else row.ssim]),
        seconds=row.seconds,
        attack=choice.name,
        settings=choice.parameters(),
        **facts,
    )


def images_of(pairs: Sequence[Pair]) -> Images:
    """Return the image that each pair belongs to, int64 (N,)."""
    return np.array([pair.benign.position for pair in pairs], dtype=np.int64)


def class_by(detector: str) -> Callable[[Row], int | None]:
    """Return what gives a row's class by the detector."""
    return lambda row: row.scores[detector].label


def scores_of(rows: Sequence[Row], detector: str) -> Scores:
    """Return the detector's scores of these rows, float64 (N,)."""
    return np.array([row.scores[detector].value for row in rows], dtype=np.float64)


def both_scores(pairs: Sequence[Pair], detector: str) -> tuple[Scores, Scores]:
    """Return the detector's scores of the adversarial and of the benign images, float64 (N,) each."""
    return scores_of([p.adversarial for p in pairs], detector), scores_of([p.benign for p in pairs], detector)


def of_detectors(card: bundles.Card | None, plan: planning.Plan) -> dict[str, Thresholds]:
    """Return each detector's thresholds on the card of the plan's bundle; none if `card` is another bundle's."""
    if card is None or not card.knows(plan.bundle_checksum):
        return {}
    return {entry.name: entry.thresholds for entry in card.detectors if entry.thresholds}


def load(database: Database, key: str) -> Records:
    """Read a run.

    Raises:
        RunError: there is no such run, or the database cannot be read.
    """
    run = database.run(key)
    plan = planning.of_run(run)
    return Records(run, plan, with_more(run, plan, [], database.rows(run.key)), database.notes(run.key))


def with_more(run: Run, plan: planning.Plan, rows: list[Row], fresh: list[Row]) -> list[Row]:
    """Return a run's rows with further ones, which must fit the plan and the rows before them.

    Raises:
        RunError: they do not: the database is damaged.
    """
    names, classes = {BENIGN, *plan.labels}, len(plan.classes)
    needed = [one.name for one in plan.evade]
    benign = {row.position for row in rows if row.attack == BENIGN}
    classify = {name: score.label is None for row in (rows or fresh)[:1] for name, score in row.scores.items()}
    for row in fresh:
        if row.attack == BENIGN:
            benign.add(row.position)
        of_f1 = (row.label, row.y1, row.label_before or 0, row.label_after or 0)
        fits = (
            row.attack in names
            and row.position in benign
            and max(*of_f1, *(score.label or 0 for score in row.scores.values())) < classes
            and all(name in row.scores for name in needed)
            and all(
                classify.get(name, score.label is None) == (score.label is None) for name, score in row.scores.items()
            )
        )
        if not fits:
            raise RunError(
                f"A row of run {run.short} does not fit its plan ({row.attack or 'benign'}, image {row.position}): the"
                f" results database is damaged. Delete the run and start it again: ciad runs delete {run.short}"
            )
    return [*rows, *fresh]


def setting(plan: planning.Plan) -> str:
    """Return what a title adds about the attacker: the network attacked in the place of f1, or the detectors known."""
    if plan.evade:
        return f" (the attacker knows {', '.join(one.text for one in plan.evade)})"
    return f" (transferred from the {plan.attacked.replace('_', ' ')})" if plan.transferred else ""


def about_run(records: Records) -> tuple[str, ...]:
    """Return the notes that belong below every table of a run."""
    plan, run = records.plan, records.run
    notes = [
        f"Data: {plan.data}; n = {counted(plan.limit, 'image')}, seed {plan.seed}. Bundle: {plan.bundle}"
        f" ({plan.bundle_checksum[:12]}). Run {run.short}. Intervals: 95%; Wilson for rates, bootstrap over images for"
        " AUROC.",
        "Attacks: " + "; ".join(choice.text(plan.classes) for choice in plan.attacks) + ".",
    ]
    if plan.evade:
        notes.append(
            "The attacker knows the detector: an image counts as adversarial if it fools f1, whether or not it evades"
            " the detector. The evasion rate says how often it does both, of the images that f1 classifies correctly"
            " and the detector does not flag before the attack."
        )
    for label, texts in records.notes.items():
        notes += [f"{plan.title(label)}: {text}" if label else text for text in texts]
    if plan.domain == CIFAR10 and not plan.official:
        notes.append(
            f"Not computed on the official CIFAR-10 files but on: {plan.data}."
            " Keep that in mind when comparing with the paper."
        )
    if not run.finished:
        parts = {
            "benign": len(records.benign),
            **{plan.title(label): len(rows) for label, rows in records.attacked.items()},
        }
        progress = ", ".join(f"{name} {count:,} of {plan.limit:,}" for name, count in parts.items())
        notes.append(f"The run is not finished: {progress}.")
    return tuple(notes)

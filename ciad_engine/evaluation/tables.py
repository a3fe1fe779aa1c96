"""The paper's Tables 1 and 2 (3 in the transferred setting), and what each attack cost: queries over rows.

Adversarials counted are those the paper counts (section 3.2): images the classifier f1 got right before and
gets wrong after an attack that fooled the network it was run on. Thresholds are applied here, to stored scores.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence

import numpy as np

from ciad_engine import bundles
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.statistics import auroc, tpr_at_fpr, wilson
from ciad_engine.runs import BENIGN, Database, Row, Run

Value = str | int | float | None

TITLES = {  # with the distance that is kept small, as the paper writes three of them
    "fgsm": "FGSM (L∞)",
    "bim": "BIM (L∞)",
    "pgd": "PGD (L∞)",
    "jsma": "JSMA (L0)",
    "cw": "C&W (L2)",
    "lbfgs": "L-BFGS (L2)",
    "deepfool": "DeepFool (L2)",
    "ddn": "DDN (L2)",
    "universal": "Universal (L∞)",
}
# Nguyen et al. 2017 (arXiv 1712.00558): Table 1; (true positive, true negative) of Tables 2 and 3.
PAPER_RETENTION = {"fgsm": 0.863, "jsma": 0.878, "cw": 0.997}
PAPER_DIRECT = {"fgsm": (0.878, 0.614), "jsma": (0.960, 0.614), "cw": (0.860, 0.614)}
PAPER_TRANSFERRED = {"fgsm": (0.843, 0.665), "jsma": (0.853, 0.647), "cw": (0.917, 0.750)}

# LOST_TO_ROUNDING and OWN_CLASS of attacks.base, which would import torch; a test compares them.
LOST = "lost when rounded to 8 bits"
OWN_CLASS = "the target is its own class"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One value. A `share` also carries of how many (`n`) and its 95 % Wilson interval [`low`, `high`].

    A mean carries of how many, too. `value` is None where there is nothing to compute it from.
    """

    value: Value
    n: int | None = None
    low: float | None = None
    high: float | None = None
    share: bool = False

    def text(self) -> str:
        """As a person reads it: "0.863 [0.840, 0.883]", "1,000", "–" for nothing."""
        if self.value is None:
            return "–"
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, int):
            return f"{self.value:,}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        decimals = 3 if abs(self.value) < 100 else 1
        return f"{self.value:,.{decimals}f}{interval}"


NO_SHARE = Cell(None, 0, share=True)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for screen, CSV and JSON: `name` is its file name, every row has one cell a column."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Pair:
    """An image's benign row and its row after an attack."""

    benign: Row
    adversarial: Row


@dataclasses.dataclass(frozen=True)
class _Records:
    run: Run
    plan: plans.Plan
    benign: list[Row]
    attacked: dict[str, list[Row]]

    def pairs(self, attack: str) -> list[_Pair]:
        """The adversarials that count, each with its benign image."""
        benign = {row.position: row for row in self.benign}
        pairs = [_Pair(benign[row.position], row) for row in self.attacked[attack] if row.success]
        return [p for p in pairs if p.benign.y1 == p.benign.label and p.adversarial.y1 != p.adversarial.label]


def table1(database: Database, run: str) -> Table:
    """Mask retention: share of adversarials whose mask keeps the class it had before the attack."""
    return _table1(_load(database, run))


def table2(database: Database, run: str, card: bundles.Card | None = None) -> Table:
    """Detection: both rules on the adversarials and the same benign images; Table 3 where transferred.

    `card` gives the graded rule's threshold; without it, or with another bundle's, those columns are empty.
    """
    return _table2(_load(database, run), card)


def attack_table(database: Database, run: str) -> Table:
    """Per attack: success, failures by reason, distances of the successful images, cost."""
    return _attack_table(_load(database, run))


def all_tables(database: Database, run: str, card: bundles.Card | None = None) -> tuple[Table, ...]:
    """Tables 1 and 2 and the attacks' table of a run, finished or not.

    Raises:
        RunError: there is no such run, or the database cannot be read.
    """
    records = _load(database, run)
    return _table1(records), _table2(records, card), _attack_table(records)


def render_text(table: Table) -> str:
    """The table for a terminal: title, aligned columns, notes.

    Turned on its side: there are few attacks and many measures, so a line a measure stays readable.
    """
    cells = [[cell.text() for cell in row] for row in table.rows]
    lines = [list(line) for line in zip(table.columns, *cells, strict=True)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]

    def aligned(line: Sequence[str]) -> str:
        first, *rest = (word.ljust(width) for word, width in zip(line, widths, strict=True))
        return "  ".join((first, *rest)).rstrip()

    body = [aligned(lines[0]), "  ".join("-" * width for width in widths), *(aligned(line) for line in lines[1:])]
    notes = (textwrap.fill(note, 100, subsequent_indent="  ") for note in table.notes)
    return "\n".join((table.title, "", *body, "", *notes))


def graded_threshold(card: bundles.Card | None, plan: plans.Plan) -> tuple[float, str] | None:
    """(value, source) of the graded rule's threshold on the card of the plan's bundle, or None."""
    if card is None or card.checksum != plan.bundle_checksum:
        return None
    saved = card.content.get("thresholds", {}).get("graded")
    return None if saved is None else (float(saved["value"]), str(saved["source"]))


def _load(database: Database, key: str) -> _Records:
    run = database.run(key)
    plan = plans.from_json(run.plan)
    by_attack: dict[str, list[Row]] = {BENIGN: [], **{choice.name: [] for choice in plan.attacks}}
    for row in database.rows(run.key):
        by_attack[row.attack].append(row)
    return _Records(run, plan, by_attack.pop(BENIGN), by_attack)


def _title(attack: str) -> str:
    return TITLES.get(attack, attack)


def _share(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), share=True) if n else NO_SHARE


def _shares(rows: Sequence[_Pair], holds: Callable[[_Pair], bool]) -> Cell:
    return _share(sum(holds(row) for row in rows), len(rows))


def _table1(records: _Records) -> Table:
    lines = []
    for attack in records.attacked:
        pairs = records.pairs(attack)
        sound = [p for p in pairs if p.benign.y2 == p.benign.label]
        paper = None if records.plan.transferred else PAPER_RETENTION.get(attack)
        lines.append(
            (
                Cell(_title(attack)),
                Cell(len(pairs)),
                _shares(pairs, lambda p: p.adversarial.y2 == p.benign.y2),
                Cell(paper),
                _shares(sound, lambda p: p.adversarial.y2 == p.benign.y2),
            )
        )
    columns = ("Attack", "Adversarial images", "Mask retention", "Paper", "Retention where the benign mask was right")
    meaning = "Mask retention: share of adversarial images whose mask keeps the class it had before the attack."
    title = "Table 1: do the masks keep their class?" + _setting(records.plan)
    return Table("table1", title, columns, tuple(lines), (meaning, *_notes(records)))


def _table2(records: _Records, card: bundles.Card | None) -> Table:
    threshold = graded_threshold(card, records.plan)
    paper = PAPER_TRANSFERRED if records.plan.transferred else PAPER_DIRECT
    all_benign = _share(sum(row.y1 == row.y2 for row in records.benign), len(records.benign))
    lines = []
    for attack in records.attacked:
        pairs = records.pairs(attack)
        positive = np.array([p.adversarial.score_graded for p in pairs], dtype=np.float64)
        negative = np.array([p.benign.score_graded for p in pairs], dtype=np.float64)
        at_five = tpr_at_fpr(positive, negative, 0.05)
        paper_true = paper.get(attack, (None, None))
        if threshold is None:
            graded = (NO_SHARE, NO_SHARE)
        else:
            above, below = int((positive > threshold[0]).sum()), int((negative <= threshold[0]).sum())
            graded = (_share(above, len(pairs)), _share(below, len(pairs)))
        lines.append(
            (
                Cell(_title(attack)),
                Cell(len(pairs)),
                _shares(pairs, lambda p: p.adversarial.y1 != p.adversarial.y2),
                Cell(paper_true[0]),
                _shares(pairs, lambda p: p.benign.y1 == p.benign.y2),
                Cell(paper_true[1]),
                all_benign,
                _shares(pairs, lambda p: p.adversarial.y2 == p.adversarial.label),
                Cell(auroc(positive, negative), len(pairs)),
                _share(at_five[0], len(pairs)) if at_five else NO_SHARE,
                *graded,
            )
        )
    columns = (
        "Attack",
        "Adversarial images",
        "True positive",
        "Paper's true positive",
        "True negative",
        "Paper's true negative",
        "True negative, all benign",
        "Recovery",
        "Graded: AUROC",
        "Graded: TPR at 5 % FPR",
        "Graded: true positive",
        "Graded: true negative",
    )
    number = 3 if records.plan.transferred else 2
    title = f"Table {number}: does the detector tell adversarial from benign?" + _setting(records.plan)
    notes = (
        "True positive: adversarial images called adversarial (f1 and f2 disagree). True negative: the same images"
        " before the attack, called benign. Recovery: adversarial images whose mask names the true class.",
        _threshold_note(records.plan, card, threshold),
    )
    return Table("table2", title, columns, tuple(lines), (*notes, *_notes(records)))


def _threshold_note(plan: plans.Plan, card: bundles.Card | None, threshold: tuple[float, str] | None) -> str:
    if threshold is not None:
        return f"Graded: -log p2 of f1's class, adversarial above {threshold[0]:.4g} ({threshold[1]})."
    start = "Graded: no threshold applied, because "
    if card is None:
        return f"{start}the bundle '{plan.bundle}' is not at hand."
    if card.checksum != plan.bundle_checksum:
        return f"{start}bundle '{card.name}' has changed since this run."
    return f"{start}bundle '{card.name}' has none on its card."


def _attack_table(records: _Records) -> Table:
    everything = [row for rows in records.attacked.values() for row in rows]
    failures = sorted({row.reason for row in everything if _tried(row) and not row.success})
    reasons = [LOST, *(reason for reason in failures if reason != LOST)]
    # Such images have no wrong class to be pushed to: no failure of the attack, and only where it is targeted.
    skipped = [OWN_CLASS] if any(row.reason == OWN_CLASS for row in everything) else []
    distances = ("l2", "linf", "l0_values", "l0_pixels", "ssim")
    lines = []
    for attack, rows in records.attacked.items():
        tried = [row for row in rows if _tried(row)]
        successful = [row for row in tried if row.success]
        moved = {
            name: [float(value) for row in successful if (value := getattr(row, name)) is not None]
            for name in distances
        }
        lines.append(
            (
                Cell(_title(attack)),
                Cell(len(rows)),
                Cell(sum(row.label_before != row.label for row in rows)),
                *(Cell(sum(row.reason == reason for row in rows)) for reason in skipped),
                _share(len(successful), len(tried)),
                *(Cell(sum(row.reason == reason for row in tried)) for reason in reasons),
                *(_over(f, moved[name]) for name in distances for f in (np.mean, np.median)),
                *(_over(np.mean, [getattr(row, name) for row in tried]) for name in ("forwards", "backwards", "steps")),
                _over(np.mean, [1000 * row.seconds for row in rows]),
            )
        )
    columns = (
        "Attack",
        "Images",
        "Already misclassified",
        *(f"Not attacked: {reason}" for reason in skipped),
        "Success rate",
        *(f"Failed: {reason}" for reason in reasons),
        *(f"{name}, {f}" for name in ("L2", "L∞ (/255)", "L0 values", "L0 pixels", "SSIM") for f in ("mean", "median")),
        "Forward passes",
        "Backward passes",
        "Steps",
        "Milliseconds per image",
    )
    notes = (
        "Success: the 8-bit image fools the network it was made for; a share of the images that network got right."
        " Distances are of the successful images in [0, 1] (L2) or 8-bit steps (L∞); SSIM, structural similarity,"
        " is 1 for equal images. Passes and steps are means over images it got right; milliseconds are the batch's"
        " time, detector included, divided by its images. What Universal learns beforehand counts in the run's"
        " time alone.",
    )
    title = "Attacks: success, distances and cost" + _setting(records.plan)
    return Table("attacks", title, columns, tuple(lines), (*notes, *_notes(records)))


def _tried(row: Row) -> bool:
    return row.label_before == row.label and row.reason != OWN_CLASS


def _over(statistic: Callable[[Sequence[float]], np.floating], values: Sequence[float]) -> Cell:
    return Cell(float(statistic(values)), len(values)) if values else Cell(None, 0)


def _setting(plan: plans.Plan) -> str:
    return f" (transferred from the {plan.attacked.replace('_', ' ')})" if plan.transferred else ""


def _notes(records: _Records) -> tuple[str, ...]:
    plan, run = records.plan, records.run
    notes = [
        f"Data: {plan.data}; n = {plan.limit:,} images, seed {plan.seed}. Bundle: {plan.bundle}"
        f" ({plan.bundle_checksum[:12]}). Run {run.short}. Intervals: 95 %, Wilson.",
        "Attacks: " + "; ".join(choice.text() for choice in plan.attacks) + ".",
    ]
    if not plan.official:
        notes.append(
            f"Not computed on the official CIFAR-10 files but on: {plan.data}."
            " Keep that in mind when comparing with the paper."
        )
    if not run.finished:
        parts = {"benign": len(records.benign), **{_title(name): len(rows) for name, rows in records.attacked.items()}}
        sofar = ", ".join(f"{name} {count:,} of {plan.limit:,}" for name, count in parts.items())
        notes.append(f"The run is not finished: {sofar}.")
    return tuple(notes)

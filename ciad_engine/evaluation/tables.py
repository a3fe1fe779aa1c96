"""The paper's Tables 1, 2 (3 in the transferred setting) and 4, and what each attack cost: queries over rows.

Adversarials counted are those the paper counts (section 3.2): images the classifier f1 got right before and
gets wrong after an attack that fooled the network it was run on; in the transferred setting some columns count all
that fooled that network, and say so. Thresholds are applied here, to stored scores.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ciad_engine import bundles
from ciad_engine.attacks.words import LOST_TO_ROUNDING, OWN_CLASS
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.control_table import control_table
from ciad_engine.evaluation.opinions import both_scores
from ciad_engine.evaluation.records import (
    POOLED,
    Pair,
    Records,
    about_run,
    attack_title,
    images_of,
    load,
    right,
    setting,
)
from ciad_engine.evaluation.table import NO_SHARE, Cell, Table, area, over, share, share_of, shares
from ciad_engine.evaluation.thresholds import Thresholds, graded_thresholds, rates_at
from ciad_engine.runs import Database, Row

# Nguyen et al. 2017 (arXiv 1712.00558): Table 1; (true positive, true negative) of Tables 2 and 3.
PAPER_RETENTION = {"fgsm": 0.863, "jsma": 0.878, "cw": 0.997}
PAPER_DIRECT = {"fgsm": (0.878, 0.614), "jsma": (0.960, 0.614), "cw": (0.860, 0.614)}
PAPER_FILTERED = dict.fromkeys(PAPER_RETENTION, 1.0)  # Table 4: all its rates, in both settings (section 3.3)
PAPER_TRANSFERRED = {"fgsm": (0.843, 0.665), "jsma": (0.853, 0.647), "cw": (0.917, 0.750)}

_ONE_FOR_ALL = (
    "The paper gives one true negative for all three attacks and does not say of which images: if of all, compare"
    " 'True negative, all benign', if of those f1 gets right, 'True negative, all f1 got right'."
)
_INSTEAD = (
    "Attacked network in f1's place: over all images that fool it, its own class against that of f1's mask. So its true"
    " negative is the share of these whose mask named the true class before."
)
_TWO_READINGS = (
    "The paper compares f1's class with the mask's (section 3.2). That it does so in its Table 3, too, it does not say:"
    " the attacked network may take f1's place there."
)


def table1(database: Database, run: str) -> Table:
    """Mask retention: share of adversarials whose mask keeps the class it had before the attack."""
    return _table1(load(database, run))


def table2(database: Database, run: str, card: bundles.Card | None = None) -> Table:
    """Detection: both rules on the adversarials and the same benign images; Table 3 where transferred.

    There also the paper's rule with the attacked network in f1's place, on all images that fool it.

    `card` gives the graded rule's threshold; without it, or with another bundle's, those columns are empty.
    """
    return _table2(load(database, run), card)


def table4(database: Database, run: str) -> Table:
    """Detection and recovery among images whose benign mask was classified correctly."""
    return _table4(load(database, run))


def attack_table(database: Database, run: str) -> Table:
    """Per attack: success, failures by reason, distances of the successful images, cost."""
    return _attack_table(load(database, run))


def all_tables(database: Database, run: str, card: bundles.Card | None = None) -> tuple[Table, ...]:
    """Tables 1, 2 and 4, the attacks' and the controls' table of a run, finished or not.

    Raises:
        RunError: there is no such run, or the database cannot be read.
    """
    return tables_of(load(database, run), card)


def tables_of(records: Records, card: bundles.Card | None = None) -> tuple[Table, ...]:
    """As `all_tables`, of rows that were read already."""
    return (
        _table1(records),
        _table2(records, card),
        _table4(records),
        _attack_table(records),
        control_table(records, card),
    )


def _table1(records: Records) -> Table:
    columns: tuple[str, ...] = ()
    lines: list[tuple[Cell, ...]] = []
    for attack in records.attacked:
        pairs = records.pairs(attack)
        sound = [p for p in pairs if p.benign.y2 == p.benign.label]
        cells = {
            "Attack": Cell(attack_title(attack)),
            "Adversarial images": Cell(len(pairs)),
            "Mask retention": shares(pairs, _keeps),
        }
        if not records.plan.transferred:  # the paper's Table 1 is of the direct setting
            cells["Paper"] = Cell(PAPER_RETENTION.get(planning.attack_of(attack)))
        cells["Retention where the benign mask was right"] = shares(sound, _keeps)
        if records.plan.transferred:
            cells["Retention, all that fool the attacked network"] = shares(records.fooled(attack), _keeps)
        columns, lines = tuple(cells), [*lines, tuple(cells.values())]
    meaning = "Mask retention: share of adversarial images whose mask keeps the class it had before the attack."
    title = "Table 1: do the masks keep their class?" + setting(records.plan)
    return Table("table1", title, columns, tuple(lines), (meaning, *about_run(records)))


def _table2(records: Records, card: bundles.Card | None) -> Table:
    thresholds = graded_thresholds(card, records.plan)
    paper = PAPER_TRANSFERRED if records.plan.transferred else PAPER_DIRECT
    names = {planning.attack_of(label) for label in records.attacked}
    benign_right = [row for row in records.benign if right(row)]
    columns: tuple[str, ...] = ()
    lines: list[tuple[Cell, ...]] = []
    for attack, pairs in records.groups.items():
        positive, negative = both_scores(pairs, _graded)
        images, finished = images_of(pairs), records.run.finished
        of_pairs = functools.partial(shares, pairs, images=images, finished=finished)
        paper_true = paper.get(planning.attack_of(attack), (None, None))
        cells = {
            "Attack": Cell(attack_title(attack)),
            "Adversarial images": Cell(len(pairs)),
            "True positive": of_pairs(_detected),
            "Paper's true positive": Cell(paper_true[0]),
            "True negative": of_pairs(_passed),
            "Paper's true negative": Cell(paper_true[1]),
            "True negative, all benign": shares(records.benign, lambda row: row.y1 == row.y2),
            "True negative, all f1 got right": shares(benign_right, lambda row: row.y1 == row.y2),
            "Recovery": of_pairs(_recovered),
            "Graded: AUROC": area(positive, negative, finished, images),
        }
        cells |= _graded_cells(records, pairs, thresholds)
        if records.plan.transferred:
            fooled = [p for name in records.attacked if attack in (name, POOLED) for p in records.fooled(name)]
            of_fooled = functools.partial(shares, fooled, images=images_of(fooled), finished=finished)
            cells["Fool the attacked network"] = Cell(len(fooled))
            cells["True positive, all of these"] = of_fooled(_detected)
            cells["True negative, all of these"] = of_fooled(_passed)
            cells["Recovery, all of these"] = of_fooled(_recovered)
            cells["Attacked network in f1's place: true positive"] = of_fooled(
                lambda p: p.adversarial.label_after != p.adversarial.y2
            )
            cells["Attacked network in f1's place: true negative"] = of_fooled(
                lambda p: p.adversarial.label_before == p.benign.y2
            )
        columns, lines = tuple(cells), [*lines, tuple(cells.values())]
    number = 3 if records.plan.transferred else 2
    title = f"Table {number}: does the detector tell adversarial from benign?" + setting(records.plan)
    notes = (
        "True positive: adversarial images called adversarial (f1 and f2 disagree). True negative: the same images"
        " before the attack, called benign. Recovery: adversarial images whose mask names the true class.",
        *((_INSTEAD,) if records.plan.transferred else ()),
        *((_TWO_READINGS if records.plan.transferred else _ONE_FOR_ALL,) if names & paper.keys() else ()),
        _threshold_note(records.plan, card, thresholds),
        *records.together,
    )
    return Table("table2", title, columns, tuple(lines), (*notes, *about_run(records)))


def _graded_cells(records: Records, pairs: Sequence[Pair], thresholds: Thresholds) -> dict[str, Cell]:
    """The graded rule's rates at each threshold; empty cells where the threshold is not known.

    "TN" is short because a terminal shows the names beside three attacks.
    """
    both = both_scores(pairs, _graded)
    benign = np.array([_graded(row) for row in records.benign], dtype=np.float64)
    f1_right = np.array([right(row) for row in records.benign], dtype=np.bool_)
    cells: dict[str, Cell] = {}
    for rate in bundles.THRESHOLDS:
        name, known = f"Graded, {100 * rate:.0f} %", thresholds.get(rate)
        found, passed = rates_at(known, *both, images_of(pairs), records.run.finished)
        cells |= {f"{name}: true positive": found, f"{name}: true negative": passed}
        for among, scores in (("all benign", benign), ("all f1 got right", benign[f1_right])):
            cells[f"{name}: TN, {among}"] = NO_SHARE if known is None else share_of(scores <= known[0])
    return cells


def _keeps(pair: Pair) -> bool:
    return pair.adversarial.y2 == pair.benign.y2


def _detected(pair: Pair) -> bool:
    return pair.adversarial.y1 != pair.adversarial.y2


def _passed(pair: Pair) -> bool:
    return pair.benign.y1 == pair.benign.y2


def _graded(row: Row) -> float:
    return row.score_graded


def _recovered(pair: Pair) -> bool:
    return pair.adversarial.y2 == pair.adversarial.label


def _table4(records: Records) -> Table:
    lines = []
    for attack in records.attacked:
        pairs = [p for p in records.pairs(attack) if p.benign.y2 == p.benign.label]
        lines.append(
            (
                Cell(attack_title(attack)),
                Cell(len(pairs)),
                shares(pairs, _detected),
                shares(pairs, _passed),
                shares(pairs, _recovered),
                Cell(PAPER_FILTERED.get(planning.attack_of(attack))),
            )
        )
    columns = ("Attack", "Adversarial images", "True positive", "True negative", "Recovery", "Paper, all three")
    truth = (
        "Filtered on the truth: only images whose mask named the true class before the attack. That f1 named it, too,"
        " makes the true negative 1 by construction; and wherever the mask keeps its class, the image is detected and"
        " recovered. So this table says again how many masks keep their class; in use nobody knows which were right."
    )
    title = "Table 4: and where the benign mask was right?" + setting(records.plan)
    return Table("table4", title, columns, tuple(lines), (truth, *about_run(records)))


def _threshold_note(plan: planning.Plan, card: bundles.Card | None, thresholds: Thresholds) -> str:
    if thresholds:
        each = "; ".join(
            f"at {100 * rate:.0f} %: "
            + (f"{thresholds[rate][0]:.4g} ({thresholds[rate][1]})" if rate in thresholds else "none on the card")
            for rate in bundles.THRESHOLDS
        )
        return f"Graded: -log p2 of f1's class, adversarial above a threshold (TN: true negative). {each}."
    start = "Graded: no threshold applied, because "
    if card is None:
        return f"{start}the bundle '{plan.bundle}' is not at hand."
    if card.checksum != plan.bundle_checksum:
        return f"{start}bundle '{card.name}' has changed since this run."
    return f"{start}bundle '{card.name}' has none on its card."


def _attack_table(records: Records) -> Table:
    everything = [row for rows in records.attacked.values() for row in rows]
    failures = sorted({row.reason for row in everything if _tried(row) and not row.success})
    reasons = [LOST_TO_ROUNDING, *(reason for reason in failures if reason != LOST_TO_ROUNDING)]
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
                Cell(attack_title(attack)),
                Cell(len(rows)),
                Cell(sum(row.label_before != row.label for row in rows)),
                *(Cell(sum(row.reason == reason for row in rows)) for reason in skipped),
                share(len(successful), len(tried)),
                *((_transferred(records, attack),) if records.plan.transferred else ()),
                *(Cell(sum(row.reason == reason for row in tried)) for reason in reasons),
                *(over(f, moved[name]) for name in distances for f in (np.mean, np.median)),
                *(over(np.mean, [getattr(row, name) for row in tried]) for name in ("forwards", "backwards", "steps")),
                over(np.mean, [1000 * row.seconds for row in rows]),
            )
        )
    columns = (
        "Attack",
        "Images",
        "Already misclassified",
        *(f"Not attacked: {reason}" for reason in skipped),
        "Success rate",
        *(("Of these fool f1, too",) if records.plan.transferred else ()),
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
        " time, detector and controls included, divided by its images; of images taken over from another run, that"
        " run's. What Universal learns beforehand counts in the run's time alone.",
    )
    title = "Attacks: success, distances and cost" + setting(records.plan)
    return Table("attacks", title, columns, tuple(lines), (*notes, *about_run(records)))


def _transferred(records: Records, attack: str) -> Cell:
    """Of the images that fool the attacked network and that f1 got right before, the share that it gets wrong now."""
    before = [pair for pair in records.fooled(attack) if right(pair.benign)]
    return share(len(records.pairs(attack)), len(before))


def _tried(row: Row) -> bool:
    return row.label_before == row.label and row.reason != OWN_CLASS

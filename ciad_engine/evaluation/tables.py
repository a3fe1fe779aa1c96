"""The paper's Tables 1, 2 (3 in the transferred setting) and 4, and the cost of each attack: queries over rows.

The adversarial images that count are those of the paper (section 3.2): f1 classifies the image correctly before the
attack and not after it, and it fooled the attacked network. In the transferred setting some columns count all images
that fooled that network. Thresholds are applied here, to stored scores. `resources/docs/columns.md` describes every
column.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ciad_engine import bundles, detectors
from ciad_engine.attacks.words import LOST_TO_ROUNDING, OWN_CLASS
from ciad_engine.detectors.threshold import RATES
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import adaptive, planning
from ciad_engine.evaluation.records import (
    POOLED,
    Pair,
    Records,
    about_run,
    both_scores,
    class_by,
    correct,
    images_of,
    of_detectors,
    scores_of,
    setting,
    subject,
    tried,
)
from ciad_engine.evaluation.table import NO_RATE, Cell, Column, Table, area, filled, over, rate, rate_of, rates

MASK = detectors.MASK

# Nguyen et al. 2017 (arXiv 1712.00558): Table 1; (true positive, true negative) of Tables 2 and 3; Table 4, whose rates
# are all the same.
PAPER_RETENTION = {"fgsm": 0.863, "jsma": 0.878, "cw": 0.997}
PAPER_DIRECT = {"fgsm": (0.878, 0.614), "jsma": (0.960, 0.614), "cw": (0.860, 0.614)}
PAPER_FILTERED = dict.fromkeys(PAPER_RETENTION, 1.0)
PAPER_TRANSFERRED = {"fgsm": (0.843, 0.665), "jsma": (0.853, 0.647), "cw": (0.917, 0.750)}

_ADVERSARIAL = Column("adversarial_images", "Adversarial images")
_POSITIVE = Column("true_positive_rate", "True positive rate")
_PAIRED = Column(
    "true_negative_rate_paired", "True negative rate, the same images before the attack", "True negative rate, paired"
)
_RECOVERY = Column("recovery_rate", "Recovery rate")
_GRADED = {
    "true_positive_rate": ("true positive rate", "TPR"),
    "true_negative_rate": ("true negative rate, images f1 classifies correctly", "TNR"),
    "true_negative_rate_all": ("true negative rate, all benign images", "TNR, all benign"),
    "true_negative_rate_paired": ("true negative rate, the same images before the attack", "TNR, paired"),
}
TABLE1 = (
    _ADVERSARIAL,
    Column("mask_retention_rate", "Mask retention rate"),
    Column("paper_mask_retention_rate", "Mask retention rate, paper"),
    Column(
        "mask_retention_rate_mask_correct",
        "Mask retention rate, images whose benign mask is classified correctly",
        "Mask retention rate, benign mask correct",
    ),
    Column(
        "mask_retention_rate_all_fooled",
        "Mask retention rate, all images that fool the attacked network",
        "Mask retention rate, all that fool it",
    ),
)
TABLE2 = (
    _ADVERSARIAL,
    _POSITIVE,
    Column("paper_true_positive_rate", "True positive rate, paper"),
    Column("true_negative_rate", "True negative rate, images f1 classifies correctly", "True negative rate"),
    Column("true_negative_rate_all", "True negative rate, all benign images", "True negative rate, all benign"),
    _PAIRED,
    Column("paper_true_negative_rate", "True negative rate, paper"),
    _RECOVERY,
    Column("class_retention_rate", "Rate of attacked images whose class by the detector is kept", "Class kept"),
    Column("accuracy", "Accuracy on benign images"),
    Column("auroc", "AUROC"),
    *(
        Column(f"graded_{100 * fpr:g}_{key}", f"Graded at {100 * fpr:g}%: {title}", f"Graded {100 * fpr:g}%: {short}")
        for fpr in RATES
        for key, (title, short) in _GRADED.items()
    ),
    Column("evasion_rate", "Evasion rate: images that fool f1 and are not flagged", "Evasion rate"),
    Column("fooled_images", "Images that fool the attacked network"),
    Column("true_positive_rate_all_fooled", "True positive rate, all of these"),
    Column("true_negative_rate_all_fooled", "True negative rate, all of these before the attack"),
    Column("recovery_rate_all_fooled", "Recovery rate, all of these"),
    Column(
        "attacked_true_positive_rate",
        "True positive rate with the attacked network in f1's place",
        "Attacked network for f1: true positive rate",
    ),
    Column(
        "attacked_true_negative_rate",
        "True negative rate with the attacked network in f1's place",
        "Attacked network for f1: true negative rate",
    ),
)
TABLE4 = (_ADVERSARIAL, _POSITIVE, _PAIRED, _RECOVERY, Column("paper_rate", "All three rates, paper"))
# What the detectors are compared by, each in the place of f2 on the mask.
_COMPARED = (
    "adversarial_images", "true_positive_rate", "true_negative_rate", "true_negative_rate_all",
    "true_negative_rate_paired", "recovery_rate", "class_retention_rate", "accuracy", "auroc", "evasion_rate",
    *(f"graded_{100 * fpr:g}_{key}" for fpr in RATES for key in ("true_positive_rate", "true_negative_rate")),
)  # fmt: skip

_ONE_FOR_ALL = (
    "The paper gives one true negative rate for all three attacks and does not say for which images: if for all,"
    " compare 'all benign images'; if for those that f1 classifies correctly, the true negative rate without"
    " a qualifier."
)
_INSTEAD = (
    "Attacked network in f1's place: over all images that fool it, its class is compared with the detector's. So the"
    " true negative rate is the rate of these images whose benign mask was classified as the true class."
)
_TWO_READINGS = (
    "The paper compares f1's class with the mask's (section 3.2). It does not say whether its Table 3 does so, too, or"
    " puts the attacked network in f1's place."
)


def tables_of(records: Records, card: bundles.Card | None = None) -> tuple[Table, ...]:
    """Return Tables 1, 2 (3 if transferred) and 4, the attacks' table and, if it evades, `adaptive`'s of a run.

    The run may be unfinished.

    Args:
        card: gives the graded rule's thresholds; without it, or with another bundle's, those cells are empty.
    """
    found = (_table1(records), _table2(records, card), _table4(records), _attack_table(records))
    return (*found, adaptive.table_of(records)) if adaptive.budgets(records.plan) else found


def for_screen(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Return the tables as people read them: the mask's rows in the paper's tables, then all detectors side by side."""
    shown = []
    for table in tables:
        names = list(dict.fromkeys(subject.detector for subject in table.subjects))
        if table.name != "table2" or MASK not in names:
            shown.append(table)
            continue
        shown.append(table.only([MASK]))
        if len(names) > 1:
            compared = table.only(names, _COMPARED)
            _, _, where = table.title.partition("?")
            title = "Detectors compared: does the mask do the work?" + where
            notes = (_MEANING_OF_COMPARED, *(n for n in table.notes if n in tables[0].notes))
            shown.append(dataclasses.replace(compared, name="detectors", title=title, notes=notes))
    return tuple(shown)


_MEANING_OF_COMPARED = (
    "Each detector in the place of f2 on the mask. Its score is -log of its probability of f1's class; of f1's"
    " confidence, -log of the probability f1 gives its class. Graded: flagged above the score that this rate of benign"
    " validation images exceeds, each detector with its own threshold. If a detector without a mask does as well as the"
    " first, the mask does not do the work."
)


def _published(figures: Mapping[str, Any], records: Records) -> Mapping[str, Any]:
    """Return the paper's figures by attack; none if the run is not of the paper's classes and image size."""
    return figures if records.plan.domain == CIFAR10 else {}


def _table1(records: Records) -> Table:
    paper = _published(PAPER_RETENTION, records)
    rows = []
    for attack in records.attacked if MASK in records.detectors else ():
        pairs = records.pairs(attack)
        sound = [p for p in pairs if _label(p.benign) == p.benign.label]
        cells = {
            "adversarial_images": Cell(len(pairs)),
            "mask_retention_rate": rates(pairs, _keeps),
            "mask_retention_rate_mask_correct": rates(sound, _keeps),
        }
        if records.plan.transferred:
            cells["mask_retention_rate_all_fooled"] = rates(records.fooled(attack), _keeps)
        elif paper:  # its Table 1 is about the direct setting
            cells["paper_mask_retention_rate"] = Cell(paper.get(planning.attack_of(attack)))
        rows.append((subject(records.plan, attack, MASK), cells))
    meaning = "Mask retention rate: adversarial images whose mask keeps the class by f2 that it had before the attack."
    title = "Table 1: do the masks keep their class?" + setting(records.plan)
    return filled("table1", title, TABLE1, rows, (meaning, *about_run(records)))


def _table2(records: Records, card: bundles.Card | None) -> Table:
    paper = _published(PAPER_TRANSFERRED if records.plan.transferred else PAPER_DIRECT, records)
    rows = []
    for detector in records.detectors:
        for attack in records.groups:
            cells = _detection(records, attack, detector, card)
            published = paper.get(planning.attack_of(attack), (None, None))
            if detector == MASK and paper:
                cells["paper_true_positive_rate"] = Cell(published[0])
                cells["paper_true_negative_rate"] = Cell(published[1])
            rows.append((subject(records.plan, attack, detector), cells))
    number = 3 if records.plan.transferred else 2
    title = f"Table {number}: does the detector separate adversarial from benign images?" + setting(records.plan)
    names = {planning.attack_of(label) for label in records.attacked}
    notes = (
        "True positive rate: adversarial images that are flagged, because f1 and the detector disagree. True negative"
        " rate: benign images that are not flagged. Recovery rate: adversarial images that the detector classifies as"
        " the true class.",
        *((_INSTEAD,) if records.plan.transferred else ()),
        *((_TWO_READINGS if records.plan.transferred else _ONE_FOR_ALL,) if names & paper.keys() else ()),
        *_graded_notes(card, records),
        *records.about_groups,
    )
    return filled("table2", title, TABLE2, rows, (*notes, *about_run(records)))


def _graded_notes(card: bundles.Card | None, records: Records) -> list[str]:
    """Describe the thresholds of the mask, or without a mask those of every detector; or why there are none."""
    found, known = [], of_detectors(card, records.plan)
    for name in [MASK] if MASK in records.detectors else records.detectors:
        if name in known:
            limits = {rate: f"{at.value:.4g} ({at.source})" for rate, at in known[name].items()}
            each = "; ".join(f"at {100 * rate:g}% {limits.get(rate, 'none on the card')}" for rate in RATES)
            rule = "Graded rule" if name == MASK else f"Graded rule of {detectors.title(name)}"
            found.append(f"{rule}: flagged if -log of the probability of f1's class is above a threshold: {each}.")
    if card is None:
        why = f"bundle '{records.plan.bundle}' is not installed"
    elif not card.knows(records.plan.bundle_checksum):
        why = f"bundle '{card.name}' has changed since this run"
    else:
        why = f"the card of bundle '{card.name}' has none"
    return found or [f"Graded rule: no threshold applied, because {why}."]


def _detection(records: Records, attack: str, detector: str, card: bundles.Card | None) -> dict[str, Cell]:
    """Return the measures of one detector against one attack, by column."""
    pairs, finished = records.groups[attack], records.run.finished
    images = images_of(pairs)
    benign_correct = [row for row in records.benign if correct(row)]
    positive, negative = both_scores(pairs, detector)
    cells = {"adversarial_images": Cell(len(pairs)), "auroc": area(positive, negative, finished, images)}
    thresholds = of_detectors(card, records.plan).get(detector, {})
    of_correct, of_all = scores_of(benign_correct, detector), scores_of(records.benign, detector)
    for fpr in RATES if detector == MASK or thresholds else ():
        graded = dict.fromkeys(_GRADED, NO_RATE)
        if fpr in thresholds:
            limit = thresholds[fpr].value
            graded = {
                "true_positive_rate": rate_of(positive > limit, images, finished),
                "true_negative_rate": rate_of(of_correct <= limit),
                "true_negative_rate_all": rate_of(of_all <= limit),
                "true_negative_rate_paired": rate_of(negative <= limit, images, finished),
            }
        cells |= {f"graded_{100 * fpr:g}_{name}": cell for name, cell in graded.items()}
    if attack in records.attacked and detector in {one.name for one in records.plan.evade}:
        cells["evasion_rate"] = rates(records.attempts(attack), lambda row: row.success)
    if not records.classifies(detector):
        return cells

    label = class_by(detector)
    cells |= {
        **_by_class(pairs, detector, finished),
        "true_negative_rate": rates(benign_correct, lambda row: label(row) == row.y1),
        "true_negative_rate_all": rates(records.benign, lambda row: label(row) == row.y1),
        "class_retention_rate": rates(pairs, lambda p: label(p.adversarial) == label(p.benign), images, finished),
        "accuracy": rates(records.benign, lambda row: label(row) == row.label),
    }
    if records.plan.transferred:
        fooled = [p for name in records.attacked if attack in (name, POOLED) for p in records.fooled(name)]
        of_fooled = functools.partial(rates, fooled, images=images_of(fooled), finished=finished)
        by_class = _by_class(fooled, detector, finished)
        cells |= {
            "fooled_images": Cell(len(fooled)),
            **{f"{key.removesuffix('_paired')}_all_fooled": cell for key, cell in by_class.items()},
            "attacked_true_positive_rate": of_fooled(lambda p: p.adversarial.label_after != label(p.adversarial)),
            "attacked_true_negative_rate": of_fooled(lambda p: p.adversarial.label_before == label(p.benign)),
        }
    return cells


def _by_class(pairs: Sequence[Pair], detector: str, finished: bool = True) -> dict[str, Cell]:
    """Return the rates that compare the detector's class with f1's and with the true one, by column."""
    label = class_by(detector)
    of_pairs = functools.partial(rates, pairs, images=images_of(pairs), finished=finished)
    return {
        "true_positive_rate": of_pairs(lambda p: label(p.adversarial) != p.adversarial.y1),
        "true_negative_rate_paired": of_pairs(lambda p: label(p.benign) == p.benign.y1),
        "recovery_rate": of_pairs(lambda p: label(p.adversarial) == p.adversarial.label),
    }


_label = class_by(MASK)


def _keeps(pair: Pair) -> bool:
    return _label(pair.adversarial) == _label(pair.benign)


def _table4(records: Records) -> Table:
    paper = _published(PAPER_FILTERED, records)
    rows = []
    for attack in records.attacked if MASK in records.detectors else ():
        pairs = [p for p in records.pairs(attack) if _label(p.benign) == p.benign.label]
        cells = {"adversarial_images": Cell(len(pairs)), **_by_class(pairs, MASK)}
        if paper:
            cells["paper_rate"] = Cell(paper.get(planning.attack_of(attack)))
        rows.append((subject(records.plan, attack, MASK), cells))
    truth = (
        "Filtered on the truth: only images whose benign mask is classified correctly. Since f1 classifies them"
        " correctly, too, the true negative rate is 1 by construction; and if the mask keeps its class, the image is"
        " detected and recovered. So this table repeats how many masks keep their class; in use nobody knows which were"
        " correct."
    )
    title = "Table 4: and if the benign mask is classified correctly?" + setting(records.plan)
    return filled("table4", title, TABLE4, rows, (truth, *about_run(records)))


DISTANCES = {"l2": "L2", "linf": "L∞ (/255)", "l0_values": "L0 values", "l0_pixels": "L0 pixels", "ssim": "SSIM"}
_COSTS = {"forwards": "Forward passes", "backwards": "Backward passes", "steps": "Steps"}
_BEFORE = (Column("images", "Images"), Column("already_misclassified", "Already misclassified"))
_SUCCESS = (Column("success_rate", "Success rate"), Column("transfer_rate", "Of these fool f1, too"))
_MEASURED = (
    *(Column(f"{key}_{f}", f"{title}, {f}") for key, title in DISTANCES.items() for f in ("mean", "median")),
    *(Column(f"{key}_mean", title) for key, title in _COSTS.items()),
    Column("milliseconds_per_image", "Milliseconds per image"),
)
ATTACKS = (*_BEFORE, *_SUCCESS, *_MEASURED)


def _attack_table(records: Records) -> Table:
    everything = [row for rows in records.attacked.values() for row in rows]
    failures = sorted({row.reason for row in everything if tried(row) and not row.success})
    reasons = [LOST_TO_ROUNDING, *(reason for reason in failures if reason != LOST_TO_ROUNDING)]
    # Such images have no wrong class to be pushed to: not a failure of the attack, and only in targeted attacks.
    skipped = [OWN_CLASS] if any(row.reason == OWN_CLASS for row in everything) else []
    columns = (
        *_BEFORE,
        *(Column(reason_key("not_attacked", reason), f"Not attacked: {reason}") for reason in skipped),
        *_SUCCESS,
        *(Column(reason_key("failed", reason), f"Failed: {reason}") for reason in reasons),
        *_MEASURED,
    )
    rows = []
    for attack, of_attack in records.attacked.items():
        attempts = [row for row in of_attack if tried(row)]
        fooled = [row for row in attempts if row.fooled]
        cells = {
            "images": Cell(len(of_attack)),
            "already_misclassified": Cell(sum(row.label_before != row.label for row in of_attack)),
            **{reason_key("not_attacked", r): Cell(sum(row.reason == r for row in of_attack)) for r in skipped},
            "success_rate": rate(sum(row.success for row in attempts), len(attempts)),
            **{reason_key("failed", r): Cell(sum(row.reason == r for row in attempts)) for r in reasons},
            "milliseconds_per_image": over(np.mean, [1000 * row.seconds for row in of_attack]),
        }
        if records.plan.transferred:  # of those that fool the attacked network and that f1 classified correctly
            before = [pair for pair in records.fooled(attack) if correct(pair.benign)]
            cells["transfer_rate"] = rate(len(records.pairs(attack)), len(before))
        for key in DISTANCES:
            moved = [float(value) for row in fooled if (value := getattr(row, key)) is not None]
            cells[f"{key}_mean"], cells[f"{key}_median"] = over(np.mean, moved), over(np.median, moved)
        for key in _COSTS:
            cells[f"{key}_mean"] = over(np.mean, [getattr(row, key) for row in attempts])
        rows.append((subject(records.plan, attack), cells))
    meaning = (
        "Success rate: images whose 8-bit version reaches the attack's goal, of those that the attacked network"
        " classifies correctly. Distances are means over images that fool it, in [0, 1] (L2) or 8-bit steps (L∞); SSIM,"
        " structural similarity, is 1 for equal images. Passes and steps are means over images that it classifies"
        " correctly. Milliseconds are the batch's time, detectors included, divided by its images; if an image was made"
        " by another run, that run's. What Universal learns beforehand counts in the run's time alone."
    )
    title = "Attacks: success, distances and cost" + setting(records.plan)
    return filled("attacks", title, columns, rows, (meaning, *about_run(records)))


def reason_key(start: str, reason: str) -> str:
    """Return a column's key for a reason: letters, digits and underscores only."""
    return f"{start}_{''.join(c if c.isalnum() else '_' for c in reason.lower()).strip('_')}"

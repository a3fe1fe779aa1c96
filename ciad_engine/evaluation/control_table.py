"""The table the paper lacks: would something without a mask contrast as well?"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ciad_engine import bundles
from ciad_engine.evaluation.opinions import GRADED, MASK, Vote, both_scores, scorers, voters
from ciad_engine.evaluation.records import Records, about_run, attack_title, images_of, right, setting
from ciad_engine.evaluation.table import Cell, Table, area, shares
from ciad_engine.evaluation.thresholds import control_thresholds, graded_thresholds, rates_at
from ciad_engine.runs import Row


def control_table(records: Records, card: bundles.Card | None = None) -> Table:
    """Each attack by each second opinion, the mask's first; those that not every row holds are left out.

    `card` gives the thresholds; without it, with another bundle's, or where it has none, the graded cells are empty.
    """
    votes, scores = voters(records), scorers(records)
    saved = control_thresholds(card, records.plan)
    known = {words: saved.get(name, {}) for name, words in GRADED.items()}
    known[MASK] = graded_thresholds(card, records.plan)
    thresholds = {words: known[words] for words in scores if words in known}
    benign_right = [row for row in records.benign if right(row)]
    columns, lines = [], []
    for attack, pairs in records.groups.items():
        images, finished = images_of(pairs), records.run.finished
        cells = {"Attack": Cell(attack_title(attack)), "Adversarial images": Cell(len(pairs))}
        for measure, holds in _VOTES.items():
            for words, y in votes.items():
                cells[f"{measure}: {words}"] = shares(pairs, functools.partial(holds, y=y), images, finished)
        for among, rows in (("all benign", records.benign), ("all f1 got right", benign_right)):
            for words, y in votes.items():
                cells[f"True negative, {among}: {words}"] = shares(rows, functools.partial(_agrees, y=y))
        graded = {words: both_scores(pairs, score) for words, score in scores.items()}
        for words, both in graded.items():
            cells[f"AUROC: {words}"] = area(*both, finished, images)
        for rate in bundles.THRESHOLDS:
            for words, each in thresholds.items():
                found, passed = rates_at(each.get(rate), *graded[words], images, finished)
                cells[f"Graded, {100 * rate:.0f} %: true positive: {words}"] = found
                cells[f"Graded, {100 * rate:.0f} %: true negative: {words}"] = passed
        columns = list(cells)
        lines.append(tuple(cells.values()))
    accuracies = "; ".join(f"{words} {_right(records, y).text()}" for words, y in votes.items())
    meaning = (
        "Each second opinion in the place of f2 on the mask. True positive, true negative, recovery: as in Table 2;"
        " class kept: as in Table 1; AUROC and graded: of -log of its probability of f1's class, and of f1's own"
        " confidence: of -log of the probability f1 gives its answer. Graded: adversarial above the threshold that so"
        " many of the benign validation images exceed, each opinion with its own; a constant mask has none, its scores"
        " being ten numbers. If something without a mask does as well as the first line, the mask does not do the work."
    )
    missing = [words for words, each in thresholds.items() if not each]
    unknown = f"No thresholds of this run's bundle at hand for: {', '.join(missing)}." if missing else ""
    share_right = f"Right on the {len(records.benign):,} benign images: {accuracies}."
    title = "Controls: does the mask do the work?" + setting(records.plan)
    return Table(
        "controls",
        title,
        tuple(columns),
        tuple(lines),
        (meaning, *((unknown,) if unknown else ()), share_right, *records.together, *about_run(records)),
    )


_VOTES: dict[str, Callable[..., bool]] = {
    "True positive": lambda p, y: y(p.adversarial) != p.adversarial.y1,
    "True negative": lambda p, y: y(p.benign) == p.benign.y1,
    "Class kept": lambda p, y: y(p.adversarial) == y(p.benign),
    "Recovery": lambda p, y: y(p.adversarial) == p.adversarial.label,
}


def _agrees(row: Row, y: Vote) -> bool:
    return y(row) == row.y1


def _right(records: Records, y: Vote) -> Cell:
    return shares(records.benign, lambda row: y(row) == row.label)

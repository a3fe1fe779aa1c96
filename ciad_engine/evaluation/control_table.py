"""The table the paper lacks: would something without a mask contrast as well?"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ciad_engine import bundles
from ciad_engine.evaluation.opinions import Vote, both_scores, scorers, voters
from ciad_engine.evaluation.records import Records, about_run, attack_title, images_of, setting
from ciad_engine.evaluation.table import Cell, Table, area, caught, shares
from ciad_engine.runs import Row


def control_table(records: Records) -> Table:
    """Each attack by each second opinion, the mask's first; those that not every row holds are left out."""
    votes, scores = voters(records), scorers(records)
    columns, lines = [], []
    for attack, pairs in records.groups.items():
        cells = {"Attack": Cell(attack_title(attack)), "Adversarial images": Cell(len(pairs))}
        for measure, holds in _VOTES.items():
            for words, y in votes.items():
                cells[f"{measure}: {words}"] = shares(pairs, functools.partial(holds, y=y))
        for words, y in votes.items():
            cells[f"True negative, all benign: {words}"] = shares(records.benign, functools.partial(_agrees, y=y))
        graded = {words: both_scores(pairs, score) for words, score in scores.items()}
        for words, both in graded.items():
            cells[f"AUROC: {words}"] = area(*both, records.run.finished, images_of(pairs))
        for rate in bundles.THRESHOLDS:
            for words, both in graded.items():
                cells[f"TPR at {100 * rate:.0f} % FPR: {words}"] = caught(*both, rate)
        columns = list(cells)
        lines.append(tuple(cells.values()))
    right = "; ".join(f"{words} {_right(records, y).text()}" for words, y in votes.items())
    meaning = (
        "Each second opinion in the place of f2 on the mask. True positive, true negative, recovery: as in Table 2;"
        " class kept: as in Table 1; AUROC and TPR: of -log of its probability of f1's class, and of f1's own"
        " confidence: of -log of the probability f1 gives its answer. TPR: above the threshold that calls at most so"
        " many of these benign images adversarial, each opinion with its own. If something without a mask does as well"
        " as the first line, the mask does not do the work."
    )
    share_right = f"Right on the {len(records.benign):,} benign images: {right}."
    title = "Controls: does the mask do the work?" + setting(records.plan)
    return Table(
        "controls", title, tuple(columns), tuple(lines), (meaning, share_right, *records.together, *about_run(records))
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

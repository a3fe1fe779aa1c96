"""The table the paper lacks: would something without a mask contrast as well?"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from ciad_engine.evaluation.records import Pair, Records, about_run, attack_title, setting
from ciad_engine.evaluation.statistics import Scores
from ciad_engine.evaluation.table import Cell, Table, area, caught, shares
from ciad_engine.runs import Row

Vote = Callable[[Row], int]
# The controls by name (`detectors.controls`, which would import torch; a test compares them), as a person reads them.
MASK, CONFIDENCE = "f2 on the mask (CIAD)", "f1's own confidence"
WORDS = {
    "mlp": "a plain MLP on the image",
    "shuffled-mask": "f2 on the shuffled mask",
    "constant-mask": "f2 on a constant mask",
}


def control_table(records: Records) -> Table:
    """Each attack by each second opinion, the mask's first; those that not every row holds are left out."""
    everything = [*records.benign, *(row for rows in records.attacked.values() for row in rows)]
    said = [{opinion.name for opinion in row.opinions} for row in everything]
    known = [name for name in WORDS if said and all(name in names for names in said)]
    voters = {MASK: _of_mask, **{WORDS[name]: _of(name) for name in known}}
    scores = {MASK: _mask_score, **{WORDS[name]: _score_of(name) for name in known}, CONFIDENCE: _doubt}
    columns, lines = [], []
    for attack in records.attacked:
        pairs = records.pairs(attack)
        cells = {"Attack": Cell(attack_title(attack)), "Adversarial images": Cell(len(pairs))}
        for measure, holds in _VOTES.items():
            for words, y in voters.items():
                cells[f"{measure}: {words}"] = shares(pairs, functools.partial(holds, y=y))
        graded = {words: _scores(pairs, score) for words, score in scores.items()}
        for words, both in graded.items():
            cells[f"AUROC: {words}"] = area(*both, records.run.finished)
        for rate in (0.05, 0.01):
            for words, both in graded.items():
                cells[f"TPR at {100 * rate:.0f} % FPR: {words}"] = caught(*both, rate)
        columns = list(cells)
        lines.append(tuple(cells.values()))
    right = "; ".join(f"{words} {_right(records, y).text()}" for words, y in voters.items())
    meaning = (
        "Each second opinion in the place of f2 on the mask. True positive, true negative, recovery: as in Table 2;"
        " class kept: as in Table 1; AUROC and TPR: of -log of its probability of f1's class, and of f1's own"
        " confidence: of -log of the probability f1 gives its answer. If something without a mask does as well as the"
        " first line, the mask does not do the work."
    )
    share_right = f"Right on the {len(records.benign):,} benign images: {right}."
    title = "Controls: does the mask do the work?" + setting(records.plan)
    return Table("controls", title, tuple(columns), tuple(lines), (meaning, share_right, *about_run(records)))


_VOTES: dict[str, Callable[..., bool]] = {
    "True positive": lambda p, y: y(p.adversarial) != p.adversarial.y1,
    "True negative": lambda p, y: y(p.benign) == p.benign.y1,
    "Class kept": lambda p, y: y(p.adversarial) == y(p.benign),
    "Recovery": lambda p, y: y(p.adversarial) == p.adversarial.label,
}


def _scores(pairs: list[Pair], score: Callable[[Row], float]) -> tuple[Scores, Scores]:
    positive = np.array([score(pair.adversarial) for pair in pairs], dtype=np.float64)
    return positive, np.array([score(pair.benign) for pair in pairs], dtype=np.float64)


def _right(records: Records, y: Vote) -> Cell:
    return shares(records.benign, lambda row: y(row) == row.label)


def _of_mask(row: Row) -> int:
    return row.y2


def _mask_score(row: Row) -> float:
    return row.score_graded


def _doubt(row: Row) -> float:
    return -math.log(row.p1_y1)  # of the likeliest class, so never 0


def _of(name: str) -> Vote:
    return lambda row: next(opinion.y for opinion in row.opinions if opinion.name == name)


def _score_of(name: str) -> Callable[[Row], float]:
    return lambda row: next(opinion.score for opinion in row.opinions if opinion.name == name)

"""The table the paper lacks: would something without a mask contrast as well?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ciad_engine.evaluation.records import Pair, Records, about_run, attack_title, setting
from ciad_engine.evaluation.statistics import Scores, auroc, auroc_interval, tpr_at_fpr
from ciad_engine.evaluation.table import NO_SHARE, Cell, Table, share
from ciad_engine.runs import Row

# The controls by name (`detectors.controls`, which would import torch; a test compares them), as a person reads them.
MASK, CONFIDENCE = "f2 on the mask (CIAD)", "f1's own confidence"
WORDS = {
    "mlp": "a plain MLP on the image",
    "shuffled-mask": "f2 on the shuffled mask",
    "constant-mask": "f2 on a constant mask",
}

COLUMNS = (
    "Attack",
    "Second opinion",
    "Adversarial images",
    "Right on benign images",
    "True positive",
    "True negative",
    "True negative, all benign",
    "Class kept",
    "Recovery",
    "AUROC",
    "TPR at 5 % FPR",
    "TPR at 1 % FPR",
)


def control_table(records: Records) -> Table:
    """Each attack against each second opinion, the mask's first; those that rows do not hold are left out."""
    known = [name for name in WORDS if any(o.name == name for row in records.benign for o in row.opinions)]
    lines = []
    for attack in records.attacked:
        pairs = records.pairs(attack)
        said = [(MASK, _of_mask, _mask_score), *((WORDS[n], _of(n), _score_of(n)) for n in known)]
        lines += [_line(attack_title(attack), words, records, pairs, y, score) for words, y, score in said]
        lines.append(_confidence(attack_title(attack), pairs))
    meaning = (
        "Each line puts another second opinion in the place of f2 on the mask. True positive, true negative, recovery:"
        " as in Table 2; class kept: as in Table 1; AUROC and TPR: of -log of its probability of f1's class, f1's own"
        " confidence by -log of the probability f1 gives its answer. AUROC's intervals: bootstrap over images. If a"
        " line without a mask does as well as the first, the mask does not do the work."
    )
    return Table(
        "controls",
        "Controls: does the mask do the work?" + setting(records.plan),
        COLUMNS,
        tuple(lines),
        (meaning, *about_run(records)),
    )


def _line(
    attack: str,
    words: str,
    records: Records,
    pairs: list[Pair],
    y: Callable[[Row], int],
    score: Callable[[Row], float],
) -> tuple[Cell, ...]:
    n, benign = len(pairs), records.benign

    def of_pairs(holds: Callable[[Pair], bool]) -> Cell:
        return share(sum(holds(pair) for pair in pairs), n)

    return (
        Cell(attack),
        Cell(words),
        Cell(n),
        share(sum(y(row) == row.label for row in benign), len(benign)),
        of_pairs(lambda p: y(p.adversarial) != p.adversarial.y1),
        of_pairs(lambda p: y(p.benign) == p.benign.y1),
        share(sum(y(row) == row.y1 for row in benign), len(benign)),
        of_pairs(lambda p: y(p.adversarial) == y(p.benign)),
        of_pairs(lambda p: y(p.adversarial) == p.adversarial.label),
        *_graded(pairs, score),
    )


def _confidence(attack: str, pairs: list[Pair]) -> tuple[Cell, ...]:
    nothing = (NO_SHARE,) * 6
    return Cell(attack), Cell(CONFIDENCE), Cell(len(pairs)), *nothing, *_graded(pairs, _doubt)


def _graded(pairs: list[Pair], score: Callable[[Row], float]) -> tuple[Cell, Cell, Cell]:
    positive = np.array([score(pair.adversarial) for pair in pairs], dtype=np.float64)
    negative = np.array([score(pair.benign) for pair in pairs], dtype=np.float64)
    return area(positive, negative), caught(positive, negative, 0.05), caught(positive, negative, 0.01)


def area(positive: Scores, negative: Scores) -> Cell:
    """AUROC of scores that belong to the same images, with its bootstrap interval."""
    interval = auroc_interval(positive, negative)
    return Cell(auroc(positive, negative), len(positive), *(interval or ()))


def caught(positive: Scores, negative: Scores, rate: float) -> Cell:
    """Share of the positives above the threshold that calls `rate` of these negatives positive."""
    found = tpr_at_fpr(positive, negative, rate)
    return share(found[0], len(positive)) if found else NO_SHARE


def _of_mask(row: Row) -> int:
    return row.y2


def _mask_score(row: Row) -> float:
    return row.score_graded


def _doubt(row: Row) -> float:
    return -math.log(row.p1_y1)  # of the likeliest class, so never 0


def _of(name: str) -> Callable[[Row], int]:
    return lambda row: next(opinion.y for opinion in row.opinions if opinion.name == name)


def _score_of(name: str) -> Callable[[Row], float]:
    return lambda row: next(opinion.score for opinion in row.opinions if opinion.name == name)

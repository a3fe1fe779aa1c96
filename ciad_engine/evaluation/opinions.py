"""What can be asked of a row: f2 on the mask, and the controls in its place; whose class, and whose score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ciad_engine.evaluation.records import Pair, Records
from ciad_engine.evaluation.statistics import Scores
from ciad_engine.runs import Row

Vote = Callable[[Row], int]
Score = Callable[[Row], float]

MASK, CONFIDENCE = "f2 on the mask (CIAD)", "f1's own confidence"
# The controls by name (`detectors.controls`, which would import torch; a test compares them), as a person reads them.
WORDS = {
    "mlp": "a plain MLP on the image",
    "shuffled-mask": "f2 on the shuffled mask",
    "constant-mask": "f2 on a constant mask",
}

# Those a card has thresholds for, by name; a constant mask's scores are ten numbers and fit no rate.
GRADED = {"mlp": WORDS["mlp"], "shuffled-mask": WORDS["shuffled-mask"], "confidence": CONFIDENCE}


def voters(records: Records) -> Mapping[str, Vote]:
    """Each opinion's class of a row, the mask's first; those that not every row holds are left out."""
    return {MASK: lambda row: row.y2, **{WORDS[name]: _class_by(name) for name in _known(records)}}


def scorers(records: Records) -> Mapping[str, Score]:
    """Each opinion's score of a row, higher where it is likelier adversarial: as `voters`, and f1's confidence last."""
    return {
        MASK: lambda row: row.score_graded,
        **{WORDS[name]: _score_by(name) for name in _known(records)},
        CONFIDENCE: lambda row: -math.log(row.p1_y1),  # of the likeliest class, so never of 0
    }


def both_scores(pairs: Sequence[Pair], score: Score) -> tuple[Scores, Scores]:
    """The scores of the adversarial and of the benign images, float64 (N,) each."""
    positive = np.array([score(pair.adversarial) for pair in pairs], dtype=np.float64)
    return positive, np.array([score(pair.benign) for pair in pairs], dtype=np.float64)


def _known(records: Records) -> list[str]:
    everything = [*records.benign, *(row for rows in records.attacked.values() for row in rows)]
    said = [{opinion.name for opinion in row.opinions} for row in everything]
    return [name for name in WORDS if said and all(name in names for names in said)]


def _class_by(name: str) -> Vote:
    return lambda row: next(opinion.y for opinion in row.opinions if opinion.name == name)


def _score_by(name: str) -> Score:
    return lambda row: next(opinion.score for opinion in row.opinions if opinion.name == name)

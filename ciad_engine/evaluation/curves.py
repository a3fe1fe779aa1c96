"""The graded contrast at every threshold: ROC curves and histograms of scores, as data and as charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ciad_engine import bundles
from ciad_engine.evaluation.opinions import CONFIDENCE, MASK, both_scores, scorers
from ciad_engine.evaluation.records import POOLED, Records, about_run, attack_title, images_of, setting
from ciad_engine.evaluation.statistics import Scores, histogram, roc
from ciad_engine.evaluation.table import Cell, area
from ciad_engine.evaluation.thresholds import graded_thresholds
from ciad_engine.figures.chart import COLOURS, DASHES, Chart, Plot, Series, steps

CHARTS = ("roc", "scores")  # names of the charts
BINS = 40
_SHOWN = 0.995  # of the scores; the few beyond would squeeze the others together
BENIGN, ADVERSARIAL, POOLED_COLOUR = "#5a6b7b", "#D55E00", "#555555"


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value
class Curve:
    """How the scores of one opinion tell adversarial images from the same images before.

    Attributes:
        opinion: whose score it is, as in the controls' table.
        attack: the attack's label, or `records.POOLED`; `title`: as a person reads it.
        positive, negative: float64 (N,), scores of the adversarial images and of the same images before.
        false, true: float64 (M,), the corners of the ROC curve.
        auroc: the area below it.
    """

    opinion: str
    attack: str
    title: str
    positive: Scores
    negative: Scores
    false: Scores
    true: Scores
    auroc: Cell


def curves(records: Records) -> tuple[Curve, ...]:
    """The curve of each attack that has adversarial images, by each opinion, the mask's first."""
    found = []
    for opinion, score in scorers(records).items():
        for attack, pairs in records.groups.items():
            if pairs:
                positive, negative = both_scores(pairs, score)
                cell = area(positive, negative, records.run.finished, images_of(pairs))
                ends = roc(positive, negative)
                found.append(Curve(opinion, attack, attack_title(attack), positive, negative, *ends, cell))
    return tuple(found)


def edges(of: Sequence[Curve]) -> Scores:
    """Edges of the bins in which scores of these curves are counted, float64 (BINS + 1,); the last holds the rest."""
    scores = np.concatenate([side for curve in of for side in (curve.positive, curve.negative)])
    return np.linspace(0.0, max(float(np.quantile(scores, _SHOWN)), 1e-3), BINS + 1)


def line_style(curve: Curve, place: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of the curve at this place among those in one plot."""
    if curve.attack == POOLED:
        return POOLED_COLOUR, ()
    again = place // len(COLOURS)  # a colour seen before comes with other dashes
    return COLOURS[place % len(COLOURS)], DASHES[(place + again) % len(DASHES)]


def charts(records: Records, found: Sequence[Curve], card: bundles.Card | None = None) -> tuple[Chart, ...]:
    """ "roc", a plot an opinion, and "scores", a plot an attack, of the run's curves; none where it has none."""
    if not found:
        return ()
    about = (*records.together, *about_run(records))
    where = setting(records.plan)
    opinions = [MASK, *sorted({curve.opinion for curve in found} - {MASK, CONFIDENCE}), CONFIDENCE]
    of_mask = [curve for curve in found if curve.opinion == MASK]
    bins = edges(of_mask)
    marks = {f"{100 * rate:.0f} %": value for rate, (value, _) in graded_thresholds(card, records.plan).items()}
    reading = (
        "Each point is a threshold: across, the share of these benign images that it calls adversarial, up, the share"
        " of adversarial images. A coin would lie on the diagonal."
    )
    counted = f"Share of the images in each of {BINS} bins; the last holds all above." + (
        " Upright lines: thresholds that call so many of the validation images adversarial." if marks else ""
    )
    return (
        Chart(
            "roc",
            "ROC: how well does each score tell adversarial from benign?" + where,
            tuple(_roc_plot(name, [curve for curve in found if curve.opinion == name]) for name in opinions),
            (reading, *about),
        ),
        Chart(
            "scores",
            "Scores of f2 on the mask before and after the attack" + where,
            tuple(_score_plot(curve, bins, marks) for curve in of_mask),
            (counted, *about),
        ),
    )


def _roc_plot(opinion: str, found: Sequence[Curve]) -> Plot:
    diagonal = Series("a coin", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "#999999", (2, 4))
    lines = [
        Series(f"{curve.title}: {curve.auroc.text()}", curve.false, curve.true, *line_style(curve, k))
        for k, curve in enumerate(found)
    ]
    return Plot(
        f"{opinion}: AUROC",
        "false positive rate",
        "true positive rate",
        (0.0, 1.0),
        (0.0, 1.0),
        (diagonal, *lines),
    )


def _score_plot(curve: Curve, bins: Scores, marks: Mapping[str, float]) -> Plot:
    before, after = histogram(curve.negative, bins), histogram(curve.positive, bins)
    return Plot(
        curve.title,
        "-log p2 of f1's class",
        "share of the images",
        (0.0, float(bins[-1])),
        (0.0, 1.05 * max(before.max(), after.max())),
        (
            Series("benign", *steps(bins, before), BENIGN, (), True),
            Series("adversarial", *steps(bins, after), ADVERSARIAL, (6, 3), True),
        ),
        tuple((value, word) for word, value in marks.items()),
    )

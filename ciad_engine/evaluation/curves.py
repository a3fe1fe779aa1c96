"""The scores of the detectors at every threshold: ROC curves and histograms, as data and as charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ciad_engine import bundles, detectors
from ciad_engine.evaluation.records import (
    POOLED,
    Records,
    Thresholds,
    about_run,
    both_scores,
    images_of,
    of_detectors,
    setting,
    subject,
)
from ciad_engine.evaluation.statistics import Scores, histogram, roc
from ciad_engine.evaluation.table import Cell, Subject, area
from ciad_engine.figures.chart import ADVERSARIAL, BENIGN, Chart, Plot, Series, line_style, steps

CHARTS = ("roc", "scores")  # names of the charts
BINS = 40
_SHOWN = 0.995  # of the scores; the few beyond would squeeze the others together


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value
class Curve:
    """How well the scores of one detector separate adversarial images from the same images before the attack.

    Attributes:
        subject: the attack and the detector.
        label: the attack's label in its plan, or `records.POOLED`.
        positive, negative: float64 (N,), scores of the adversarial images and of the same images before.
        false, true: float64 (M,), the corners of the ROC curve.
        auroc: the area below it.
    """

    subject: Subject
    label: str
    positive: Scores
    negative: Scores
    false: Scores
    true: Scores
    auroc: Cell

    @property
    def detector(self) -> str:
        return self.subject.detector

    @property
    def title(self) -> str:
        return self.subject.title

    @property
    def pooled(self) -> bool:
        """Whether it is of all attacks together."""
        return self.label == POOLED


def curves(records: Records) -> tuple[Curve, ...]:
    """Return the curve of each attack that has adversarial images, by each detector, in the order they are shown."""
    found = []
    for detector in records.detectors:
        for attack, pairs in records.groups.items():
            if pairs:
                positive, negative = both_scores(pairs, detector)
                cell = area(positive, negative, records.run.finished, images_of(pairs))
                ends = roc(positive, negative)
                found.append(Curve(subject(records.plan, attack, detector), attack, positive, negative, *ends, cell))
    return tuple(found)


def edges(of: Sequence[Curve]) -> Scores:
    """Return the edges of the bins for the scores of these curves, float64 (BINS + 1,); the last bin holds the rest."""
    scores = np.concatenate([side for curve in of for side in (curve.positive, curve.negative)])
    return np.linspace(0.0, max(float(np.quantile(scores, _SHOWN)), 1e-3), BINS + 1)


def charts(records: Records, found: Sequence[Curve], card: bundles.Card | None = None) -> tuple[Chart, ...]:
    """Return "roc", a plot per detector, and "scores", a plot per attack with the first detector's scores."""
    if not found:
        return ()
    about = (*records.about_groups, *about_run(records))
    where = setting(records.plan)
    names = list(dict.fromkeys(curve.detector for curve in found))
    of_first = [curve for curve in found if curve.detector == names[0]]
    bins = edges(of_first)
    known = of_detectors(card, records.plan).get(names[0], {})
    reading = (
        "Each point is a threshold: across, the false positive rate on these benign images; up, the true positive rate."
        " Guessing lies on the diagonal."
    )
    counted = f"Rate of the images in each of {BINS} bins; the last holds all above." + (
        " Vertical lines: thresholds, labelled with their false positive rate on validation images." if known else ""
    )
    return (
        Chart(
            "roc",
            "ROC: how well does each score separate adversarial from benign images?" + where,
            tuple(_roc_plot(name, [curve for curve in found if curve.detector == name]) for name in names),
            (reading, *about),
        ),
        Chart(
            "scores",
            f"Scores of {detectors.title(names[0])} before and after the attack" + where,
            tuple(score_plot(curve, bins, known) for curve in of_first),
            (counted, *about),
        ),
    )


def _roc_plot(detector: str, found: Sequence[Curve]) -> Plot:
    diagonal = Series("guessing", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "#999999", (2, 4))
    lines = [
        Series(f"{curve.title}: {curve.auroc.text()}", curve.false, curve.true, *line_style(k, curve.pooled))
        for k, curve in enumerate(found)
    ]
    return Plot(
        f"{detectors.title(detector)}: AUROC",
        "false positive rate",
        "true positive rate",
        (0.0, 1.0),
        (0.0, 1.0),
        (diagonal, *lines),
    )


def score_plot(curve: Curve, bins: Scores, thresholds: Thresholds) -> Plot:
    """Return the histograms of a curve's scores before and after the attack, and marks at the thresholds."""
    before, after = histogram(curve.negative, bins), histogram(curve.positive, bins)
    return Plot(
        curve.title,
        "-log p of f1's class",
        "rate of the images",
        (0.0, float(bins[-1])),
        (0.0, 1.05 * max(before.max(), after.max())),
        (
            Series("benign", *steps(bins, before), BENIGN, (), True),
            Series("adversarial", *steps(bins, after), ADVERSARIAL, (6, 3), True),
        ),
        tuple((threshold.value, f"{100 * rate:g}%") for rate, threshold in thresholds.items()),
    )

"""Thresholds: from which score on an image is flagged as adversarial, and how that was chosen. Imports no torch."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

RATES = (0.05, 0.01)  # false positive rates for which a bundle has thresholds; the first decides a verdict


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The border between benign and adversarial.

    Attributes:
        value: an image is flagged if its score is above it.
        source: for people, e.g. "95% quantile of 4,170 benign validation images that f1 classifies correctly".
    """

    value: float
    source: str


# The paper's rule as a threshold: the score is 1 if the classes differ, else 0.
DIFFERENT_CLASSES = Threshold(0.5, "the paper's rule: adversarial if the classes differ")


def threshold_at(
    scores: npt.NDArray[np.float64], false_positive_rate: float, of: str = "benign validation images"
) -> Threshold:
    """Return a score that at most this share of benign images exceeds: a quantile, rounded up to an observed score.

    Args:
        scores: float64 (N,), of validation images; with training or test images the rate is not the one promised.
        false_positive_rate: in (0, 1).
        of: which images these are, for the threshold's source.
    """
    value = float(np.quantile(scores, 1 - false_positive_rate, method="higher"))
    return Threshold(value, f"{100 * (1 - false_positive_rate):g}% quantile of {len(scores):,} {of}")

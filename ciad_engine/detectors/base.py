"""The contract of a detector, and the Verdict it passes on images."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np
import numpy.typing as npt

from ciad_engine.jobs import Job


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Where the line between benign and adversarial lies, and where it comes from.

    Attributes:
        value: an image is called adversarial where its score is above it.
        source: for people, e.g. "fixed rule of the paper" or
            "95 % quantile of 5,000 benign validation images".
    """

    value: float
    source: str


def threshold_at(scores: npt.NDArray[np.float64], false_positive_rate: float) -> Threshold:
    """The threshold that scores of benign images, float64 (N,), exceed at most at this rate.

    The images must be validation images, neither training nor test images, or the rate is not the one promised.
    """
    value = float(np.quantile(scores, 1 - false_positive_rate, method="higher"))
    percent = f"{100 * (1 - false_positive_rate):g} %"
    return Threshold(value, f"{percent} quantile of {len(scores):,} benign validation images")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a detector says of N images; all arrays have N rows.

    Attributes:
        y1, y2: int64 (N,). The class by the classifier f1 and by the mask classifier f2.
        p1, p2: float64 and float32 (N, classes). Their softmax probabilities.
        masks: float32 (N, 32, 32). Attention masks in the LAN's convention: 1 = unimportant.
        score: float64 (N,). Higher is more adversarial.
        threshold: what the score is compared with.
        adversarial: bool (N,). score > threshold.value.
        recovers: bool (N,) or None. Whether y2 is the true label, where labels were given.
        rule: which score this is ("paper" or "graded").
    """

    y1: npt.NDArray[np.int64]
    y2: npt.NDArray[np.int64]
    p1: npt.NDArray[np.float64]
    p2: npt.NDArray[np.float32]
    masks: npt.NDArray[np.float32]
    score: npt.NDArray[np.float64]
    threshold: Threshold
    adversarial: npt.NDArray[np.bool_]
    recovers: npt.NDArray[np.bool_] | None
    rule: str

    def __len__(self) -> int:
        return len(self.y1)


class Detector(abc.ABC):
    """Scores images; `inspect` turns scores into a Verdict."""

    threshold: Threshold

    @abc.abstractmethod
    def score(self, images: npt.NDArray[np.uint8], job: Job | None = None) -> npt.NDArray[np.float64]:
        """Score of each of uint8 images (N, 3, 32, 32); higher is more adversarial."""

    @abc.abstractmethod
    def inspect(
        self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64] | None = None, job: Job | None = None
    ) -> Verdict:
        """The verdict on uint8 images (N, 3, 32, 32); `labels`, where known, fill `recovers`."""

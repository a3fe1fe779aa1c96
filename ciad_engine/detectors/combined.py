"""One score from those of several detectors, calibrated on benign validation images alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ciad_engine import detectors
from ciad_engine.detectors.base import Detector, Inputs
from ciad_engine.detectors.threshold import Threshold

TAIL = 0.2  # of the benign images, from which the law of the large scores is fitted


class Combined(Detector):
    """The opinions of several classifiers in one sum, and the larger of that and of further scores.

    Options: `"opinions"`, names of detectors with a class, and `"further"`, of others. The opinions are correlated:
    their weights are those of the linear discriminant for a shift of all of them by as many standard deviations, the
    inverse of their correlations times (1, ..., 1). A sum with f1's confidence would be wrong: it finds attacks that
    stop at the boundary and is misled by those that do not. So the sum and each further score are measured against the
    tail of their own benign scores, which is fitted as exponential: empirical tails end at one in N and have no
    gradient. The combined score is their smooth maximum. All numbers are on the card, under `"fit"`.
    """

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the opinions' mean log probabilities, normalised, (N, classes)."""
        opinions = [inputs.log_probabilities(self.others[name]) for name in self.options["opinions"]]
        return torch.stack(opinions).mean(0).log_softmax(1)

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        fit = self.options.get("fit")
        if fit is None:  # not calibrated yet
            return classes.new_zeros(len(classes), dtype=torch.double)
        scores = {name: self.others[name].score(inputs, classes).double() for name in self.parts(self.options)}
        total = torch.stack([weight * scores[name] for name, weight in fit["weights"].items()]).sum(0)
        terms = {"opinions": total, **{name: scores[name] for name in self.options["further"]}}
        return torch.stack([(terms[name] - at) / scale for name, (at, scale) in fit["tails"].items()]).logsumexp(0)

    def calibrated(self, scores: Mapping[str, npt.NDArray[np.float64]]) -> Mapping[str, Any]:
        opinions = np.stack([scores[name] for name in self.options["opinions"]])
        inverse = np.linalg.inv(np.atleast_2d(np.corrcoef(opinions)))
        weights = inverse.sum(1).clip(min=0) / opinions.std(1)
        terms = {"opinions": weights @ opinions, **{name: scores[name] for name in self.options["further"]}}
        named = dict(zip(self.options["opinions"], weights.tolist(), strict=True))
        return {**self.options, "fit": {"weights": named, "tails": {name: _tail(s) for name, s in terms.items()}}}

    @classmethod
    def rules_with(cls, thresholds: Mapping[float, Threshold]) -> dict[str, Threshold]:
        """Return its rules, the graded one first: the class is only for recovery."""
        return dict(sorted(super().rules_with(thresholds).items(), key=lambda rule: rule[0] != detectors.GRADED))

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (*options["opinions"], *options["further"])


def _tail(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return where the upper tail begins, and by how much scores in it exceed that on average."""
    at = float(np.quantile(scores, 1 - TAIL))
    return at, float((scores[scores > at] - at).mean())

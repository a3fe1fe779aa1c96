"""One score from those of several detectors, calibrated on benign validation images alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from ciad_engine import detectors
from ciad_engine.detectors.base import Detector, Inputs
from ciad_engine.detectors.threshold import Threshold


class Combined(Detector):
    """The mean of several detectors' scores, each in standard deviations above its mean on benign validation images.

    A score below that mean counts as the mean: an attacker who knows the detectors cannot make up for one that is
    alarmed by making another one surer of the wrong class than of any benign image.

    Options: `"of"`, the names of these detectors, which have classes; `"fit"`, mean and standard deviation of each, is
    added by `calibrated`. On FGSM and JSMA against validation images this mean was better than weights that remove the
    correlation of the scores, than their largest tail probability and than their sum with f1's confidence, which finds
    attacks that stop at the boundary and is misled by others (`resources/docs/experiments.md`).
    """

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the mean log probabilities of the detectors, normalised, (N, classes)."""
        found = [inputs.log_probabilities(self.others[name]) for name in self.parts(self.options)]
        return torch.stack(found).mean(0).log_softmax(1)

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        fit = self.options.get("fit")
        if fit is None:  # not calibrated yet
            return classes.new_zeros(len(classes), dtype=torch.double)
        scores = {name: self.others[name].score(inputs, classes).double() for name in fit}
        return torch.stack([((scores[n] - mean) / scale).clamp(min=0) for n, (mean, scale) in fit.items()]).mean(0)

    def calibrated(self, scores: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, Any]:
        named = {name: scores[name] for name in self.parts(self.options)}
        return {**self.options, "fit": {name: [float(s.mean()), float(s.std())] for name, s in named.items()}}

    @classmethod
    def rules_with(cls, thresholds: Mapping[float, Threshold]) -> dict[str, Threshold]:
        """Return its rules, the graded one first: the class is only for recovery."""
        return dict(sorted(super().rules_with(thresholds).items(), key=lambda rule: rule[0] != detectors.GRADED))

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(options["of"])

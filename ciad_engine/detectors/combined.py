"""One score from those of several detectors, calibrated on benign validation images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ciad_engine import detectors
from ciad_engine.detectors.base import Detector, Inputs, Verdict, opinion
from ciad_engine.detectors.threshold import Threshold

Scores = TypeVar("Scores", Tensor, npt.NDArray[np.float64])


class Combined(Detector):
    """The mean of several detectors' scores, each in standard deviations above its mean on benign validation images.

    A score below that mean counts as the mean: an attacker who knows the detectors cannot make up for one that is
    alarmed by making another one surer of the wrong class than of any benign image.

    Options: `"of"`, the names of these detectors, which have classes; `"fit"`, mean and standard deviation of each, is
    added by `calibrated`. On FGSM and JSMA against validation images this mean was better than weights that remove the
    correlation of the scores, than their largest tail probability and than their sum with f1's confidence, which finds
    attacks that stop at the boundary and is misled by others (`resources/docs/experiments.md`).
    """

    voice: ClassVar[str] = "the combined detector"

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the mean log probabilities of the detectors, normalised, (N, classes)."""
        found = [inputs.log_probabilities(self.others[name]) for name in self.parts(self.options)]
        return torch.stack(found).mean(0).log_softmax(1)

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        fit = self.options.get("fit")
        if fit is None:  # not calibrated yet
            return classes.new_zeros(len(classes), dtype=torch.double)
        scores = {name: self.others[name].score(inputs, classes).double() for name in fit}
        return torch.stack([_share(scores[name], *fit[name]) for name in fit]).mean(0)

    def calibrated(self, scores: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, Any]:
        named = {name: scores[name] for name in self.parts(self.options)}
        return {**self.options, "fit": {name: [float(s.mean()), float(s.std())] for name, s in named.items()}}

    @classmethod
    def sentence(cls, verdict: Verdict, classes: Sequence[str]) -> str:
        """If it flags the image, name the parts that contribute most to its score: at least half of the largest share.

        Parts that give the image the same class are named together.
        """
        found = verdict.findings
        fit = verdict.chosen.options.get("fit", {})
        shares = {name: float(_share(found[name].scores, *fit[name])[0]) for name in fit}
        most = max(shares.values(), default=0.0)
        if not verdict.adversarial[0] or most == 0:
            return super().sentence(verdict, classes)
        together: dict[int, dict[str, npt.NDArray[np.float32]]] = {}
        for name, share in shares.items():
            if share >= most / 2:
                part = found[name]
                p = part.probabilities[0]
                together.setdefault(int(p.argmax()), {})[part.kind.called(name)] = p
        return " ".join(opinion(verdict, classes, label, voices) for label, voices in together.items())

    @classmethod
    def rules_with(cls, thresholds: Mapping[float, Threshold]) -> dict[str, Threshold]:
        """Return its rules, the graded one first: the class is only for recovery."""
        return dict(sorted(super().rules_with(thresholds).items(), key=lambda rule: rule[0] != detectors.GRADED))

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(options["of"])


def _share(scores: Scores, mean: float, scale: float) -> Scores:
    """Return what a detector's scores contribute: standard deviations above the benign mean, 0 below it."""
    return ((scores - mean) / scale).clip(0)

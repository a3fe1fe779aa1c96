"""Detectors without a mask: another classifier of the image itself, and f1's own confidence."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ciad_engine.detectors.base import Detector, Inputs


class DirectDetector(Detector):
    """Another classifier of the image itself. Network: "classifier"."""

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        return inputs.through(self.networks["classifier"]).float().log_softmax(1)


class Confidence(Detector):
    """f1's own confidence: its score is -log of the probability that f1 gives its class. It has no own networks."""

    classifies: ClassVar[bool] = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        # In double: the distance of a confident prediction from 1 would be lost in single precision.
        return inputs.through(self.f1).double().softmax(1).log()

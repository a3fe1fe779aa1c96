"""Detectors without a mask: another classifier of the image itself, and f1's own confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine import detectors
from ciad_engine.detectors.base import Detector, Inputs, Verdict, margin


class Opinion(Detector):
    """A detector with a class of its own.

    Its score is the margin of the likeliest other class over f1's if the card's options have `"score": "margin"`. That
    separates adversarial images better than -log p: a classifier that is unsure of everything does not raise it.
    """

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        if self.options.get("score") == "margin":
            return margin(inputs.log_probabilities(self), classes)
        return super().score(inputs, classes)


class DirectDetector(Opinion):
    """Another classifier of the image itself. Network: "classifier".

    Options: `"flip": true` averages the probabilities of the image and of its mirror image.
    """

    @classmethod
    def called(cls, name: str) -> str:
        title = detectors.title(name)
        return super().called(name) if title == name else f"the {title.partition(',')[0]}"

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        network = self.networks["classifier"]
        log_p = inputs.through(network).float().log_softmax(1)
        if not self.options.get("flip"):
            return log_p
        mirrored = network(inputs.images.flip(3)).float().log_softmax(1)
        return torch.logaddexp(log_p, mirrored) - math.log(2)


class Confidence(Detector):
    """f1's own confidence: its score is -log of the probability that f1 gives its class. It has no own networks."""

    classifies: ClassVar[bool] = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        # In double: the distance of a confident prediction from 1 would be lost in single precision.
        return inputs.through(self.f1).double().softmax(1).log()

    @classmethod
    def sentence(cls, verdict: Verdict, classes: Sequence[str]) -> str:
        return f"That is {'too little' if verdict.adversarial[0] else 'enough'} confidence for a benign image."

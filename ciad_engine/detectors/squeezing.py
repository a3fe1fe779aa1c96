"""Feature squeezing: f1 is asked again about images in which small differences are gone."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ciad_engine.detectors.base import Detector, Inputs

BITS = 5  # of each colour


class Squeezing(Detector):
    """Score an image by the change of f1's probabilities when it is squeezed, Xu et al. 2018 (arXiv 1704.01155).

    The score is the largest L1 distance over the squeezers. They are the paper's for CIFAR-10, fewer bits a colour and
    a median of 2x2 pixels, without its non-local means, which has no gradient.
    """

    classifies: ClassVar[bool] = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the log of f1's mean probabilities of the squeezed images."""
        log_p = self._squeezed(inputs)
        return log_p.logsumexp(0) - math.log(len(log_p))

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        plain = inputs.through(self.f1).float().softmax(1)
        return (self._squeezed(inputs).exp() - plain).abs().sum(2).amax(0)

    def _squeezed(self, inputs: Inputs) -> Tensor:
        """Return f1's log probabilities of the images after each squeezer, (squeezers, N, classes)."""

        def classify() -> Tensor:
            squeezed = torch.cat([in_fewer_bits(inputs.images, inputs.followed), median(inputs.images)])
            log_p: Tensor = self.f1(squeezed).float().log_softmax(1)
            return torch.stack(log_p.chunk(2))

        return inputs.once((self.f1, "squeezed"), classify)


def in_fewer_bits(images: Tensor, followed: bool = False) -> Tensor:
    """Return the images with values rounded to BITS bits; if `followed`, with the gradient of the identity."""
    most = 2.0**BITS - 1
    rounded = (images * most).round() / most
    return rounded + (images - images.detach()) if followed else rounded


def median(images: Tensor) -> Tensor:
    """Return the median of each pixel and its neighbours to the left, above and above left; edges are repeated.

    Of the four values it is the third smallest, as in the paper's code.
    """
    padded = F.pad(images, (1, 0, 1, 0), mode="replicate")
    views = [padded[:, :, y : y + images.shape[2], x : x + images.shape[3]] for y in (0, 1) for x in (0, 1)]
    return torch.stack(views).topk(2, 0).values[1]

"""The paper's detector: f2 classifies the attention mask that g draws of the image."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ciad_engine.detectors.base import Detector, Inputs

GENERATOR, CLASSIFIER = "generator", "classifier"  # names of its networks on a card: g and f2
LEAST_SLOPE = 0.05  # of the sigmoid, for attacks; its own goes to 0 where a mask is black or white


class MaskDetector(Detector):
    """f2(g(x)), Nguyen et al. 2017 (arXiv 1712.00558), section 2. Networks: "generator" (g) and "classifier" (f2)."""

    voice: ClassVar[str] = "the mask"

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        out: Tensor = self.networks[CLASSIFIER](self.masks(inputs))
        return out.float().log_softmax(1)

    def masks(self, inputs: Inputs) -> Tensor:
        return masks_of(self.networks[GENERATOR], inputs)


def masks_of(generator: nn.Module, inputs: Inputs) -> Tensor:
    """Return the masks (N, 1, H, W) that a mask generator draws of the images."""
    before_sigmoid = getattr(generator, "mask_logits", None)
    if not inputs.followed or before_sigmoid is None:
        return inputs.through(generator)

    def followed() -> Tensor:
        masks: Tensor = _Sigmoid.apply(before_sigmoid(inputs.images).float())  # type: ignore[no-untyped-call]
        return masks

    return inputs.once(generator, followed)


class _Sigmoid(torch.autograd.Function):
    """The sigmoid, with a slope of at least LEAST_SLOPE on the way back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        out = torch.sigmoid(logits)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return gradient * (out * (1 - out)).clamp(min=LEAST_SLOPE)

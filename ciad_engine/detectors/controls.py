"""Controls of the mask detector: what f2 makes of a mask that has lost its places, and of one that holds nothing.

If one of them detects as well as the mask, the mask's picture does not do the work.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.mask import CLASSIFIER, MaskDetector


class ShuffledMask(MaskDetector):
    """f2 on the mask's values in another order, the same order for every image."""

    voice: ClassVar[str] = "the shuffled mask"

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        masks = self.masks(inputs)
        # RandomState's stream is the same in all numpy versions.
        order = torch.from_numpy(np.random.RandomState(0).permutation(masks[0].numel())).to(masks.device)
        shuffled = masks.flatten(1)[:, order].view_as(masks)
        return self.networks[CLASSIFIER](shuffled).float().log_softmax(1)


class ConstantMask(MaskDetector):
    """f2 on a mask of one half everywhere: one prediction for all images."""

    voice: ClassVar[str] = "the constant mask"
    grades = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        count, _, height, width = inputs.images.shape
        constant = inputs.images.new_full((1, 1, height, width), 0.5)
        return self.networks[CLASSIFIER](constant).float().log_softmax(1).expand(count, -1)

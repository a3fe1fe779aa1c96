"""Pictures that are unlike all training images: icons, noise, drawings. No verdict on them means much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ciad_engine import detectors
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.base import Inputs
from ciad_engine.detectors.mahalanobis import Distance
from ciad_engine.detectors.threshold import RATES, Threshold
from ciad_engine.domain import Labels
from ciad_engine.errors import SettingError

_LEAST = 1e-4  # added to a variance: that of a flat picture is 0


class Unfamiliar(Distance):
    """The distance of an image's textures to those of all training images, whatever their class.

    The features are the mean and the logarithm of the variance over all places of each channel of a convolution half
    way through a classifier. A picture of another kind differs in them, though the classifier may be sure of a class
    and its last features may look ordinary; an attack changes them little. Lee et al. 2018 (arXiv 1807.03888),
    section 2.1, use distances in all layers; the statistics are those of style transfer (Huang and Belongie 2017, arXiv
    1703.06868).

    Networks: "gaussian", and "classifier", whose convolution it is (f1 if it is not given).
    """

    voice = "the comparison with the training images"
    familiar = False
    rate: ClassVar[float] = RATES[1]  # what it flags gets no verdict, so it rarely speaks

    def features(self, images: Tensor) -> Tensor:
        network = self.networks.get("classifier", self.f1)
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise SettingError(f"detector: '{self.name}' needs a classifier with convolutions; choose another for it.")
        found: list[Tensor] = []
        middle = convolutions[(len(convolutions) - 1) // 2]
        hook = middle.register_forward_hook(lambda _module, _given, output: found.append(output))
        try:
            network(images)
        finally:
            hook.remove()
        variance, mean = torch.var_mean(found[0].float(), dim=(2, 3), correction=0)
        return torch.cat([mean, (variance + _LEAST).log()], 1)

    def groups(self, training: ImageSet) -> tuple[Labels, int]:
        return np.zeros(len(training), np.int64), 1

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return those of f1: it has no class of its own."""
        return inputs.through(self.f1).float().log_softmax(1)

    @classmethod
    def rules_with(cls, thresholds: Mapping[float, Threshold]) -> dict[str, Threshold]:
        return {detectors.GRADED: thresholds[cls.rate]} if cls.rate in thresholds else {}

"""The Mahalanobis detector: how far f1's features are from those of every class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.base import Detector, Inputs
from ciad_engine.jobs import Job
from ciad_engine.networks.gaussian import Gaussian

GAUSSIAN = "gaussian"  # the name of its network on a card


class Mahalanobis(Detector):
    """The squared Mahalanobis distance of f1's penultimate features to the nearest class.

    Lee et al. 2018 (arXiv 1807.03888), section 2.1, without what the paper chooses by adversarial images: the noise
    added to the input, and the logistic regression over several layers. Network: "gaussian", fitted to the features of
    benign training images.
    """

    classifies: ClassVar[bool] = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return those of the Gaussians, if all classes are equally likely beforehand."""
        return (-self._distances(inputs) / 2).log_softmax(1)

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        return self._distances(inputs).amin(1)

    def fitted(self, training: ImageSet, job: Job | None = None) -> Mapping[str, tuple[str, dict[str, Any], nn.Module]]:
        device = compute.device_of(self.f1)

        def look(rows: slice) -> Tensor:
            return penultimate(self.f1, imaging.to_unit(torch.tensor(training.images[rows], device=device)))

        with torch.inference_mode(), compute.borrowed(self.f1):
            features = torch.cat(list(compute.in_batches(look, len(training), 500, job, f"Fitting {self.name}")))
        arguments = {"features": features.shape[1], "classes": len(training.domain.classes)}
        gaussian = Gaussian(**arguments).to(device)
        gaussian.fit(features, torch.tensor(training.labels, device=device))
        return {GAUSSIAN: ("gaussian", arguments, gaussian)}

    def _distances(self, inputs: Inputs) -> Tensor:
        gaussian = self.networks[GAUSSIAN]
        return inputs.once(gaussian, lambda: gaussian(penultimate(self.f1, inputs.images)))


def penultimate(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return what a classifier's last linear layer is given, (N, features), differentiable in the images."""
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    found: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        classifier(images)
    finally:
        hook.remove()
    return found[0]

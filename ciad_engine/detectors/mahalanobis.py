"""The Mahalanobis detector: how far features of an image are from those of training images."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.base import Detector, Inputs
from ciad_engine.domain import Labels
from ciad_engine.jobs import Job
from ciad_engine.networks.gaussian import Gaussian

GAUSSIAN = "gaussian"  # the name of its network on a card


class Distance(Detector):
    """The squared Mahalanobis distance of features of the image to the nearest of some groups of training images.

    Network: "gaussian", fitted to the features of benign training images.
    """

    classifies: ClassVar[bool] = False

    @abc.abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return the features of float images (N, 3, H, W) in [0, 1], (N, features), differentiable in the images."""

    @abc.abstractmethod
    def groups(self, training: ImageSet) -> tuple[Labels, int]:
        """Return the group of each training image, int64 (N,), and the number of groups."""

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        return self.distances(inputs).amin(1)

    def distances(self, inputs: Inputs) -> Tensor:
        """Return the distances to all groups, (N, groups)."""
        gaussian = self.networks[GAUSSIAN]
        return inputs.once(gaussian, lambda: gaussian(self.features(inputs.images)))

    def fitted(self, training: ImageSet, job: Job | None = None) -> Mapping[str, tuple[str, dict[str, Any], nn.Module]]:
        device = compute.device_of(self.f1)

        def look(rows: slice) -> Tensor:
            return self.features(imaging.to_unit(torch.tensor(training.images[rows], device=device)))

        with contextlib.ExitStack() as stack:
            for network in (self.f1, *self.networks.values()):
                stack.enter_context(compute.borrowed(network))
            stack.enter_context(torch.inference_mode())
            features = torch.cat(list(compute.in_batches(look, len(training), 500, job, f"Fitting {self.name}")))
        groups, count = self.groups(training)
        arguments = {"features": features.shape[1], "classes": count}
        gaussian = Gaussian(**arguments).to(device)
        gaussian.fit(features, torch.tensor(groups, device=device))
        return {GAUSSIAN: ("gaussian", arguments, gaussian)}


class Mahalanobis(Distance):
    """The distance of f1's penultimate features to the nearest class.

    Lee et al. 2018 (arXiv 1807.03888), section 2.1, without what the paper chooses by adversarial images: the noise
    added to the input, and the logistic regression over several layers.
    """

    def features(self, images: Tensor) -> Tensor:
        return penultimate(self.f1, images)

    def groups(self, training: ImageSet) -> tuple[Labels, int]:
        return training.labels, len(training.domain.classes)

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        """Return those of the Gaussians, if all classes are equally likely beforehand."""
        return (-self.distances(inputs) / 2).log_softmax(1)


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

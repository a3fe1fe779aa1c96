"""Maps of what f1 needs of an image: the masks of a bundle's generators, attributions of f1, and plain baselines.

A map's values are importances in [0, 1]: 1 - mask for a generator's. The others are scaled to a maximum of 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import bundles
from ciad_engine.detectors.mask import GENERATOR
from ciad_engine.errors import SettingError
from ciad_engine.systems import System

AT_ONCE = 256  # images on which integrated gradients are computed together
NO_CAPTUM = (
    "captum: Grad-CAM and integrated gradients need the package captum, which cannot be imported ({}). Install it, for"
    " instance with `pip install captum` in this environment (it is CIAD's extra `captum`), or leave out --captum."
)


@dataclasses.dataclass(frozen=True)
class Map:
    """A way to say which pixels matter.

    Attributes:
        key: its ASCII name in files; `title`: for people.
        of: images (N, 3, H, W) in [0, 1] and f1's classes of them (N,) -> importance (N, H, W) in [0, 1].
    """

    key: str
    title: str
    of: Callable[[Tensor, Tensor], Tensor]


def of_generators(system: System) -> list[Map]:
    """Return the masks of the generators that the bundle's detectors use, in the order of the card."""

    def mask(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda images, classes: 1 - network(images)[:, 0].float()

    used = (entry.networks[GENERATOR] for entry in system.card.detectors if GENERATOR in entry.networks)
    return [Map(role, role.replace("_", " "), mask(system.networks[role])) for role in dict.fromkeys(used)]


def class_mean(of: Map, importance: Tensor, classes: Tensor) -> Map:
    """Return the mean of a map's `importance` (N, H, W) over the images of f1's class, as a map of the class alone.

    A class that none of the images has gets the mean over all of them.
    """
    means = {label: importance[classes == label].mean(0) for label in set(classes.tolist())}
    overall = importance.mean(0)

    def mean(images: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([means.get(label, overall) for label in labels.tolist()]).to(images)

    return Map(f"{of.key}_class_mean", f"class mean of {of.title}", mean)


def baselines(seed: int) -> list[Map]:
    """Return a random map, drawn anew at each call, and Sobel's edges."""
    draw = torch.Generator().manual_seed(seed)

    def noise(images: Tensor, classes: Tensor) -> Tensor:
        return torch.rand(len(images), *images.shape[2:], generator=draw).to(images)

    return [Map("random", "random", noise), Map("sobel", "Sobel edges", edges)]


def edges(images: Tensor, classes: Tensor) -> Tensor:
    """Return the length of the Sobel gradient of the images' brightness."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(images)
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return _scaled(F.conv2d(grey, torch.stack([across, across.T])[:, None]).norm(dim=1))


def attributions(system: System) -> list[Map]:
    """Return Grad-CAM of f1's last convolution and f1's integrated gradients from black, by captum.

    Selvaraju et al. 2017 (arXiv 1610.02391); Sundararajan et al. 2017 (arXiv 1703.01365), absolute values summed over
    the colours. Both are of f1's class.

    Raises:
        SettingError: captum is not installed, or f1 has no convolution.
    """
    try:
        from captum.attr import IntegratedGradients, LayerGradCam
    except ImportError as error:
        raise SettingError(NO_CAPTUM.format(error)) from error
    f1 = system.network(bundles.CLASSIFIER)
    convolutions = [module for module in f1.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise SettingError("captum: Grad-CAM needs a convolution, and this bundle's f1 has none.")
    by_layer, by_path = LayerGradCam(f1, convolutions[-1]), IntegratedGradients(f1)

    def grad_cam(images: Tensor, classes: Tensor) -> Tensor:
        found = by_layer.attribute(images.clone().requires_grad_(), target=classes, relu_attributions=True)
        return _scaled(F.interpolate(found.detach(), images.shape[2:], mode="bilinear", align_corners=False)[:, 0])

    def integrated(images: Tensor, classes: Tensor) -> Tensor:
        found = by_path.attribute(images, target=classes, internal_batch_size=max(AT_ONCE, len(images)))
        return _scaled(found.detach().abs().sum(1).float())

    return [Map("grad_cam", "Grad-CAM", grad_cam), Map("integrated_gradients", "integrated gradients", integrated)]


def _scaled(importance: Tensor) -> Tensor:
    """Return maps (N, H, W) scaled to a maximum of 1 each; one that is 0 everywhere stays so."""
    return importance / importance.amax((1, 2), keepdim=True).clamp(min=1e-12)

"""Detectors that keep what the mask calls important and replace the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine.counting import capitalised, percent
from ciad_engine.detectors.base import Detector, Inputs, Verdict, margin, opinion
from ciad_engine.detectors.direct import Opinion
from ciad_engine.detectors.mask import CLASSIFIER, GENERATOR, masks_of

FILLINGS = 4  # fixed ones, each with its own colours
COARSE = (1, 2, 4, 8)  # colours a side


def colour_fields(count: int, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Return random fields of smooth colour, float (count, 3, size, size) in [0, 1], to replace parts of images with.

    The colours of a coarse grid, 1 to 8 a side, are drawn uniformly and interpolated.
    """
    parts = []
    for index, side in enumerate(COARSE):
        shape = (len(range(index, count, len(COARSE))), 3, side, side)
        colours = torch.rand(shape, generator=generator, dtype=torch.float32)
        parts.append(F.interpolate(colours, (size, size), mode="bilinear", align_corners=False))
    return torch.cat(parts)


def composites(images: Tensor, masks: Tensor, fillings: Tensor) -> Tensor:
    """Return each of N images with each of K fillings, (K * N, 3, H, W): where the mask is 1 it is all filling.

    Every second filling is for the mirror image.
    """
    parts = [torch.lerp(images, filling[None].expand_as(images), masks) for filling in fillings]
    return torch.cat([part.flip(3) if index % 2 else part for index, part in enumerate(parts)])


def classified(classifier: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    """Return the log probabilities (N, classes) of what the masks keep: of the mean probabilities over the fillings."""
    fillings = colour_fields(FILLINGS, images.shape[-1], torch.Generator().manual_seed(0))
    mixed = composites(images, masks, fillings.to(images))
    log_p: Tensor = classifier(mixed).float().log_softmax(1).view(FILLINGS, len(images), -1)
    return log_p.logsumexp(0) - math.log(FILLINGS)


class _OnComposites(Detector):
    def masks(self, inputs: Inputs) -> Tensor:
        return masks_of(self.networks[GENERATOR], inputs)


class EvidenceDetector(_OnComposites, Opinion):
    """A classifier of what the mask keeps, the rest replaced. Networks: "generator" (g) and "classifier".

    The classifier is trained on random masks before those of g (REAL-X, Jethani et al. 2021, arXiv 2103.01890), so that
    it reads the picture that is kept and not the shape of the mask.
    """

    voice: ClassVar[str] = "what the mask keeps"

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        return classified(self.networks[CLASSIFIER], inputs.images, self.masks(inputs))


class Stability(_OnComposites):
    """Does f1 keep its class if what the mask calls unimportant is replaced? Network: "generator" (g)."""

    classifies: ClassVar[bool] = False

    def log_probabilities(self, inputs: Inputs) -> Tensor:
        return classified(self.f1, inputs.images, self.masks(inputs))

    def score(self, inputs: Inputs, classes: Tensor) -> Tensor:
        return margin(inputs.log_probabilities(self), classes)

    @classmethod
    def sentence(cls, verdict: Verdict, classes: Sequence[str]) -> str:
        p = verdict.p2[0]
        label = int(p.argmax())
        without = "without what the mask calls unimportant it"
        if label == verdict.y1[0] and not verdict.adversarial[0]:
            return f"{capitalised(without)} still says {classes[label]} ({percent(float(p[label]))})."
        return opinion(verdict, classes, label, {without: p})

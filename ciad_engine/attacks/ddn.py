"""Decoupled direction and norm: an image close by in the Euclidean sense, in few steps."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import FOOLED, NO_ADVERSARIAL, Found
from ciad_engine.attacks.fgsm import evidence_against
from ciad_engine.attacks.model import Model, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.jobs import Job

LAST_STEP = 0.01  # the step at the end, as a part of the first


@dataclasses.dataclass(frozen=True)
class DDN(aims.TargetedAttack):
    """Rony et al. 2019 (arXiv 1811.09600), algorithm 1.

    A step follows the normalised gradient, its length falling by a cosine from 1 to 1/100. Then the change is
    scaled to a length that shrinks by the factor 1 - gamma while the image is adversarial and grows by
    1 + gamma while it is not, and, with `quantize`, rounded to grey levels. The nearest adversarial image met
    is kept. One step is one forward and, but for the last, one backward pass, for every image the same number.
    """

    name: ClassVar[str] = "ddn"
    title: ClassVar[str] = "DDN"
    source: ClassVar[str] = "Rony et al. 2019 (arXiv 1811.09600), algorithm 1"
    norm: ClassVar[str] = "l2"

    iterations: int = parameter(100, "Iterations", "How many steps.", low=2, high=100_000, unit="steps")
    gamma: float = parameter(
        0.05, "Change of length", "By what part the distance shrinks or grows in a step.", low=1e-6, high=0.9
    )
    first_norm: float = parameter(
        1.0, "First length", "Euclidean distance tried first, values from 0 to 1.", low=1e-6, high=1000
    )
    quantize: bool = parameter(True, "Grey levels", "Whether each point is rounded to 8 bits before it is looked at.")
    target: str = aims.target()
    target_class: int = aims.target_class()
    target_seed: int = aims.target_seed()

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        count = len(images)
        rows = torch.arange(count, device=images.device)
        found = images.clone()
        nearest = torch.full((count,), torch.inf, device=images.device)
        # No image is farther than the farthest corner of the range.
        farthest = torch.maximum(images, 1 - images).flatten(1).norm(dim=1)
        length = torch.full((count,), self.first_norm, device=images.device)
        change = torch.zeros_like(images)
        for i in range(self.iterations):
            job.progress(i, self.iterations, f"{self.title}: steps")
            here = (images + change).requires_grad_()
            logits = model.logits(here, rows)
            fooled = reached(logits, labels, targets)
            distance = change.flatten(1).norm(dim=1)
            better = fooled & (distance < nearest)
            found[better], nearest[better] = here.detach()[better], distance[better]
            if i == self.iterations - 1:
                break  # the last point was looked at; nobody would look at another
            loss = evidence_against(logits, labels) if targets is None else -evidence_against(logits, targets)
            slope = model.gradient(loss, here, rows)
            part = i / self.iterations
            step = LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * part)) / 2
            change = change + step * slope / _length(slope)
            length = torch.minimum(torch.where(fooled, 1 - self.gamma, 1 + self.gamma) * length, farthest)
            change = change * (length[:, None, None, None] / _length(change))
            point = (images + change).clamp_(0, 1)
            if self.quantize:
                point = (point * 255).round_().div_(255)
            change = point - images
        job.progress(1, 1, self.title)
        return Found(
            images=found,
            steps=torch.full((count,), self.iterations, dtype=torch.int64),
            reason=[FOOLED if ok else NO_ADVERSARIAL for ok in nearest.isfinite().tolist()],
        )


def _length(change: Tensor) -> Tensor:
    """Euclidean norms as (N, 1, 1, 1), never 0."""
    length: Tensor = change.flatten(1).norm(dim=1).clamp(min=1e-12)
    return length[:, None, None, None]

"""The fast gradient sign method: one step of the same size for every value."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import NO_ADVERSARIAL, Found
from ciad_engine.attacks.model import Model, one_hot
from ciad_engine.attacks.parameters import parameter
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job


@dataclasses.dataclass(frozen=True)
class FGSM(aims.TargetedAttack):
    """Goodfellow, Shlens, Szegedy 2015 (arXiv 1412.6572), section 4: x + eps sign(gradient of the loss).

    The loss is the cross-entropy of the label; with a target the step goes down that of the target.
    A fraction of eps cannot be stored in 8 bits: values move by floor(eps) grey levels, within the budget.
    """

    name: ClassVar[str] = "fgsm"
    title: ClassVar[str] = "FGSM"
    source: ClassVar[str] = "Goodfellow et al. 2015 (arXiv 1412.6572), section 4"
    norm: ClassVar[str] = "linf"
    starts_at_images: ClassVar[bool] = True

    eps: float = parameter(
        8.0, "Budget", "How far each colour value moves, in grey levels.", low=0, high=255, unit="/255"
    )
    target: str = aims.target()
    target_class: int = aims.target_class()
    target_seed: int = aims.target_seed()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.name, self.eps)

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        job.progress(0, 1, self.title)
        rows = torch.arange(len(images), device=images.device)
        here, logits = model.first_logits(images)
        loss = evidence_against(logits, labels) if targets is None else -evidence_against(logits, targets)
        step = model.gradient(loss, here, rows).sign().mul_(math.floor(self.eps) / 255)
        job.progress(1, 1, self.title)
        return Found(
            images=(images + step).clamp_(0, 1),
            steps=torch.ones(len(images), dtype=torch.int64),
            reason=[NO_ADVERSARIAL] * len(images),
        )


def check_budget(attack: str, eps: float) -> None:
    """Refuse a budget, in grey levels, that no 8-bit image can use; most likely a part of 1 was meant.

    Raises:
        SettingError: `eps` lies between 0 and 1.
    """
    if 0 < eps < 1:
        raise SettingError(
            f"{attack}: eps = {eps:g} is less than one grey level and would change nothing; "
            "write 8 for a budget of 8/255."
        )


def evidence_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log of (1 - p) / p for each image's class (N,), where p is its softmax probability.

    Its gradient is that of the cross-entropy -log p divided by 1 - p, so it has the same sign
    everywhere; but it stays exact where p rounds to 1 and the cross-entropy's gradient to nothing.
    """
    others = logits.masked_fill(one_hot(logits, classes), -torch.inf).logsumexp(1)
    return others - logits.gather(1, classes[:, None])[:, 0]

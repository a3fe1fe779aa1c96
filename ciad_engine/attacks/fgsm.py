"""The fast gradient sign method: one step of the same size for every value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.attacks.model import Model, one_hot
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.jobs import Job


def find(attack: FGSM, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
    job.progress(0, 1, attack.title)
    rows = torch.arange(len(images), device=images.device)
    here, logits = model.first_logits(images)
    loss = evidence_against(logits, labels) if targets is None else -evidence_against(logits, targets)
    step = model.gradient(loss, here, rows).sign().mul_(math.floor(attack.eps) / 255)
    job.progress(1, 1, attack.title)
    return Found(
        images=(images + step).clamp_(0, 1),
        steps=torch.ones(len(images), dtype=torch.int64),
        reason=[NO_ADVERSARIAL] * len(images),
    )


def evidence_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log of (1 - p) / p for each image's class (N,), where p is its softmax probability.

    Its gradient is that of the cross-entropy -log p divided by 1 - p, so it has the same sign
    everywhere; but it stays exact where p rounds to 1 and the cross-entropy's gradient to nothing.
    """
    others = logits.masked_fill(one_hot(logits, classes), -torch.inf).logsumexp(1)
    return others - logits.gather(1, classes[:, None])[:, 0]

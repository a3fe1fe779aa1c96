"""The fast gradient sign method: one step of the same size for every value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.jobs import Job


def find(attack: FGSM, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    job.progress(0, 1, attack.title)
    rows = torch.arange(len(images), device=images.device)
    here, logits = model.first_logits(images)
    step = model.gradient(goal.at(logits, here).loss(), here, rows).sign().mul_(math.floor(attack.eps) / 255)
    job.progress(1, 1, attack.title)
    return Found(
        images=(images + step).clamp_(0, 1),
        steps=torch.ones(len(images), dtype=torch.int64),
        reason=[NO_ADVERSARIAL] * len(images),
    )

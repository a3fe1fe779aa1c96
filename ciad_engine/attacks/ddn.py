"""Decoupled direction and norm: an image close by in the Euclidean sense, in few steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import DDN
from ciad_engine.attacks.goal import Best, Goal
from ciad_engine.attacks.model import Model
from ciad_engine.jobs import Job

LAST_STEP = 0.01  # the step at the end, as a part of the first


def find(attack: DDN, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    count = len(images)
    rows = torch.arange(count, device=images.device)
    best = Best(images)
    # No image is farther than the farthest corner of the range.
    farthest = torch.maximum(images, 1 - images).flatten(1).norm(dim=1)
    length = images.new_full((count,), attack.first_norm)
    change = torch.zeros_like(images)
    for i in range(attack.iterations):
        job.progress(i, attack.iterations, f"{attack.title}: steps")
        here = (images + change).requires_grad_()
        logits = model.logits(here, rows)
        outcome = goal.at(logits, here)
        best.keep(rows, here.detach(), change.flatten(1).norm(dim=1), outcome)
        if i == attack.iterations - 1:
            break  # no other point would be tested
        slope = model.gradient(outcome.loss(), here, rows)
        part = i / attack.iterations
        step = LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * part)) / 2
        change = change + step * slope / _length(slope)
        factor = torch.where(outcome.reached, 1 - attack.gamma, 1 + attack.gamma).to(length)
        length = torch.minimum(factor * length, farthest)
        change = change * (length[:, None, None, None] / _length(change))
        point = (images + change).clamp_(0, 1)
        if attack.quantize:
            point = (point * 255).round_().div_(255)
        change = point - images
    job.progress(1, 1, attack.title)
    return Found(best.images, torch.full((count,), attack.iterations, dtype=torch.int64), best.reasons())


def _length(change: Tensor) -> Tensor:
    """Euclidean norms as (N, 1, 1, 1), never 0."""
    length: Tensor = change.flatten(1).norm(dim=1).clamp(min=1e-12)
    return length[:, None, None, None]

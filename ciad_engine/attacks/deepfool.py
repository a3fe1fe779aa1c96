"""DeepFool: straight to the nearest boundary of the linearised network, again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import DeepFool
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model, Queue
from ciad_engine.attacks.words import FOOLED, NO_ADVERSARIAL
from ciad_engine.jobs import Job


def find(attack: DeepFool, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    count = len(images)
    found, way = images.clone(), torch.zeros_like(images)
    steps = torch.zeros(count, dtype=torch.int64, device=images.device)
    reason = [NO_ADVERSARIAL] * count
    rivals: Tensor | None = None
    queue = Queue(model)

    def point(rows: Tensor) -> Tensor:
        return (images[rows] + (1 + attack.overshoot) * way[rows]).clamp_(0, 1)

    rows = queue.take(model.width)  # the images under way
    while len(rows):
        job.progress(count - len(rows) - queue.waiting, count, f"{attack.title}: images finished")
        stepped = rows[steps[rows] > 0]
        if len(stepped):
            # Most are fooled by now: that is found out before a gradient for each class is computed.
            found[stepped] = point(stepped)
            with torch.no_grad():
                done = goal.of(stepped).fooled(model.logits(found[stepped], stepped))
            for row in stepped[done].tolist():
                reason[row] = FOOLED
            rows = torch.cat([stepped[~done & (steps[stepped] < attack.iterations)], rows[steps[rows] == 0]])
            rows = queue.fill(rows)
            if len(rows) == 0:
                break
        here = point(rows).requires_grad_()
        logits = model.logits(here, rows)
        new = rows[steps[rows] == 0]
        likeliest = goal.of(new).rivals(logits[steps[rows] == 0], min(attack.candidates, logits.shape[1]) - 1)
        if rivals is None:
            rivals = likeliest.new_empty(count, likeliest.shape[1])
        rivals[new] = likeliest
        move = _nearest(model, here, goal.of(rows).leads(logits, rivals[rows]), rows)
        moves = move.flatten(1).any(1)  # where the network is flat there is no way to go
        rows = rows[moves]
        way[rows] += move[moves]
        steps[rows] += 1
        if len(rows) == 0:
            rows = queue.fill(rows)
    job.progress(count, count, f"{attack.title}: images finished")
    return Found(found, steps, reason)


def _nearest(model: Model, here: Tensor, leads: Tensor, going: Tensor) -> Tensor:
    """The shortest way to where one of `leads` (n, k) is 0, of the shape of `here`; 0 where there is none."""
    best = torch.zeros_like(here)
    shortest = torch.full((len(here),), torch.inf, dtype=here.dtype, device=here.device)
    last = leads.shape[1] - 1
    for k in range(last + 1):
        slope = model.gradient(-leads[:, k], here, going, keep_graph=k < last)
        slope = slope.masked_fill(((here <= 0) & (slope < 0)) | ((here >= 1) & (slope > 0)), 0)
        length = slope.flatten(1).norm(dim=1)
        distance = torch.where(length > 0, leads[:, k].detach().abs().to(length) / length, torch.inf)
        nearer = distance < shortest
        shortest = torch.where(nearer, distance, shortest)
        # Not the gap by the squared length, which a nearly flat network lets overflow.
        way = distance[:, None, None, None] * (slope / length[:, None, None, None])
        best = torch.where(nearer[:, None, None, None], way, best)
    return best

"""The Jacobian-based saliency map attack: few values changed, two at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import JSMA
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model, Queue
from ciad_engine.attacks.saliency import best_pairs
from ciad_engine.attacks.words import FOOLED, NO_ADVERSARIAL, NO_PAIR
from ciad_engine.jobs import Job

# A value nearer than this to the end of its range is at the end in the 8-bit image.
HALF_LEVEL = 0.5 / 255


def find(attack: JSMA, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    count = len(images)
    limit = int(images[0].numel() * attack.gamma / 2)
    changed = images.clone()
    values = changed.view(count, -1)
    steps = torch.zeros(count, dtype=torch.int64, device=images.device)
    reason = [NO_ADVERSARIAL] * count
    answers: Tensor | None = None
    toward = torch.empty_like(goal.labels)
    queue = Queue(model)
    rows = queue.take(model.width)  # the images under way
    while len(rows):
        job.progress(count - len(rows) - queue.waiting, count, f"{attack.title}: images finished")
        here = changed[rows].requires_grad_()
        logits = model.logits(here, rows)
        if answers is None:
            answers = logits.new_empty(count, logits.shape[1])
        answers[rows] = logits.detach()
        here_goal, new = goal.of(rows), steps[rows] == 0
        toward[rows[new]] = here_goal.toward(logits)[new]
        finished = here_goal.fooled(logits)
        for row in rows[finished].tolist():
            reason[row] = FOOLED
        left = ~finished & (steps[rows] < limit)
        going = rows[left]
        if len(going):
            own = logits.gather(1, toward[rows, None])[:, 0]
            alpha = model.gradient(own, here, going, keep_graph=True)[left].flatten(1)
            beta = model.gradient(logits.sum(1) - own, here, going)[left].flatten(1)
            if attack.theta > 0:
                pairs, valid = best_pairs(alpha, -beta, values[going] < 1 - HALF_LEVEL)
            else:
                pairs, valid = best_pairs(-alpha, beta, values[going] > HALF_LEVEL)
            for row in going[~valid].tolist():
                reason[row] = NO_PAIR
            going, pairs = going[valid], pairs[valid]
            values[going[:, None], pairs] = (values[going[:, None], pairs] + attack.theta).clamp(0, 1)
            steps[going] += 1
        rows = queue.fill(going)
    job.progress(count, count, f"{attack.title}: images finished")
    return Found(changed, steps, reason, answers)

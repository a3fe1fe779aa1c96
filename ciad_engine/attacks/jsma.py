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
    # An image goes toward one class at a time: `attempts` counts those given up, `steps` the pairs of this attempt.
    attempts, steps, total = images.new_zeros(3, count, dtype=torch.int64)
    reason = [NO_ADVERSARIAL] * count
    # The best end of an attempt, and by how much it misses the goal.
    nearest, missing = images.clone(), images.new_full((count,), torch.inf, dtype=torch.double)
    rivals = answers = goal.labels.new_empty(count, 0)  # the classes to go toward; the logits of `nearest`
    queue = Queue(model)
    rows = queue.take(model.width)  # the images under way
    while len(rows):
        job.progress(count - len(rows) - queue.waiting, count, f"{attack.title}: images finished")
        here = changed[rows].requires_grad_()
        logits = model.logits(here, rows)
        here_goal, new = goal.of(rows), (attempts[rows] == 0) & (steps[rows] == 0)
        found = here_goal.rivals(logits, logits.shape[1] - 1)
        if not rivals.numel():
            rivals, answers = found.new_empty(count, found.shape[1]), logits.new_empty(count, logits.shape[1])
        rivals[rows[new]] = found[new]
        finished = here_goal.fooled(logits)
        stepping = ~finished & (steps[rows] < limit)
        going = rows[stepping]
        if len(going):
            toward = rivals[rows, attempts[rows]]
            own = logits.gather(1, toward[:, None])[:, 0]
            alpha = model.gradient(own, here, going, keep_graph=True, among=stepping).flatten(1)
            beta = model.gradient(logits.sum(1) - own, here, going, among=stepping).flatten(1)
            if attack.theta > 0:
                pairs, valid = best_pairs(alpha, -beta, values[going] < 1 - HALF_LEVEL)
            else:
                pairs, valid = best_pairs(-alpha, beta, values[going] > HALF_LEVEL)
            stepping[stepping.clone()] = valid
            going, pairs = going[valid], pairs[valid]
            values[going[:, None], pairs] = (values[going[:, None], pairs] + attack.theta).clamp(0, 1)
            steps[going] += 1
            total[going] += 1
        # What takes no step has ended its attempt. If that failed, the next begins anew, toward the next class.
        lead = here_goal.lead(logits.detach()).double()
        better = ~stepping & (lead < missing[rows])
        nearest[rows[better]], missing[rows[better]] = changed[rows[better]], lead[better]
        answers[rows[better]] = logits.detach()[better]
        for row, fooled, spent in zip(
            rows[better].tolist(), finished[better], steps[rows[better]] == limit, strict=True
        ):
            reason[row] = FOOLED if fooled else NO_ADVERSARIAL if spent else NO_PAIR
        again = rows[~stepping & ~finished]
        attempts[again] += 1
        again = again[attempts[again] < rivals.shape[1]]
        changed[again], steps[again] = images[again], 0
        rows = queue.fill(torch.cat([going, again]))
    job.progress(count, count, f"{attack.title}: images finished")
    return Found(nearest, total, reason, answers)

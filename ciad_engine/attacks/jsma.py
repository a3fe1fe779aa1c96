"""The Jacobian-based saliency map attack: few values changed, two at a time."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import FOOLED, NO_ADVERSARIAL, NO_PAIR, Found
from ciad_engine.attacks.model import Model, Queue, one_hot, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.attacks.saliency import best_pairs
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

# A value nearer than this to the end of its range is at the end in the 8-bit image.
HALF_LEVEL = 0.5 / 255


@dataclasses.dataclass(frozen=True)
class JSMA(aims.TargetedAttack):
    """Papernot et al. 2016 (arXiv 1511.07528), algorithm 3 with equations 8 to 10, on logits.

    Each step adds `theta` to the pair of values (p, q) that maximises -alpha beta among those with
    alpha > 0 > beta, where alpha is the pair's gradient of the target's logit and beta that of the
    sum of all other logits (theta < 0: alpha < 0 < beta). The search is exact. A value is no longer
    available once it is at the end of its range. At most floor(gamma * values / 2) steps.

    Untargeted, the step's target is the class the network finds most likely after the label, and
    any wrong class ends the attack. Success is tested before each step, so an image of T steps
    takes T + 1 forward and 2 T backward passes, one forward pass before the attack, and one after it
    where a `theta` of less than the range leaves values that have to be rounded.
    """

    name: ClassVar[str] = "jsma"
    title: ClassVar[str] = "JSMA"
    source: ClassVar[str] = "Papernot et al. 2016 (arXiv 1511.07528), algorithm 3, equations 8-10"
    norm: ClassVar[str] = "l0"
    refills: ClassVar[bool] = True

    theta: float = parameter(
        1.0, "Step", "What is added to a chosen value, as a part of its range; not 0.", low=-1, high=1
    )
    gamma: float = parameter(0.1, "Budget", "Largest part of all values that may be changed.", low=0, high=1)
    target: str = aims.target()
    target_class: int = aims.target_class()
    target_seed: int = aims.target_seed()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.theta == 0:
            raise SettingError("jsma: theta = 0 changes nothing; choose a number from -1 to 1 that is not 0.")

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        count = len(images)
        limit = int(images[0].numel() * self.gamma / 2)
        changed = images.clone()
        values = changed.view(count, -1)
        steps = torch.zeros(count, dtype=torch.int64, device=images.device)
        reason = [NO_ADVERSARIAL] * count
        answers: Tensor | None = None
        toward = torch.empty_like(labels) if targets is None else targets
        queue = Queue(model)
        rows = queue.take(model.width)  # the images under way
        while len(rows):
            job.progress(count - len(rows) - queue.waiting, count, f"{self.title}: images finished")
            here = changed[rows].requires_grad_()
            logits = model.logits(here, rows)
            if answers is None:
                answers = logits.new_empty(count, logits.shape[1])
            answers[rows] = logits.detach()
            if targets is None:
                new = steps[rows] == 0
                others = logits.detach().masked_fill(one_hot(logits, labels[rows]), -torch.inf)
                toward[rows[new]] = others[new].argmax(1)
            finished = reached(logits, labels[rows], None if targets is None else targets[rows])
            for row in rows[finished].tolist():
                reason[row] = FOOLED
            left = ~finished & (steps[rows] < limit)
            going = rows[left]
            if len(going):
                own = logits.gather(1, toward[rows, None])[:, 0]
                alpha = model.gradient(own, here, going, keep_graph=True)[left].flatten(1)
                beta = model.gradient(logits.sum(1) - own, here, going)[left].flatten(1)
                if self.theta > 0:
                    pairs, valid = best_pairs(alpha, -beta, values[going] < 1 - HALF_LEVEL)
                else:
                    pairs, valid = best_pairs(-alpha, beta, values[going] > HALF_LEVEL)
                for row in going[~valid].tolist():
                    reason[row] = NO_PAIR
                going, pairs = going[valid], pairs[valid]
                values[going[:, None], pairs] = (values[going[:, None], pairs] + self.theta).clamp(0, 1)
                steps[going] += 1
            rows = queue.fill(going)
        job.progress(count, count, f"{self.title}: images finished")
        return Found(changed, steps, reason, answers)

"""DeepFool: straight to the nearest boundary of the linearised network, again and again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import FOOLED, NO_ADVERSARIAL, Found
from ciad_engine.attacks.model import Model, Queue, margin, one_hot, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.jobs import Job


@dataclasses.dataclass(frozen=True)
class DeepFool(aims.TargetedAttack):
    """Moosavi-Dezfooli, Fawzi, Frossard 2016 (arXiv 1511.04599), algorithm 2, for the Euclidean norm.

    Each step goes to the nearest of the boundaries that the linearised network has between the label
    and another class; the sum of the steps is lengthened by `overshoot`. Unlike there each point is put
    into the range of images before it is looked at, and a value at the end of its range takes part
    in no step beyond it; only the `candidates` likeliest classes are considered. With a target, which
    is not in the paper, each step goes to the boundary between the target and the class that leads.
    One step is two forward passes and one backward pass a considered class, with a target one.
    """

    name: ClassVar[str] = "deepfool"
    title: ClassVar[str] = "DeepFool"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599), algorithm 2"
    norm: ClassVar[str] = "l2"
    refills: ClassVar[bool] = True

    overshoot: float = parameter(
        0.02, "Overshoot", "By what part the way to the boundary is lengthened, so that it is crossed.", low=0, high=10
    )
    iterations: int = parameter(50, "Iterations", "Most steps.", low=1, high=10_000, unit="steps")
    candidates: int = parameter(
        10, "Classes", "How many of the likeliest classes are considered, the label among them.", low=2, high=1000
    )
    target: str = aims.target()
    target_class: int = aims.target_class()
    target_seed: int = aims.target_seed()

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        count = len(images)
        found, way = images.clone(), torch.zeros_like(images)
        steps = torch.zeros(count, dtype=torch.int64, device=images.device)
        reason = [NO_ADVERSARIAL] * count
        others: Tensor | None = None
        queue = Queue(model)

        def point(rows: Tensor) -> Tensor:
            return (images[rows] + (1 + self.overshoot) * way[rows]).clamp_(0, 1)

        def fooled(logits: Tensor, rows: Tensor) -> Tensor:
            return reached(logits, labels[rows], None if targets is None else targets[rows])

        rows = queue.take(model.width)  # the images under way
        while len(rows):
            job.progress(count - len(rows) - queue.waiting, count, f"{self.title}: images finished")
            stepped = rows[steps[rows] > 0]
            if len(stepped):
                # Most are fooled by now: that is found out before a gradient for each class is computed.
                found[stepped] = point(stepped)
                with torch.no_grad():
                    done = fooled(model.logits(found[stepped], stepped), stepped)
                for row in stepped[done].tolist():
                    reason[row] = FOOLED
                rows = torch.cat([stepped[~done & (steps[stepped] < self.iterations)], rows[steps[rows] == 0]])
                rows = queue.fill(rows)
                if len(rows) == 0:
                    break
            here = point(rows).requires_grad_()
            logits = model.logits(here, rows)
            if targets is not None:
                leads = -margin(logits, targets[rows])[:, None]
            else:
                if others is None:
                    others = labels.new_empty(count, min(self.candidates, logits.shape[1]) - 1)
                new = steps[rows] == 0
                ranked = logits.detach().masked_fill(one_hot(logits, labels[rows]), -torch.inf)
                others[rows[new]] = ranked[new].argsort(1, descending=True)[:, : others.shape[1]]
                leads = logits.gather(1, labels[rows, None]) - logits.gather(1, others[rows])
            move = self._nearest(model, here, leads, rows)
            moves = move.flatten(1).any(1)  # where the network is flat there is no way to go
            rows = rows[moves]
            way[rows] += move[moves]
            steps[rows] += 1
            if len(rows) == 0:
                rows = queue.fill(rows)
        job.progress(count, count, f"{self.title}: images finished")
        return Found(found, steps, reason)

    @staticmethod
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

"""The first attack of all: a box-constrained quasi-Newton search for the nearest misclassified image."""

from __future__ import annotations

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.carlini_wagner import narrow
from ciad_engine.attacks.catalogue import LBFGS
from ciad_engine.attacks.goal import Best, Goal
from ciad_engine.attacks.model import Model
from ciad_engine.counting import counted
from ciad_engine.jobs import Job

PAIRS = 10  # of steps and changes of the gradient that are remembered
DECREASE = 1e-4  # Armijo: part of the linear decrease a step has to reach
HALVINGS = 12  # of a step that does not
LEAST_GAIN = 1e-5  # a minimisation ends when a step lowers the objective by a smaller part


def find(attack: LBFGS, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    search = _Search(attack, model, images, goal)
    c = images.new_full((len(images),), attack.initial_c)
    lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
    for number in range(attack.search_steps):
        hit = search.minimise(c, job.part(number / attack.search_steps, (number + 1) / attack.search_steps))
        c, lower, upper = narrow(c, hit, lower, upper)
    job.progress(1, 1, attack.title)
    return Found(search.best.images, model.forwards.clone(), search.best.reasons())  # a step is one forward pass


class _Search:
    """The images under attack, and the best candidate found for each; its distance is the squared L2 distance."""

    def __init__(self, attack: LBFGS, model: Model, images: Tensor, goal: Goal) -> None:
        self.attack, self.model, self.images, self.goal, self.best = attack, model, images, goal, Best(images)

    def minimise(self, c: Tensor, job: Job) -> Tensor:
        """One minimisation per image from the image itself; bool (N,): the goal was reached."""
        hit = torch.zeros_like(c, dtype=torch.bool)
        rows = torch.arange(len(c), device=c.device)  # the images still being minimised
        x = self.images.flatten(1)
        job.progress(0, self.attack.iterations, self.attack.title)
        value, slope = self._evaluate(x, rows, c, hit)
        memory = _Memory(x)
        for i in range(self.attack.iterations):
            left = counted(len(rows), "image")
            job.progress(i, self.attack.iterations, f"{self.attack.title}: {left} in this search step")
            free = ~(((x <= 0) & (slope > 0)) | ((x >= 1) & (slope < 0)))
            way = memory.direction(slope * free) * free
            downhill = (way * slope).sum(1) < 0
            way = torch.where(downhill[:, None], way, -slope * free)
            new_x, new_value, new_slope = self._search_line(x, value, slope, way, rows, c, hit, job)
            gained = value - new_value
            memory.add(new_x - x, new_slope - slope)
            x, value, slope = new_x, new_value, new_slope
            going = gained > LEAST_GAIN * value.abs().clamp(min=1e-12)
            if not going.all():
                rows, x, value, slope = rows[going], x[going], value[going], slope[going]
                memory.keep(going)
                if len(rows) == 0:
                    break
        return hit

    def _search_line(
        self, x: Tensor, value: Tensor, slope: Tensor, way: Tensor, rows: Tensor, c: Tensor, hit: Tensor, job: Job
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Halve each image's step until it descends; an image for which none does stays where it is."""
        new_x, new_value, new_slope = x.clone(), value.clone(), slope.clone()
        length = torch.ones_like(value)
        left = torch.arange(len(rows), device=rows.device)
        for _ in range(HALVINGS):
            job.checkpoint()
            trial = (x[left] + length[left, None] * way[left]).clamp_(0, 1)
            found, found_slope = self._evaluate(trial, rows[left], c, hit)
            promised = ((trial - x[left]) * slope[left]).sum(1)
            good = (found <= value[left] + DECREASE * promised) & (promised < 0)
            taken = left[good]
            new_x[taken], new_value[taken], new_slope[taken] = trial[good], found[good], found_slope[good]
            left = left[~good]
            if len(left) == 0:
                break
            length[left] /= 2
        return new_x, new_value, new_slope

    def _evaluate(self, x: Tensor, rows: Tensor, c: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective (n,) and its gradient (n, values) at flat images; what is best is kept."""
        here = x.view(-1, *self.images.shape[1:]).clone().requires_grad_()
        logits = self.model.logits(here, rows)
        outcome = self.goal.of(rows).at(logits, here)
        loss = outcome.penalty()
        slope = self.model.gradient(c[rows] * loss, here, rows).flatten(1)
        change = x - self.images[rows].flatten(1)
        distance = change.square().sum(1)
        hit[rows] |= outcome.reached
        self.best.keep(rows, here.detach(), distance, outcome)
        return distance + (c[rows] * loss.detach()).to(distance), slope.to(x) + 2 * change


class _Memory:
    """The last steps and changes of the gradient of each image: what L-BFGS knows of its Hessian."""

    def __init__(self, x: Tensor) -> None:
        shape = (PAIRS, *x.shape)
        self.steps, self.changes = x.new_zeros(shape), x.new_zeros(shape)
        self.inverse = x.new_zeros(PAIRS, len(x))  # 1 / (step . change); 0 for a pair that is not used
        self.scale = x.new_full((len(x),), 0.5)  # of the distance term alone, whose Hessian is twice the identity

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a pair for each image; one without positive curvature is left out for that image."""
        product = (step * change).sum(1)
        useful = product > 1e-10 * step.norm(dim=1) * change.norm(dim=1)
        self.steps = torch.cat([self.steps[1:], step[None]])
        self.changes = torch.cat([self.changes[1:], change[None]])
        self.inverse = torch.cat([self.inverse[1:], torch.where(useful, 1 / product, 0)[None]])
        self.scale = torch.where(useful, product / change.square().sum(1), self.scale)

    def direction(self, slope: Tensor) -> Tensor:
        """-H slope by the two-loop recursion (Nocedal & Wright 2006, algorithm 7.4)."""
        way, weights = slope.clone(), []
        for step, change, inverse in zip(self.steps.flip(0), self.changes.flip(0), self.inverse.flip(0), strict=True):
            weight = inverse * (step * way).sum(1)
            way -= weight[:, None] * change
            weights.append(weight)
        way *= self.scale[:, None]
        for step, change, inverse, weight in zip(
            self.steps, self.changes, self.inverse, reversed(weights), strict=True
        ):
            way += (weight - inverse * (change * way).sum(1))[:, None] * step
        return -way

    def keep(self, rows: Tensor) -> None:
        self.steps, self.changes = self.steps[:, rows], self.changes[:, rows]
        self.inverse, self.scale = self.inverse[:, rows], self.scale[rows]

"""Gradient sign steps inside a box around the image: FGSM takes one, BIM many small ones, PGD from random starts."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from ciad_engine import imaging
from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import BIM, FGSM, PGD, OrthogonalPGD
from ciad_engine.attacks.goal import Best, Goal, Outcome
from ciad_engine.attacks.model import Model
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.counting import counted
from ciad_engine.jobs import Job


def fgsm(attack: FGSM, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    job.progress(0, 1, attack.title)
    rows = torch.arange(len(images), device=images.device)
    here, logits = model.first_logits(images)
    step = model.gradient(goal.at(logits, here).loss(), here, rows).sign().mul_(math.floor(attack.eps) / 255)
    job.progress(1, 1, attack.title)
    count = len(images)
    return Found((images + step).clamp_(0, 1), torch.ones(count, dtype=torch.int64), [NO_ADVERSARIAL] * count)


def bim(attack: BIM, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    climb = _Climb(attack, model, images, goal)
    climb.run(images, torch.arange(len(images), device=images.device), job, judge=False)
    return climb.found()


def pgd(attack: PGD, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    return _restarted(attack, _Climb(attack, model, images, goal), images, job)


def orthogonal(attack: OrthogonalPGD, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    kind = _OrthogonalClimb if goal.evade else _Climb
    return _restarted(attack, kind(attack, model, images, goal), images, job)


def _restarted(attack: PGD, climb: _Climb, images: Tensor, job: Job) -> Found:
    rows = torch.arange(len(images), device=images.device)
    # Of the grey levels: as floats the same image need not have the same bits on every device.
    levels = imaging.to_lattice(images).cpu().numpy()
    draws = [np.random.default_rng([attack.seed, zlib.crc32(image.tobytes())]) for image in levels]
    for number in range(attack.restarts):
        noise = np.stack([draws[row].uniform(-1, 1, images.shape[1:]) for row in rows.tolist()])
        start = images[rows] + climb.radius * torch.from_numpy(noise).to(images)
        climb.run(start, rows, job.part(number / attack.restarts, (number + 1) / attack.restarts), judge=True)
        rows = rows[climb.best.distance[rows].isinf()]
        if len(rows) == 0:
            break
    job.progress(1, 1, attack.title)
    return climb.found()


class _Climb:
    """Steps up the goal's loss, inside the box.

    Attributes:
        last: float (N, 3, H, W), where the last run of each image ended, in grey levels.
        best: what was seen to reach the goal: as it can be saved, not between two grey levels.
        steps: int64 (N,), of all runs.
    """

    def __init__(self, attack: BIM | PGD, model: Model, images: Tensor, goal: Goal) -> None:
        self.attack, self.model, self.goal = attack, model, goal
        self.radius = math.floor(attack.eps) / 255
        images = images.contiguous(memory_format=model.memory_format)
        self.low, self.high = (images - self.radius).clamp_(min=0), (images + self.radius).clamp_(max=1)
        self.last, self.best = images.clone(), Best(images)
        self.steps = torch.zeros(len(images), dtype=torch.int64)

    def run(self, start: Tensor, rows: Tensor, job: Job, judge: bool) -> None:
        """Climb from `start`, the places of images `rows`. Without `judge` (and stopping early) no end is tested."""
        attack = self.attack
        here = start.clamp(self.low[rows], self.high[rows])
        going = torch.arange(len(rows), device=rows.device)  # places in `here`
        tests = attack.iterations + (judge or attack.stop_early)
        for i in range(tests):
            job.progress(i, tests, f"{attack.title}: {counted(len(going), 'image')} under way")
            test = attack.stop_early or i == attack.iterations
            x = here[going]
            if test:
                x = (x * 255).round_().div_(255)
            if i == 0 and attack.starts_at_images:
                x, logits = self.model.first_logits(x)
            else:
                x.requires_grad_()
                logits = self.model.logits(x, rows[going])
            outcome = self.goal.of(rows[going]).at(logits, x)
            left = torch.ones_like(going, dtype=torch.bool)
            if test:
                left = ~outcome.reached
                self.best.keep(rows[going], x.detach(), x.new_zeros(len(going)), outcome)
            going = going[left]
            if i == attack.iterations or len(going) == 0:
                break
            slope = self.slope(outcome, x, rows[going], left)
            moved = here[going] + slope.sign_().mul_(attack.step / 255)
            here[going] = moved.clamp_(self.low[rows[going]], self.high[rows[going]])
            self.steps[rows[going].cpu()] += 1
        self.last[rows] = (here * 255).round_().div_(255)

    def slope(self, outcome: Outcome, images: Tensor, rows: Tensor, left: Tensor) -> Tensor:
        """Return the direction to step in (n, 3, H, W) for those `left` of the images, whose places are `rows`."""
        return self.model.gradient(outcome.loss(), images, rows, among=left)

    def found(self) -> Found:
        images = torch.where(self.best.known[:, None, None, None], self.best.images, self.last)
        return Found(images, self.steps, self.best.reasons())


class _OrthogonalClimb(_Climb):
    """Up the classifier's loss while it is not fooled, else down what the detectors find."""

    attack: OrthogonalPGD

    def slope(self, outcome: Outcome, images: Tensor, rows: Tensor, left: Tensor) -> Tensor:
        model, fooled = self.model, outcome.fooled[left][:, None, None, None]
        evidence = outcome.goal.evidence(outcome.logits)
        classifier = model.gradient(evidence, images, rows, keep_graph=True, among=left)
        quiet = -model.gradient(outcome.excess.clamp(min=0).sum(0), images, rows, among=left)
        own, other = torch.where(fooled, quiet, classifier), torch.where(fooled, classifier, quiet)
        return _without(own, other) if self.attack.variant == "orthogonal" else own


def _without(gradients: Tensor, others: Tensor) -> Tensor:
    """Return the parts of gradients (N, 3, H, W) that are orthogonal to those of `others`."""
    flat, other = gradients.flatten(1).double(), others.flatten(1).double()
    along = (flat * other).sum(1, keepdim=True) / (other * other).sum(1, keepdim=True).clamp(min=1e-300)
    return (flat - along * other).view_as(gradients).to(gradients)

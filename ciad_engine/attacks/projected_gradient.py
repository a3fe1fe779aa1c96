"""Many small gradient sign steps inside a box around the image: BIM, and PGD with random starts."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from ciad_engine import imaging
from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import BIM, PGD
from ciad_engine.attacks.fgsm import evidence_against
from ciad_engine.attacks.model import Model, reached
from ciad_engine.attacks.words import FOOLED, NO_ADVERSARIAL
from ciad_engine.jobs import Job


def bim(attack: BIM, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
    rows = torch.arange(len(images), device=images.device)
    return _Climb(attack, model, images, labels, targets).run(images, rows, job, judge=False)


def pgd(attack: PGD, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
    climb = _Climb(attack, model, images, labels, targets)
    whole = Found(images.clone(), torch.zeros(len(images), dtype=torch.int64), [NO_ADVERSARIAL] * len(images))
    rows = torch.arange(len(images), device=images.device)
    # Of the grey levels: as floats the same image need not have the same bits on every device.
    levels = imaging.to_lattice(images).cpu().numpy()
    draws = [np.random.default_rng([attack.seed, zlib.crc32(image.tobytes())]) for image in levels]
    for number in range(attack.restarts):
        noise = np.stack([draws[row].uniform(-1, 1, images.shape[1:]) for row in rows.tolist()])
        start = images[rows] + climb.radius * torch.from_numpy(noise).to(images)
        part = climb.run(start, rows, job.part(number / attack.restarts, (number + 1) / attack.restarts), judge=True)
        whole.images[rows] = part.images
        whole.steps[rows.cpu()] += part.steps
        left = []
        for row, reason in zip(rows.tolist(), part.reason, strict=True):
            whole.reason[row] = reason
            if reason != FOOLED:
                left.append(row)
        rows = torch.tensor(left, dtype=torch.int64, device=images.device)
        if not left:
            break
    job.progress(1, 1, attack.title)
    return whole


class _Climb:
    """Steps up the evidence against the label (down that against the target), inside the box."""

    def __init__(self, attack: BIM | PGD, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None) -> None:
        self.attack, self.model, self.labels, self.targets = attack, model, labels, targets
        self.radius = math.floor(attack.eps) / 255
        images = images.contiguous(memory_format=model.memory_format)
        self.low, self.high = (images - self.radius).clamp_(min=0), (images + self.radius).clamp_(max=1)

    def run(self, start: Tensor, rows: Tensor, job: Job, judge: bool) -> Found:
        """From `start`, the places of images `rows`, to grey levels.

        FOOLED stands where an image was seen to be misclassified: as it can be saved, not between
        two grey levels. Without `judge` (and without stopping early) nobody looks at the end.
        """
        attack = self.attack
        here = start.clamp(self.low[rows], self.high[rows])
        steps = torch.zeros(len(rows), dtype=torch.int64)
        reason = [NO_ADVERSARIAL] * len(rows)
        going = torch.arange(len(rows), device=rows.device)  # places in `here`
        looks = attack.iterations + (judge or attack.stop_early)
        for i in range(looks):
            job.progress(i, looks, f"{attack.title}: {len(going)} images under way")
            last = i == attack.iterations
            x = here[going]
            if last or attack.stop_early:
                x = (x * 255).round_().div_(255)
            if i == 0 and attack.starts_at_images:
                x, logits = self.model.first_logits(x)
            else:
                x.requires_grad_()
                logits = self.model.logits(x, rows[going])
            labels = self.labels[rows[going]]
            targets = None if self.targets is None else self.targets[rows[going]]
            left = torch.ones_like(labels, dtype=torch.bool)
            if last or attack.stop_early:
                left = ~reached(logits, labels, targets)
                for place in going[~left].tolist():
                    reason[place] = FOOLED
            going = going[left]
            if last or len(going) == 0:
                break
            loss = evidence_against(logits, labels) if targets is None else -evidence_against(logits, targets)
            slope = self.model.gradient(loss, x, rows[going])[left]
            moved = here[going] + slope.sign_().mul_(attack.step / 255)
            here[going] = moved.clamp_(self.low[rows[going]], self.high[rows[going]])
            steps[going.cpu()] += 1
        return Found((here * 255).round_().div_(255), steps, reason)

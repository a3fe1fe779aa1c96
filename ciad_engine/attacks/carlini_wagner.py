"""The attack of Carlini and Wagner on the Euclidean distance."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import FOOLED, NO_ADVERSARIAL, Found
from ciad_engine.attacks.model import Model, margin, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.jobs import Job

# x = (STRETCH tanh(w) + 1) / 2. At 1 a black or white value would sit at w = +-infinity and never
# move. This reaches half a grey level beyond both ends, so that every 8-bit value has a finite w.
STRETCH = 256 / 255

# Adam (Kingma & Ba 2015).
MEAN_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8

# An image's descent ends when its loss fell by less than this part in the last tenth of the iterations.
LEAST_GAIN = 1e-4


@dataclasses.dataclass(frozen=True)
class CarliniWagnerL2(aims.TargetedAttack):
    """Carlini & Wagner 2017 (arXiv 1608.04644), section V with f_6, box by tanh, section VI-A.

    Minimises ||x' - x||^2 + c max(Z_label - max of the other Z + confidence, 0) with Adam over w
    (with a target: max of the other Z - Z_target), and searches the smallest c that succeeds:
    tenfold until the first success, then bisection. The nearest image that ever succeeded is kept.

    The search, the end of a descent and Adam's state are each image's own, so batch mates do not
    matter. Not in the paper: a descent ends early (see LEAST_GAIN), as in the authors' code.
    One step is one forward and one backward pass.
    """

    name: ClassVar[str] = "cw"
    title: ClassVar[str] = "Carlini & Wagner L2"
    source: ClassVar[str] = "Carlini & Wagner 2017 (arXiv 1608.04644), sections V and VI-A"
    norm: ClassVar[str] = "l2"

    confidence: float = parameter(
        0.0, "Confidence", "By how much the wrong class's logit must exceed all others (kappa).", low=0, high=1000
    )
    iterations: int = parameter(
        1000, "Iterations", "Most iterations for one value of c.", low=1, high=100_000, unit="steps"
    )
    search_steps: int = parameter(9, "Search steps", "How many values of c are tried.", low=1, high=30)
    learning_rate: float = parameter(0.01, "Learning rate", "Adam's step, in tanh space.", low=1e-6, high=10)
    initial_c: float = parameter(
        1e-3, "First c", "Weight of the classification against the distance, first tried.", low=1e-9, high=1e9
    )
    target: str = aims.target()
    target_class: int = aims.target_class()

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        # The order in which convolutions hand back gradients: mixing two costs more than the network on a CPU.
        images = images.contiguous(memory_format=torch.channels_last)
        search = _Search(model, images, labels, targets)
        c = torch.full((len(images),), self.initial_c, device=images.device)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for number in range(self.search_steps):
            share = job.part(number / self.search_steps, (number + 1) / self.search_steps)
            hit = self._descend(search, c, share)
            upper = torch.where(hit, torch.minimum(upper, c), upper)
            lower = torch.where(hit, lower, torch.maximum(lower, c))
            c = torch.where(upper.isfinite(), (lower + upper) / 2, c * 10)
        job.progress(1, 1, self.title)
        return Found(
            images=search.best,
            steps=model.forwards.clone(),  # one each
            reason=[FOOLED if found else NO_ADVERSARIAL for found in search.distance.isfinite().tolist()],
        )

    def _descend(self, search: _Search, c: Tensor, job: Job) -> Tensor:
        """One descent per image at its own `c` (N,); improves `search.best`; bool (N,): succeeded at all."""
        model, targets = search.model, search.targets
        patience = max(1, self.iterations // 10)
        between = max(1, patience // 10)  # iterations from one check of the gain to the next
        history: collections.deque[Tensor] = collections.deque(maxlen=-(-patience // between))  # of `lowest`
        hit = torch.zeros_like(c, dtype=torch.bool)
        # The state of the images still descending; `rows` says which they are.
        rows = torch.arange(len(c), device=c.device)
        x, labels = search.images, search.labels
        w = torch.atanh((2 * x - 1) / STRETCH)
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        lowest = torch.full_like(c, torch.inf)
        for i in range(1, self.iterations + 1):
            job.progress(i - 1, self.iterations, f"{self.title}: {len(rows)} images in this search step")
            tanh = w.tanh()
            # Clamped, the candidate is a valid image; w's gradient is taken as if it were not, so
            # that a value in the half level beyond the end finds its way back.
            candidate = (tanh * (STRETCH / 2)).add_(0.5).clamp_(0, 1).requires_grad_()
            logits = model.logits(candidate, rows)
            lead = margin(logits, labels) if targets is None else -margin(logits, targets)
            hinge = (lead + self.confidence).clamp(min=0)
            gradient = model.gradient(c * hinge, candidate, rows)
            hinge = hinge.detach()

            candidate = candidate.detach()
            change = candidate - x
            distance = change.square().sum((1, 2, 3))
            fooled = reached(logits, labels, targets) & (hinge == 0)
            hit[rows] |= fooled
            search.keep(rows, candidate, distance, fooled)
            lowest = torch.minimum(lowest, distance + c * hinge)

            slope = gradient.add_(change, alpha=2).mul_(tanh.square_().neg_().add_(1)).mul_(STRETCH / 2)
            mean.lerp_(slope, 1 - MEAN_DECAY)
            square.mul_(SQUARE_DECAY).addcmul_(slope, slope, value=1 - SQUARE_DECAY)
            unbiased = math.sqrt(1 - SQUARE_DECAY**i)
            rate = self.learning_rate * unbiased / (1 - MEAN_DECAY**i)
            w.addcdiv_(mean, square.sqrt().add_(TINY * unbiased), value=-rate)

            if i % between == 0 and i < self.iterations:
                if len(history) == history.maxlen:
                    going = lowest < history[0] * (1 - LEAST_GAIN)
                    if not going.all():
                        rows, x, labels, w, mean, square, lowest, c = (
                            t[going] for t in (rows, x, labels, w, mean, square, lowest, c)
                        )
                        targets = None if targets is None else targets[going]
                        history.extend([known[going] for known in history])
                        if len(rows) == 0:
                            break
                history.append(lowest)
        return hit


class _Search:
    """The images under attack and the nearest adversarial image found for each.

    Attributes:
        best: float (N, 3, H, W); the original while there is none.
        distance: float (N,), its squared L2 distance; infinite while there is none.
    """

    def __init__(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None) -> None:
        self.model, self.images, self.labels, self.targets = model, images, labels, targets
        self.best = images.clone()
        self.distance = torch.full((len(images),), torch.inf, device=images.device)

    def keep(self, rows: Tensor, candidates: Tensor, distance: Tensor, fooled: Tensor) -> None:
        """Take over what fools and is nearer than what is known; `rows` are the candidates' places."""
        better = (fooled & (distance < self.distance[rows])).nonzero()[:, 0]
        self.best[rows[better]] = candidates[better]
        self.distance[rows[better]] = distance[better]

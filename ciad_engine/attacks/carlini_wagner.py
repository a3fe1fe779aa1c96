"""The attack of Carlini and Wagner on the Euclidean distance."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import CarliniWagnerL2
from ciad_engine.attacks.goal import Best, Goal
from ciad_engine.attacks.model import Model, Queue
from ciad_engine.counting import counted
from ciad_engine.jobs import Job

# x = (STRETCH tanh(w) + 1) / 2. At 1 a black or white value would sit at w = +-infinity and never
# move. This reaches half a grey level beyond both ends, so that every 8-bit value has a finite w.
STRETCH = 256 / 255

# Adam (Kingma & Ba 2015).
MEAN_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8

# An image's descent ends when its loss fell by less than LEAST_GAIN of it in the last PATIENCE of the iterations. The
# authors' code waits for a tenth; on the shipped f1 (128 test images, defaults) a twentieth takes 1,199 passes an
# image instead of 1,894 and ends 0.04 % farther away, a thirty-third 840 and 0.15 %. It waits LEAST_PATIENCE at
# least: Adam's first steps need not lower the loss.
LEAST_GAIN, PATIENCE, LEAST_PATIENCE = 1e-4, 1 / 20, 10


def find(attack: CarliniWagnerL2, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    # The order in which convolutions hand back gradients: mixing two costs more than the network on a CPU.
    search = _Search(attack, model, images.contiguous(memory_format=model.memory_format), goal)
    descents = len(images) * attack.search_steps
    while len(search.rows):
        job.progress(search.ended, descents, f"{attack.title}: {counted(search.left, 'image')} left")
        search.step()
        search.turn()
    job.progress(descents, descents, attack.title)
    return Found(search.best.images, model.forwards.clone(), search.best.reasons())  # a step is one forward pass


class _Search:
    """The images under attack, each at its own place in its own descent.

    Attributes:
        best: the best candidates found; their distance is the squared L2 distance.
        ended: descents that came to their end, of all images.
        rows: int64 (n,), the images under way, as places among the N. What follows has a row for each of them.
        x: the image.
        w, mean, square: what Adam moves, and its two averages of the gradient.
        c, lower, upper: the weight of this descent, the highest that failed, the lowest that succeeded.
        hit: bool, this descent has reached the goal.
        lowest: the lowest loss of this descent; `known` (n, places): what it was at the last checks.
        age, number: on the CPU; iterations of this descent, and how many went before it.
    """

    _EACH = ("rows", "x", "w", "mean", "square", "c", "lower", "upper", "hit", "lowest", "known", "age", "number")

    def __init__(self, attack: CarliniWagnerL2, model: Model, images: Tensor, goal: Goal) -> None:
        self.attack, self.model, self.goal = attack, model, dataclasses.replace(goal, confidence=attack.confidence)
        # Without gain for so many iterations a descent ends.
        patience = min(attack.iterations, max(LEAST_PATIENCE, round(attack.iterations * PATIENCE)))
        self.between = max(1, patience // 10)  # iterations from one check of the gain to the next
        self.best = Best(images)
        self.ended = 0
        self._images = images
        self._queue = Queue(model)

        first = self._queue.take(model.width)
        self.rows = torch.empty_like(first)
        self.x = images[first]
        self.w = torch.empty_like(self.x)
        self.mean, self.square = torch.empty_like(self.w), torch.empty_like(self.w)
        self.c, self.lower, self.upper, self.lowest = self.best.distance[first].expand(4, -1).clone()
        self.hit = torch.zeros_like(self.rows, dtype=torch.bool)
        self.known = self.c.new_empty(len(first), -(-patience // self.between))
        self.age = torch.zeros(len(first), dtype=torch.int64)
        self.number = torch.zeros_like(self.age)
        self._enter(torch.arange(len(first)), first)

    @property
    def left(self) -> int:
        """How many images have not tried all their values of c."""
        return len(self.rows) + self._queue.waiting

    def step(self) -> None:
        """One iteration of every descent."""
        tanh = self.w.tanh()
        # Clamped, the candidate is a valid image; w's gradient is taken as if it were not, so
        # that a value in the half level beyond the end finds its way back.
        candidate = (tanh * (STRETCH / 2)).add_(0.5).clamp_(0, 1).requires_grad_()
        logits = self.model.logits(candidate, self.rows)
        outcome = self.goal.of(self.rows).at(logits, candidate)
        hinge = outcome.margin().clamp(min=0)
        gradient = self.model.gradient(self.c * hinge, candidate, self.rows)
        hinge = hinge.detach()

        candidate = candidate.detach()
        change = candidate - self.x
        distance = change.square().sum((1, 2, 3))
        self.best.keep(self.rows, candidate, distance, outcome)
        self.hit |= outcome.reached
        self.lowest = torch.minimum(self.lowest, (distance + self.c * hinge).to(distance))  # logits may be double

        slope = torch.add(gradient, change, alpha=2).mul_(tanh.square_().neg_().add_(1)).mul_(STRETCH / 2)
        self.mean.lerp_(slope, 1 - MEAN_DECAY)
        self.square.mul_(SQUARE_DECAY).addcmul_(slope, slope, value=1 - SQUARE_DECAY)
        self.age += 1
        age = self.age.double()[:, None, None, None]
        unbiased = (1 - SQUARE_DECAY**age).sqrt()
        rate = self.attack.learning_rate * unbiased / (1 - MEAN_DECAY**age)
        spread = self.square.sqrt().add_((TINY * unbiased).to(self.w))
        self.w.addcmul_(torch.div(self.mean, spread, out=spread), -rate.to(self.w))

    def turn(self) -> None:
        """Descents that ran their iterations or gain no more are over: their images begin the next or leave."""
        over = self.age == self.attack.iterations
        at = ((self.age % self.between == 0) & ~over).nonzero()[:, 0]
        if len(at):
            place = self.age[at] // self.between % self.known.shape[1]  # in turn: each holds the oldest check
            here = at.to(self.rows.device), place.to(self.rows.device)
            lowest = self.lowest[here[0]]
            over[at] = (lowest >= self.known[here] * (1 - LEAST_GAIN)).cpu()
            self.known[here] = lowest
        if over.any():
            self._next(over.nonzero()[:, 0])

    def _next(self, over: Tensor) -> None:
        """Another `c` for those at `over` (on the CPU); those that tried all make room for those that wait."""
        at = over.to(self.rows.device)
        self.c[at], self.lower[at], self.upper[at] = narrow(self.c[at], self.hit[at], self.lower[at], self.upper[at])
        self.number[over] += 1
        self.ended += len(over)
        self._begin(over)

        out = (self.number == self.attack.search_steps).nonzero()[:, 0]
        new = self._queue.take(len(out))
        if len(new):
            self._enter(out[: len(new)], new)
        if len(new) < len(out):
            left = (self.number < self.attack.search_steps).nonzero()[:, 0]
            for name in self._EACH:
                rows = getattr(self, name)
                setattr(self, name, rows[left.to(rows.device)])

    def _enter(self, places: Tensor, rows: Tensor) -> None:
        """The images `rows`, of all, begin their first descent at `places` (on the CPU)."""
        at = places.to(rows.device)
        self.rows[at], self.x[at] = rows, self._images[rows]
        self.c[at], self.lower[at], self.upper[at] = self.attack.initial_c, 0, torch.inf
        self.number[places] = 0
        self._begin(places)

    def _begin(self, places: Tensor) -> None:
        """A descent from the image itself at each of `places` (on the CPU)."""
        at = places.to(self.rows.device)
        self.w[at] = torch.atanh((2 * self.x[at] - 1) / STRETCH)
        self.mean[at], self.square[at], self.hit[at] = 0, 0, False
        self.lowest[at], self.known[at] = torch.inf, torch.inf
        self.age[places] = 0


def narrow(c: Tensor, hit: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The next weight to try and its bounds, each (n,), after `c` succeeded (`hit`) or not.

    Tenfold until the first success, then bisection (section VI-A). `lower` is the highest that failed,
    `upper` the lowest that succeeded, infinite while there is none.
    """
    upper = torch.where(hit, torch.minimum(upper, c), upper)
    lower = torch.where(hit, lower, torch.maximum(lower, c))
    return torch.where(upper.isfinite(), (lower + upper) / 2, c * 10), lower, upper

"""What an attack has to reach: the classifier wrong, or at a target, and the chosen detectors quiet.

All branches on whether there is a target are here, so that an attack is written once for all goals.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ciad_engine import compute
from ciad_engine.attacks.model import NO_GRADIENT, margin, one_hot
from ciad_engine.attacks.words import FLAGGED, FOOLED, NO_ADVERSARIAL
from ciad_engine.errors import CiadError


@dataclasses.dataclass(frozen=True)
class Evasion:
    """A detector that must stay quiet.

    Attributes:
        name: for people.
        excess: of float images (n, 3, H, W) and the classes (n,), int64, that the classifier gives them: the
            detector's score minus its threshold, (n,), with a gradient. Above 0 it flags the image.
    """

    name: str
    excess: Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Goal:
    """The goal of an attack on N images.

    Attributes:
        labels: int64 (N,), the true classes.
        targets: int64 (N,), the classes to reach; None if any wrong class will do.
        evade: the detectors that must stay quiet.
        confidence: by how much the wrong class's logit must exceed all others.
    """

    labels: Tensor
    targets: Tensor | None = None
    evade: tuple[Evasion, ...] = ()
    confidence: float = 0.0

    def of(self, rows: Tensor) -> Goal:
        """Return the goal of some of the images, by their places or by a mask."""
        targets = None if self.targets is None else self.targets[rows]
        return dataclasses.replace(self, labels=self.labels[rows], targets=targets)

    @property
    def possible(self) -> Tensor:
        """bool (N,): the label itself is not the target."""
        return torch.ones_like(self.labels, dtype=torch.bool) if self.targets is None else self.targets != self.labels

    def at(self, logits: Tensor, images: Tensor) -> Outcome:
        """Return how images, float (N, 3, H, W), stand to the goal, given the classifier's logits (N, classes) of them.

        If `images` require a gradient, the numbers of the outcome have one with respect to them.
        """
        return Outcome(self, logits, images)

    def fooled(self, logits: Tensor) -> Tensor:
        """bool (N,): classified as the target, or without targets as anything but the label."""
        answer = logits.detach().argmax(1)
        return answer != self.labels if self.targets is None else answer == self.targets

    def toward(self, logits: Tensor) -> Tensor:
        """int64 (N,): the target, or without targets the class that is likeliest after the label."""
        if self.targets is not None:
            return self.targets
        return _others(logits.detach(), self.labels).argmax(1)

    def lead(self, logits: Tensor) -> Tensor:
        """(N,): by how much the logits miss the goal's class, positive while the classifier is not fooled."""
        return margin(logits, self.labels) if self.targets is None else -margin(logits, self.targets)

    def evidence(self, logits: Tensor) -> Tensor:
        """(N,): log-odds for a wrong class, or for the target; attacks on the classifier alone ascend them."""
        if self.targets is None:
            return evidence_against(logits, self.labels)
        return -evidence_against(logits, self.targets)

    def cross_entropy(self, logits: Tensor, most: float, least: float) -> Tensor:
        """`evidence` with the gradient of the cross-entropy, whose weight of an image is `least` at least.

        The evidence against a label is cut off at `most`: beyond it nothing is won by raising it.
        """
        if self.targets is None:
            return _weighted(evidence_against(logits, self.labels).clamp(max=most), least)
        return -_weighted(evidence_against(logits, self.targets), least)

    def rivals(self, logits: Tensor, count: int) -> Tensor:
        """int64 (N, k): the target alone, or without targets the `count` classes that are likeliest after the label."""
        if self.targets is not None:
            return self.targets[:, None]
        return _others(logits.detach(), self.labels).argsort(1, descending=True)[:, :count]

    def leads(self, logits: Tensor, rivals: Tensor) -> Tensor:
        """(N, k): the label's lead over each of its `rivals`, or of the class that leads over the target."""
        if self.targets is not None:
            return self.lead(logits)[:, None]
        return logits.gather(1, self.labels[:, None]) - logits.gather(1, rivals)

    def excess(self, images: Tensor, classes: Tensor) -> Tensor:
        """(detectors, N): score minus threshold of each detector if the classifier gives the images these classes.

        Raises:
            CiadError: a detector returns something else, NaN or infinity, or no gradient though one is needed.
        """
        found = images.new_zeros(len(self.evade), len(images))
        return torch.stack([_excess(one, images, classes) for one in self.evade]) if self.evade else found


class Outcome:
    """How images stand to a goal. The detectors are asked once, and only if something here needs them."""

    def __init__(self, goal: Goal, logits: Tensor, images: Tensor) -> None:
        self.goal, self.logits, self.images = goal, logits, images
        self.fooled = goal.fooled(logits)

    @functools.cached_property
    def excess(self) -> Tensor:
        """(detectors, N), as if the class that the attack goes toward were the classifier's: once fooled it is."""
        if self.images.requires_grad and not self.logits.requires_grad:  # else the detectors' gradient would hide it
            raise CiadError(NO_GRADIENT)
        return self.goal.excess(self.images, self.goal.toward(self.logits))

    @functools.cached_property
    def reached(self) -> Tensor:
        """bool (N,): the whole goal is reached."""
        found = self.fooled
        if self.goal.confidence:
            found = found & (self.goal.lead(self.logits.detach()) + self.goal.confidence <= 0)
        return found & (self.excess.detach() <= 0).all(0) if self.goal.evade else found

    def loss(self) -> Tensor:
        """(N,), to be ascended."""
        return -self.penalty() if self.goal.evade else self.goal.evidence(self.logits)

    def penalty(self) -> Tensor:
        """(N,), positive, to be descended: -log p of a wrong class or the target, and the like for each detector.

        Each term is flat once its part of the goal is reached well, so that it leaves the step to those that are not.
        """
        own = F.softplus(-self.goal.evidence(self.logits))  # exact even if p rounds to 0 or 1
        return own + F.softplus(self.excess).sum(0) if self.goal.evade else own

    def margin(self) -> Tensor:
        """(N,): what is missing to the goal, in logits and scores; positive while it is not reached."""
        lead = self.goal.lead(self.logits) + self.goal.confidence
        return lead.clamp(min=0) + self.excess.clamp(min=0).sum(0) if self.goal.evade else lead


class Best:
    """The best candidate of each of N images so far: the nearest that reaches the goal.

    If there are detectors to evade, an image for which none does keeps the one that fools the classifier and is
    flagged by least: it must not vanish.

    Attributes:
        images: float (N, 3, H, W); the images themselves at first.
        distance: float (N,), that of an image that reaches the goal, as it was given; infinite while there is none.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.distance = images.new_full((len(images),), torch.inf)
        self._flagged = self.distance.double()  # what is missing to the goal of one that fools the classifier alone

    def keep(self, rows: Tensor, candidates: Tensor, distance: Tensor, outcome: Outcome) -> None:
        """Take those of the candidates (n, 3, H, W), for the images `rows`, that are better than what is known."""
        better = (outcome.reached & (distance < self.distance[rows])).nonzero()[:, 0]
        self.images[rows[better]] = candidates[better]
        self.distance[rows[better]] = distance[better]
        if outcome.goal.evade:
            missing = outcome.excess.detach().clamp(min=0).sum(0).double()
            quieter = outcome.fooled & ~outcome.reached & self.distance[rows].isinf() & (missing < self._flagged[rows])
            better = quieter.nonzero()[:, 0]
            self.images[rows[better]] = candidates[better]
            self._flagged[rows[better]] = missing[better]

    @property
    def known(self) -> Tensor:
        """bool (N,): there is a candidate that fools the classifier."""
        return self.distance.isfinite() | self._flagged.isfinite()

    def reasons(self) -> list[str]:
        """For `Found.reason`: why each image fails, FOOLED if it reached the goal."""
        reached, known = self.distance.isfinite().tolist(), self.known.tolist()
        return [FOOLED if r else FLAGGED if k else NO_ADVERSARIAL for r, k in zip(reached, known, strict=True)]


def evidence_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log of (1 - p) / p for each image's class (N,), where p is its softmax probability.

    Its gradient is that of the cross-entropy -log p divided by 1 - p, so it has the same sign
    everywhere; but it stays exact when p rounds to 1 and the cross-entropy's gradient to nothing.
    """
    return _others(logits, classes).logsumexp(1) - logits.gather(1, classes[:, None])[:, 0]


def _others(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits (N, classes) without each row's entry of `classes` (N,)."""
    return logits.masked_fill(one_hot(logits, classes), -torch.inf)


def _weighted(evidence: Tensor, least: float) -> Tensor:
    """Evidence against a class, log((1 - p) / p), weighted by 1 - p: the gradient is that of its cross-entropy -log p.

    But if p is so near 1 that the cross-entropy has no gradient left, `least` keeps one.
    """
    return evidence * torch.sigmoid(evidence.detach()).clamp(min=least)


def _excess(detector: Evasion, images: Tensor, classes: Tensor) -> Tensor:
    with compute.foreign(f"The detector '{detector.name}' fails at images of shape {tuple(images.shape)}"):
        found = detector.excess(images, classes)
    if not isinstance(found, Tensor):
        raise CiadError(f"The detector '{detector.name}' returned a {type(found).__name__}, not a tensor.")
    if found.shape != (len(images),):
        raise CiadError(f"The detector '{detector.name}' returned shape {tuple(found.shape)} for {len(images)} images.")
    if not compute.finite(found):
        raise CiadError(f"The detector '{detector.name}' returned NaN or infinity.")
    if images.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
        raise CiadError(
            f"The detector '{detector.name}' has no gradient with respect to the image: no attack can evade it."
        )
    return found

"""Objectives of classifiers and mask generators that hold under small changes of the image, trained by N-FGSM."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.detectors.evidence import colour_fields
from ciad_engine.training.augment import blurred, erase
from ciad_engine.training.objectives import Classify, Images, accuracy


def n_fgsm(images: Tensor, eps: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images, (N, 3, H, W) in [0, 1], changed so that `loss` grows.

    De Jorge et al. 2022 (arXiv 2202.01181), algorithm 1: uniform noise of 2 eps, a step of eps along the gradient's
    sign, and no projection. It spares single-step training the collapse to which plain FGSM is prone.
    """
    noisy = (images + torch.empty_like(images).uniform_(-2 * eps, 2 * eps)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(noisy), noisy)
    return (noisy.detach() + eps * gradient.sign()).clamp(0, 1)


def random_masks(count: int, size: int) -> Tensor:
    """Return soft random masks (count, 1, size, size) in [0, 1] of blobs; 0 to 90% of each is near 1."""
    side = 4 if torch.rand(()) < 0.5 else 8
    noise = F.interpolate(torch.rand(count, 1, side, side), (size, size), mode="bilinear", align_corners=False)
    ordered = noise.flatten(1).sort(1).values
    kept = torch.empty(count).uniform_(0.1, 1.0)
    border = ordered.gather(1, (kept * (size * size - 1)).long()[:, None])
    steepness = torch.empty(count, 1, 1, 1).uniform_(10, 60)
    return torch.sigmoid((noise - border[:, :, None, None]) * steepness)


@dataclasses.dataclass(eq=False)
class Robust(Classify):
    """Cross-entropy on images attacked by `n_fgsm` with a budget of `eps` grey levels."""

    eps: float = dataclasses.field(kw_only=True)

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = imaging.to_unit(erase(self.shown(rows), self.schedule.erase)), self.train.labels[rows]
        see = self.sight(images)

        def loss(changed: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.network(see(changed)).float()
            return F.cross_entropy(logits, labels, label_smoothing=self.schedule.label_smoothing), logits

        found, logits = loss(n_fgsm(images, self.eps / 255, lambda changed: loss(changed)[0]))
        return found, {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def sight(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return how the classifier sees these images, and the same images changed: here as they are."""
        return lambda changed: changed

    def fillings(self, count: int, size: int) -> Tensor:
        """Return what replaces parts of `count` images: other training images, blurred, and fields of colour.

        A sharp part of another image would be as good an answer as what is kept of this one.
        """
        rows = torch.randint(self.count, (count // 2,), device=self.train.images.device)
        others = blurred(imaging.to_unit(self.shown(rows)))
        filled = torch.cat([others, colour_fields(count - count // 2, size).to(others)])
        return filled[torch.randperm(count, device=filled.device)]


@dataclasses.dataclass(eq=False)
class Evidence(Robust):
    """The same on images of which parts are replaced: by random masks, and by those of `generator` if it is given.

    On random masks alone at first, so that the classifier reads what is kept; a generator that is trained for it later
    cannot tell it the class by a mask's shape (REAL-X, Jethani et al. 2021, arXiv 2103.01890, section 4).
    """

    generator: nn.Module | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given = () if self.generator is None else (self.generator,)

    def sight(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        count, size = len(images), images.shape[-1]
        fillings, masks = self.fillings(count, size), random_masks(count, size).to(images.device)
        drawn = 0 if self.generator is None else count // 2

        def see(changed: Tensor) -> Tensor:
            if self.generator is None:
                return torch.lerp(changed, fillings, masks)
            return torch.lerp(changed, fillings, torch.cat([self.generator(changed[:drawn]), masks[drawn:]]))

        return see

    def validate(self) -> dict[str, float]:
        """Return the accuracy on validation images of which half is replaced by colours, or what the generator says."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            masks = random_masks(500, self.validation.images.shape[-1])

        def drawn(images: Tensor) -> Tensor:
            return masks[: len(images)].to(images.device)

        return _of_what_is_kept(self.network, self.validation, drawn if self.generator is None else self.generator)


@dataclasses.dataclass(eq=False)
class Explain(Robust):
    """The LAN's objective for a robust classifier, and what later work adds to it, on attacked images.

    With x~ the image of which the mask m replaces the unimportant part, and F the classifier: cross-entropy of F(x~)
    against F(x) (Grimm et al. 2017, arXiv 1706.00536, section 3). Then, each with its weight: what is left out shall
    tell nothing (cross-entropy of F on it against the uniform distribution: masked-out entropy, Phang et al. 2020,
    arXiv 2010.09750); the kept area, its part beyond `area`, and total variation (Dabkowski and Gal 2017, arXiv
    1705.07857); m (1 - m), which pushes values to 0 and 1.
    """

    classifier: nn.Module
    area: float = dataclasses.field(kw_only=True)
    weights: dict[str, float] = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given = (self.classifier,)

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        images = imaging.to_unit(self.shown(rows))
        fillings = self.fillings(len(images), images.shape[-1])
        with torch.no_grad():
            wanted = self.classifier(images).float().softmax(1)

        def kept(changed: Tensor, masks: Tensor) -> Tensor:
            return F.cross_entropy(self.classifier(torch.lerp(changed, fillings, masks)).float(), wanted)

        changed = n_fgsm(images, self.eps / 255, lambda noisy: kept(noisy, self.network(noisy)))
        masks = self.network(changed)
        inside = kept(changed, masks)
        outside = -self.classifier(torch.lerp(fillings, changed, masks)).float().log_softmax(1).mean()
        importance = 1 - masks
        variation = masks.diff(dim=2).abs().mean() + masks.diff(dim=3).abs().mean()
        beyond = (importance.mean((1, 2, 3)) - self.area).clamp(min=0).mean()
        terms = {
            "outside": outside,
            "beyond": beyond,
            "mean": importance.mean(),
            "variation": variation,
            "grey": (masks * (1 - masks)).mean(),
        }
        total = inside + sum(self.weights[name] * term for name, term in terms.items())
        return total, {"inside": inside.detach(), **{name: term.detach() for name, term in terms.items()}}

    def validate(self) -> dict[str, float]:
        """Return what Evidence does, of the classifier and what the masks keep of validation images."""
        with compute.borrowed(self.network):
            return _of_what_is_kept(self.classifier, self.validation, self.network)


def _of_what_is_kept(classifier: nn.Module, images: Images, masks: Callable[[Tensor], Tensor]) -> dict[str, float]:
    size = images.images.shape[-1]
    draw = torch.Generator().manual_seed(0)
    fillings = colour_fields(500, size, draw)[torch.randperm(500, generator=draw)]

    def see(batch: Tensor) -> Tensor:
        return torch.lerp(batch, fillings[: len(batch)].to(batch), masks(batch))

    return {"validation accuracy": accuracy(classifier, images, see)}

"""What each network's training minimises: the losses by name, on flipped and shifted training images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.datasets import ImageSet
from ciad_engine.jobs import Job
from ciad_engine.training.augment import draw_views, erase, flip_and_shift, view_count, views
from ciad_engine.training.loop import Objective
from ciad_engine.training.recipes import Schedule


class Images:
    """A labelled image set on the device: uint8 (N, 3, H, W) and int64 (N,)."""

    def __init__(self, images: Tensor, labels: Tensor, device: torch.device) -> None:
        self.images, self.labels = images.to(device), labels.to(device)

    @classmethod
    def of(cls, part: ImageSet, device: torch.device) -> Images:
        return cls(torch.from_numpy(part.images), torch.from_numpy(part.labels), device)

    def __len__(self) -> int:
        return len(self.labels)


@torch.inference_mode()
def accuracy(network: nn.Module, images: Images, before: Callable[[Tensor], Tensor] | None = None) -> float:
    """Return the share of images that `network` classifies correctly (from `before`'s output, if given)."""

    def right(rows: slice) -> int:
        batch = imaging.to_unit(images.images[rows])
        out = network(batch if before is None else before(batch))
        return int((out.argmax(1) == images.labels[rows]).sum())

    with compute.borrowed(network):
        return sum(compute.in_batches(right, len(images), 500)) / len(images)


@dataclasses.dataclass(eq=False)
class ImageObjective(Objective):
    """An objective on the images of a data set; subclasses add the networks it is given and its options."""

    name: str
    network: nn.Module
    schedule: Schedule
    train: Images
    validation: Images

    def __post_init__(self) -> None:
        self.count = len(self.train)

    def shown(self, rows: Tensor) -> Tensor:
        """Return the training images at `rows`, flipped and shifted: uint8 (len(rows), 3, H, W)."""
        return flip_and_shift(self.train.images[rows], self.schedule.shift)

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the network is given of images in [0, 1]."""
        return images


class Classify(ImageObjective):
    """Cross-entropy on flipped, shifted and partly erased images."""

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = imaging.to_unit(erase(self.shown(rows), self.schedule.erase)), self.train.labels[rows]
        logits = self.network(self.inputs(images))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.schedule.label_smoothing)
        return loss, {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def validate(self) -> dict[str, float]:
        return {"validation accuracy": accuracy(self.network, self.validation, self.inputs)}


@dataclasses.dataclass(eq=False)
class ClassifyMasks(Classify):
    """The same on the masks that a mask generator makes of these images."""

    generator: nn.Module

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given = (self.generator,)

    @torch.no_grad()
    def inputs(self, images: Tensor) -> Tensor:
        return self.generator(images)


@dataclasses.dataclass(eq=False)
class Mask(ImageObjective):
    """The LAN's objective, Grimm et al. 2017 (arXiv 1706.00536 v1), section 3.

    x~ = A(x) eta + (1 - A(x)) x with eta drawn uniformly from the training images (bootstrapped noise), and the loss
    E[L_F(F(x~), F(x)) - beta mean A(x)] with L_F the cross-entropy against the classifier F's own output, no label.
    """

    classifier: nn.Module
    beta: float
    _known: Tensor | None = dataclasses.field(default=None, init=False)  # F(x) of every view of every training image

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given = (self.classifier,)

    def prepare(self, job: Job) -> None:
        """Compute F once for every view of every training image, if the steps would compute it more often.

        That is a third of F's work in a step: without augmentation F(x) is known, and there are few views.
        """
        count = view_count(self.schedule.shift)
        if self.schedule.steps * self.schedule.batch < count * self.count:
            return
        images, shift = self.train.images, self.schedule.shift

        def classify(view: int, rows: slice) -> Tensor:
            done, total = view * len(images) + rows.start, count * len(images)
            # In words, too: the whole training's progress stands still meanwhile.
            job.progress(done, total, f"Classifying all training images ({100 * done // total}%)")
            numbers = torch.full((len(images[rows]),), view, device=images.device)
            with compute.mixed_precision(images.device):
                return self._probabilities(imaging.to_unit(views(images[rows], numbers, shift))).half()

        every = (compute.in_batches(functools.partial(classify, view), len(images), 500) for view in range(count))
        self._known = torch.stack([torch.cat(list(found)) for found in every])

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        numbers = draw_views(len(rows), self.schedule.shift, rows.device)
        images = imaging.to_unit(views(self.train.images[rows], numbers, self.schedule.shift))
        noise = imaging.to_unit(self.shown(torch.randint(self.count, (len(rows),), device=rows.device)))
        wanted = self._probabilities(images) if self._known is None else self._known[numbers, rows].float()
        return self._objective(images, noise, wanted)

    @torch.no_grad()
    def _probabilities(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        return logits.float().softmax(1)

    def _objective(self, images: Tensor, noise: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        mask = self.network(images)
        corrupted = torch.lerp(images, noise, mask)
        loss = F.cross_entropy(self.classifier(corrupted).float(), wanted)
        mean = mask.mean()
        return loss - self.beta * mean, {"cross-entropy": loss.detach(), "mean mask": mean.detach()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(self.count, (len(self.validation),), generator=generator)

        def measure(rows: slice) -> list[float]:
            images = imaging.to_unit(self.validation.images[rows])
            other = imaging.to_unit(self.train.images[noise[rows].to(images.device)])
            _, metrics = self._objective(images, other, self._probabilities(images))
            return [value.item() * len(images) for value in metrics.values()]

        parts = list(compute.in_batches(measure, len(self.validation), 500))
        cross_entropy, mean = (sum(column) / len(self.validation) for column in zip(*parts, strict=True))
        return {"validation cross-entropy": cross_entropy, "validation mean mask": mean}

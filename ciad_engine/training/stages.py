"""What each network's training adds to the loop: its loss and what is measured of it."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.jobs import Job
from ciad_engine.training.augment import draw_views, erase, flip_and_shift, view_count, views
from ciad_engine.training.loop import Schedule, Stage


class Images:
    """A labelled image set on the device: uint8 (N, 3, 32, 32) and int64 (N,)."""

    def __init__(self, images: Tensor, labels: Tensor, device: torch.device) -> None:
        self.images, self.labels = images.to(device), labels.to(device)

    def __len__(self) -> int:
        return len(self.labels)


@torch.inference_mode()
def accuracy(network: nn.Module, images: Images, before: nn.Module | None = None) -> float:
    """Share of images whose label `network` (of `before`'s output, where given) names."""

    def right(rows: slice) -> int:
        batch = imaging.to_unit(images.images[rows])
        out = network(batch if before is None else before(batch))
        return int((out.argmax(1) == images.labels[rows]).sum())

    with compute.borrowed(network):
        return sum(compute.in_batches(right, len(images), 500)) / len(images)


class ClassifierStage(Stage):
    """f1, the second classifier or the control: cross-entropy on flipped, shifted and partly erased images."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        schedule: Schedule,
        train: Images,
        validation: Images,
    ) -> None:
        self.name, self.network, self.schedule = name, network, schedule
        self.count = len(train)
        self._train, self._validation = train, validation

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        changed = erase(flip_and_shift(self._train.images[rows], self.schedule.shift), self.schedule.erase)
        images, labels = imaging.to_unit(changed), self._train.labels[rows]
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.schedule.label_smoothing)
        return loss, {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def validate(self) -> dict[str, float]:
        return {"validation accuracy": accuracy(self.network, self._validation)}


class MaskGeneratorStage(Stage):
    """The LAN's objective, Grimm et al. 2017 (arXiv 1706.00536 v1), section 3.

    x~ = A(x) eta + (1 - A(x)) x with eta drawn uniformly from the training images (bootstrapped
    noise), and the loss E[L_F(F(x~), F(x)) - beta mean A(x)] with L_F the cross-entropy against F's
    own output, no label. F is frozen and in eval mode.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        train: Images,
        validation: Images,
        classifier: nn.Module,
        beta: float,
    ) -> None:
        self.name, self.network, self.schedule = "mask_generator", network, schedule
        self.count = len(train)
        self._train, self._validation, self._beta = train, validation, beta
        self._classifier = classifier.eval().requires_grad_(False)
        self._answers: Tensor | None = None  # F(x) of every view of every training image

    def prepare(self, job: Job) -> None:
        """Ask F once about every view of every training image, where the steps would ask more often.

        That is a third of F's work in a step: without augmentation F(x) is known, and there are few views.
        """
        count = view_count(self.schedule.shift)
        if self.schedule.steps * self.schedule.batch < count * len(self._train):
            return
        images, shift = self._train.images, self.schedule.shift

        def ask(view: int, rows: slice) -> Tensor:
            done, total = view * len(images) + rows.start, count * len(images)
            # In words, too: the whole training's progress stands still meanwhile.
            job.progress(done, total, f"Asking the classifier about all images ({100 * done // total} %)")
            numbers = torch.full((len(images[rows]),), view, device=images.device)
            with compute.mixed_precision(images.device):
                answers = self._ask(imaging.to_unit(views(images[rows], numbers, shift)))
            return answers.half()

        every = (compute.in_batches(functools.partial(ask, view), len(images), 500) for view in range(count))
        self._answers = torch.stack([torch.cat(list(answers)) for answers in every])

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        numbers = draw_views(len(rows), self.schedule.shift, rows.device)
        images = imaging.to_unit(views(self._train.images[rows], numbers, self.schedule.shift))
        noise = torch.randint(len(self._train), (len(rows),), device=rows.device)
        other = imaging.to_unit(flip_and_shift(self._train.images[noise], self.schedule.shift))
        wanted = self._ask(images) if self._answers is None else self._answers[numbers, rows].float()
        return self._objective(images, other, wanted)

    @torch.no_grad()
    def _ask(self, images: Tensor) -> Tensor:
        logits: Tensor = self._classifier(images)
        return logits.float().softmax(1)

    def _objective(self, images: Tensor, noise: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        mask = self.network(images)
        corrupted = torch.lerp(images, noise, mask)
        loss = F.cross_entropy(self._classifier(corrupted).float(), wanted)
        mean = mask.mean()
        return loss - self._beta * mean, {"cross-entropy": loss.detach(), "mean mask": mean.detach()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(len(self._train), (len(self._validation),), generator=generator)

        def measure(rows: slice) -> list[float]:
            images = imaging.to_unit(self._validation.images[rows])
            other = imaging.to_unit(self._train.images[noise[rows].to(images.device)])
            _, metrics = self._objective(images, other, self._ask(images))
            return [value.item() * len(images) for value in metrics.values()]

        parts = list(compute.in_batches(measure, len(self._validation), 500))
        cross_entropy, mean = (sum(column) / len(self._validation) for column in zip(*parts, strict=True))
        return {"validation cross-entropy": cross_entropy, "validation mean mask": mean}


class MaskClassifierStage(Stage):
    """f2: cross-entropy on the masks that the trained g makes of flipped and shifted images."""

    def __init__(
        self, network: nn.Module, schedule: Schedule, train: Images, validation: Images, mask_generator: nn.Module
    ) -> None:
        self.name, self.network, self.schedule = "mask_classifier", network, schedule
        self.count = len(train)
        self._train, self._validation = train, validation
        self._mask_generator = mask_generator.eval().requires_grad_(False)

    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        labels = self._train.labels[rows]
        with torch.no_grad():
            masks = self._mask_generator(imaging.to_unit(flip_and_shift(self._train.images[rows], self.schedule.shift)))
        logits = self.network(masks)
        loss = F.cross_entropy(logits.float(), labels)
        return loss, {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def validate(self) -> dict[str, float]:
        return {"validation accuracy": accuracy(self.network, self._validation, before=self._mask_generator)}

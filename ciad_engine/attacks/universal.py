"""One perturbation for all images: computed once on some, then added to any."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import images as pixels
from ciad_engine.attacks import parameters
from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import NO_ADVERSARIAL, Found, check_batch
from ciad_engine.attacks.fgsm import check_budget
from ciad_engine.attacks.model import Model, classify, device_of, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.compute import borrowed
from ciad_engine.errors import SettingError
from ciad_engine.files import write_whole
from ciad_engine.jobs import Job

FEWEST = 10  # images a perturbation is computed from at least
BATCH = 50  # images a step is taken for
ENOUGH = 9.0  # an image's cross-entropy beyond which nothing is won by raising it
INERTIA = 0.9  # share of the past in the averaged gradient


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """What `Universal.fitted` found.

    Attributes:
        levels: int16 (3, H, W), in grey levels; added to an image, values beyond 0 and 255 cut off.
        count: of how many images it was computed.
        rate: what part of these it fools; of other images, expect less.
    """

    levels: npt.NDArray[np.int16]
    count: int
    rate: float


@dataclasses.dataclass(frozen=True)
class Universal(aims.TargetedAttack):
    """Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401): one v, |v| <= eps, that fools on most images.

    Computed as in Shafahi et al. 2020 (arXiv 1811.11304), section 3: steps along the sign of the gradient,
    summed over a batch of images, of the cross-entropy of the classes the network itself sees in them, cut
    off where it is large; after each step v is put back into the box. Unlike there the gradient is
    averaged over the past steps, the steps get shorter, and of the states after each pass over the images
    the one that fools most of them is kept, in whole grey levels. With a target the steps go down the
    target's cross-entropy; for one perturbation that makes most sense with `given`.

    It has to be `fitted` before it is run, on images it is not measured on: the success rate on others
    is the first paper's fooling rate. An image then takes two forward passes and no backward pass.
    """

    name: ClassVar[str] = "universal"
    title: ClassVar[str] = "Universal"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401); Shafahi et al. 2020 (arXiv 1811.11304)"
    norm: ClassVar[str] = "linf"

    eps: float = parameter(
        10.0, "Budget", "How far a colour value may move, in grey levels.", low=0, high=255, unit="/255"
    )
    step: float = parameter(
        2.0, "Step", "How far it moves in the first step, in grey levels; less in each later one.",
        low=0.01, high=255, unit="/255",
    )  # fmt: skip
    passes: int = parameter(20, "Passes", "How often it goes through the images it learns from.", low=1, high=1000)
    learns_from: int = parameter(
        500, "Learns from", "Most images it is computed from; they are not those it is measured on.",
        low=FEWEST, high=100_000, unit="images",
    )  # fmt: skip
    seed: int = parameter(0, "Seed", "Decides the order in which it goes through them.", low=0, high=2**31 - 1)
    target: str = aims.target(best=False)
    target_class: int = aims.target_class()
    target_seed: int = aims.target_seed()

    perturbation: Perturbation | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.name, self.eps)

    @property
    def needs_fitting(self) -> bool:
        return self.perturbation is None

    def check_spare(self, count: int) -> None:
        """See `Attack.check_spare`."""
        if count < FEWEST:
            raise SettingError(
                f"{self.name}: it is computed from at least {FEWEST} images besides those it is measured on, "
                f"and {count} are left: attack fewer images, or take a larger data set."
            )

    def fitted(self, network: nn.Module, images: npt.NDArray[np.uint8], job: Job | None = None) -> Universal:
        """See `Attack.fitted`. At most the first `learns_from` images are used.

        Raises:
            SettingError: fewer than 10 images, or none that could be turned to the target.
            CiadError, Cancelled: as `run`.
        """
        job = job or Job()
        images = images[: self.learns_from]
        self.check_spare(len(images))
        check_batch(images, np.zeros(len(images), np.int64))
        with borrowed(network), torch.inference_mode(False), torch.enable_grad():
            originals = torch.tensor(np.ascontiguousarray(images), device=device_of(network))
            answers = torch.cat([classify(network, originals[rows]) for rows in _slices(len(originals))])
            labels = answers.argmax(1)
            (aim,) = self.choose_targets(answers, labels, originals)
            if aim is not None:
                wanted = aim != labels
                originals, labels, aim = originals[wanted], labels[wanted], aim[wanted]
                if len(labels) == 0:
                    raise SettingError(f"{self.name}: all images it could learn from are of the target class already.")
            return dataclasses.replace(self, perturbation=self._learn(network, originals, labels, aim, job))

    def _learn(
        self, network: nn.Module, originals: Tensor, labels: Tensor, targets: Tensor | None, job: Job
    ) -> Perturbation:
        count, radius = len(originals), math.floor(self.eps) / 255
        model = Model(network, count)
        generator = torch.Generator().manual_seed(self.seed)
        here = torch.zeros_like(pixels.to_unit(originals[0]))
        average, best, most = here.clone(), here.clone(), -1
        for number in range(self.passes):
            order = torch.randperm(count, generator=generator).to(originals.device)
            for part in _slices(count):
                rows = order[part]
                done = (number * count + part.start) / (self.passes * count)
                job.progress(round(1000 * done), 1000, f"{self.title}: computing the perturbation")
                v = here.clone().requires_grad_()
                logits = model.logits((pixels.to_unit(originals[rows]) + v).clamp(0, 1), rows)
                if targets is None:
                    gain = F.cross_entropy(logits, labels[rows], reduction="none").clamp(max=ENOUGH)
                else:
                    gain = -F.cross_entropy(logits, targets[rows], reduction="none")
                slope = model.gradient(gain, v, rows)
                average = INERTIA * average + slope / slope.abs().mean().clamp(min=torch.finfo(slope.dtype).tiny)
                here = (here + (1 - done) * self.step / 255 * average.sign()).clamp(-radius, radius)
            whole = (here * 255).round()
            fooled = 0
            for part in _slices(count):
                moved = (originals[part] + whole).clamp(0, 255).to(torch.uint8)
                aim = None if targets is None else targets[part]
                fooled += int(reached(classify(network, moved), labels[part], aim).sum())
            if fooled > most:
                best, most = whole, fooled
        job.progress(1, 1, f"{self.title}: computing the perturbation")
        return Perturbation(best.cpu().numpy().astype(np.int16), count, most / count)

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        if self.perturbation is None:
            raise SettingError(f"{self.name}: there is no perturbation yet: compute it with `fitted` on other images.")
        levels = self.perturbation.levels
        if levels.shape != images.shape[1:]:
            raise SettingError(
                f"{self.name}: the perturbation is of shape {levels.shape}, the images are {tuple(images.shape[1:])}."
            )
        job.progress(0, 1, self.title)
        rows = torch.arange(len(images), device=images.device)
        moved = pixels.to_lattice(images) + torch.tensor(levels, device=images.device)
        lattice = pixels.to_unit(moved.clamp(0, 255).to(torch.uint8))
        with torch.no_grad():
            logits = model.logits(lattice, rows)
        job.progress(1, 1, self.title)
        return Found(lattice, torch.zeros(len(images), dtype=torch.int64), [NO_ADVERSARIAL] * len(images), logits)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def save(attack: Universal, path: Path) -> None:
    """Write the perturbation with the settings it came of, as safetensors.

    Raises:
        SettingError: the attack was not fitted.
        OSError: the file cannot be written.
    """
    import safetensors.numpy

    found = attack.perturbation
    if found is None:
        raise SettingError(f"{attack.name}: there is no perturbation to save: compute it with `fitted` first.")
    about = {"settings": parameters.values(attack), "count": found.count, "rate": found.rate}
    write_whole(path, safetensors.numpy.save({"levels": found.levels}, {attack.name: json.dumps(about)}))


def load(path: Path) -> Universal:
    """The fitted attack that `save` wrote.

    Raises:
        SettingError: the file is missing, damaged, or something else.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})[Universal.name])
            levels = file.get_tensor("levels")
        attack = parameters.build(Universal, about["settings"])
        found = Perturbation(levels, int(about["count"]), float(about["rate"]))
        if levels.dtype != np.int16 or levels.ndim != 3 or np.abs(levels).max() > attack.eps:
            raise ValueError(f"{levels.dtype} {levels.shape}, up to {np.abs(levels).max()} grey levels")
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise SettingError(f"{path} holds no universal perturbation that CIAD wrote ({error}).") from error
    return dataclasses.replace(attack, perturbation=found)

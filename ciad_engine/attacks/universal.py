"""One perturbation for all images: computed once on some, then added to any."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import imaging
from ciad_engine.attacks import parameters
from ciad_engine.attacks import targets as aims
from ciad_engine.attacks.base import NO_ADVERSARIAL, Found, check_batch
from ciad_engine.attacks.fgsm import check_budget, evidence_against
from ciad_engine.attacks.fitted import FittedAttack
from ciad_engine.attacks.model import Model, classify, device_of, fingerprint, reached
from ciad_engine.attacks.parameters import parameter
from ciad_engine.compute import borrowed, in_chunks
from ciad_engine.errors import SettingError
from ciad_engine.files import write_whole
from ciad_engine.jobs import Job

BATCH = 50  # images a step is taken for, at most
LARGEST = 9.0  # evidence against a class beyond which nothing is won by raising it
LEAST_WEIGHT = 0.01  # of an image in a step, however sure the network is of it
INERTIA = 0.9  # share of the past steps in the averaged gradient
_MOST_BYTES = 2**26  # of a kept perturbation


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """What `Universal.fitted` found.

    Attributes:
        levels: int16 (3, H, W), in grey levels; added to an image, values beyond 0 and 255 cut off.
        count: of how many images it was computed.
        rate: what part of these it fools; of other images, expect less.
        network: the fingerprint (`model.fingerprint`) of the network it was computed for; empty if that was not kept.
    """

    levels: npt.NDArray[np.int16]
    count: int
    rate: float
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Universal(aims.TargetedAttack, FittedAttack):
    """One small change that is added to every image, computed once (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401).

    Computed in the way of Shafahi et al. 2020 (arXiv 1811.11304, section 3), without DeepFool: steps along
    the sign of the gradient, summed over a batch of images, of the cross-entropy of the classes the
    network itself sees in them, cut off where it is large; after each step v is put back into the box
    |v| <= eps. Each batch's gradient is divided by its mean and averaged over the past steps, the steps
    get shorter, an image the network is sure of counts a hundredth at least, and of the states after
    each pass over the images the one that fools most of them is kept, in whole grey levels. With a
    target the steps go down the target's cross-entropy; for one perturbation that makes most sense
    with `given`.

    No image it is computed from needs a label. An image it is run on takes two forward passes and no
    backward pass. Its success rate on images it was not computed from is the fooling rate of the
    first paper, but among images the network gets right.
    """

    name: ClassVar[str] = "universal"
    title: ClassVar[str] = "Universal"
    source: ClassVar[str] = "Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401); Shafahi et al. 2020 (arXiv 1811.11304)"
    norm: ClassVar[str] = "linf"
    fewest: ClassVar[int] = 10

    eps: float = parameter(
        10.0, "Budget", "How far a colour value may move, in grey levels.", low=0, high=255, unit="/255"
    )
    step: float = parameter(
        2.0, "Step", "How far it moves in the first step, in grey levels; less in each later one.",
        low=0.01, high=255, unit="/255",
    )  # fmt: skip
    passes: int = parameter(20, "Passes", "How often it goes through the images it learns from.", low=1, high=1000)
    learns_from: int = parameter(
        500, "Learns from", "Most images it is computed from. In an evaluation these are never evaluated ones.",
        low=fewest, high=100_000, unit="images",
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
    def most(self) -> int:
        return self.learns_from

    @property
    def needs_fitting(self) -> bool:
        return self.perturbation is None

    def fitted(self, network: nn.Module, images: npt.NDArray[np.uint8], job: Job | None = None) -> Self:
        job = job or Job()
        job.checkpoint()
        images = images[: self.learns_from]
        self.check_spare(len(images))
        check_batch(images, np.zeros(len(images), np.int64))

        def compute(_: slice, size: int) -> Perturbation:
            return self._computed(network, images, job, size)

        with borrowed(network), torch.inference_mode(False), torch.enable_grad():
            # As one piece: where memory runs out, it begins anew with half the images in the network at once.
            (found,) = in_chunks(compute, len(images), BATCH, len(images), job, self.title)
        return dataclasses.replace(self, perturbation=found)

    def _computed(self, network: nn.Module, images: npt.NDArray[np.uint8], job: Job, size: int) -> Perturbation:
        """The perturbation for a frozen network, which takes at most `size` images at once."""
        originals = torch.tensor(np.ascontiguousarray(images), device=device_of(network))
        logits = _answers(network, originals, job, size)
        labels = logits.argmax(1)
        (goals,) = self.choose_targets(logits, labels, originals)
        if goals is not None:
            wanted = goals != labels
            originals, labels, goals = originals[wanted], labels[wanted], goals[wanted]
            if len(labels) < self.fewest:
                raise SettingError(
                    f"{self.name}: all but {len(labels)} of the {len(images)} images it could learn from are of "
                    f"the target class already, and it needs {self.fewest}: choose another target."
                )
        return self._learn(network, originals, labels, goals, job, size)

    def _learn(
        self, network: nn.Module, originals: Tensor, labels: Tensor, targets: Tensor | None, job: Job, size: int
    ) -> Perturbation:
        count, radius = len(originals), math.floor(self.eps) / 255
        model, batches = Model(network, count), -(-count // BATCH)
        generator = torch.Generator().manual_seed(self.seed)
        here = torch.zeros_like(imaging.to_unit(originals[0]))
        average, best, most = here.clone(), here.clone(), -1
        for number in range(self.passes):
            order = torch.randperm(count, generator=generator).to(originals.device)
            for place, rows in enumerate(torch.tensor_split(order, batches)):  # of equal sizes: they count alike
                done = (number * batches + place) / (self.passes * batches)
                job.progress(round(1000 * done), 1000, f"{self.title}: computing the perturbation")
                slope = torch.zeros_like(here)
                for part in torch.split(rows, size):
                    v = here.clone().requires_grad_()
                    logits = model.logits((imaging.to_unit(originals[part]) + v).clamp(0, 1), part)
                    if targets is None:
                        gain = _weighted(evidence_against(logits, labels[part]).clamp(max=LARGEST))
                    else:
                        gain = -_weighted(evidence_against(logits, targets[part]))
                    slope += model.gradient(gain, v, part)
                average = INERTIA * average + slope / slope.abs().mean().clamp(min=torch.finfo(slope.dtype).tiny)
                here = (here + (1 - done) * self.step / 255 * average.sign()).clamp(-radius, radius)
            whole = (here * 255).round()
            answers = _answers(network, (originals + whole).clamp(0, 255).to(torch.uint8), job, size)
            fooled = int(reached(answers, labels, targets).sum())
            if fooled > most:
                best, most = whole, fooled
        job.progress(1, 1, f"{self.title}: computing the perturbation")
        return Perturbation(best.cpu().numpy().astype(np.int16), count, most / count, fingerprint(network))

    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        levels = self._found.levels
        if levels.shape != images.shape[1:]:
            raise SettingError(
                f"{self.name}: the perturbation is of shape {levels.shape}, the images are {tuple(images.shape[1:])}."
            )
        job.progress(0, 1, self.title)
        rows = torch.arange(len(images), device=images.device)
        moved = imaging.to_lattice(images) + torch.tensor(levels, device=images.device)
        lattice = imaging.to_unit(moved.clamp(0, 255).to(torch.uint8))
        with torch.no_grad():
            logits = model.logits(lattice, rows)
        job.progress(1, 1, self.title)
        return Found(lattice, torch.zeros(len(images), dtype=torch.int64), [NO_ADVERSARIAL] * len(images), logits)

    @property
    def _found(self) -> Perturbation:
        if self.perturbation is None:
            raise SettingError(f"{self.name}: there is no perturbation yet: compute it with `fitted` first.")
        return self.perturbation

    def fitting(self) -> bytes:
        """The perturbation with the settings it came of, as safetensors: "levels", and "about" (JSON in UTF-8)."""
        import safetensors.numpy

        found = self._found
        about = {
            "attack": self.name,
            "settings": parameters.values(self),
            "count": found.count,
            "rate": found.rate,
            "network": found.network,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        return bytes(safetensors.numpy.save({"levels": found.levels, "about": text}))

    def with_fitting(self, kept: bytes) -> Self:
        found = _read(kept)
        if found != self:  # in any setting
            raise SettingError(f"{self.name}: what was kept is of other settings: {parameters.values(found)}.")
        return dataclasses.replace(self, perturbation=found.perturbation)

    def about_fitting(self) -> str:
        found = self._found
        return f"computed from {found.count:,} images, of which it fools {100 * found.rate:.0f} %"


def _weighted(evidence: Tensor) -> Tensor:
    """Evidence against a class, log((1 - p) / p), weighted by 1 - p: the gradient is that of its cross-entropy -log p.

    But where p is so near 1 that the cross-entropy has no gradient left, LEAST_WEIGHT keeps one.
    """
    weight = torch.sigmoid(evidence.detach())
    return evidence * weight.clamp(min=LEAST_WEIGHT)


def save(attack: Universal, path: Path) -> None:
    """Write a fitted attack.

    Raises:
        SettingError: it was not fitted.
        OSError: the file cannot be written.
    """
    write_whole(path, attack.fitting())


def load(path: Path) -> Universal:
    """The fitted attack that `save` wrote.

    Raises:
        SettingError: the file is missing, damaged, or something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SettingError(f"{path} is too large to be a perturbation that CIAD wrote.")
        return _read(path.read_bytes())
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}).") from error
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def _read(raw: bytes) -> Universal:
    """What `fitting` wrote.

    Raises:
        SettingError: it is damaged, or something else.
    """
    import safetensors

    try:
        tensors: dict[str, Any] = dict(safetensors.deserialize(raw))  # type: ignore[no-untyped-call]
        about = json.loads(bytes(tensors["about"]["data"]))
        if about["attack"] != Universal.name or tensors["levels"]["dtype"] != "I16":
            raise ValueError("it is of another kind")
        attack = parameters.build(Universal, about["settings"])
        shape = tensors["levels"]["shape"]
        levels = np.frombuffer(bytes(tensors["levels"]["data"]), "<i2").reshape(shape).astype(np.int16)
        largest = int(np.abs(levels.astype(np.int32)).max())
        if levels.ndim != 3 or largest > attack.eps:
            raise ValueError(f"its shape is {shape}, its largest change {largest} grey levels")
        found = Perturbation(levels, int(about["count"]), float(about["rate"]), str(about.get("network", "")))
    except (
        AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, safetensors.SafetensorError,
    ) as error:  # fmt: skip
        raise SettingError(f"this is no universal perturbation that CIAD wrote ({error}).") from error
    return dataclasses.replace(attack, perturbation=found)


def _answers(network: nn.Module, lattice: Tensor, job: Job, size: int) -> Tensor:
    """The network's logits of uint8 images, `size` at a time."""
    parts = []
    for part in torch.split(lattice, size):
        job.checkpoint()
        parts.append(classify(network, part))
    return torch.cat(parts)

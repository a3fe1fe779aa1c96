"""One perturbation for all images: computed once on some, then added to any."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ciad_engine import compute, imaging
from ciad_engine.attacks import parameters
from ciad_engine.attacks.base import Found
from ciad_engine.attacks.catalogue import Perturbation, Universal
from ciad_engine.attacks.goal import Goal
from ciad_engine.attacks.model import Model, classify, fingerprint
from ciad_engine.attacks.running import batch_of
from ciad_engine.attacks.words import NO_ADVERSARIAL
from ciad_engine.compute import borrowed, in_chunks
from ciad_engine.domain import Pixels
from ciad_engine.errors import SettingError
from ciad_engine.files import read_bounded
from ciad_engine.jobs import Job

BATCH = 50  # images a step is taken for, at most
LARGEST = 9.0  # evidence against a class beyond which nothing is won by raising it
LEAST_WEIGHT = 0.01  # of an image in a step, however sure the network is of it
INERTIA = 0.9  # share of the past steps in the averaged gradient
_MOST_BYTES = 2**26  # of a kept perturbation


def learn(attack: Universal, network: nn.Module, images: Pixels, job: Job) -> Perturbation:
    """See `FittedAttack.fitted`."""
    job.checkpoint()
    attack.check_spare(len(images))
    images, _ = batch_of(images[: attack.learns_from], np.zeros(min(len(images), attack.learns_from), np.int64))

    def compute(_: slice, size: int) -> Perturbation:
        return _computed(attack, network, images, job, size)

    with borrowed(network), torch.inference_mode(False), torch.enable_grad():
        # As one piece: where memory runs out, it begins anew with half the images in the network at once.
        (found,) = in_chunks(compute, len(images), BATCH, len(images), job, attack.title)
    return found


def _computed(attack: Universal, network: nn.Module, images: Pixels, job: Job, size: int) -> Perturbation:
    """The perturbation for a frozen network, which takes at most `size` images at once."""
    originals = torch.tensor(np.ascontiguousarray(images), device=compute.device_of(network))
    logits = _answers(network, originals, job, size)
    labels = logits.argmax(1)
    (targets,) = attack.choose_targets(logits, labels, originals)
    goal = Goal(labels, targets)
    rows = goal.possible.nonzero()[:, 0]
    if len(rows) < attack.fewest:
        raise SettingError(
            f"{attack.name}: all but {len(rows)} of the {len(images)} images it could learn from are of "
            f"the target class already, and it needs {attack.fewest}: choose another target."
        )
    return _learn(attack, network, originals[rows], goal.of(rows), job, size)


def _learn(attack: Universal, network: nn.Module, originals: Tensor, goal: Goal, job: Job, size: int) -> Perturbation:
    count, radius = len(originals), math.floor(attack.eps) / 255
    model, batches = Model(network, count), -(-count // BATCH)
    generator = torch.Generator().manual_seed(attack.seed)
    here = torch.zeros_like(imaging.to_unit(originals[0]))
    average, best, most = here.clone(), here.clone(), -1
    for number in range(attack.passes):
        order = torch.randperm(count, generator=generator).to(originals.device)
        for place, rows in enumerate(torch.tensor_split(order, batches)):  # of equal sizes: they count alike
            done = (number * batches + place) / (attack.passes * batches)
            job.progress(round(1000 * done), 1000, f"{attack.title}: computing the perturbation")
            slope = torch.zeros_like(here)
            for part in torch.split(rows, size):
                v = here.clone().requires_grad_()
                logits = model.logits((imaging.to_unit(originals[part]) + v).clamp(0, 1), part)
                slope += model.gradient(goal.of(part).cross_entropy(logits, LARGEST, LEAST_WEIGHT), v, part)
            average = INERTIA * average + slope / slope.abs().mean().clamp(min=torch.finfo(slope.dtype).tiny)
            here = (here + (1 - done) * attack.step / 255 * average.sign()).clamp(-radius, radius)
        whole = (here * 255).round()
        answers = _answers(network, (originals + whole).clamp(0, 255).to(torch.uint8), job, size)
        fooled = int(goal.fooled(answers).sum())
        if fooled > most:
            best, most = whole, fooled
    job.progress(1, 1, f"{attack.title}: computing the perturbation")
    if not average.any():
        raise SettingError(
            f"{attack.name}: the network's gradient is zero at all {count} images, so that they teach it nothing; "
            "choose another network or attack."
        )
    return Perturbation(best.cpu().numpy().astype(np.int16), count, most / count, fingerprint(network))


def find(attack: Universal, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
    levels = attack.found.levels
    if levels.shape != images.shape[1:]:
        raise SettingError(
            f"{attack.name}: the perturbation is of shape {levels.shape}, the images are {tuple(images.shape[1:])}."
        )
    job.progress(0, 1, attack.title)
    rows = torch.arange(len(images), device=images.device)
    moved = imaging.to_lattice(images) + torch.tensor(levels, device=images.device)
    lattice = imaging.to_unit(moved.clamp(0, 255).to(torch.uint8))
    with torch.no_grad():
        logits = model.logits(lattice, rows)
    job.progress(1, 1, attack.title)
    return Found(lattice, torch.zeros(len(images), dtype=torch.int64), [NO_ADVERSARIAL] * len(images), logits)


def to_bytes(attack: Universal) -> bytes:
    """The perturbation with the settings it came of, as safetensors: "levels", and "about" (JSON in UTF-8)."""
    import safetensors.numpy

    found = attack.found
    about = {
        "attack": attack.name,
        "settings": parameters.values(attack),
        "count": found.count,
        "rate": found.rate,
        "network": found.network,
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return bytes(safetensors.numpy.save({"levels": found.levels, "about": text}))


def load(path: Path) -> Universal:
    """The fitted attack whose `fitting` is in a file.

    Raises:
        SettingError: the file is missing, damaged, or something else.
    """
    try:
        return from_bytes(read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}).") from error
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def from_bytes(raw: bytes) -> Universal:
    """The attack that `to_bytes` wrote.

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
        raise SettingError(f"this is not a universal perturbation that CIAD wrote ({error}).") from error
    return dataclasses.replace(attack, perturbation=found)


def _answers(network: nn.Module, lattice: Tensor, job: Job, size: int) -> Tensor:
    """The network's logits of uint8 images, `size` at a time."""
    parts = []
    for part in torch.split(lattice, size):
        job.checkpoint()
        parts.append(classify(network, part))
    return torch.cat(parts)

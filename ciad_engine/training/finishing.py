"""The end of a training: the networks' files, thresholds, what the system is worth, the card."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import _version, bundles, compute
from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.detectors import controls
from ciad_engine.detectors.base import threshold_at
from ciad_engine.detectors.contrast import GRADED
from ciad_engine.jobs import Job
from ciad_engine.training.objectives import Images, accuracy
from ciad_engine.training.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training whose stages are done.

    Attributes:
        classes: in label order.
        networks: by role; `architectures` has the registry name and the arguments of each.
        record: what `loop.train` returned, by stage.
        origin: what decides all networks besides schedules and seed.
    """

    recipe: Recipe
    data: DataSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    networks: Mapping[str, nn.Module]
    architectures: Mapping[str, tuple[str, dict[str, Any]]]
    record: Mapping[str, Any]
    origin: Mapping[str, Any]
    seed: int


def finish(trained: Trained, folder: Path, device: torch.device, job: Job) -> bundles.Card:
    """Write the networks, measure what was written (weights are stored in half precision), then write the card."""
    recipe, data, validation, test = trained.recipe, trained.data, trained.validation, trained.test
    entries = {}
    for role, network in trained.networks.items():
        file = f"{role}.safetensors"
        name, arguments = trained.architectures[role]
        entries[role] = {
            "network": name,
            "arguments": arguments,
            "file": file,
            "sha256": bundles.save_network(network, folder / file),
            "parameters": sum(p.numel() for p in network.parameters()),
        }
    content: dict[str, Any] = {
        "name": recipe.name,
        "title": recipe.title,
        "licence": "MIT",
        "created": datetime.date.today().isoformat(),
        "classes": list(trained.classes),
        "networks": entries,
        "data": {
            "name": data.name,
            "official": data.official,
            "training images": len(data.train or ()) - len(validation),
            "validation images": len(validation),
            "test images": len(test),
            "checksum": {"train": data.train.checksum if data.train else None, "test": test.checksum},
        },
        "recipe": {"name": recipe.name, **recipe.options, "noise": "bootstrapped from training images"},
        "training": trained.record,
        "origin": trained.origin,
        "seed": trained.seed,
        "software": {"ciad": _version.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "hardware": compute.describe_device(device),
        "limits": limits(trained),
    }
    card = bundles.Card(recipe.name, folder, trained.classes, content, checksum="")  # not written before it is whole
    system = bundles.System(card, bundles.load_networks(card, device), device)
    content |= thresholds(system, validation, job.part(0.0, 0.5))
    content["measured"] = {test.source: measure(system, test, job.part(0.5, 1.0))}
    return bundles.save_card(folder, content)


def limits(trained: Trained) -> list[str]:
    """Return what a card says the system is not good for."""
    data, size = trained.data, trained.test.images.shape[-1]
    other = f"Trained and measured on {data.name}, not on the official files, on which nothing was measured."
    return [
        f"For {size}x{size} colour images of these classes: {', '.join(trained.classes)}.",
        *([] if data.official else [other]),
        *trained.recipe.limits,
    ]


def thresholds(system: bundles.System, validation: ImageSet, job: Job | None = None) -> dict[str, Any]:
    """Return a card's thresholds: of the graded rule, and of each control in its place, all from validation images."""
    detector = system.detector()
    detector.rule = GRADED
    verdict = detector.inspect(validation.images, None, job)
    control = system.network(bundles.CONTROL) if system.card.has(bundles.CONTROL) else None
    found = controls.scores(verdict, validation.images, system.network(bundles.MASK_CLASSIFIER), control)

    def of(scores: npt.NDArray[np.float64]) -> dict[str, Any]:
        return {name: dataclasses.asdict(threshold_at(scores, rate)) for rate, name in bundles.THRESHOLDS.items()}

    return {
        "thresholds": of(verdict.score),
        bundles.CONTROL_THRESHOLDS: {name: of(scores) for name, scores in found.items()},
    }


def measure(system: bundles.System, part: ImageSet, job: Job | None = None) -> dict[str, Any]:
    """Return accuracies and benign rates of a system on one labelled set, each a share of n images.

    Keys: "n"; accuracy of each classifier; "f2 on masks"; "benign rate, paper's rule" (f1 and f2
    agree), the same among images f1 gets right, and "benign rate, graded".
    """
    verdict = system.detector(GRADED).inspect(part.images, part.labels, job)
    agree, right = verdict.y1 == verdict.y2, verdict.y1 == part.labels
    figures = {
        "n": len(part),
        "f1": float(right.mean()),
        "f2 on masks": float((verdict.y2 == part.labels).mean()),
        "benign rate, paper's rule": float(agree.mean()),
        "benign rate, paper's rule, f1 right": float(agree[right].mean()) if right.any() else None,
        "benign rate, graded": float((~verdict.adversarial).mean()),
    }
    for role in (bundles.SECOND_CLASSIFIER, bundles.CONTROL):
        if system.card.has(role):
            figures[role.replace("_", " ")] = accuracy(system.network(role), Images.of(part, system.device))
    return figures

"""The end of a training: the networks' files, thresholds, what the system is worth, the card."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ciad_engine import _version, bundles, compute, detectors, systems
from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.detectors.threshold import RATES, threshold_at
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.files import write_whole
from ciad_engine.jobs import Job
from ciad_engine.systems import System
from ciad_engine.training.objectives import Images, accuracy
from ciad_engine.training.recipes import Recipe

NEGATIVES = "benign validation images that f1 classifies correctly"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training whose stages are done.

    Attributes:
        networks: by role; `architectures` has the registry name and the arguments of each.
        record: what `loop.train` returned and the loss, by stage.
        origin: what decides all networks besides schedules and seed.
    """

    recipe: Recipe
    data: DataSet
    training: ImageSet
    validation: ImageSet
    test: ImageSet
    networks: Mapping[str, nn.Module]
    architectures: Mapping[str, tuple[str, dict[str, Any]]]
    record: Mapping[str, Any]
    origin: Mapping[str, Any]
    seed: int


def finish(trained: Trained, folder: Path, device: torch.device, job: Job) -> bundles.Card:
    """Write the networks, measure what was written (weights are stored in half precision), then write the card."""
    recipe, data, validation, test = trained.recipe, trained.data, trained.validation, trained.test
    entries = {
        role: _written(folder, role, *trained.architectures[role], network, trained.data.domain)
        for role, network in trained.networks.items()
    }
    content: dict[str, Any] = {
        "name": recipe.name,
        "title": recipe.title,
        "licence": "MIT",
        "created": datetime.date.today().isoformat(),
        "domain": {"classes": list(data.domain.classes), "size": data.domain.size},
        "networks": entries,
        "detectors": [],
        "data": {
            "name": data.name,
            "official": data.official,
            "training images": len(trained.training),
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
    system = _detecting(folder, content, recipe.detectors, trained.training, validation, device, job.part(0.0, 0.5))
    content["measured"] = {test.source: measure(system, test, job.part(0.5, 1.0))}
    return bundles.save_card(folder, content)


def add_detectors(
    card: bundles.Card,
    folder: Path,
    added: Sequence[bundles.DetectorEntry],
    training: ImageSet,
    validation: ImageSet,
    device: torch.device,
    job: Job | None = None,
) -> bundles.Card:
    """Write a copy of a bundle with further detectors to `folder`, by whose name it goes; return its card.

    Args:
        training, validation: the images that the bundle was trained with and that were held out of its training; on
            others, or if they are exchanged, the rates of the thresholds are not those promised.

    Raises:
        BundleError: a file of the bundle is missing or damaged, or a detector cannot be added to it.
        SettingError: there is no such kind of detector.
        Cancelled: through `job`.
    """
    content: dict[str, Any] = {
        **{key: value for key, value in card.content.items() if key != bundles.EVALUATIONS},
        "format": bundles.FORMAT,
        "name": folder.name,
        "networks": dict(card.content["networks"]),
        "detectors": bundles.detectors_json(card.detectors),
    }
    for role in bundles.load_networks(card, torch.device("cpu")):  # which checks the files
        file = Path(content["networks"][role]["file"]).name  # as for reading: only in its own folder
        write_whole(folder / file, (card.folder / file).read_bytes())
    _detecting(folder, content, added, training, validation, device, job or Job())
    return bundles.save_card(folder, content)


def _detecting(
    folder: Path,
    content: dict[str, Any],
    added: Sequence[bundles.DetectorEntry],
    training: ImageSet,
    validation: ImageSet,
    device: torch.device,
    job: Job,
) -> System:
    """Add detectors to the content of a card, which is not written yet, and their fitted networks to its folder.

    They are fitted to training images, then calibrated on validation images and given thresholds.
    """
    networks = bundles.load_networks(bundles.card_of(folder, content), device)
    listed: list[bundles.DetectorEntry] = []
    for index, one in enumerate(added):
        own = {name: networks[role] for name, role in one.networks.items()}
        detector = detectors.get(one.kind)(one.name, networks[bundles.CLASSIFIER], own, {}, one.options)
        roles = dict(one.networks)
        part = job.part(index / len(added) / 3, (index + 1) / len(added) / 3)
        for name, (network, arguments, fitted) in detector.fitted(training, part).items():
            role = roles[name] = f"{one.name}_{name}"
            content["networks"][role] = _written(folder, role, network, arguments, fitted, training.domain)
        listed.append(dataclasses.replace(one, networks=roles))
    start = len(content["detectors"])
    content["detectors"] += bundles.detectors_json(listed)
    card = bundles.card_of(folder, content)
    system = systems.assemble(card, bundles.load_networks(card, device), device)
    for index, fill in enumerate((calibrate, thresholds), 1):
        filled = fill(system, validation, job.part(index / 3, (index + 1) / 3))
        content["detectors"][start:] = bundles.detectors_json(filled[start:])
        system = systems.assemble(bundles.card_of(folder, content), system.networks, device)
    return system


def _written(
    folder: Path, role: str, name: str, arguments: Mapping[str, Any], network: nn.Module, domain: Domain
) -> dict[str, Any]:
    """Write a network's file; return its entry on the card."""
    file = f"{role}.safetensors"
    return {
        "network": name,
        "arguments": arguments,
        "file": file,
        "sha256": bundles.save_network(network, folder / file, classes=domain.classes),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def limits(trained: Trained) -> list[str]:
    """Return what a card says the system is not good for."""
    data, domain = trained.data, trained.data.domain
    other = f"Trained and measured on {data.name}, not on the official files, on which nothing was measured."
    return [
        f"For {domain.size}x{domain.size} colour images of these classes: {', '.join(domain.classes)}.",
        *([other] if domain == CIFAR10 and not data.official else []),
        *trained.recipe.limits,
    ]


def calibrate(system: System, validation: ImageSet, job: Job | None = None) -> list[bundles.DetectorEntry]:
    """Return the card's detectors with the options that they compute from each other's scores of benign images.

    These are the validation images that f1 classifies correctly.
    """
    verdict = system.inspect(validation.images, validation.labels, job)
    correct = verdict.y1 == validation.labels
    scores = {name: finding.scores[correct] for name, finding in verdict.findings.items()}
    entries = system.card.detectors
    return [dataclasses.replace(e, options=system.detectors[e.name].calibrated(scores)) for e in entries]


def thresholds(system: System, validation: ImageSet, job: Job | None = None) -> list[bundles.DetectorEntry]:
    """Return the card's detectors with their thresholds, from the validation images that f1 classifies correctly.

    A detector that does not grade gets none.
    """
    verdict = system.inspect(validation.images, validation.labels, job)
    correct = verdict.y1 == validation.labels
    found = []
    for entry in system.card.detectors:
        scores = verdict.findings[entry.name].scores[correct]
        graded = system.detectors[entry.name].grades and correct.any()
        of = {rate: threshold_at(scores, rate, NEGATIVES) for rate in RATES} if graded else {}
        found.append(dataclasses.replace(entry, thresholds=of))
    return found


def measure(system: System, part: ImageSet, job: Job | None = None) -> dict[str, Any]:
    """Return accuracies and true negative rates of a system on one labelled set, each a rate of n benign images.

    Keys: "n"; "accuracy" of "f1" and, if the bundle has one, of the "second classifier"; "detectors", by name: the
    "accuracy" of each that has a class, and for each of its rules the true negative rate among "all" images and among
    those that f1 classifies correctly ("correct"; None if there is none).
    """
    verdict = system.inspect(part.images, part.labels, job)
    correct = verdict.y1 == part.labels
    accuracies = {"f1": float(correct.mean())}
    if system.card.has(bundles.SECOND_CLASSIFIER):
        second = system.network(bundles.SECOND_CLASSIFIER)
        accuracies["second classifier"] = accuracy(second, Images.of(part, system.device))
    found: dict[str, dict[str, Any]] = {}
    for name, finding in verdict.findings.items():
        figures = found[name] = {}
        if finding.labels is not None:
            figures["accuracy"] = float((finding.labels == part.labels).mean())
        for rule in finding.rules:
            passed = ~verdict.by(name, rule).adversarial
            figures[rule] = {
                "all": float(passed.mean()),
                "correct": float(passed[correct].mean()) if correct.any() else None,
            }
    return {"n": len(part), "accuracy": accuracies, "detectors": found}

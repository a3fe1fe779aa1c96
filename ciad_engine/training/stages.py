"""From a data set to a bundle: the stages of a recipe in order, resumable at any step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ciad_engine import bundles, compute, networks
from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.errors import BundleError, DataError, SettingError
from ciad_engine.jobs import Job
from ciad_engine.training.averaging import average_into
from ciad_engine.training.finishing import Trained, finish
from ciad_engine.training.loop import train
from ciad_engine.training.losses import LOSSES
from ciad_engine.training.objectives import Images
from ciad_engine.training.recipes import Recipe, Schedule, Stage

FINISHING = 0.99  # of the whole progress when the last stage is done


def train_bundle(
    recipe: Recipe,
    data: DataSet,
    folder: Path,
    job: Job | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> bundles.Card:
    """Train all networks of a system and write its bundle.

    Args:
        recipe: what to train and how long.
        data: needs a training and a test part.
        folder: becomes the bundle; `folder/training` keeps checkpoints and curves.
        resume: go on from the checkpoints there; a bundle that is finished stays as it is.
        device: "auto", "cpu" or "cuda".
        seed: decides initial weights, order, augmentation and noise, and which images are held out unless the
            recipe takes networks from a bundle.

    Returns:
        The card of the finished bundle.

    Raises:
        DataError: the data set has no training or no test part, or too few images.
        SettingError: the recipe is not for images of this size, or the folder already holds a bundle or
            checkpoints and `resume` is off.
        BundleError: a checkpoint does not fit.
        Cancelled: through `job`; checkpoints are kept.
    """
    job = job or Job()
    where = compute.choose_device(device)
    work = folder / bundles.TRAINING
    if not resume and (work.exists() or (folder / bundles.CARD).exists()):
        raise SettingError(f"out: {folder} already holds a training or a bundle; add --resume or choose another.")
    source = _source(recipe, data)
    drawn = seed if source is None else source.content["seed"]
    fit_set, validation_set, test_set = split(data, recipe.validation, drawn)
    if recipe.share < 1:
        fit_set = fit_set.subset(range(round(recipe.share * len(fit_set))))
    domain = fit_set.domain
    recipe.check_size(domain.size)
    origin = {"recipe": recipe.name, **recipe.options, "data": data.train.checksum if data.train else ""}
    known = {"classes": len(domain.classes), "size": domain.size}
    architectures = {
        stage.role: (stage.network, {**networks.needed(stage.network, **known), **stage.arguments})
        for stage in recipe.stages
    }
    finished = _finished(folder, recipe, architectures, origin, seed)
    if finished is not None:
        job.note(f"{folder} is finished: nothing is left to train.")
        return finished

    fit, validation = (Images.of(part, where) for part in (fit_set, validation_set))
    trained: dict[str, nn.Module] = {}
    record: dict[str, Any] = {}
    if source is not None:
        loaded = bundles.load_networks(source, where)
        trained |= {role: loaded[role] for role in recipe.takes}
        job.note(f"Taken from bundle '{source.name}': {', '.join(recipe.takes)}.".replace("_", " "))
    end, minutes = 0.0, sum(stage.minutes for stage in recipe.stages)
    for stage in recipe.stages:
        start, end = end, end + FINISHING * stage.minutes / minutes
        if source is not None and stage.role in recipe.takes:
            record[stage.name] = {**source.content["training"][stage.name], "taken from": f"bundle '{source.name}'"}
            continue
        about: dict[str, Any] = {"recipe": recipe.name, **stage.options, "data": origin["data"]}
        first: dict[str, torch.Tensor] = {}
        if not stage.again:
            trained[stage.role] = _network(*architectures[stage.role], seed)
        if stage.starts_from:
            first = {key: value.clone() for key, value in trained[stage.starts_from].state_dict().items()}
            trained[stage.role].load_state_dict(first)
            about["after"] = record[stage.starts_from]["schedule"]
        about["network"] = architectures[stage.role]
        given = [trained[role] for role in stage.uses]
        objective = LOSSES[stage.loss](
            stage.name, trained[stage.role], stage.schedule, fit, validation, *given, **stage.options
        )
        found = train(objective, work, where, seed + stage.again, job.part(start, end), resume, about)
        record[stage.name] = {**found, **_loss(stage)}
        if stage.averages:
            average_into(objective, first, seed)
            record[stage.name]["validation of the mean of both ends"] = objective.validate()
    job.progress(99, 100, "Measuring the bundle")
    parts = fit_set, validation_set, test_set
    whole = Trained(recipe, data, *parts, trained, architectures, record, origin, seed)
    return finish(whole, folder, where, job.part(FINISHING, 1.0))


def split(data: DataSet, validation: int, seed: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return (training, validation, test) parts; validation images are drawn from the training part.

    Raises:
        DataError: a part is missing or too small.
    """
    if data.train is None or data.test is None:
        missing = "training" if data.train is None else "test"
        raise DataError(f"{data.name} has no {missing} part; training a system needs both.")
    if len(data.train) < 2 * validation:
        raise DataError(
            f"{data.name} has {len(data.train)} training images; the recipe needs at least {2 * validation}."
        )
    order = np.random.default_rng(seed).permutation(len(data.train))
    return data.train.subset(order[validation:]), data.train.subset(order[:validation]), data.test


def _source(recipe: Recipe, data: DataSet) -> bundles.Card | None:
    """Return the card of the bundle from which the recipe takes networks.

    None if it takes none, or if that bundle is not there or was not trained by the same stages on the same images.
    """
    if not recipe.takes:
        return None
    try:
        card = bundles.read_card(bundles.find(recipe.source))
    except BundleError:
        return None
    known = card.content.get("data", {})
    same = (
        data.train is not None
        and card.domain == data.train.domain
        and known.get("checksum", {}).get("train") == data.train.checksum
        and known.get("validation images") == recipe.validation
    )
    stages = {stage.name for stage in recipe.stages if stage.role in recipe.takes}
    there = stages <= card.content.get("training", {}).keys() and all(map(card.has, recipe.takes))
    return card if same and there else None


def _finished(
    folder: Path, recipe: Recipe, architectures: Mapping[str, Any], origin: Mapping[str, Any], seed: int
) -> bundles.Card | None:
    """Return the card of the bundle in `folder`, if it came of just this training."""
    if not (folder / bundles.CARD).exists():
        return None
    card = bundles.read_card(folder)
    stages = {stage.name: stage for stage in recipe.stages}

    def same(name: str, record: Mapping[str, Any]) -> bool:
        if name not in stages:
            return False
        stage, loss = stages[name], _loss(stages[name])
        network = card.content["networks"][stage.role]
        found = Schedule(**record["schedule"]), network["network"], network["arguments"]
        # The records of old bundles lack the loss.
        return found == (stage.schedule, *architectures[stage.role]) and {**loss, **record} == {**record, **loss}

    # A bundle that was finished before the recipe had its last stages stays as it is, and so does one with detectors
    # that were added to its card. What was fitted or calibrated at the end is not in the recipe.
    def there(entry: bundles.DetectorEntry) -> bool:
        known = card.detector(entry.name)
        return known is not None and known.kind == entry.kind and entry.options.items() <= known.options.items()

    possible = [entry for entry in recipe.detectors if all(map(card.has, entry.networks.values()))]
    unchanged = all(same(*one) for one in card.content.get("training", {}).items()) and all(map(there, possible))
    return card if unchanged and (card.content.get("origin"), card.content.get("seed")) == (origin, seed) else None


def _loss(stage: Stage) -> dict[str, str | None]:
    """Return what the card says about the loss of a stage."""
    return {"loss": stage.loss, "uses": ", ".join(stage.uses) or None}


def _network(name: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = networks.create(name, **arguments)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return network

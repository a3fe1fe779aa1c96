"""A system small enough to evaluate in milliseconds, data for it, and a database filled by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ciad_engine import bundles, systems
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.records import load
from ciad_engine.evaluation.table import Table
from ciad_engine.evaluation.tables import tables_of
from ciad_engine.runs import Database, Row, Score


class Classifier(nn.Module):
    """Linear on 4x4 means; strongly changed by small perturbations, as real classifiers are."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 48, generator=torch.Generator().manual_seed(seed)) * 3)

    def forward(self, images: Tensor) -> Tensor:
        return (nn.functional.avg_pool2d(images, 8) - 0.5).flatten(1) @ self.weight.T


class MaskGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.gain * (images.mean(1, keepdim=True) - 0.5))


class MaskClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 16, generator=torch.Generator().manual_seed(5)) * 4)

    def forward(self, masks: Tensor) -> Tensor:
        return (nn.functional.avg_pool2d(masks, 8) - 0.5).flatten(1) @ self.weight.T


def system(second: bool = True, threshold: float | None = 1.5, domain: Domain = CIFAR10) -> systems.System:
    networks: dict[str, nn.Module] = {
        bundles.CLASSIFIER: Classifier(1),
        bundles.MASK_GENERATOR: MaskGenerator(),
        bundles.MASK_CLASSIFIER: MaskClassifier(),
        bundles.CONTROL: Classifier(9),
    }
    if second:
        networks[bundles.SECOND_CLASSIFIER] = Classifier(1)
        with torch.no_grad():  # alike, or nothing would transfer
            networks[bundles.SECOND_CLASSIFIER].weight += 0.5 * Classifier(2).weight
    thresholds = {}
    if threshold is not None:
        thresholds = {0.05: Threshold(threshold, "chosen for tests"), 0.01: Threshold(threshold + 1, "chosen, too")}
    masks = {"generator": bundles.MASK_GENERATOR, "classifier": bundles.MASK_CLASSIFIER}
    entries = (
        bundles.DetectorEntry("mask", "mask", masks, thresholds),
        bundles.DetectorEntry("mlp", "direct", {"classifier": bundles.CONTROL}, thresholds),
        bundles.DetectorEntry("shuffled-mask", "shuffled-mask", masks, thresholds),
        bundles.DetectorEntry("constant-mask", "constant-mask", masks, {}),
        bundles.DetectorEntry("confidence", "confidence", {}, thresholds),
    )
    content = {"networks": {role: {"sha256": f"weights of {role}"} for role in networks}}
    card = bundles.Card("tiny", Path("tiny"), domain, entries, content, "ab" * 32)
    return systems.assemble(card, {role: n.eval() for role, n in networks.items()}, torch.device("cpu"))


def data(count: int = 40, source: str = "synthetic images", official: bool = False) -> ImageSet:
    """Random images; the label is the classifier's own class, except for every eighth image."""
    images = np.random.RandomState(3).randint(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    images = images.repeat(4, 2).repeat(4, 3)
    with torch.no_grad():
        labels = Classifier(1)(torch.from_numpy(images) / 255).argmax(1).numpy()
    labels[::8] = (labels[::8] + 1) % 10
    return ImageSet(images, labels, source, official)


def plan(data_set: ImageSet, loaded: systems.System, limit: int = 30, **kwargs: object) -> planning.Plan:
    kwargs.setdefault("attacks", (planning.choose("fgsm", eps=8),))
    return planning.make(loaded.card, data_set, limit=limit, seed=11, **kwargs)


def row(
    position: int, attack: str = "", label: int = 0, y1: int = 0, y2: int = 0, score: float = 0.0, scores=(), **kw
) -> Row:
    """A row with the mask detector's class and score and f1's confidence; `scores` are of other detectors, by name."""
    return Row(
        attack=attack,
        position=position,
        image_index=100 + position,
        name=f"image {position}",
        label=label,
        y1=y1,
        p1_y1=0.75,
        scores={"mask": Score(y2, 0.5, score), "confidence": Score(None, None, -math.log(0.75)), **dict(scores)},
        **kw,
    )


def all_tables(database: Database, key: str, card: bundles.Card | None = None) -> tuple[Table, ...]:
    """Read a run and return its tables."""
    return tables_of(load(database, key), card)

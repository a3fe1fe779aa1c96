"""Masks put to the test: does a map show what f1 needs, does it follow the picture, and does it hold under noise?

One table: a row per map (`maps.py`), a column per measure (`resources/docs/columns.md`).
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import __version__, bundles, compute, imaging
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.evidence import classified
from ciad_engine.detectors.mask import CLASSIFIER
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import maps
from ciad_engine.evaluation.export import as_csv
from ciad_engine.evaluation.runner import choose_images
from ciad_engine.evaluation.statistics import class_share, rank_correlations
from ciad_engine.evaluation.table import NO_RATE, Cell, Column, Subject, Table, mean, rate_of, to_json
from ciad_engine.jobs import Job
from ciad_engine.systems import BATCH, System

STEPS = 16  # of deletion and insertion
NOISE = 2  # grey levels

COLUMNS = (
    Column("evalx_accuracy_kept", "EVAL-X accuracy on what is kept"),
    Column("evalx_accuracy_removed", "EVAL-X accuracy on what is removed"),
    Column("deletion_area", "Deletion: area under f1's probability"),
    Column("insertion_area", "Insertion: area under f1's probability"),
    Column("class_variance_share", "Share of the variance that the class explains"),
    Column("noise_change", f"Mean change (/255) under noise of {NOISE}/255"),
    Column("noise_rank_correlation", f"Rank correlation under noise of {NOISE}/255"),
)
Found = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """How many images, chosen by which seed; the share of pixels that is kept; whether captum's maps are tested."""

    limit: int
    seed: int = 0
    area: float = 0.3
    captum: bool = False


@dataclasses.dataclass(frozen=True)
class Tested:
    """The table, and what is recorded of how it came about."""

    table: Table
    about: dict[str, Any]

    def csv(self) -> str:
        about = {"data": self.about["data"], "run": self.about["run"][:12]}
        return as_csv(self.table, about, ("map",), lambda subject: [subject.attack])

    def record(self, card: bundles.Card) -> Path:
        """Write the table beside the bundle's card. Raises BundleError as `bundles.save_evaluation` does."""
        return bundles.save_evaluation(card, {**self.about, "tables": [to_json(self.table)]}, bundles.MASK_TESTS)


def measure(
    system: System, data: ImageSet, asked: Asked, judge: System | None = None, job: Job | None = None
) -> Tested:
    """Put the maps of a bundle to the test.

    Args:
        judge: the bundle whose detector of kind "evidence" has the evaluator, a classifier trained on random masks. If
            None it is `system`, and the cells of EVAL-X stay empty if that has none.

    Raises:
        DataError: the data do not fit the bundle.
        SettingError: there are not so many images, the judge does not fit, or captum is asked for and not installed.
        Cancelled: through `job`.
    """
    job, begun = job or Job(), time.perf_counter()
    data = data.matched(system.domain)
    if len(data) < 2 or not 1 <= asked.limit <= len(data):
        raise SettingError(f"limit = {asked.limit} is not a number from 1 to {len(data)}, the images of {data.source}.")
    test = _Test.of(system, data, asked, _evaluator(system, judge))
    drawn, others = maps.of_generators(system), maps.baselines(asked.seed)
    others += maps.attributions(system) if asked.captum else []
    total, rows = 2 * len(drawn) + len(others), dict[maps.Map, tuple[Cell, ...]]()

    def put(tested: maps.Map) -> Found:
        found = test.all_of(tested, job.part(len(rows) / total, (len(rows) + 1) / total))
        rows[tested] = _cells(found)
        return found

    for mask in drawn:
        found = put(mask)
        put(maps.class_mean(mask, torch.from_numpy(found["importance"]), torch.from_numpy(found["classes"])))
    for other in others:
        put(other)
    subjects = tuple(Subject(tested.key, tested.title, "", {}) for tested in rows)
    notes = _notes(system, data, asked, judge or system, test)
    table = Table("masks", "Masks put to the test", COLUMNS, subjects, tuple(rows.values()), notes)
    return Tested(table, _about(system, data, asked, judge, time.perf_counter() - begun))


def _evaluator(system: System, judge: System | None) -> nn.Module | None:
    """Return the classifier of the judge's first detector of kind "evidence"; None if `system` is asked and has none.

    Raises:
        SettingError: the judge has none, or is for other classes or another image size.
    """
    asked = judge or system
    roles = [entry.networks[CLASSIFIER] for entry in asked.card.detectors if entry.kind == "evidence"]
    if judge is not None and not roles:
        raise SettingError(f"evaluator: bundle '{judge.card.name}' has no detector of kind 'evidence'; choose another.")
    if asked.domain != system.domain:
        raise SettingError(f"evaluator: bundle '{asked.card.name}' is for other classes or another image size.")
    return asked.networks[roles[0]] if roles else None


@dataclasses.dataclass(frozen=True)
class _Test:
    """What is computed for each map.

    Attributes:
        images: uint8 (N, 3, H, W); `noisy`: the same with noise; `others`: for each another image of the data set.
        labels: int64 (N,).
        ties: (N, H * W), random numbers that decide between pixels of equal importance.
        kept: number of pixels.
    """

    f1: nn.Module
    evaluator: nn.Module | None
    device: torch.device
    images: Tensor
    noisy: Tensor
    others: Tensor
    labels: Tensor
    ties: Tensor
    kept: int

    @classmethod
    def of(cls, system: System, data: ImageSet, asked: Asked, evaluator: nn.Module | None) -> _Test:
        order = choose_images(len(data), len(data), asked.seed)
        rows, pixels = order[: asked.limit], system.domain.size**2
        draw = np.random.default_rng(asked.seed)
        # Never the image itself; images that are not tested serve, too.
        apart = draw.integers(1, len(data), asked.limit)
        others = data.images[order[(np.arange(asked.limit) + apart) % len(data)]]
        images = data.images[rows]
        noisy = np.clip(images + draw.integers(-NOISE, NOISE + 1, images.shape), 0, 255).astype(np.uint8)
        return cls(
            system.network(bundles.CLASSIFIER),
            evaluator,
            system.device,
            torch.from_numpy(images),
            torch.from_numpy(noisy),
            torch.from_numpy(others),
            torch.from_numpy(data.labels[rows]),
            torch.from_numpy(draw.random((asked.limit, pixels), np.float32)),
            min(max(round(asked.area * pixels), 1), pixels - 1),
        )

    def all_of(self, tested: maps.Map, job: Job) -> Found:
        """Return what `part_of` returns, for all images."""
        parts = list(
            compute.in_batches(lambda rows: self.part_of(tested, rows), len(self.images), BATCH, job, tested.title)
        )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def part_of(self, tested: maps.Map, rows: slice) -> Found:
        """Return a map's importance (N, H, W), f1's classes (N,) and the measures by column (N,) of some images."""
        images, noisy, others = (
            imaging.to_unit(one[rows].to(self.device)) for one in (self.images, self.noisy, self.others)
        )
        classes = self.f1(images).argmax(1)
        importance = tested.of(images, classes)
        again = tested.of(noisy, self.f1(noisy).argmax(1))
        places = ranking(importance, self.ties[rows].to(self.device))
        deletion, insertion = areas(self.f1, classes, images, others, places)
        found = {"classes": classes, "importance": importance, "deletion_area": deletion, "insertion_area": insertion}
        found["noise_change"] = 255 * (again - importance).abs().mean((1, 2))
        if self.evaluator is not None:
            left_out = (places >= self.kept)[:, None].float()
            for key, masks in (("evalx_accuracy_kept", left_out), ("evalx_accuracy_removed", 1 - left_out)):
                labels = self.labels[rows].to(self.device)
                found[key] = classified(self.evaluator, images, masks).argmax(1) == labels
        arrays = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        flat = (one.flatten(1).cpu().numpy() for one in (importance, again))
        return {**arrays, "noise_rank_correlation": rank_correlations(*flat)}

    @torch.no_grad()
    def on_whole_images(self, network: nn.Module) -> float:
        """Return the accuracy of a classifier on the images as they are."""

        def right(rows: slice) -> int:
            found = network(imaging.to_unit(self.images[rows].to(self.device))).argmax(1).cpu()
            return int((found == self.labels[rows]).sum())

        return sum(compute.in_batches(right, len(self.images), BATCH)) / len(self.images)


def ranking(importance: Tensor, ties: Tensor) -> Tensor:
    """Return each pixel's place by importance (N, H, W), 0 for the most important; `ties` (N, H * W) decide ties."""
    shuffled = ties.argsort(1)
    falling = importance.flatten(1).gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    order = shuffled.gather(1, falling)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(importance)


def areas(f1: nn.Module, classes: Tensor, images: Tensor, others: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas under the curves of deletion and insertion (N,), Petsiuk et al. 2018 (arXiv 1806.07421).

    Deletion replaces the pixels of `images` by those of `others` in the order of `places` (N, H, W); insertion begins
    with `others`. The curves are f1's probability of `classes` (N,), the areas those of trapezoids.
    """

    def probability(mixed: Tensor) -> Tensor:
        out: Tensor = f1(mixed).double().softmax(1).gather(1, classes[:, None])[:, 0]
        return out

    curves: list[tuple[Tensor, Tensor]] = []
    for step in range(STEPS + 1):
        taken = (places < round(step / STEPS * places[0].numel()))[:, None]
        curves.append(
            (probability(torch.where(taken, others, images)), probability(torch.where(taken, images, others)))
        )
    deletion, insertion = (torch.trapezoid(torch.stack(curve), dim=0) / STEPS for curve in zip(*curves, strict=True))
    return deletion, insertion


def _cells(found: Found) -> tuple[Cell, ...]:
    count = len(found["classes"])
    share, interval = class_share(found["importance"].reshape(count, -1), found["classes"])
    cells = {"class_variance_share": Cell(share, count, *(interval or (None, None)))}
    for column in COLUMNS[:2]:
        cells[column.key] = rate_of(found[column.key]) if column.key in found else NO_RATE
    return tuple(cells[c.key] if c.key in cells else mean(found[c.key].astype(np.float64)) for c in COLUMNS)


def _notes(system: System, data: ImageSet, asked: Asked, judge: System, test: _Test) -> tuple[str, ...]:
    if test.evaluator is None:
        evaluator = (
            f"EVAL-X is blank because bundle {judge.card.name} has no classifier trained on random masks (a detector of"
            " kind 'evidence'); --evaluator names a bundle that has one."
        )
    else:
        evaluator = (
            f"EVAL-X (Jethani et al. 2021, arXiv 2103.01890): the classifier of bundle {judge.card.name}"
            f" ({judge.card.checksum[:12]}) that was trained on random masks; it classifies"
            f" {test.on_whole_images(test.evaluator):.3f} of the whole images correctly. Kept or removed are the"
            f" {100 * asked.area:g}% of each image's pixels that a map ranks highest; fields of colour replace what is"
            " not shown. If its training went on with a generator's masks, it favours that generator."
        )
    return (
        f"Data: {data.source}; n = {asked.limit:,} images, seed {asked.seed}, of which f1 classifies"
        f" {test.on_whole_images(test.f1):.3f} correctly. Bundle: {system.card.name} ({system.card.checksum[:12]})."
        " Intervals: 95%; Wilson for accuracies, bootstrap over images for the others.",
        evaluator,
        "Deletion replaces an image's pixels, the most important first, by those of another image of the data set in"
        f" {STEPS} steps; insertion does the reverse. A map that shows what f1 needs has a small area for deletion and"
        " a large one for insertion.",
        "The class is f1's. It explains all of a class mean by construction, and nothing of a map that does not depend"
        " on it; estimates may be slightly below 0.",
        f"Noise: each value changes by a whole number of grey levels from -{NOISE} to {NOISE}, uniformly drawn.",
    )


def _about(system: System, data: ImageSet, asked: Asked, judge: System | None, seconds: float) -> dict[str, Any]:
    versions = {"ciad": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    decides = [system.card.checksum, data.checksum, dataclasses.asdict(asked), judge and judge.card.checksum, versions]
    command = (
        f"ciad masks --bundle {shlex.quote(system.card.name)} --data PATH --limit {asked.limit} --seed {asked.seed}"
    )
    command += f" --area {100 * asked.area:g}" + " --captum" * asked.captum
    return {
        "run": hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest(),
        "command": command + (f" --evaluator {shlex.quote(judge.card.name)}" if judge else ""),
        "data": data.source,
        "versions": versions,
        "device": compute.describe_device(system.device),
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }

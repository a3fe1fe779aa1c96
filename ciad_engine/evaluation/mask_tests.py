"""Masks put to the test: does a map show what f1 needs, does it follow the picture, and does it hold under noise?

One table: a row per map (`maps.py`), a column per measure (`resources/docs/columns.md`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import bundles, compute, imaging
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.evidence import classified
from ciad_engine.detectors.mask import CLASSIFIER
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import maps, planning
from ciad_engine.evaluation.runner import choose_images
from ciad_engine.evaluation.statistics import class_share, rank_correlations
from ciad_engine.evaluation.table import NO_RATE, Cell, Column, Subject, Table, mean, rate_of
from ciad_engine.jobs import Job
from ciad_engine.systems import BATCH, System
from ciad_engine.training.objectives import Images, accuracy

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
    """The settings of a test: number and seed of the images, share of pixels kept, whether captum's maps take part."""

    limit: int
    seed: int = 0
    area: float = 0.3
    captum: bool = False


def measure(system: System, data: ImageSet, asked: Asked, judge: System | None = None, job: Job | None = None) -> Table:
    """Put the maps of a bundle to the test.

    Args:
        judge: the bundle whose detector of kind "evidence" has the evaluator, a classifier trained on random masks. If
            None it is `system`, and the cells of EVAL-X stay empty if that has none.

    Raises:
        DataError: the data do not fit the bundle.
        SettingError: there are not so many images, the judge does not fit, or captum is asked for and not installed.
        Cancelled: through `job`.
    """
    job, data = job or Job(), data.matched(system.domain)
    planning.checked_limit(data, asked.limit)
    if len(data) < 2:
        raise SettingError(f"limit: {data.source} holds one image, but what replaces its parts is another image's.")
    evaluator, draw = _evaluator(system, judge), np.random.default_rng(asked.seed)
    order, pixels = choose_images(len(data), len(data), asked.seed), system.domain.size**2
    shown = data.subset(order[: asked.limit])
    # Another image of the data set, never the image itself.
    others = data.images[order[(np.arange(asked.limit) + draw.integers(1, len(data), asked.limit)) % len(data)]]
    noise = draw.integers(-NOISE, NOISE + 1, shown.images.shape)
    noisy = np.clip(shown.images + noise, 0, 255).astype(np.uint8)
    ties = draw.random((asked.limit, pixels), np.float32)
    kept = min(max(round(asked.area * pixels), 1), pixels - 1)
    test = _Test(system, evaluator, shown, noisy, others, ties, kept)
    masks, plain = maps.of_generators(system), maps.baselines(asked.seed)
    plain += maps.attributions(system) if asked.captum else []
    total, rows = 2 * len(masks) + len(plain), dict[maps.Map, tuple[Cell, ...]]()

    def put(tested: maps.Map) -> Found:
        part = job.part(len(rows) / total, (len(rows) + 1) / total)
        looks = list(compute.in_batches(lambda some: test.look(tested, some), asked.limit, BATCH, part, tested.title))
        found = {name: np.concatenate([look[name] for look in looks]) for name in looks[0]}
        rows[tested] = _cells(found)
        return found

    for mask in masks:
        found = put(mask)
        put(maps.class_mean(mask, torch.from_numpy(found["importance"]), torch.from_numpy(found["classes"])))
    for other in plain:
        put(other)
    subjects = tuple(Subject(tested.key, tested.title, "", {}) for tested in rows)
    notes = _notes(asked, judge or system, test)
    return Table("masks", "Masks put to the test", COLUMNS, subjects, tuple(rows.values()), notes)


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
    """The measurements of each map.

    Attributes:
        noisy: the images shown with noise; `others`: what replaces their parts; both uint8 (N, 3, H, W).
        ties: float32 (N, H * W), random numbers that decide between pixels of equal importance.
        kept: number of pixels.
    """

    system: System
    evaluator: nn.Module | None
    shown: ImageSet
    noisy: npt.NDArray[np.uint8]
    others: npt.NDArray[np.uint8]
    ties: npt.NDArray[np.float32]
    kept: int

    @torch.no_grad()
    def look(self, tested: maps.Map, rows: slice) -> Found:
        """Return a map's importance (N, H, W), f1's classes (N,) and the measures by column (N,) of some images."""
        f1 = self.system.network(bundles.CLASSIFIER)
        arrays = (self.shown.images, self.noisy, self.others, self.shown.labels, self.ties)
        *pictures, labels, ties = (torch.from_numpy(array[rows]).to(self.system.device) for array in arrays)
        images, noisy, others = map(imaging.to_unit, pictures)
        classes = f1(images).argmax(1)
        importance, again = tested.of(images, classes), tested.of(noisy, f1(noisy).argmax(1))
        places = ranking(importance, ties)
        deletion, insertion = areas(f1, classes, images, others, places)
        found = {"classes": classes, "importance": importance, "deletion_area": deletion, "insertion_area": insertion}
        found["noise_change"] = 255 * (again - importance).abs().mean((1, 2))
        if self.evaluator is not None:
            left_out = (places >= self.kept)[:, None].float()
            found["evalx_accuracy_kept"] = classified(self.evaluator, images, left_out).argmax(1) == labels
            found["evalx_accuracy_removed"] = classified(self.evaluator, images, 1 - left_out).argmax(1) == labels
        flat = (one.flatten(1).cpu().numpy() for one in (importance, again))
        found_here = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        return {**found_here, "noise_rank_correlation": rank_correlations(*flat)}

    def accuracy(self, network: nn.Module) -> float:
        """Return the accuracy of a classifier on the images as they are."""
        return accuracy(network, Images.of(self.shown, self.system.device))


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

    curves = []
    for step in range(STEPS + 1):
        taken = (places < round(step / STEPS * places[0].numel()))[:, None]
        deleted, inserted = torch.where(taken, others, images), torch.where(taken, images, others)
        curves.append(torch.stack([probability(deleted), probability(inserted)]))
    deletion, insertion = torch.trapezoid(torch.stack(curves), dim=0) / STEPS
    return deletion, insertion


def _cells(found: Found) -> tuple[Cell, ...]:
    count = len(found["classes"])
    share, interval = class_share(found["importance"].reshape(count, -1), found["classes"])
    cells = {"class_variance_share": Cell(share, count, *(interval or (None, None)))}
    for column in COLUMNS[:2]:
        cells[column.key] = rate_of(found[column.key]) if column.key in found else NO_RATE
    return tuple(cells[c.key] if c.key in cells else mean(found[c.key].astype(np.float64)) for c in COLUMNS)


def _notes(asked: Asked, judge: System, test: _Test) -> tuple[str, ...]:
    card = test.system.card
    if test.evaluator is None:
        evaluator = (
            f"EVAL-X is blank because bundle {judge.card.name} has no classifier trained on random masks (a detector of"
            " kind 'evidence'); --evaluator names a bundle that has one."
        )
    else:
        evaluator = (
            f"EVAL-X (Jethani et al. 2021, arXiv 2103.01890): the classifier of bundle {judge.card.name}"
            f" ({judge.card.checksum[:12]}) that was trained on random masks; it classifies"
            f" {test.accuracy(test.evaluator):.3f} of the whole images correctly. Kept or removed are the"
            f" {100 * asked.area:g}% of each image's pixels that a map ranks highest; fields of colour replace what is"
            " not shown. If its training went on with a generator's masks, it favours that generator."
        )
    return (
        f"Data: {test.shown.source}; n = {asked.limit:,} images, seed {asked.seed}, of which f1 classifies"
        f" {test.accuracy(test.system.network(bundles.CLASSIFIER)):.3f} correctly. Bundle: {card.name}"
        f" ({card.checksum[:12]})."
        " Intervals: 95%; Wilson for accuracies, bootstrap over images for the others.",
        evaluator,
        "Deletion replaces an image's pixels, the most important first, by those of another image of the data set in"
        f" {STEPS} steps; insertion does the reverse. A map that shows what f1 needs has a small area for deletion and"
        " a large one for insertion.",
        "The class is f1's. It explains all of a class mean by construction, and nothing of a map that does not depend"
        " on it; estimates may be slightly below 0.",
        f"Noise: each value changes by a whole number of grey levels from -{NOISE} to {NOISE}, uniformly drawn.",
    )

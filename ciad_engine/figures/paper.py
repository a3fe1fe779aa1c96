"""What the paper's Figures 1 and 3 to 6 show, computed for a bundle and a data set.

Nguyen et al. 2017 (arXiv 1712.00558). Figure 2 is a drawing of the framework. Masks are shown as importance,
1 - mask: white is what f1 needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ciad_engine import bundles
from ciad_engine.attacks.base import Attack, AttackResult
from ciad_engine.attacks.running import run_batched
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors import MASK
from ciad_engine.detectors.base import Verdict
from ciad_engine.domain import Labels, Pixels
from ciad_engine.errors import DataError
from ciad_engine.figures.inspected import mask, said
from ciad_engine.figures.layout import Figure, Panel
from ciad_engine.inspection import percent
from ciad_engine.jobs import Job
from ciad_engine.systems import System

COLUMNS = 6  # images of Figure 5
_CLASSES = 10  # that Figure 1 shows beside each other
LOOKED_AT = 256  # images that are looked at together, in the order of the seed
_MOST = 4096  # images that are looked at, at most


@dataclasses.dataclass(frozen=True)
class Looked:
    """Images with their labels and the detector's verdict on them; all have N rows."""

    images: Pixels
    labels: Labels
    verdict: Verdict

    def right(self) -> npt.NDArray[np.bool_]:
        """Where f1 names the true class."""
        return np.asarray(self.verdict.y1 == self.labels)


def paper_figures(
    system: System, data: ImageSet, chosen: tuple[Attack, ...], seed: int = 0, job: Job | None = None
) -> Iterator[Figure]:
    """Figures 1, 4, 3, 6 and 5, each as soon as it is computed.

    Args:
        system: a loaded bundle; its classifier is attacked.
        data: labelled images; which of them are shown follows from `seed`.
        chosen: the attacks of Figures 3, 5 and 6, in this order.

    Raises:
        DataError: the data do not fit the bundle; or among the images looked at are none that a figure could show,
            which is raised after all figures that can be.
        SettingError: the bundle has no detector "mask".
        CiadError: an attack cannot be run.
        Cancelled: through `job`.
    """
    job = job or Job()
    data = data.matched(system.domain)
    seen = _look(system, data, seed, job.part(0, 0.2))
    picked = _one_of_each_class(seen)
    if len(picked) == 0:
        raise DataError(f"The classifier names no image of {data.source} right, so there is nothing to show.")
    yield _classes(system, data, seen, picked.tolist())
    wrong = _wrong_masks(system, data, seen)
    if wrong is not None:
        yield wrong
    network = system.network(bundles.CLASSIFIER)
    results = []
    for number, attack in enumerate(chosen):
        share = job.part(0.2 + 0.8 * number / len(chosen), 0.2 + 0.8 * (number + 1) / len(chosen))
        results.append(run_batched(attack, network, seen.images[picked], seen.labels[picked], share))
    fooled = np.flatnonzero(np.all([result.fooled for result in results], axis=0))
    lacking = []
    if wrong is None:
        lacking.append(
            f"Figure 4 is left out: of {len(seen.labels):,} images of {data.source} f2 is wrong on no mask where f1 is"
            " right."
        )
    if len(fooled) < 2:
        lacking.append(
            f"Figures 3, 5 and 6 are left out: together they need two images, and of the {len(picked)} of {data.source}"
            f" that were tried {len(fooled)} can be fooled by all of {', '.join(attack.title for attack in chosen)}."
        )
        raise DataError(" ".join((*lacking, "Try another seed.")))
    adversarial = [system.inspect(result.images).by(MASK) for result in results]
    for name, place in zip(("figure3", "figure6"), fooled[:2].tolist(), strict=True):
        yield _one_image(system, data, seen, int(picked[place]), place, chosen, results, adversarial, name)
    yield _attacked(system, data, seen, picked, fooled[:COLUMNS], chosen, results)
    if lacking:
        raise DataError(" ".join(lacking))


def _look(system: System, data: ImageSet, seed: int, job: Job) -> Looked:
    """Inspect images in the order of the seed, until f1 was correct in each class that the data hold."""
    order = np.random.RandomState(seed).permutation(len(data))[:_MOST]
    wanted, found = set(data.labels.tolist()), set[int]()
    for start in range(0, len(order), LOOKED_AT):
        job.progress(start, len(order), "Looking for images to show")
        here = order[start : start + LOOKED_AT]
        labels = data.labels[here]
        found |= set(labels[system.inspect(data.images[here]).y1 == labels].tolist())
        if found == wanted:
            break
    order = order[: start + LOOKED_AT]
    images, labels = data.images[order], data.labels[order].astype(np.int64)
    return Looked(images, labels, system.inspect(images).by(MASK))


def _one_of_each_class(seen: Looked) -> Labels:
    """The first image of each class that f1 names right; where f2 does so, too, if there is one."""
    right, both = seen.right(), seen.right() & (seen.verdict.y2 == seen.labels)
    places = []
    for label in sorted(set(seen.labels.tolist())):
        found = np.flatnonzero(both & (seen.labels == label))
        found = found if len(found) else np.flatnonzero(right & (seen.labels == label))
        places += found[:1].tolist()
    return np.array(places, dtype=np.int64)


def _classes(system: System, data: ImageSet, seen: Looked, places: list[int]) -> Figure:
    names, v = system.card.classes, seen.verdict
    rows: list[tuple[Panel | None, ...]] = []
    for start in range(0, len(places), _CLASSES):
        here = places[start : start + _CLASSES]
        left = (None,) * (min(len(places), _CLASSES) - len(here))
        rows.append((*(Panel(seen.images[k], (f"f1: {said(v.y1, v.p1, k, names)}",)) for k in here), *left))
        rows.append((*(Panel(mask(v, k), (f"f2: {said(v.y2, v.p2, k, names)}",)) for k in here), *left))
    return Figure(
        name="figure1",
        title="Figure 1: an image of each class and its mask",
        rows=tuple(rows),
        sides=("image", "mask (white: important)") * (len(rows) // 2),
        notes=(
            "Of each class the first image, in the order of the seed, whose class f1 and f2 name, or else f1 alone.",
            _about(system, data),
        ),
    )


def _wrong_masks(system: System, data: ImageSet, seen: Looked) -> Figure | None:
    """None where f2 is wrong on no mask of an image that f1 names right."""
    names, v = system.card.classes, seen.verdict
    wrong = np.flatnonzero(seen.right() & (v.y2 != seen.labels))
    surest = wrong[np.argsort(-v.p2[wrong, v.y2[wrong]], kind="stable")][:2].tolist()
    if not surest:
        return None
    rows = tuple(
        (
            Panel(seen.images[k], (f"f1: {said(v.y1, v.p1, k, names)}",)),
            Panel(mask(v, k), (f"f2: {said(v.y2, v.p2, k, names)}",)),
        )
        for k in surest
    )
    share = len(wrong) / int(seen.right().sum())
    return Figure(
        name="figure4",
        title="Figure 4: masks of a class that is not the image's",
        rows=rows,
        heads=("image", "mask"),
        sides=tuple(f"({letter})" for letter in "ab"[: len(rows)]),
        notes=(
            f"f1 is right and f2 is wrong on {100 * share:.0f}% of the {int(seen.right().sum()):,} images looked at"
            " that f1 names right; these are the ones f2 is surest of.",
            _about(system, data),
        ),
    )


def _one_image(
    system: System,
    data: ImageSet,
    seen: Looked,
    origin: int,
    place: int,
    chosen: tuple[Attack, ...],
    results: list[AttackResult],
    adversarial: list[Verdict],
    name: str,
) -> Figure:
    names, v = system.card.classes, seen.verdict
    images = [seen.images[origin], *(result.images[place] for result in results)]
    looks = [(v, origin), *((verdict, place) for verdict in adversarial)]
    return Figure(
        name=name,
        title=f"Figure {name[-1]}: an image, its adversarial versions and their masks",
        rows=(
            tuple(
                Panel(image, (f"f1: {said(w.y1, w.p1, k, names)}",))
                for image, (w, k) in zip(images, looks, strict=True)
            ),
            tuple(Panel(mask(w, k), (f"f2: {said(w.y2, w.p2, k, names)}",)) for w, k in looks),
        ),
        heads=("original", *(attack.title for attack in chosen)),
        sides=("image", "mask (white: important)"),
        notes=(_about(system, data),),
    )


def _attacked(
    system: System,
    data: ImageSet,
    seen: Looked,
    picked: Labels,
    shown: Labels,
    chosen: tuple[Attack, ...],
    results: list[AttackResult],
) -> Figure:
    names = system.card.classes
    before = seen.verdict
    first = tuple(
        Panel(seen.images[k], (names[seen.labels[k]], percent(float(before.p1[k, before.y1[k]]))))
        for k in picked[shown].tolist()
    )
    rest = (
        tuple(
            Panel(
                result.images[k],
                (names[result.label_after[k]], f"{percent(float(result.confidence_after[k]))}, L2 {result.l2[k]:.2f}"),
            )
            for k in shown.tolist()
        )
        for result in results
    )
    return Figure(
        name="figure5",
        title="Figure 5: images and their adversarial counterparts",
        rows=(first, *rest),
        sides=("original", *(attack.title for attack in chosen)),
        notes=(
            "Below each image what f1 says of it and how surely; below an adversarial one its distance, too.",
            _about(system, data),
        ),
    )


def _about(system: System, data: ImageSet) -> str:
    return f"Bundle {system.card.name} ({system.card.checksum[:12]}); {data.source}."

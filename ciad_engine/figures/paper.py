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
from ciad_engine.counting import counted, percent
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors import MASK
from ciad_engine.detectors.base import Verdict
from ciad_engine.domain import Labels, Pixels
from ciad_engine.errors import DataError
from ciad_engine.figures.inspected import SIDES, image_panel, mask_panel
from ciad_engine.figures.layout import Figure, Panel
from ciad_engine.jobs import Job
from ciad_engine.systems import System

COLUMNS = 6  # images of Figure 5
_CLASSES = 10  # that Figure 1 shows beside each other
LOOKED_AT = 256  # images that are looked at together, in the order of the seed
_MOST = 4096  # images that are looked at, at most


@dataclasses.dataclass(frozen=True)
class Looked:
    """Images with their labels and the detector's verdict on them; all have N rows. `about` names bundle and data."""

    images: Pixels
    labels: Labels
    verdict: Verdict
    classes: tuple[str, ...]
    about: str

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """bool (N,): f1 classifies the image correctly."""
        return np.asarray(self.verdict.y1 == self.labels)

    def image(self, row: int) -> Panel:
        return image_panel(self.images[row], self.verdict, row, self.classes)

    def mask(self, row: int) -> Panel:
        return mask_panel(self.verdict, row, self.classes)


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
    if not picked:
        raise DataError(f"The classifier names no image of {data.source} right, so there is nothing to show.")
    yield _classes(seen, picked)
    wrong = _wrong_masks(seen)
    if wrong is not None:
        yield wrong
    network, titles = system.network(bundles.CLASSIFIER), tuple(attack.title for attack in chosen)
    results = []
    for number, attack in enumerate(chosen):
        share = job.part(0.2 + 0.8 * number / len(chosen), 0.2 + 0.8 * (number + 1) / len(chosen))
        results.append(run_batched(attack, network, seen.images[picked], seen.labels[picked], share))
    fooled = np.flatnonzero(np.all([result.fooled for result in results], axis=0))
    lacking = []
    if wrong is None:
        lacking.append(
            f"Figure 4 is left out: of {counted(len(seen.labels), 'image')} of {data.source} f2 is wrong on no mask"
            " where f1 is right."
        )
    if len(fooled) < 2:
        lacking.append(
            f"Figures 3, 5 and 6 are left out: together they need two images, and of the {len(picked)} of {data.source}"
            f" that were tried {len(fooled)} can be fooled by all of {', '.join(titles)}."
        )
        raise DataError(" ".join((*lacking, "Try another seed.")))
    adversarial = [
        dataclasses.replace(
            seen, images=result.images, labels=seen.labels[picked], verdict=system.inspect(result.images).by(MASK)
        )
        for result in results
    ]
    for number, place in zip((3, 6), fooled[:2].tolist(), strict=True):
        versions = [(seen, picked[place]), *((each, place) for each in adversarial)]
        yield _one_image(number, versions, ("original", *titles), seen.about)
    shown = fooled[:COLUMNS].tolist()
    yield _attacked(seen, [picked[place] for place in shown], results, shown, ("original", *titles))
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
    about = f"Bundle {system.card.name} ({system.card.checksum[:12]}); {data.source}."
    return Looked(images, labels, system.inspect(images).by(MASK), system.card.classes, about)


def _one_of_each_class(seen: Looked) -> list[int]:
    """The first image of each class that f1 classifies correctly; where f2 does so, too, if there is one."""
    places = []
    for label in sorted(set(seen.labels.tolist())):
        right = seen.right & (seen.labels == label)
        both = right & (seen.verdict.y2 == label)
        places += np.flatnonzero(both if both.any() else right)[:1].tolist()
    return places


def _classes(seen: Looked, places: list[int]) -> Figure:
    rows: list[tuple[Panel | None, ...]] = []
    for start in range(0, len(places), _CLASSES):
        here = places[start : start + _CLASSES]
        left = (None,) * (min(len(places), _CLASSES) - len(here))
        rows += [(*map(seen.image, here), *left), (*map(seen.mask, here), *left)]
    return Figure(
        name="figure1",
        title="Figure 1: an image of each class and its mask",
        rows=tuple(rows),
        sides=SIDES * (len(rows) // 2),
        notes=(
            "Of each class the first image, in the order of the seed, whose class f1 and f2 name, or else f1 alone.",
            seen.about,
        ),
    )


def _wrong_masks(seen: Looked) -> Figure | None:
    """None if f2 is wrong on no mask of an image that f1 classifies correctly."""
    v, right = seen.verdict, int(seen.right.sum())
    wrong = np.flatnonzero(seen.right & (v.y2 != seen.labels))
    surest = wrong[np.argsort(-v.p2[wrong, v.y2[wrong]], kind="stable")][:2].tolist()
    if not surest:
        return None
    return Figure(
        name="figure4",
        title="Figure 4: masks of a class that is not the image's",
        rows=tuple((seen.image(k), seen.mask(k)) for k in surest),
        heads=("image", "mask"),
        sides=("(a)", "(b)")[: len(surest)],
        notes=(
            f"f1 is right and f2 is wrong on {100 * len(wrong) / right:.0f}% of the {counted(right, 'image')} looked at"
            " that f1 classifies correctly; these are the ones f2 is surest of.",
            seen.about,
        ),
    )


def _one_image(number: int, versions: list[tuple[Looked, int]], heads: tuple[str, ...], about: str) -> Figure:
    return Figure(
        name=f"figure{number}",
        title=f"Figure {number}: an image, its adversarial versions and their masks",
        rows=(tuple(each.image(k) for each, k in versions), tuple(each.mask(k) for each, k in versions)),
        heads=heads,
        sides=SIDES,
        notes=(about,),
    )


def _attacked(
    seen: Looked, origins: list[int], results: list[AttackResult], places: list[int], sides: tuple[str, ...]
) -> Figure:
    """The images at `origins`, and below each what the attacks made of it, which lies at `places` of their results."""
    names, before = seen.classes, seen.verdict
    first = tuple(
        Panel(seen.images[k], (names[seen.labels[k]], percent(float(before.p1[k, before.y1[k]])))) for k in origins
    )

    def below(result: AttackResult, k: int) -> Panel:
        surely = f"{percent(float(result.confidence_after[k]))}, L2 {result.l2[k]:.2f}"
        return Panel(result.images[k], (names[result.label_after[k]], surely))

    return Figure(
        name="figure5",
        title="Figure 5: images and their adversarial counterparts",
        rows=(first, *(tuple(below(result, k) for k in places) for result in results)),
        sides=sides,
        notes=(
            "Below each image what f1 says of it and how surely; below an adversarial one its distance, too.",
            seen.about,
        ),
    )

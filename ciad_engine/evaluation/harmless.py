"""Harmless changes: how often detectors flag benign images that were stored, filtered or scaled.

A detector that flags them would be switched off by its users. Everything is measured on uint8 images, as in use.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ciad_engine import detectors
from ciad_engine.datasets import ImageSet
from ciad_engine.detectors.threshold import RATES
from ciad_engine.domain import Pixels
from ciad_engine.errors import DataError
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.runner import Stretch, choose_images
from ciad_engine.evaluation.table import Cell, Column, Subject, Table, filled, rate_of
from ciad_engine.jobs import Job
from ciad_engine.systems import System


@dataclasses.dataclass(frozen=True)
class Change:
    """A change that people make without meaning harm; `name` is for files, `title` for people."""

    name: str
    title: str
    apply: Callable[[Pixels], Pixels]


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Store the image as JPEG, with Pillow's defaults: colours at half the resolution."""
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return _pixels(Image.open(file))


def blur(image: Pixels, weights: Sequence[int]) -> Pixels:
    """Filter rows and columns with these weights; edge pixels are repeated."""
    reach = len(weights) // 2
    values = image.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(values, [(reach, reach) if axis == one else (0, 0) for one in range(3)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis)
        values = windows @ np.asarray(weights) / sum(weights)
    return _rounded(values)


def noise(image: Pixels, reach: int) -> Pixels:
    """Add a whole number from -reach to reach to each value, all equally likely; the image itself is the seed."""
    # RandomState's stream is the same in all numpy versions.
    random = np.random.RandomState(zlib.crc32(image.tobytes()))
    return _rounded(image + random.randint(-reach, reach + 1, image.shape))


def brightness(image: Pixels, factor: float) -> Pixels:
    """Multiply all values."""
    return _rounded(image * factor)


def contrast(image: Pixels, factor: float) -> Pixels:
    """Multiply the differences from the image's mean value."""
    return _rounded(image.mean() + (image - image.mean()) * factor)


def resize(image: Pixels, factor: float) -> Pixels:
    """Scale the image with Pillow's Lanczos filter, and back."""
    picture = _picture(image)
    sides = round(factor * picture.width), round(factor * picture.height)
    scaled = picture.resize(sides, Image.Resampling.LANCZOS)
    return _pixels(scaled.resize(picture.size, Image.Resampling.LANCZOS))


CHANGES = (
    Change("unchanged", "Unchanged", lambda image: image),
    *(Change(f"jpeg-{q}", f"JPEG, quality {q}", functools.partial(jpeg, quality=q)) for q in (90, 75, 50)),
    Change("blur-3", "Blur, 3x3 pixels", functools.partial(blur, weights=(1, 2, 1))),
    Change("blur-5", "Blur, 5x5 pixels", functools.partial(blur, weights=(1, 4, 6, 4, 1))),
    Change("noise-2", "Noise, 2/255", functools.partial(noise, reach=2)),
    Change("brightness-110", "Brightness +10%", functools.partial(brightness, factor=1.1)),
    Change("brightness-90", "Brightness -10%", functools.partial(brightness, factor=0.9)),
    Change("contrast-110", "Contrast +10%", functools.partial(contrast, factor=1.1)),
    Change("contrast-90", "Contrast -10%", functools.partial(contrast, factor=0.9)),
    Change("resize-200", "Resized x2 and back", functools.partial(resize, factor=2.0)),
    Change("resize-75", "Resized x0.75 and back", functools.partial(resize, factor=0.75)),
)
_HOW = (
    "JPEG: colours at half the resolution (4:2:0). Blur: Gaussian, binomial weights 1 2 1 (standard deviation 0.7"
    " pixels) and 1 4 6 4 1 (1 pixel) in both directions. Noise: a whole number from -2 to 2 for each value, all"
    " equally likely. Contrast: differences from the image's mean. Resized: Lanczos filter."
)

COLUMNS = (
    Column("images", "Images that f1 classifies correctly before and after the change", "Images"),
    Column("f1_correct_rate", "Rate of images classified correctly before it that are after it", "f1 still correct"),
    Column("false_positive_rate", "False positive rate, rule disagreement", "Disagreement: FPR"),
    Column(
        f"graded_{100 * RATES[0]:g}_false_positive_rate",
        f"False positive rate, graded at {100 * RATES[0]:g}%",
        f"Graded {100 * RATES[0]:g}%: FPR",
    ),
)
_BY_RULE = {detectors.DISAGREEMENT: COLUMNS[2].key, detectors.GRADED: COLUMNS[3].key}


def measure(system: System, data: ImageSet, limit: int | None = None, seed: int = 0, job: Job | None = None) -> Table:
    """Return the false positive rate of every detector on images after each change.

    Benign images that f1 classifies correctly before and after the change count. The rows without a detector are about
    f1.

    Args:
        limit, seed: how many images, and which: those that an evaluation with this seed attacks.

    Raises:
        DataError: the data's classes or image size are not the bundle's, or f1 classifies none of the images correctly.
        SettingError: there are not as many images.
        Cancelled: through `job`.
    """
    job, data = job or Job(), data.matched(system.domain)
    limit = planning.checked_limit(data, limit)
    chosen = data.subset(choose_images(len(data), limit, seed))
    parts = [
        Stretch(job, index * limit, limit * (1 + len(CHANGES)), limit, title)
        for index, title in enumerate(("Classifying", *(change.title for change in CHANGES)))
    ]
    correct = system.inspect(chosen.images, job=parts[0]).y1 == chosen.labels
    if not correct.any():
        raise DataError(f"f1 classifies none of these {limit:,} images of {data.source} correctly; choose other data.")
    images, labels = chosen.images[correct], chosen.labels[correct]
    rows = []
    for change, part in zip(CHANGES, parts[1:], strict=True):
        changed = np.stack([change.apply(image) for image in images])
        verdict = system.inspect(changed, job=part)
        kept = verdict.y1 == labels
        subject = Subject(change.name, change.title, "", {})
        rows.append((subject, {"images": Cell(int(kept.sum())), "f1_correct_rate": rate_of(kept)}))
        for name in detectors.in_order(verdict.findings):
            cells = {_BY_RULE[r]: rate_of(verdict.by(name, r).adversarial[kept]) for r in verdict.findings[name].rules}
            rows.append((dataclasses.replace(subject, detector=name), cells))
    meaning = (
        "False positive rate: images that are flagged after the change, of the benign images that f1 classifies"
        f" correctly before and after it. Graded: above the threshold that {100 * RATES[0]:g}% of unchanged validation"
        " images exceed."
    )
    about = (
        f"Data: {data.source}; n = {limit:,} images, seed {seed}. Bundle: {system.card.name}"
        f" ({system.card.checksum[:12]}). Intervals: 95%, Wilson."
    )
    return filled("harmless", "Harmless changes", COLUMNS, rows, (meaning, _HOW, about))


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _pixels(picture: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _rounded(values: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels

"""What the page asks of the engine thread. Nothing here touches Qt; torch comes in with the engine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ciad_app.inspect.collection import Collection, Entry, of_picture, of_set
from ciad_engine import datasets, distances, imaging, inspection
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import CiadError
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from ciad_engine.bundles import System

STORED = "stored"  # the attack's name where only the pair of images is known, from the results table
MOST_ORIGINALS = 1000  # of a folder of pictures: 100 MB of small copies
ENDINGS = (*sorted(imaging.EXTENSIONS), *datasets.ARCHIVES)  # of the files that can be opened


@dataclasses.dataclass(frozen=True)
class Opened:
    """What became of the paths somebody opened.

    Attributes:
        entries: the pictures among them.
        collections: the data sets among them.
        problems: one message for each that could not be opened.
    """

    entries: tuple[Entry, ...]
    collections: tuple[Collection, ...]
    problems: tuple[str, ...]


def open_paths(paths: Sequence[Path], job: Job) -> Opened:
    """Read pictures, folders of pictures, data set folders and archives; a bad one stops none of the others."""
    entries, collections, problems = [], [], []
    pictures: list[Path] = []
    for path in paths:
        try:
            inside = _pictures_in(path)
            if inside:
                pictures += inside
            elif os.path.isdir(path) or path.name.lower().endswith(datasets.ARCHIVES):  # noqa: PTH112 - as below
                collections.append(of_set(datasets.choose(str(path), job).matched(CIFAR10)))
            else:
                pictures.append(path)
        except CiadError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}.")
    for i, path in enumerate(pictures):
        job.progress(i, len(pictures), "Opening images")
        try:
            entries.append(of_picture(imaging.read(path, CIFAR10.size), keep_original=i < MOST_ORIGINALS))
        except CiadError as error:
            problems.append(str(error))
    return Opened(tuple(entries), tuple(collections), tuple(problems))


def _pictures_in(path: Path) -> list[Path]:
    """The pictures lying directly in a folder; a data set's folder has none there."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered
        return []
    return sorted(p for p in path.iterdir() if p.suffix.lower() in imaging.EXTENSIONS and p.is_file())


def samples() -> Collection:
    """The bundled sample images."""
    return of_set(datasets.samples())


def inspect(system: System, entry: Entry, rule: str, job: Job) -> Inspection:
    """Look at an image; where its adversarial version is stored, at both."""
    if entry.adversarial is None:
        return inspection.inspect(system, entry.pixels, entry.name, entry.label, None, rule, job)
    return _of_pair(system, entry, entry.adversarial, rule, job)


def attack(system: System, entry: Entry, name: str, settings: dict[str, Any], rule: str, job: Job) -> Inspection:
    """Attack an image and look at what came out."""
    from ciad_engine import attacks

    chosen = attacks.create(name, **settings)
    return inspection.inspect(system, entry.pixels, entry.name, entry.label, chosen, rule, job)


def under_rule(system: System, found: Inspection, rule: str) -> Inspection:
    """The same images under another rule of the detector; nothing is attacked again."""
    detector = system.detector(rule)
    label = None if found.label is None else np.array([found.label])
    benign = detector.inspect(found.image[None], label)
    adversarial = None
    if found.adversarial is not None and found.attack is not None:
        adversarial = detector.inspect(found.attack.images, np.array([found.reference]))
    return dataclasses.replace(found, benign=benign, adversarial=adversarial)


def without_attack(found: Inspection) -> Inspection:
    """The record as it was before the attack."""
    return dataclasses.replace(found, attack=None, adversarial=None)


def _of_pair(system: System, entry: Entry, adversarial: npt.NDArray[np.uint8], rule: str, job: Job) -> Inspection:
    """The record of a stored pair: distances are measured again, the cost of the attack is not known here.

    An image made against the second classifier need not fool f1: it is shown all the same, and the reason says so.
    """
    from ciad_engine.attacks.base import AttackResult

    alone = inspection.inspect(system, entry.pixels, entry.name, entry.label, None, rule, job)
    after = system.detector(rule).inspect(adversarial[None], np.array([alone.reference]))
    success = after.y1 != alone.reference
    why_not = f"made against another classifier; f1 still says {alone.classes[int(after.y1[0])]}"
    unknown = np.zeros(1, np.int64)
    result = AttackResult(
        images=adversarial[None],
        success=success,
        reason=np.where(success, "", why_not),
        label_before=alone.benign.y1,
        label_after=after.y1,
        confidence_after=after.p1.max(1),
        forwards=unknown,
        backwards=unknown,
        steps=unknown,
        seconds=0.0,
        attack=STORED,
        settings={},
        **distances.measure(entry.pixels[None], adversarial[None]),
    )
    return dataclasses.replace(alone, attack=result, adversarial=after)


def record(found: Inspection) -> dict[str, Any]:
    """The record as plain data for a JSON file; what a stored pair does not know is left out."""
    content = inspection.as_dict(found)
    if content["attack"] is not None and content["attack"]["name"] == STORED:
        for key in ("settings", "forwards", "backwards", "steps", "seconds"):
            del content["attack"][key]
    return content

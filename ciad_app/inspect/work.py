"""What the page asks of the engine thread. Nothing here touches Qt; torch comes in with the engine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciad_app.incoming import SESSION
from ciad_app.inspect import session_file
from ciad_app.inspect.collection import Collection, Entry, of_picture, of_set
from ciad_app.worker import Session
from ciad_engine import attacks, datasets, files, imaging, inspection
from ciad_engine.errors import CiadError, ImageError
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Job
from ciad_engine.plain_text import plain
from ciad_engine.smallest import Smallest, find

if TYPE_CHECKING:
    from ciad_engine.systems import System

MOST_ORIGINALS = 1000  # of a folder of pictures: 100 MB of small copies
MOST_AT_ONCE = 20  # pictures that are read while other work waits


@dataclasses.dataclass(frozen=True)
class Opened:
    """What became of the paths somebody opened: images, data sets, and a message for each path that was not opened.

    `files` are those that were read.
    """

    entries: tuple[Entry, ...]
    collections: tuple[Collection, ...] = ()
    problems: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    saved: session_file.Saved | None = None  # of the last image, if that is from a session file


def are_pictures(paths: Sequence[Path]) -> bool:
    """Return whether these are a few files, to be read at once; folders and data sets may take long."""
    names = [path.suffix.lower() for path in paths]
    return len(names) <= MOST_AT_ONCE and set(names) <= {*imaging.EXTENSIONS, SESSION}


def open_paths(paths: Sequence[Path], session: Session, job: Job) -> Opened:
    """Read pictures, folders of pictures, data set folders, archives and session files.

    A bad one stops none of the others. Pictures become as large as the images of the bundle in use; data sets get its
    labels.
    """
    domain, saved = session.domain, None
    entries, collections, problems = [], [], []
    pictures: list[Path] = []
    of_sets: list[Path] = []
    for path in paths:
        try:
            inside = _pictures_in(path)
            if inside:
                pictures += inside
            elif datasets.looks_like_one(path):
                collections.append(of_set(datasets.choose(str(path), job).matched(domain)))
                of_sets += datasets.files(str(path))
            else:
                pictures.append(path)
        except CiadError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}.")
    for i, path in enumerate(pictures):
        job.progress(i, len(pictures), "Opening images")
        saved = None
        try:
            if path.suffix.lower() == SESSION:
                saved = session_file.read(_content(path), path.name, session.system.card)
                entries.append(saved.entry)
            else:
                entries.append(of_picture(imaging.read(path, domain.size, job), keep_original=i < MOST_ORIGINALS))
        except CiadError as error:
            problems.append(str(error))
    read = (path for path in pictures if path.suffix.lower() != SESSION)  # a session may be saved over itself
    return Opened(tuple(entries), tuple(collections), tuple(problems), (*of_sets, *read), saved)


def _content(path: Path) -> bytes:
    try:
        return files.read_bounded(path, session_file.MOST_BYTES)
    except OSError as error:
        raise ImageError(f"{plain(path)} cannot be read: {error.strerror or error}.") from error


def _pictures_in(path: Path) -> list[Path]:
    """The pictures lying directly in a folder; a data set's folder has none there."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises if a folder above may not be entered
        return []
    return sorted(p for p in path.iterdir() if p.suffix.lower() in imaging.EXTENSIONS and p.is_file())


def samples(session: Session, job: Job) -> Collection:
    """The bundled sample images, with the labels of the loaded bundle."""
    return of_set(datasets.samples().matched(session.domain))


def inspect(system: System, entry: Entry, job: Job) -> Inspection:
    """Inspect an image; if its adversarial version is stored, both."""
    found = inspection.inspect(system, entry.pixels, entry.name, entry.label, job=job)
    if entry.attack is not None and system.card.knows(entry.bundle):
        found = dataclasses.replace(found, attack=entry.attack, evade=entry.evade)
    return found if entry.adversarial is None else inspection.with_attacked(system, found, entry.adversarial)


def attack(
    system: System,
    entry: Entry,
    name: str,
    settings: dict[str, Any],
    evade: Sequence[str],
    job: Job,
    known: Inspection | None = None,
) -> Inspection:
    """Attack an image and inspect what came out.

    Args:
        evade: detectors that the attacker knows, each "NAME:RULE".
        known: what is known of the image already, by this system.
    """
    chosen = attacks.create(name, **settings)
    if known is None:
        known = inspection.inspect(system, entry.pixels, entry.name, entry.label, job=job)
    return inspection.attacked(system, known, chosen, job, evade)


def smallest(
    system: System,
    entry: Entry,
    name: str,
    settings: dict[str, Any],
    evade: Sequence[str],
    decides: tuple[str, str],
    job: Job,
) -> Smallest:
    """Find the smallest change that fools f1, and the detector that `decides` (name and rule), too."""
    known = inspection.inspect(
        system, entry.pixels, entry.name, entry.label, job=job, detector=decides[0], rule=decides[1]
    )
    return find(system, known, name, settings, evade, job)

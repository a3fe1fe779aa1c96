"""`ciad inspect`: one image through attack and detector, said in a sentence or as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ciad_engine import attacks, imaging, json_text, outputs
from ciad_engine.cli import attack as attack_command
from ciad_engine.cli import console, options
from ciad_engine.errors import CiadError, SettingError

if TYPE_CHECKING:
    from ciad_engine.detectors.base import Verdict
    from ciad_engine.inspection import Inspection

_ZOOM, _GAIN = 8, 16  # of the pictures written, and of the difference


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images(parser)
    parser.add_argument("--attack", metavar="NAME", help=f"attack them first: {', '.join(attacks.names())}")
    options.add_detector(parser)
    options.add_evade(parser)
    options.add_label(parser)
    options.add_bundle(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write what the window shows: attention masks (white: important) before and after the attack, "
        f"the adversarial image and the difference {_GAIN} times magnified; such files are replaced",
    )
    parser.add_argument("--json", action="store_true", help="print a list of records instead of sentences")
    options.add_attack_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    options.check_folder("--out", arguments.out)
    if arguments.evade and arguments.attack is None:
        raise options.WrongUse("--evade goes with --attack: it is the attack that evades.")
    from ciad_engine import bundles, compute, inspection, systems

    card = bundles.read_card(bundles.find(arguments.bundle))
    chosen = options.create_attack(arguments, arguments.attack, card.classes)
    label = options.label_number(arguments.label, card.classes)
    pictures, failed = attack_command.read_all(arguments.images, card.domain.size, job)
    system = systems.load(card.folder, compute.choose_device(arguments.device))
    records: list[dict[str, Any]] = []
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    # No picture that is looked at is written over, nor one result by another.
    inputs = outputs.identities(options.expand(arguments.images))
    taken: set[tuple[Path, str]] = set()
    for picture in pictures:
        try:
            found = inspection.inspect(
                system,
                picture.pixels,
                name=picture.name,
                label=label,
                attack=chosen,
                job=job,
                detector=arguments.detector,
                rule=arguments.rule,
                evade=arguments.evade,
            )
        except SettingError:  # no picture's fault: said once
            raise
        except CiadError as error:
            job.line(f"ciad: {picture.name}: {error}")
            failed += 1
            continue
        job.clear()
        if picture.note:
            job.note(f"{picture.name}: {picture.note}")
        if arguments.json:
            records.append(inspection.as_dict(found))
        else:
            explained = inspection.explain(found)
            print(f"{picture.name}: {explained.headline}: {explained.text}")
            for line in (*explained.others, *(found.attack.notes if found.attack else ())):
                print(f"  {line}")
        if arguments.out is not None:
            try:
                written = _write(found, arguments.out, taken, inputs)
            except CiadError as error:
                job.line(f"ciad: {picture.name}: {error}")
                failed += 1
                continue
            job.note(f"Wrote {', '.join(path.name for path in written)} to {arguments.out}.")
    job.finished()
    if arguments.json:
        print(json_text.write(records, indent=1))
    return 1 if failed else 0


def _write(
    found: Inspection, folder: Path, taken: set[tuple[Path, str]], inputs: Collection[outputs.Identity]
) -> list[Path]:
    """Write the pictures of `--out` under names not yet `taken`, none over the `inputs`; return their paths."""
    from ciad_engine import inspection

    pictures = _looks("looks", found.benign)
    if found.attack is not None and found.attacked_image is not None and found.adversarial is not None:
        attack = found.attack.attack
        pictures[attack] = found.attacked_image
        pictures |= _looks(f"{attack}-looks", found.adversarial)
        pictures[f"{attack}-difference"] = _enlarged(inspection.difference(found.image, found.attacked_image, _GAIN))
    paths = options.free_paths(folder, Path(found.name).stem, [f"-{kind}.png" for kind in pictures], taken, inputs)
    for path, pixels in zip(paths, pictures.values(), strict=True):
        imaging.save_png(path, pixels)
    return paths


def _looks(kind: str, verdict: Verdict) -> dict[str, npt.NDArray[np.uint8]]:
    """Return importance, which is 1 - mask, as an enlarged grey picture; nothing if the bundle draws no masks."""
    if verdict.masks is None:
        return {}
    grey = np.rint(255 * (1 - verdict.masks[0])).astype(np.uint8)
    return {kind: _enlarged(np.stack([grey] * 3))}


def _enlarged(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return pixels.repeat(_ZOOM, axis=1).repeat(_ZOOM, axis=2)

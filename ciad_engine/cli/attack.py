"""`ciad attack`: adversarial images of pictures, as PNG files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ciad_engine import attacks, imaging, outputs
from ciad_engine.attacks.catalogue import Universal
from ciad_engine.attacks.words import FLAGGED
from ciad_engine.cli import console, options
from ciad_engine.counting import counted, percent
from ciad_engine.errors import ImageError, OutputError
from ciad_engine.files import write_whole

if TYPE_CHECKING:
    from ciad_engine.attacks.base import Attack, AttackResult
    from ciad_engine.imaging import Picture


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images(parser)
    parser.add_argument("--attack", required=True, metavar="NAME", help=f"one of {', '.join(attacks.names())}")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="receives IMAGE-ATTACK.png; such files are replaced"
    )
    parser.add_argument(
        "--perturbation",
        type=Path,
        metavar="FILE",
        help="with --attack universal: apply the perturbation in FILE; if there is no such file yet, compute one "
        "from the bundled samples and write it there",
    )
    options.add_label(parser)
    options.add_evade(parser)
    options.add_bundle(parser)
    options.add_attack_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    options.check_folder("--out", arguments.out)
    if arguments.perturbation is not None and not arguments.perturbation.exists():
        options.check_file("--perturbation", arguments.perturbation, ())
    from ciad_engine import bundles, compute, inspection, systems
    from ciad_engine.attacks.model import fingerprint
    from ciad_engine.attacks.running import run_batched

    card = bundles.read_card(bundles.find(arguments.bundle))
    attack = options.create_attack(arguments, arguments.attack, card.classes)
    assert attack is not None  # --attack is required
    if arguments.perturbation is not None:
        attack = _with_perturbation(attack, arguments, card.classes, job)
    label = options.label_number(arguments.label, card.classes)
    pictures, failed = read_all(arguments.images, card.domain.size, job)
    readable = len(pictures)
    pictures, paths = _writable(pictures, arguments, attack.name, job)
    failed += readable - len(pictures)
    if not pictures:
        return 1
    system = systems.load(card.folder, compute.choose_device(arguments.device))
    if isinstance(attack, Universal) and attack.perturbation is not None:
        meant = attack.perturbation.network
        if meant and meant != fingerprint(system.network(bundles.CLASSIFIER)):
            job.note(
                f"{arguments.perturbation} was computed for another classifier than that of the bundle '{card.name}': "
                "it may fool fewer images."
            )
    evade = system.evasions(arguments.evade)
    batch = np.stack([picture.pixels for picture in pictures])
    labels = system.inspect(batch, job=job).y1 if label is None else np.full(len(batch), label, dtype=np.int64)
    attack.check_evade([detector.name for detector in evade])
    attack.check_labels(labels)  # before it is fitted
    attack = inspection.prepared(system, attack, job)
    if arguments.perturbation is not None and not arguments.perturbation.exists():
        assert isinstance(attack, Universal)
        write_whole(arguments.perturbation, attack.fitting())
        job.note(f"Wrote {arguments.perturbation}.")
    result = run_batched(attack, system.network(bundles.CLASSIFIER), batch, labels, job, evade=evade)
    job.finished()
    for note in result.notes:
        job.note(note)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for row, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
        if picture.note:
            job.note(f"{picture.name}: {picture.note}")
        if result.fooled[row]:
            try:
                imaging.save_png(path, result.images[row])
            except ImageError as error:
                job.line(f"ciad: {error}")
                failed += 1
                continue
        print(f"{picture.name}: {describe(result, row, card.classes)}{f' -> {path}' if result.fooled[row] else ''}")
        if not result.fooled[row] and path.exists():
            job.note(f"{path} is there from before; it is not of this attack.")
    counts = f"{int(result.fooled.sum())} of {len(pictures)} fooled the classifier"
    if evade:
        names = ", ".join(arguments.evade)
        counts += f", {int(result.success.sum())} of them also evaded {names}"
    print(f"{counts} ({result.seconds:.2f} s).")
    return 1 if failed else 0


def _writable(
    pictures: Sequence[Picture], arguments: argparse.Namespace, attack: str, job: console.ConsoleJob
) -> tuple[list[Picture], list[Path]]:
    """Return the pictures whose result can be written, and where; each of the others is named on stderr."""
    inputs = outputs.identities(options.expand(arguments.images))
    taken: set[tuple[Path, str]] = set()
    kept, paths = [], []
    for picture in pictures:
        [path] = options.free_paths(arguments.out, f"{Path(picture.name).stem}-{attack}", [".png"], taken, inputs)
        try:
            outputs.check_file(path)
        except OutputError as error:
            job.line(f"ciad: {picture.name}: {error}")
        else:
            kept.append(picture)
            paths.append(path)
    return kept, paths


def _with_perturbation(
    attack: Attack, arguments: argparse.Namespace, classes: Sequence[str], job: console.ConsoleJob
) -> Attack:
    """The attack with the perturbation of `--perturbation`, or as it is where there is no such file yet.

    Raises:
        WrongUse: another attack, or a setting on the command line that is not the file's.
        SettingError: the file holds no perturbation.
    """
    from ciad_engine.attacks import universal

    path: Path = arguments.perturbation
    if not isinstance(attack, Universal):
        raise options.WrongUse(f"--perturbation goes with --attack {Universal.name}, not {attack.name}.")
    if not path.exists():
        return attack
    found = universal.load(path)
    for name, value in options.attack_settings(arguments, [attack.name], classes)[attack.name].items():
        if getattr(found, name) != value:
            raise options.WrongUse(
                f"{path} was computed with {name} = {getattr(found, name)}, not {value}; name another file, "
                "or leave the setting out."
            )
    job.note(f"{path}: eps {found.eps:g}, {found.about_fitting()}.")
    return found


def read_all(paths: Sequence[str], size: int, job: console.ConsoleJob) -> tuple[list[Picture], int]:
    """Return the pictures that can be read, at that size, and how many could not; each of those is named on stderr."""
    pictures, failed = [], 0
    for path in options.expand(paths):
        try:
            pictures.append(imaging.read(path, size, job))
        except ImageError as error:
            job.line(f"ciad: {error}")
            failed += 1
    return pictures, failed


def describe(result: AttackResult, row: int, classes: Sequence[str]) -> str:
    """What happened to one image, in a few words."""
    before = classes[int(result.label_before[row])]
    if not result.fooled[row]:
        return f"{before}, unchanged: {result.reason[row]}"
    return (
        f"{before} became {classes[int(result.label_after[row])]} ({percent(float(result.confidence_after[row]))}), "
        f"{counted(int(result.l0_pixels[row]), 'pixel')} changed, L2 {result.l2[row]:.2f}, "
        f"Linf {result.linf[row]}/255, SSIM {result.ssim[row]:.3f}{'' if result.evaded[row] else f', {FLAGGED}'}"
    )

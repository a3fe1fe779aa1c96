"""`ciad attack`: adversarial images of pictures, as PNG files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ciad_engine import attacks, images
from ciad_engine.cli import console, options
from ciad_engine.errors import ImageError

if TYPE_CHECKING:
    from ciad_engine.attacks.base import AttackResult
    from ciad_engine.images import Picture


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images(parser)
    parser.add_argument("--attack", required=True, metavar="NAME", help=f"one of {', '.join(attacks.names())}")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="receives IMAGE-ATTACK.png; such files are replaced"
    )
    options.add_label(parser)
    options.add_bundle(parser)
    options.add_attack_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    options.check_folder("--out", arguments.out)
    from ciad_engine import bundles, compute
    from ciad_engine.attacks.base import run_batched

    attack = options.create_attack(arguments, arguments.attack)
    assert attack is not None  # --attack is required
    card = bundles.read_card(bundles.find(arguments.bundle))
    label = options.label_number(arguments.label, card.classes)
    pictures, failed = read_all(arguments.images, job)
    if not pictures:
        return 1
    system = bundles.load(card.folder, compute.choose_device(arguments.device))
    batch = np.stack([picture.pixels for picture in pictures])
    if label is None:
        labels = system.detector().inspect(batch, job=job).y1
    else:
        labels = np.full(len(batch), label, dtype=np.int64)
    result = run_batched(attack, system.network(bundles.CLASSIFIER), batch, labels, job)
    job.finished()
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = targets(pictures, attack.name, arguments.out)
    for row, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
        if picture.note:
            job.note(f"{picture.name}: {picture.note}")
        if result.success[row]:
            images.save_png(path, result.images[row])
        print(f"{picture.name}: {describe(result, row, card.classes)}{f' -> {path}' if result.success[row] else ''}")
        if not result.success[row] and path.exists():
            job.note(f"{path} is there from before; it is not of this attack.")
    print(f"{int(result.success.sum())} of {len(pictures)} fooled the classifier ({result.seconds:.2f} s).")
    return 1 if failed else 0


def read_all(paths: Sequence[str], job: console.ConsoleJob) -> tuple[list[Picture], int]:
    """The pictures that can be read, and how many could not; each of those is named on stderr."""
    pictures, failed = [], 0
    for path in options.expand(paths):
        try:
            pictures.append(images.read(path))
        except ImageError as error:
            job.line(f"ciad: {error}")
            failed += 1
    return pictures, failed


def targets(pictures: Sequence[Picture], attack: str, folder: Path) -> list[Path]:
    """One file a picture; pictures of the same name from different folders get a number."""
    taken: set[str] = set()
    paths = []
    for picture in pictures:
        stem = f"{Path(picture.name).stem}-{attack}"
        name, number = f"{stem}.png", 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}.png", number + 1
        taken.add(name.casefold())
        paths.append(folder / name)
    return paths


def describe(result: AttackResult, row: int, classes: Sequence[str]) -> str:
    """What happened to one image, in a few words."""
    before = classes[int(result.label_before[row])]
    if not result.success[row]:
        return f"{before}, unchanged: {result.reason[row]}"
    return (
        f"{before} became {classes[int(result.label_after[row])]} ({100 * result.confidence_after[row]:.0f} %), "
        f"{result.l0_pixels[row]} pixels changed, L2 {result.l2[row]:.2f}, Linf {result.linf[row]}/255, "
        f"SSIM {result.ssim[row]:.3f}"
    )

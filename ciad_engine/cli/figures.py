"""`ciad figures`: the paper's figures as files."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from ciad_engine import attacks, bundles, datasets
from ciad_engine.cli import console, options
from ciad_engine.errors import CiadError, DataError
from ciad_engine.evaluation import planning
from ciad_engine.files import write_whole

_FILES = {f"figure{number}.{suffix}" for number in (1, 3, 4, 5, 6) for suffix in ("png", "svg")}


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="receives figure1, 3, 4, 5 and 6 as PNG and SVG; earlier ones there are deleted",
    )
    parser.add_argument(
        "--data",
        default=datasets.SAMPLES,
        metavar="PATH",
        help="a data set of the bundle's classes, or 'samples' (the default)",
    )
    parser.add_argument("--seed", type=options.seed, default=0, metavar="S", help="chooses the images (default: 0)")
    options.add_bundle(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    card = bundles.read_card(bundles.find(arguments.bundle))
    options.check_folder("--out", arguments.out, options.read_by(arguments, card), (".png", ".svg"))
    from ciad_engine import compute, systems
    from ciad_engine.figures import paper, png, svg
    from ciad_engine.figures.layout import place

    data = datasets.choose(arguments.data, job)
    system = systems.load(card.folder, compute.choose_device(arguments.device))
    chosen = tuple(attacks.create(choice.name, **choice.parameters()) for choice in planning.preset("paper"))
    written: list[str] = []
    try:
        for figure in paper.paper_figures(system, data, chosen, arguments.seed, job):
            page = place(figure)
            for suffix, draw in (("png", png.draw), ("svg", svg.draw)):
                _write(arguments.out / f"{figure.name}.{suffix}", draw(page))
                written.append(f"{figure.name}.{suffix}")
    except DataError:  # some have nothing to show; those of an earlier call must not stand beside these
        for name in _FILES - set(written) if written else ():
            with contextlib.suppress(OSError):  # what is missing is the news
                (arguments.out / name).unlink(missing_ok=True)
        raise
    finally:
        job.finished()
        if written:
            print(f"Wrote {', '.join(written)} to {arguments.out}.")
    return 0


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise CiadError(f"{path} cannot be written: {error.strerror or error}. Choose another folder.") from error

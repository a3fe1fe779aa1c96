"""`ciad masks`: the masks of a bundle put to the test, beside other maps of what f1 needs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ciad_engine import bundles, datasets, typed_numbers
from ciad_engine.cli import console, options
from ciad_engine.errors import CiadError
from ciad_engine.evaluation.table import render_markdown, render_text
from ciad_engine.files import write_whole

LIMIT = 100  # images if nothing is said


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images_of(parser, LIMIT)
    parser.add_argument(
        "--area",
        type=_percent,
        default=30.0,
        metavar="PERCENT",
        help="of each image's pixels, those that a map ranks highest are kept for EVAL-X (default: 30)",
    )
    parser.add_argument(
        "--evaluator",
        metavar="NAME",
        help="bundle whose classifier, trained on random masks, is EVAL-X (default: the bundle itself, if it has one)",
    )
    parser.add_argument(
        "--captum", action="store_true", help="also Grad-CAM and integrated gradients of f1; needs the package captum"
    )
    options.add_bundle(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as CSV")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table as Markdown")
    parser.add_argument("--record", action="store_true", help="also write the table beside the bundle's card")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    from ciad_engine import compute, systems
    from ciad_engine.evaluation import export, mask_tests, recording

    card = bundles.read_card(bundles.find(arguments.bundle))
    for flag, path in (("--csv", arguments.csv), ("--markdown", arguments.markdown)):
        options.check_file(flag, path, options.read_by(arguments, card))
    options.check_apart("--csv", arguments.csv, "--markdown", arguments.markdown)
    data = datasets.choose(arguments.data, job).matched(card.domain)
    device = compute.choose_device(arguments.device)
    system = systems.load(card.folder, device)
    judge = None if arguments.evaluator is None else systems.load(arguments.evaluator, device)
    limit = min(LIMIT, len(data)) if arguments.limit is None else arguments.limit
    asked = mask_tests.Asked(limit, arguments.seed, arguments.area / 100, arguments.captum)
    started = time.perf_counter()
    table = mask_tests.measure(system, data, asked, judge, job)
    job.finished()
    seconds = time.perf_counter() - started
    print(render_text(table, console.width()))
    about = {"data": data.source, "bundle": card.name, "seed": str(arguments.seed)}
    comma = export.as_csv(table, about, ("map",), lambda subject: [subject.attack])
    for path, text in ((arguments.csv, comma), (arguments.markdown, render_markdown(table))):
        if path is not None:
            _write(path, text)
            job.note(f"Wrote {path}.")
    if arguments.record:
        job.note(f"Wrote {recording.record(system, table, data, limit, _command(arguments, limit), seconds)}.")
    return 0


def _command(arguments: argparse.Namespace, limit: int) -> str:
    words = f"masks --limit {limit} --seed {arguments.seed} --area {arguments.area:g}"
    words += "" if arguments.evaluator is None else f" --evaluator {arguments.evaluator}"
    return words + (" --captum" if arguments.captum else "")


def _percent(text: str) -> float:
    """argparse type: a number between 0 and 100."""
    why = ""
    try:
        if 0 < (number := typed_numbers.number(text.strip().removesuffix("%"))) < 100:
            return number
    except typed_numbers.NotANumberError as error:
        why = error.why
    raise argparse.ArgumentTypeError(f"'{typed_numbers.shown(text)}' is not a number between 0 and 100{why}")


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise CiadError(f"{path} cannot be written: {error.strerror or error}. Choose another file.") from error

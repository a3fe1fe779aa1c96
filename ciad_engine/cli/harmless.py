"""`ciad harmless`: do harmless changes of images raise an alarm?"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ciad_engine import bundles, datasets
from ciad_engine.cli import console, options
from ciad_engine.files import write_whole

LIMIT = 1000  # images if no number is given: rates to within a percent or two


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    options.add_images_of(parser, LIMIT)
    options.add_bundle(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--record", action="store_true", help="also write the table beside the bundle's card")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    from ciad_engine import compute, systems
    from ciad_engine.evaluation import export, harmless, recording
    from ciad_engine.evaluation.table import render_text

    card = bundles.read_card(bundles.find(arguments.bundle))
    options.check_file("--csv", arguments.csv, options.read_by(arguments, card))
    data = datasets.choose(arguments.data, job)
    limit = min(LIMIT, len(data)) if arguments.limit is None else arguments.limit
    system = systems.load(card.folder, compute.choose_device(arguments.device))
    started = time.perf_counter()
    table = harmless.measure(system, data, limit, arguments.seed, job)
    job.finished()
    if arguments.csv is not None:
        about = {"data": data.source, "bundle": card.name, "seed": str(arguments.seed)}
        write_whole(arguments.csv, export.as_csv(table, about).encode())
        job.note(f"Wrote {arguments.csv}.")
    if arguments.record:
        seconds = time.perf_counter() - started
        command = f"harmless --limit {limit} --seed {arguments.seed}"
        job.note(f"Wrote {recording.record(system, table, data, limit, command, seconds)}.")
    print(render_text(table, console.width()))
    return 0

"""`ciad train`: from a data set to a bundle."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ciad_engine import datasets
from ciad_engine.cli import console, options
from ciad_engine.training import recipes

if TYPE_CHECKING:
    from ciad_engine.training.loop import Metric

METRIC_EVERY = 30.0  # seconds between two lines of training metrics


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", default="paper", metavar="NAME", help="what to train and how long (default: paper)")
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="CIFAR-10 (archive or cifar-10-batches-py), or class-named folders of pictures",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="becomes the bundle; holds checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in DIR")
    parser.add_argument("--seed", type=options.seed, default=0, metavar="N", help="decides all randomness (default: 0)")
    options.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    if arguments.recipe not in recipes.names():
        raise options.WrongUse(f"--recipe: '{arguments.recipe}' is none of {', '.join(recipes.names())}.")
    from ciad_engine.evaluation import model_card
    from ciad_engine.training import stages

    data = datasets.load(arguments.data, job)
    job.note(f"Training on {data.name}.")
    job.continuing = f"Checkpoints are in {arguments.out / 'training'}; the same command with --resume goes on."
    if not job.quiet:
        job.on_result = _Curve(job).show
    card = stages.train_bundle(
        recipes.get(arguments.recipe),
        data,
        arguments.out,
        job,
        resume=arguments.resume,
        device=arguments.device,
        seed=arguments.seed,
    )
    job.finished()
    print(f"Bundle '{card.name}' is in {card.folder}.")
    for source, figures in card.content["measured"].items():
        print(f"Measured on {source}:")
        lines = [(key, _figure(value)) for key, value in model_card.measured(figures).items()]
        print(console.columns(lines, indent="  "))
    print(f"Use it: ciad inspect IMAGE --bundle {card.folder.absolute()}")
    return 0


class _Curve:
    """Shows training metrics now and then; the whole curve is in the CSV files beside the checkpoints."""

    def __init__(self, job: console.ConsoleJob) -> None:
        self._job = job
        self._shown = time.monotonic()

    def show(self, result: object) -> None:
        metric: Metric = result  # type: ignore[assignment]
        if time.monotonic() - self._shown < METRIC_EVERY and metric.step < metric.steps:
            return
        self._shown = time.monotonic()
        values = ", ".join(f"{name} {value:.4g}" for name, value in metric.values.items())
        self._job.line(f"{metric.stage.replace('_', ' ')}, step {metric.step:,} of {metric.steps:,}: {values}")


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)

"""The CPU beside CUDA: the same evaluation and training on both, their results and their speed.

    python -m tests.benchmarks.cuda [--devices cpu,cuda] [--minutes 9] [--data PATH] [--out FILE]

Prints one Markdown table, and writes it to FILE after each round. A round measures every attack and every stage of
every recipe. The first has few images and steps and is always finished; each later one has more, and its results
replace the earlier ones, until the minutes are over or there are no more images. So the whole takes the minutes it is
given, unless the first round alone takes longer: about half a minute for one CPU core beside itself.

Attacks have their default settings, but not more iterations than the round allows; the rows are those of an
evaluation with the bundle "paper". `equal` counts the rows in which both devices agree: of a rate, in the flag; of
"rows", in the image and everything else but floats. Floats and counts that differ are listed with their largest
difference. Speeds are those of attack and detectors together, without what Universal learns beforehand; of a stage
without its first step.

Rounding separates two devices, and from one seed they draw different random numbers in training, where each stage
builds on those before it: losses agree only roughly. A device beside itself (`--devices cpu,cpu`) has no difference at
all, except in speed.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ciad_engine import attacks, compute, datasets, detectors, memory, systems
from ciad_engine.attacks import parameters
from ciad_engine.datasets import DataSet, ImageSet
from ciad_engine.detectors.base import Detector
from ciad_engine.errors import CiadError
from ciad_engine.evaluation import planning, records, runner
from ciad_engine.files import write_whole
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.runs import BENIGN, Database, Row
from ciad_engine.systems import System
from ciad_engine.training import recipes
from ciad_engine.training.loop import Metric
from ciad_engine.training.recipes import Recipe
from ciad_engine.training.stages import train_bundle

FIRST, GROWTH = 10, 2  # images that each attack gets in the first round, and by what factor they grow
TRAINING = 5  # an attack is allowed so many times as many iterations as a training stage has steps
SEED = 0
FAILED = "failed"


@dataclass(frozen=True)
class Line:
    """One line of the table: a measure of two devices; `same` if they have the same result, None for a speed."""

    what: str
    size: str
    measure: str
    first: str = ""
    second: str = ""
    equal: str = ""
    difference: str = ""
    same: bool | None = None


Part = Callable[..., Line]  # a line of something already named
Task = Callable[[int, Job], list[Line]]
Rows = Sequence[Sequence[Row]]  # of each device


def allowed(size: int) -> int:
    """Return how many iterations go with so many images: they grow faster, to reach the attacks' defaults soon."""
    return size * size // FIRST


def rate(part: Part, measure: str, rows: Rows, counted: Rows, holds: Callable[[Row], bool]) -> Line:
    """Compare a rate among the counted rows of each device, and row by row what it is a rate of."""
    shares = [f"{sum(map(holds, each)) / len(each):.1%}" if each else "–" for each in counted]
    equal = [holds(one) == holds(other) for one, other in zip(*rows, strict=True)]
    return part(measure, *shares, f"{sum(equal)} of {len(equal)}", same=all(equal))


def speed(part: Part, unit: str, speeds: Sequence[float]) -> Line:
    one, other = speeds
    return part(f"{unit} per second", f"{one:.4g}", f"{other:.4g} (× {other / one:.3g})")


def content(row: Row) -> dict[str, Any]:
    """Return all that a row holds, but for its time."""
    flat = {field.name: getattr(row, field.name) for field in fields(row)}
    del flat["seconds"], flat["scores"]
    return flat | {f"{name} {key}": value for name, s in row.scores.items() for key, value in s._asdict().items()}


def compare_rows(part: Part, rows: Rows) -> Line:
    equal, differences = 0, dict[str, float]()
    for first, second in zip(*(map(content, each) for each in rows), strict=True):
        unequal = [key for key in first if first[key] != second[key]]
        equal += all(isinstance(first[key], float) for key in unequal)
        for key in unequal:
            # A class has a number, but is none.
            if type(first[key]) in (int, float) and "label" not in key and key != "y1":
                differences[key] = max(differences.get(key, 0.0), abs(first[key] - second[key]))
    text = ", ".join(f"{key} {value:.2g}" for key, value in differences.items())
    count = len(rows[0])
    return part("rows", equal=f"{equal} of {count}", difference=text, same=equal == count and not text)


def flagged(row: Row, detector: Detector, rule: str) -> bool:
    score = row.scores[detector.name]
    return score.label != row.y1 if rule == detectors.DISAGREEMENT else score.value > detector.rules[rule].value


def evaluate(
    choice: planning.AttackChoice, label: str, system: System, data: ImageSet, size: int, job: Job
) -> tuple[list[Row], list[Row], list[Row]]:
    """Return an evaluation's rows of the attack, or the benign ones, those that were tried, and those that count."""
    plan = planning.make(system.card, data, [choice], size, SEED)
    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "runs.sqlite") as database:
        key = runner.run(plan, system, data, database, job)
        found, rows = records.load(database, key), database.rows(key, label, images=True)
    if label == BENIGN:
        return rows, rows, [row for row in rows if records.correct(row)]
    tried = [row for row in rows if row.label_before == row.label]
    return rows, tried, [pair.adversarial for pair in found.pairs(label)]


def attack(label: str, pair: Sequence[System], data: ImageSet, size: int, job: Job) -> list[Line]:
    """Compare the rows of one attack, or the benign ones that come with the first."""
    name = label or attacks.own()[0]
    schema = parameters.schema(attacks.get(name))
    fewer = {p.name: min(p.default, allowed(size)) for p in schema if p.name == "iterations"}
    here = data.subset(range(2 * size))  # the half that is not attacked is for an attack that learns from others
    found = [evaluate(planning.choose(name, **fewer), label, system, here, size, job) for system in pair]
    rows, tried, counted = zip(*found, strict=True)
    steps = f", {fewer['iterations']} iterations" if fewer and label else ""
    part = functools.partial(Line, label or "benign images", f"{size} images{steps}")
    lines = [compare_rows(part, rows)]
    if label:
        lines.append(rate(part, "success rate", rows, tried, lambda row: row.success))
    for detector in pair[0].detectors.values():
        for rule in detector.rules:
            measure = f"{'true' if label else 'false'} positive rate, {detector.name} ({rule})"
            lines.append(rate(part, measure, rows, counted, functools.partial(flagged, detector=detector, rule=rule)))
    return [*lines, speed(part, "images", [size / sum(row.seconds for row in each) for each in rows])]


class Watch(Job):
    """Note when each step of a training begins, and the last loss of each stage."""

    def __init__(self, outer: Job) -> None:
        super().__init__()
        self._cancel = outer._cancel  # one flag for both
        self.begun: dict[str, list[float]] = {}
        self.ends: dict[str, tuple[float, float]] = {}  # by stage: time and loss of the last step

    def on_progress(self, done: int, total: int, text: str) -> None:
        self.begun.setdefault(text, []).append(time.perf_counter())

    def on_partial(self, result: object) -> None:
        if isinstance(result, Metric):
            self.ends[result.stage] = time.perf_counter(), result.values["loss"]

    def speed(self, stage: str, steps: int) -> float:
        """Return the steps per second, without the first."""
        return (steps - 1) / (self.ends[stage][0] - self.begun[f"Training {stage.replace('_', ' ')}"][1])


def train(recipe: Recipe, pair: Sequence[System], data: ImageSet, size: int, job: Job) -> list[Line]:
    """Compare the stages of a recipe, shortened to a few steps each."""
    steps, held = max(2, allowed(size) // TRAINING), min(recipe.validation, len(data) // 4)
    stages = (replace(stage, schedule=replace(stage.schedule, steps=steps)) for stage in recipe.stages)
    short = replace(recipe, validation=held, stages=tuple(stages))
    both = DataSet(data, data.subset(range(held)), data.source, False, None)
    found = []
    for system in pair:
        watch = Watch(job)
        with tempfile.TemporaryDirectory() as folder:
            card = train_bundle(short, both, Path(folder) / "bundle", watch, device=str(system.device), seed=SEED)
        found.append((watch, card.content["training"]))
    lines = []
    for stage in short.stages:
        part = functools.partial(Line, f"{recipe.name}: {stage.name}", f"{steps} steps of {stage.schedule.batch}")
        values = [{"loss": w.ends[stage.name][1], **t[stage.name]["validation"]} for w, t in found]
        for key in values[0]:
            one, other = (each[key] for each in values)
            difference = f"{abs(one - other):.2g}" if one != other else ""
            lines.append(part(key, f"{one:.5g}", f"{other:.5g}", difference=difference, same=one == other))
        lines.append(speed(part, "steps", [watch.speed(stage.name, steps) for watch, _ in found]))
    return lines


def tasks(pair: Sequence[System], data: ImageSet) -> dict[str, Task]:
    """Return everything that is compared: benign images, each attack, and the stages of each recipe."""
    found: dict[str, Task] = {
        label or "benign images": functools.partial(attack, label, pair, data) for label in (BENIGN, *attacks.usable())
    }
    return found | {
        f"recipe {name}": functools.partial(train, recipes.get(name), pair, data) for name in recipes.names()
    }


def rounds(work: dict[str, Task], most: int, deadline: Job) -> Iterator[list[Line]]:
    """Yield all lines after each round; only the first, with the fewest images, does not heed the deadline."""
    lines: dict[str, list[Line]] = {}
    size, job = min(FIRST, most), Job()
    while not (lines and deadline.cancelled):
        for name, task in work.items():
            print(f"{size} images: {name}", file=sys.stderr, flush=True)
            try:
                lines[name] = task(size, job)
            except Cancelled:
                break
            except Exception as error:  # of one task; the others may tell something yet
                traceback.print_exc()
                lines[name] = [Line(name, f"{size} images", f"{FAILED}: {error}", same=False)]
        yield [line for each in lines.values() for line in each]
        if size == most:
            return
        size, job = min(most, size * GROWTH), deadline


def describe(device: torch.device) -> str:
    """Return what a device is, and in which numbers it trains."""
    with compute.mixed_precision(device):
        low = torch.is_autocast_enabled(device.type)
    return f"{compute.describe_device(device)} (training in {'bfloat16' if low else 'float32'})"


def written(lines: Sequence[Line], devices: Sequence[torch.device], source: str) -> str:
    """Return the table in Markdown, below what was measured and how much of it differs."""
    compared = [line.same for line in lines if line.same is not None]
    differ = compared.count(False)
    summary = f"{differ} of {len(compared)} measures differ" if differ else f"all {len(compared)} measures are equal"
    head = ("what", "size", "measure", *(f"{k}: {d}" for k, d in enumerate(devices, 1)), "equal", "largest difference")
    table = [head, ("---",) * len(head), *(astuple(line)[:-1] for line in lines)]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in table)
    return f"{' beside '.join(map(describe, devices))}; torch {torch.__version__}; {source}: {summary}.\n\n{text}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="cpu,cuda", help="two of cpu, cuda, cuda:1 ... (cpu,cuda)")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which nothing more is measured (9)")
    parser.add_argument("--data", default=datasets.SAMPLES, help="a data set as `ciad evaluate` takes it (samples)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the table is written")
    options = parser.parse_args(arguments)
    names = options.devices.split(",")
    if len(names) != 2:
        parser.error("--devices takes two devices with a comma between them")
    deadline = Job()
    timer = threading.Timer(60 * options.minutes, deadline.cancel)
    timer.daemon = True
    timer.start()
    memory.keep_freed()
    try:
        devices = [compute.choose_device(name) for name in names]
        pair = [systems.load("paper", device) for device in devices]
        data = datasets.choose(options.data).matched(pair[0].domain)
    except CiadError as error:
        sys.exit(f"{error}")
    for lines in rounds(tasks(pair, data), len(data) // 2, deadline):
        text = written(lines, devices, data.source)
        if options.out:
            write_whole(options.out, text.encode())
    timer.cancel()
    print(text, end="")
    if any(line.measure.startswith(FAILED) for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()

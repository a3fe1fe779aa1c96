"""The CPU beside CUDA: the same detectors, attacks and training steps on both, their results and their speed.

    python -m tests.benchmarks.cuda [--devices cpu,cuda] [--minutes 9] [--data PATH] [--images 512] [--out FILE]

Everything is measured with a few images first, then with more, as long as the minutes last; a later round replaces the
rows of an earlier one, and what there was no time for is listed. `--out` writes the table as FILE.md and FILE.csv after
each round.

A difference of 0 means equal results: `--devices cpu,cpu` has no other. That of a rate is the share of images whose
results differ, that of a median the median of the images' differences. Attacks have their default settings, and the
batch size that an evaluation has on the device. A stage of training takes the first steps of its schedule, from the
same initial weights and with the bundle's networks. From one seed, CPU and CUDA draw different random numbers, so the
steps that are compared draw them on the CPU; those that are timed do not, and the first of them is not counted. Other
speeds of the first round include what is loaded at the first call. With NVIDIA_TF32_OVERRIDE=0 in the environment the
differences are those without TF32.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import io
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ciad_engine import attacks, bundles, compute, datasets, memory, networks, systems
from ciad_engine.attacks.base import AttackResult
from ciad_engine.attacks.fitted import FittedAttack
from ciad_engine.attacks.running import run_batched
from ciad_engine.datasets import ImageSet
from ciad_engine.errors import CiadError
from ciad_engine.evaluation.runner import CPU_BATCH, GPU_BATCH
from ciad_engine.files import write_whole
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.systems import System
from ciad_engine.training import recipes
from ciad_engine.training.averaging import average_into
from ciad_engine.training.loop import Metric, train
from ciad_engine.training.objectives import LOSSES, Images
from ciad_engine.training.recipes import Recipe, Stage
from ciad_engine.training.stages import _network

FIRST, GROWTH = 8, 4  # images of the first round, and by what factor they grow
SPARE = 500  # images that a fitted attack learns from, or half of them all; the others are attacked
STEPS = 5  # of training that are compared: the longer, the more a difference in rounding grows
VALIDATION = 100  # images on which a stage is validated after its steps
SEED = 0
DISTANCES = {"l2": "l2", "linf": "linf", "l0": "l0_values"}  # fields of a result, by norm


@dataclasses.dataclass(frozen=True)
class Row:
    """One measure on both devices; `difference` is 0 if the results are equal, and None for a speed."""

    part: str
    name: str
    images: int
    measure: str
    values: Sequence[float | None] = (None, None)
    difference: float | None = None
    ratio: float | None = None

    def cells(self) -> list[Any]:
        return [self.part, self.name, self.images, self.measure, *self.values, self.difference, self.ratio]


class DrawOnCPU(TorchDispatchMode):
    """Draw the random numbers of any device with the CPU's generator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        twins = tree_map_only(torch.Tensor, lambda t: torch.empty_like(t, device="cpu").copy_(t), args)
        drawn = func(*twins, **{**kwargs, **({"device": "cpu"} if "device" in kwargs else {})})
        if twins and drawn is twins[0]:  # in place
            return args[0].copy_(drawn)
        device = kwargs["device"] if "device" in kwargs else args[0].device
        return tree_map_only(torch.Tensor, lambda t: t.to(device), drawn)


class Watch(Job):
    """Take the time from the second step of a training to its last, and that step's loss."""

    def __init__(self, outer: Job, device: torch.device) -> None:
        super().__init__()
        self.outer, self.device, self.began, self.seconds, self.loss = outer, device, 0.0, 0.0, float("nan")

    def on_progress(self, done: int, total: int, text: str) -> None:
        self.outer.checkpoint()
        if done == 1:
            self.began = clock(self.device)

    def on_partial(self, result: object) -> None:
        if isinstance(result, Metric) and result.step == result.steps:
            self.seconds, self.loss = clock(self.device) - self.began, result.values["loss"]


def clock(device: torch.device) -> float:
    """Return the time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def speed(part: str, name: str, images: int, seconds: Sequence[float]) -> Row:
    first, second = (images / max(s, 1e-9) for s in seconds)
    return Row(part, name, images, "images per second", (first, second), ratio=second / first)


def largest(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())


def inspect(pair: Sequence[System], data: ImageSet, job: Job, count: int) -> list[Row]:
    """Compare the classifier, the masks and every detector of the bundle on benign images."""
    images, seconds, verdicts = data.images[:count], [], []
    for system in pair:
        began = clock(system.device)
        verdicts.append(system.inspect(images, job=job))
        seconds.append(clock(system.device) - began)
    one, other = verdicts
    row = functools.partial(Row, "detector", images=len(images))
    rows = [
        row("f1", measure="probability, largest difference", difference=largest(one.p1, other.p1)),
        row("f1", measure="class", difference=float((one.y1 != other.y1).mean())),
    ]
    if one.masks is not None and other.masks is not None:
        rows.append(row("masks", measure="value, largest difference", difference=largest(one.masks, other.masks)))
    for name, finding in one.findings.items():
        scores = (finding.scores, other.findings[name].scores)
        rows.append(row(name, measure="score, largest difference", difference=largest(*scores)))
        for rule in finding.rules:
            flagged = [verdict.by(name, rule).adversarial for verdict in verdicts]
            rates, differ = [float(f.mean()) for f in flagged], float((flagged[0] != flagged[1]).mean())
            rows.append(row(name, measure=f"rate flagged by {rule}", values=rates, difference=differ))
    return [*rows, speed("detector", "all", len(images), seconds)]


def attack(name: str, pair: Sequence[System], data: ImageSet, job: Job, count: int) -> list[Row]:
    """Compare one attack on f1, and what the bundle's first detector makes of its images."""
    spare = min(SPARE, len(data) // 2)
    count = min(count, len(data) - spare)
    results: list[AttackResult] = []
    seconds, flagged = [], []
    for system in pair:
        made, network, began = attacks.create(name), system.network(bundles.CLASSIFIER), clock(system.device)
        if isinstance(made, FittedAttack):
            made = made.fitted(network, data.images[-spare:], job)
        fitting = clock(system.device) - began
        size = GPU_BATCH if system.device.type == "cuda" else CPU_BATCH
        found = run_batched(made, network, data.images[:count], data.labels[:count], job, size)
        results.append(found)
        seconds.append(fitting + found.seconds)  # without its checks; it ends with arrays in main memory
        flagged.append(system.inspect(found.images, job=job).adversarial)
    one, other = results
    both, success = one.success & other.success, [float(found.success.mean()) for found in results]
    detected = [
        float(f[found.success].mean()) if found.success.any() else None
        for f, found in zip(flagged, results, strict=True)
    ]
    row = functools.partial(Row, "attack", name, count)
    rows = [
        row("success rate", success, float((one.success != other.success).mean())),
        row("class afterwards", difference=float((one.label_after != other.label_after).mean())),
        row("detection rate of successes", detected, float((flagged[0] != flagged[1]).mean())),
    ]
    for norm in dict.fromkeys(("l2", attacks.norm(name))) if both.any() else ():
        values = [getattr(found, DISTANCES[norm])[both].astype(float) for found in results]
        medians, apart = [float(np.median(v)) for v in values], np.abs(values[0] - values[1])
        rows.append(row(f"{DISTANCES[norm]}, median", medians, float(np.median(apart))))
        rows.append(row(f"{DISTANCES[norm]}, largest difference", difference=float(apart.max())))
    return [*rows, speed("attack", name, count, seconds)]


def stage(recipe: Recipe, one: Stage, pair: Sequence[System], data: ImageSet, job: Job, count: int) -> list[Row]:
    """Compare one stage of a recipe after `STEPS` steps, and time as many as there are images for."""
    steps, batch, name = 2 + count // 16, min(one.schedule.batch, len(data)), f"{recipe.name}: {one.name}"
    compared = []
    for system in pair:
        with DrawOnCPU():
            compared.append(trained(recipe, one, system, data, STEPS, job))
    (start, first, *_), (_, second, *_) = compared
    change = [largest(start, end) for _, end, *_ in compared]
    apart = float((first - second).norm() / (first - start).norm())
    row = functools.partial(Row, "stage", name, STEPS * batch)
    losses = [watch.loss for *_, watch, _ in compared]
    rows = [
        row(f"loss of step {STEPS}", losses, largest(*losses)),
        row("largest change of a weight", change, largest(first, second)),
        row("difference of the weights, relative to their change", difference=apart),
    ]
    for key, value in compared[0][-1].items():
        values = (value, compared[1][-1][key])
        rows.append(row(key, values, largest(*values)))
    seconds = [trained(recipe, one, system, data, steps, job)[2].seconds for system in pair]
    return [*rows, speed("stage", name, (steps - 1) * batch, seconds)]


def trained(
    recipe: Recipe, one: Stage, system: System, data: ImageSet, steps: int, job: Job
) -> tuple[torch.Tensor, torch.Tensor, Watch, dict[str, float]]:
    """Return the weights before and after the first steps of a stage, its time and loss, and what validation finds."""

    def fresh(this: Stage) -> nn.Module:
        fitting = networks.needed(this.network, classes=len(data.domain.classes), size=data.domain.size)
        return _network(this.network, {**fitting, **this.arguments}, SEED).to(system.device)

    def weights() -> torch.Tensor:
        return torch.cat([v.detach().double().cpu().flatten() for v in network.state_dict().values()])

    stages = {other.role: other for other in reversed(recipe.stages)}
    given = [system.networks[role] if role in system.networks else fresh(stages[role]).eval() for role in one.uses]
    network, plan = fresh(one), one.schedule
    # The rates are those of the whole schedule's first steps.
    short = dataclasses.replace(plan, steps=steps, learning_rate=plan.rate(steps - 1), warmup=1.0, decay=0.0)
    fit, held = (Images.of(part, system.device) for part in (data, data.subset(range(min(VALIDATION, len(data))))))
    objective = LOSSES[one.loss](one.name, network, short, fit, held, *given, **one.options)
    watch, start = Watch(job, system.device), weights()
    first = {key: value.clone() for key, value in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        record = train(objective, Path(folder), system.device, SEED, watch, resume=False)
    if one.continues:
        average_into(objective, first, SEED)
    return start, weights(), watch, record["validation"]


def tasks(pair: Sequence[System], data: ImageSet, job: Job) -> dict[str, Callable[[int], list[Row]]]:
    """Return all that is compared, each a function of the number of images."""
    found = {"detectors": functools.partial(inspect, pair, data, job)}
    for name in attacks.usable():
        found[f"attack {name}"] = functools.partial(attack, name, pair, data, job)
    for recipe in map(recipes.get, recipes.names()):
        for one in recipe.stages:
            found[f"stage {recipe.name}: {one.name}"] = functools.partial(stage, recipe, one, pair, data, job)
    return found


def measure(
    work: dict[str, Callable[[int], list[Row]]], most: int, end: float
) -> Iterable[tuple[list[Row], list[str], list[str]]]:
    """Yield after each round all rows so far, what was left out for want of time, and what failed."""
    rows: dict[str, list[Row]] = {}
    spent: dict[str, float] = {}  # seconds an image
    left, failed = [], []
    size = 0
    while size < most:
        size = min(most, size * GROWTH or FIRST)
        for name, task in work.items():
            began = time.monotonic()
            try:
                if began + spent.get(name, 0.0) * size > end:
                    raise Cancelled
                rows[name] = task(size)
                spent[name] = (time.monotonic() - began) / size
            except Cancelled:
                left.append(f"{name} ({size} images)")
            except Exception as error:  # of one task; the others may tell something yet
                traceback.print_exc()
                failed.append(f"{name} ({size} images): {error}")
        yield [row for name in work for row in rows.get(name, [])], left, failed


def floats(device: torch.device) -> str:
    """Describe how a device computes floats; CIAD itself sets only the training's precision."""
    with compute.mixed_precision(device):
        mixed = torch.is_autocast_enabled(device.type)
        training = str(torch.get_autocast_dtype(device.type)) if mixed else "torch.float32"
    text = f"{compute.describe_device(device)}: training in {training.removeprefix('torch.')}"
    if device.type == "cuda":
        dnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
        override = os.environ.get("NVIDIA_TF32_OVERRIDE", "not set")
        text += (
            f"; TF32 in convolutions {dnn.allow_tf32}, in matrix products {products.allow_tf32} (NVIDIA_TF32_OVERRIDE "
            f"{override}); cuDNN {dnn.version()}, benchmark {dnn.benchmark}, deterministic {dnn.deterministic}"
        )
    return text


def summary(rows: Sequence[Row], left: Sequence[str], failed: Sequence[str]) -> list[str]:
    compared = [row for row in rows if row.difference is not None]
    different = sum(row.difference != 0 for row in compared)
    return [
        f"{different} of {len(compared)} measures differ." if different else f"All {len(compared)} measures are equal.",
        *([f"No time for: {', '.join(left)}."] if left else []),
        *(f"Failed: {text}" for text in failed),
    ]


def written(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    end = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="cpu,cuda", help="two of cpu, cuda, cuda:1 ... (cpu,cuda)")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no more is measured (9)")
    parser.add_argument("--data", default="samples", help="images in any form `ciad data` reads (samples)")
    parser.add_argument("--images", type=int, default=512, help="most images in a round (512)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write FILE.md and FILE.csv")
    options = parser.parse_args(arguments)
    end += 60 * options.minutes
    names = options.devices.split(",")
    if len(names) != 2:
        parser.error("--devices takes two devices with a comma between them")
    if "cuda" in options.devices and not torch.cuda.is_available():
        sys.exit(
            "No CUDA device is available: run this on a machine with an NVIDIA GPU and a CUDA build of torch, or "
            "compare the CPU with itself (--devices cpu,cpu)."
        )
    memory.keep_freed()
    try:
        devices = [compute.choose_device(name) for name in names]
        pair = [systems.load("paper", device) for device in devices]
        data = datasets.choose(options.data).matched(pair[0].domain)
    except CiadError as error:
        sys.exit(str(error))
    job = Job()
    timer = threading.Timer(end - time.monotonic(), job.cancel)
    timer.daemon = True
    timer.start()
    head = ["part", "name", "images", "measure", *(f"{k} {name}" for k, name in enumerate(names, 1)), "difference"]
    head.append("ratio")
    for rows, left, failed in measure(tasks(pair, data, job), options.images, end):
        lines = [[written(cell) for cell in row.cells()] for row in rows]
        notes = [f"{data.source}; torch {torch.__version__}.", *map(floats, devices), *summary(rows, left, failed)]
        table = "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))
        if options.out:
            text = io.StringIO(newline="")
            csv.writer(text).writerows([head, *(row.cells() for row in rows)])
            page = "# " + " beside ".join(names) + "\n\n" + table + "\n" + "".join(f"- {note}\n" for note in notes)
            write_whole(options.out.with_suffix(".md"), page.encode())
            write_whole(options.out.with_suffix(".csv"), text.getvalue().encode())
        print(notes[-1] if failed else summary(rows, left, failed)[0], flush=True)
    timer.cancel()
    print(table, *notes, sep="\n")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()

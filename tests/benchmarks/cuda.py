"""The CPU beside CUDA: the same detectors, attacks and training steps on both, their results and their speed.

    python -m tests.benchmarks.cuda [--devices cpu,cuda] [--minutes 9] [--data PATH] [--images 512] [--out FILE]

Everything is measured with a few images first, then with more, as long as the minutes last; a later round replaces the
rows of an earlier one, and what there was no time for is listed. A difference of 0 means equal results: `--devices
cpu,cpu` has no other. Attacks have their default settings and the batch size of an evaluation. A stage of training
takes the first steps of its schedule, from the initial weights of one seed and with the bundle's networks. The
generators of CPU and CUDA draw different numbers from one seed, so the steps that are compared draw theirs on the CPU;
those that are timed do not, and the first of them is left out. A first round's other times include whatever is loaded
at the first call. NVIDIA_TF32_OVERRIDE=0 in the environment shows how many of the differences are TF32's.
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

FIRST, GROWTH = 8, 4  # images of the first round, and by what factor they grow
SPARE = 500  # images that a fitted attack learns from, or half of them all; the others are attacked
STEPS = 5  # of training that are compared: the longer, the more a difference in rounding grows
TRAINING, VALIDATION = 256, 100  # images that stages are given; few, so that the mask's preparation is quick
SEED = 0


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
    """Draw random numbers of any device with the CPU's generator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = args[0].device if args and isinstance(args[0], torch.Tensor) else torch.device("cpu")
        device = torch.device(kwargs.get("device") or given)
        if torch.Tag.nondeterministic_seeded not in func.tags or device.type == "cpu":
            return func(*args, **kwargs)
        to = {"device": "cpu"} if "device" in kwargs else {}
        twins = tree_map_only(torch.Tensor, lambda t: torch.empty_like(t, device="cpu").copy_(t), args)
        drawn = func(*twins, **{**kwargs, **to})
        if drawn is twins[0]:  # drawn in place
            return args[0].copy_(drawn)
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
        row("f1", measure="largest difference of a probability", difference=largest(one.p1, other.p1)),
        row("f1", measure="images of another class", difference=float((one.y1 != other.y1).mean())),
    ]
    if one.masks is not None and other.masks is not None:
        rows.append(row("masks", measure="largest difference", difference=largest(one.masks, other.masks)))
    for name, finding in one.findings.items():
        scores = (finding.scores, other.findings[name].scores)
        rows.append(row(name, measure="largest difference of a score", difference=largest(*scores)))
        for rule in finding.rules:
            flagged = [verdict.by(name, rule).adversarial for verdict in verdicts]
            rates, differ = [float(f.mean()) for f in flagged], float((flagged[0] != flagged[1]).mean())
            rows.append(row(name, measure=f"flagged by {rule}; images of another verdict", values=rates, difference=differ))
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
        row("success rate; images of another success", success, float((one.success != other.success).mean())),
        row("images of another class afterwards", difference=float((one.label_after != other.label_after).mean())),
        row("detection rate; images of another verdict", detected, float((flagged[0] != flagged[1]).mean())),
    ]
    for field, unit in (("l2", "L2"), ("linf", "Linf, /255"), ("l0_values", "L0, values")) if both.any() else ():
        values = [getattr(found, field)[both].astype(float) for found in results]
        medians, apart = [float(np.median(v)) for v in values], np.abs(values[0] - values[1])
        rows.append(row(f"median {unit}; median difference", medians, float(np.median(apart))))
        rows.append(row(f"{unit}: largest difference", difference=float(apart.max())))
    return [*rows, speed("attack", name, count, seconds)]


def stage(recipe: Recipe, one: Stage, pair: Sequence[System], data: ImageSet, job: Job, count: int) -> list[Row]:
    """Compare one stage of a recipe after `STEPS` steps, and time as many as there are images for."""
    steps, batch, name = 2 + count // 16, one.schedule.batch, f"{recipe.name}: {one.name}"
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
        row("largest change of a weight; largest difference", change, largest(first, second)),
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
        with torch.random.fork_rng([]):
            torch.manual_seed(SEED)
            made = networks.create(this.network, **{**fitting, **this.arguments})
        return made.to(memory_format=torch.channels_last).to(system.device)  # type: ignore[call-overload]

    def weights() -> torch.Tensor:
        return torch.cat([v.detach().double().cpu().flatten() for v in network.state_dict().values()])

    stages = {other.role: other for other in reversed(recipe.stages)}
    given = [system.networks[role] if role in system.networks else fresh(stages[role]).eval() for role in one.uses]
    network, plan = fresh(one), one.schedule
    # The rates of the schedule's first steps, of which many only warm up.
    short = dataclasses.replace(plan, steps=steps, learning_rate=plan.rate(steps - 1), warmup=1.0, decay=0.0)
    fit, held = (
        Images.of(data.subset(range(*part)), system.device)
        for part in ((min(TRAINING, len(data))), (-min(VALIDATION, len(data)), 0))
    )
    objective = LOSSES[one.loss](one.name, network, short, fit, held, *given, **one.options)
    watch, start = Watch(job, system.device), weights()
    first = {key: value.clone() for key, value in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        record = train(objective, Path(folder), system.device, SEED, watch, resume=False)
    if one.continues:
        average_into(objective, first, SEED)
    return start, weights(), watch, record["validation"]

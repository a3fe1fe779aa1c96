"""One training loop for every network: progress, live metrics, cancel, checkpoint, exact resume.

Each step's randomness (augmentation, noise, dropout) is seeded from the run's seed and the step's number alone, and
each epoch's order from the seed and the epoch's number. So a run that was stopped anywhere goes on exactly as if it had
not been, without saving any generator's state. (On CUDA up to the last bits, in which two runs differ there anyway.)
"""

from __future__ import annotations

import abc
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ciad_engine.compute import borrowed, mixed_precision
from ciad_engine.errors import DAMAGE, BundleError, CiadError
from ciad_engine.files import MOST_WEIGHTS, check_regular, read_bounded, write_whole
from ciad_engine.jobs import Cancelled, Job
from ciad_engine.training.recipes import Schedule

CHECKPOINT_SECONDS = 60.0
METRIC_STEPS = 50
_NO_VALUE = object()  # equal to nothing


class Objective(abc.ABC):
    """What one network's training minimises.

    Attributes:
        name: of the stage: file name of its checkpoint and key in the card.
        network: what is trained.
        schedule: how.
        count: number of training images.
        given: networks it computes with; the loop keeps them frozen and in eval mode.
    """

    name: str
    network: nn.Module
    schedule: Schedule
    count: int
    given: tuple[nn.Module, ...] = ()

    def prepare(self, job: Job) -> None:  # noqa: B027 - a hook; few objectives need it
        """Hook: compute once what every step needs."""

    @abc.abstractmethod
    def loss(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss on the training images at `rows`, and metrics worth watching."""

    @abc.abstractmethod
    def validate(self) -> dict[str, float]:
        """Return metrics on images held out from training."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One point of a training curve, handed to `job.partial`."""

    stage: str
    step: int
    steps: int
    values: dict[str, float]


def train(
    objective: Objective,
    folder: Path,
    device: torch.device,
    seed: int,
    job: Job,
    resume: bool,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train `objective.network` in place; it ends in eval mode.

    Args:
        folder: receives `<name>.checkpoint.safetensors` about once a minute and when cancelled, and
            `<name>.csv`, the training curve.
        resume: go on from the checkpoint if there is one; it must be of the same schedule, seed and origin, and of
            the same loss and given networks.
        origin: what else decides the result (data, architecture), as plain data; a checkpoint remembers it.

    Returns:
        What the card keeps of it: schedule, seed, seconds, the validation metrics.

    Raises:
        BundleError: the checkpoint is damaged or of another schedule, seed or origin.
        CiadError: the loss is no longer finite.
        RuntimeError: the objective changed a network that it was given.
        Cancelled: through `job`; the checkpoint is written first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, network, schedule = objective.name, objective.network.to(device), objective.schedule
    optimizer = _optimizer(network, schedule)
    checkpoint = folder / f"{name}.checkpoint.safetensors"
    decides = {**dataclasses.asdict(schedule), "seed": seed, "count": objective.count, "origin": dict(origin or {})}
    about = {"identity": json.dumps(decides, sort_keys=True), "objective": _digest(objective)}
    step, seconds = 0, 0.0
    if resume and os.path.lexists(checkpoint):
        step, seconds = _load(checkpoint, network, optimizer, about)
    curve = Curve(folder / f"{name}.csv", step)
    started = saved = time.monotonic()

    def sane() -> bool:
        return all(bool(torch.isfinite(p).all()) for p in network.parameters())

    def save() -> None:
        _save(checkpoint, network, optimizer, about, step, seconds + time.monotonic() - started)

    def diverged(loss: float) -> CiadError:
        kept = f" The last good checkpoint is {checkpoint}." if checkpoint.exists() else ""
        return CiadError(f"Training of {name} diverged by step {step} (loss {loss}); try another seed.{kept}")

    with torch.random.fork_rng([device] if device.type == "cuda" else []), _frozen(name, objective.given) as check:
        try:
            if step < schedule.steps:
                objective.prepare(job.part(step / schedule.steps, step / schedule.steps))
            network.train()
            while step < schedule.steps:
                job.progress(step, schedule.steps, f"Training {name.replace('_', ' ')}")
                rows = epoch_rows(objective.count, schedule.batch, step, seed).to(device)
                torch.manual_seed(_mix(seed, step))
                with mixed_precision(device):
                    loss, metrics = objective.loss(rows)
                loss.backward()  # type: ignore[no-untyped-call]
                if schedule.clip is not None:
                    nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate(step)
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                if step % METRIC_STEPS == 0 or step == schedule.steps:
                    check()
                    values = {"loss": loss.item(), **{key: value.item() for key, value in metrics.items()}}
                    if not math.isfinite(values["loss"]):
                        raise diverged(values["loss"])
                    curve.add(step, values)
                    job.partial(Metric(name, step, schedule.steps, values))
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    if not sane():  # a checkpoint nobody could go on from must not replace a good one
                        raise diverged(loss.item())
                    save()
                    saved = time.monotonic()
        except Cancelled:
            if sane():
                save()
            raise
        save()
        network.eval()
        validation = objective.validate()
    curve.add(step, validation)
    return {
        "schedule": dataclasses.asdict(schedule),
        "seed": seed,
        "seconds": round(seconds + time.monotonic() - started, 1),
        "validation": validation,
    }


@contextlib.contextmanager
def _frozen(name: str, given: Sequence[nn.Module]) -> Iterator[Callable[[], None]]:
    """Freeze networks in eval mode for a while; yields a check that they stayed so and did not change."""
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in given]

    def check() -> None:
        for network, state in zip(given, before, strict=True):
            thawed = any(m.training for m in network.modules()) or any(p.requires_grad for p in network.parameters())
            if thawed or not all(torch.equal(value, state[key]) for key, value in network.state_dict().items()):
                raise RuntimeError(f"The training of {name} changed a network that it is only to use.")

    with contextlib.ExitStack() as stack:
        for network in given:
            stack.enter_context(borrowed(network))
        yield check


def epoch_rows(count: int, batch: int, step: int, seed: int) -> Tensor:
    """The training images of a step: consecutive pieces of a fresh permutation each epoch.

    The last images of a permutation that do not fill a batch are left out of that epoch.
    """
    per_epoch = max(1, count // batch)
    epoch, place = divmod(step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_mix(seed, -1 - epoch)))
    return order[place * batch : (place + 1) * batch]


def _mix(seed: int, number: int) -> int:
    """One seed from two numbers; consecutive ones give unrelated streams (splitmix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return (z ^ (z >> 31)) % 2**63


def _optimizer(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    wants = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in wants if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in wants if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)


def _digest(objective: Objective) -> str:
    """Return a SHA-256 of the loss and of the weights of the networks that it is computed with.

    Statistics of batch norms are left out: measured anew on another device, they differ in the last bits.
    """
    found = hashlib.sha256(type(objective).__name__.encode())
    for weight in (weight for network in objective.given for weight in network.parameters()):
        found.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _save(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, str], step: int, seconds: float
) -> None:
    """Everything needed to go on, in one safetensors file: weights, optimiser state, step."""
    import safetensors.torch

    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"step": str(step), "seconds": f"{seconds:.1f}", **about}
    write_whole(path, safetensors.torch.save(tensors, metadata))


def _load(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, str]) -> tuple[int, float]:
    import safetensors

    try:
        check_regular(path, MOST_WEIGHTS)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {"objective": about["objective"], **(file.metadata() or {})}  # an old checkpoint has none
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        was, now = (_decisive(identity) for identity in (metadata.get("identity", "{}"), about["identity"]))
        # Old checkpoints name the options of all stages of their recipe.
        same = {**was, "origin": {key: was.get("origin", {}).get(key) for key in now["origin"]}} == now
        if not same or metadata["objective"] != about["objective"]:
            raise BundleError(
                f"The checkpoint {path} belongs to another schedule, seed, data set or loss, or to other networks "
                "that the loss uses; train without --resume, or into another folder."
            )
        network.load_state_dict(_under("network.", tensors))
        whole = optimizer.state_dict()
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimizer.", tensors).items():
            index, _, name = key.partition(".")
            weight = weights[int(index)]
            if value.shape == weight.shape:
                # A fused optimiser goes through both in the order of memory, which the file does not keep.
                value = torch.empty_like(weight).copy_(value)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**whole, "state": state})
        return int(metadata["step"]), float(metadata["seconds"])
    except (OSError, RuntimeError, safetensors.SafetensorError, *DAMAGE) as error:
        if isinstance(error, CiadError):
            raise
        raise BundleError(f"The checkpoint {path} is damaged ({error}); delete it to start again.") from error


def _decisive(identity: str) -> dict[str, Any]:
    """Drop fields that have their default value, so that a new field does not invalidate old checkpoints."""
    defaults = {field.name: field.default for field in dataclasses.fields(Schedule)}
    return {key: value for key, value in json.loads(identity).items() if value != defaults.get(key, _NO_VALUE)}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


class Curve:
    """The training curve as CSV (step, metric, value); rows after `step` are cut off when resuming."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = _curve(path, step) if step and os.path.lexists(path) else []
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["step", "metric", "value"], *kept])
        write_whole(path, text.getvalue().encode())

    def add(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([step, key, repr(value)] for key, value in values.items())


def _curve(path: Path, step: int) -> list[list[str]]:
    """Return the rows of a training curve up to a step. What a crash left of others, such as half of one, is dropped.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        text = read_bounded(path, MOST_WEIGHTS).decode(errors="replace")
    except OSError as error:
        raise BundleError(f"Cannot read the training curve {path}: {error.strerror}; move it away.") from error
    kept = []
    for line in text.splitlines(keepends=True)[1:]:
        with contextlib.suppress(ValueError, csv.Error):
            ((place, metric, value),) = csv.reader([line])
            float(value)
            # Validation comes once, at the end, and is measured again where a finished stage is resumed.
            if line.endswith("\n") and int(place) <= step and not metric.startswith("validation"):
                kept.append([place, metric, value])
    return kept

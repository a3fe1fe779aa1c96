"""Compute the rows of a plan, batch by batch, into the database; continue where it stopped."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import __version__, bundles, compute
from ciad_engine import attacks as registry
from ciad_engine.attacks import checks, running
from ciad_engine.attacks.base import Attack, FittedAttack
from ciad_engine.attacks.goal import Evasion
from ciad_engine.attacks.words import FLAGGED, FOOLED
from ciad_engine.counting import counted
from ciad_engine.detectors.base import Finding
from ciad_engine.errors import RunError
from ciad_engine.evaluation import earlier, planning
from ciad_engine.evaluation.earlier import Earlier
from ciad_engine.evaluation.records import flags
from ciad_engine.jobs import Inner, Job
from ciad_engine.runs import BENIGN, Database, Row, Run, Score
from ciad_engine.systems import System

if TYPE_CHECKING:
    from ciad_engine.datasets import ImageSet

Positions = npt.NDArray[np.int64]

# Images computed, and stored, together. On a CPU so few that a full batch of C&W takes about a minute, which is what a
# stop costs at most, and an iteration at most 200 ms, after which urgent work may run: attacks that follow detectors go
# through several networks, and the second classifier is larger than f1. A GPU is busy with wider ones only.
CPU_BATCH, CPU_BATCH_SECOND, CPU_BATCH_EVADING, GPU_BATCH = 100, 32, 16, 512
CHECKED = 50  # images on which `attacks.checks` looks at the attacked network
# Batches stored together on a GPU where waiting images can take the places of finished ones.
GPU_CHUNK = 4


def run(
    plan: planning.Plan,
    system: System,
    data: ImageSet,
    database: Database,
    job: Job | None = None,
    batch_size: int | None = None,
    begun: Callable[[Run], object] | None = None,
) -> str:
    """Compute the rows of a plan that are not in the database yet: benign images first, then each attack.

    After each stored batch `job.partial` gets its `list[Row]` (with images; only rows computed in this call).
    Progress counts images times (1 + attacks). Killed anywhere and called again, it ends with the same rows. If
    another run has made the same adversarial images of the same network, they are used and inspected anew; progress
    counts those alone meanwhile.

    Args:
        batch_size: None chooses what suits the device.
        begun: called with the run, an earlier one of the plan or a new one, before anything is computed.

    Returns:
        The run's key.

    Raises:
        RunError: bundle or data are not those of the plan, or the database cannot be used; also if it is deleted or
            replaced meanwhile, see `Database.kept`.
        DataError, SettingError: the data or an attack's settings do not fit. There is no new run then.
        Cancelled: through `job`; everything up to the last stored batch is kept.
    """
    job = job or Job()
    data = data.matched(system.domain)
    _check(plan, system, data)
    stages = _stages(plan, system, data)
    size = batch_size or _batch_size(plan, system.device)
    with database.kept():
        return _computed(plan, system, data, stages, database, job, size, begun)


def _computed(
    plan: planning.Plan,
    system: System,
    data: ImageSet,
    stages: tuple[_Stage, ...],
    database: Database,
    job: Job,
    size: int,
    begun: Callable[[Run], object] | None,
) -> str:
    """Do what `run` says, all that can be checked beforehand being checked."""
    device, versions = compute.describe_device(system.device), current_versions(plan)
    found = database.start(plan.key(), planning.to_json(plan), versions, device)
    if begun is not None:
        begun(found)
    done, total = sum(database.counts(found.key).values()), plan.rows
    if found.finished:
        job.progress(total, total, "Already computed")
        return found.key
    if done and found.versions != versions:
        job.note(f"This run was begun with {_text(found.versions)}; it continues with {_text(versions)}.")

    def store(batches: Iterator[tuple[list[Row], float]]) -> None:
        for rows, seconds in batches:
            database.append(found.key, rows, seconds)
            job.partial(rows)

    if not done:  # once: what is noted of the attacked network holds for all attacks
        first = stages[0].order[:CHECKED]
        for text in checks.check(stages[0].attacked, data.images[first], data.labels[first], stages[0].evade):
            database.note(found.key, BENIGN, text)
    for stage, choice in zip(stages, (None, *plan.attacks), strict=True):
        left = np.array(sorted(set(range(plan.limit)) - database.done_positions(found.key, stage.name)), np.int64)
        if choice is not None and len(left):
            known = earlier.find(database, plan, choice, versions_of(choice), device)
            if known is not None:
                missing = len(left)
                store(stage.reuse(left[np.isin(left, list(known.rows))], known, job))
                left = np.setdiff1d(left, list(database.done_positions(found.key, stage.name)))
                done += missing - len(left)
        if len(left) == 0:
            continue
        inner = Stretch(job, done, total, len(left), stage.title)
        if isinstance(stage.attack, FittedAttack):
            started = job.clock()
            fitted = _fitted(stage, stage.attack, database, found.key, inner)
            stage = dataclasses.replace(stage, attack=fitted)
            database.append(found.key, (), job.clock() - started)
        store(stage.compute(left, size, inner))
        done += len(left)
    database.finish(found.key)
    job.progress(total, total, "Finished")
    return found.key


def _batch_size(plan: planning.Plan, device: torch.device) -> int:
    if device.type == "cuda":
        return GPU_BATCH
    return CPU_BATCH_EVADING if plan.evade else CPU_BATCH_SECOND if plan.transferred else CPU_BATCH


def choose_images(count: int, limit: int, seed: int) -> Positions:
    """The places of the first `limit` images in a seeded shuffle of `count`, int64 (limit,).

    RandomState's stream is frozen for all numpy versions, so a run can be continued after an update.
    """
    return np.random.RandomState(seed).permutation(count)[:limit].astype(np.int64)


def current_versions(plan: planning.Plan) -> dict[str, str]:
    """Versions of what decides the numbers of a plan."""
    return {name: version for choice in plan.attacks for name, version in versions_of(choice).items()}


def versions_of(choice: planning.AttackChoice) -> dict[str, str]:
    """Versions of what decides what an attack does."""
    other = registry.package(choice.name)
    return {**({} if other is None else dict([other])), **versions()}


def versions() -> dict[str, str]:
    """Versions of the program and of what it computes with."""
    return {
        "ciad": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _stages(plan: planning.Plan, system: System, data: ImageSet) -> tuple[_Stage, ...]:
    """Return the benign images and each attack, all checked before the first of them starts."""
    everything = choose_images(len(data), len(data), plan.seed)
    order, spare = everything[: plan.limit], everything[plan.limit :]
    attacked = system.network(plan.attacked)
    evade = system.evasions([one.text for one in plan.evade])
    stages = [_Stage(BENIGN, None, attacked, evade, system, data, order, spare)]
    for label, choice in zip(plan.labels, plan.attacks, strict=True):
        attack = registry.create(choice.name, **choice.parameters())
        attack.check_labels(data.labels[order])
        if isinstance(attack, FittedAttack):
            attack.check_spare(len(spare))
        followed = system.evasions([choice.surrogate.text]) if choice.surrogate else evade
        known = plan.evade if choice.surrogate else ()
        stages.append(_Stage(label, attack, attacked, followed, system, data, order, spare, known))
    return tuple(stages)


def _text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _check(plan: planning.Plan, system: System, data: ImageSet) -> None:
    if not system.card.knows(plan.bundle_checksum):
        raise RunError(
            f"The bundle '{system.card.name}' at {system.card.folder} is not the one this run was planned for"
            f" ('{plan.bundle}', checksum {plan.bundle_checksum[:12]}): load that one, or start a new run."
        )
    if data.checksum != plan.data_checksum:
        raise RunError(
            f"The data ({data.source}) are not those this run was planned for ({plan.data}, checksum"
            f" {plan.data_checksum[:12]}): open those, or start a new run."
        )
    detectors = (*plan.evade, *(choice.surrogate for choice in plan.attacks if choice.surrogate))
    if detectors != tuple(bundles.evaded(system.card, one.text) for one in detectors):
        raise RunError(f"The detectors of bundle '{system.card.name}' have changed since this run: start a new one.")


class Stretch(Inner):
    """Progress of a stretch of `count` images, told to the outer job in images from `start` on."""

    def __init__(self, outer: Job, start: int, total: int, count: int, title: str) -> None:
        super().__init__(outer)
        self._start, self._total, self._count, self._title = start, total, count, title

    def images(self, start: int, count: int) -> Stretch:
        """The stretch of `count` images that begins `start` images into this one."""
        return Stretch(self._outer, self._start + start, self._total, count, self._title)

    def on_progress(self, done: int, total: int, text: str) -> None:
        inside = self._count * min(done, total) // max(total, 1)
        # A stretch of no images is work before the first of them: how far that is only its own words can say.
        words = self._title if self._count else f"{text} ({100 * done // max(total, 1)}%)"
        self._outer.progress(self._start + inside, self._total, words)


@dataclasses.dataclass(frozen=True)
class _Stage:
    """One attack on all images, or with `attack` None the benign images themselves."""

    name: str
    attack: Attack | None
    attacked: nn.Module
    evade: tuple[Evasion, ...]
    system: System
    data: ImageSet
    order: Positions
    spare: Positions  # the images that are not evaluated: an attack may be fitted on them
    known: tuple[bundles.Evaded, ...] = ()  # what has to be evaded if `evade` is a surrogate of it

    @property
    def title(self) -> str:
        return planning.title(self.name, self.system.domain.classes) if self.attack else "Benign images"

    def compute(self, positions: Positions, size: int, job: Stretch) -> Iterator[tuple[list[Row], float]]:
        """Yield the rows at `positions` in batches, each with the seconds it took."""

        def work(part: slice, width: int) -> tuple[list[Row], float]:
            started = job.clock()
            here = positions[part]
            rows = self._rows(here, job.images(part.start, len(here)), width)
            seconds = job.clock() - started
            return [dataclasses.replace(row, seconds=seconds / len(rows)) for row in rows], seconds

        refills = self.attack is not None and self.attack.refills and compute.device_of(self.attacked).type == "cuda"
        return compute.in_chunks(work, len(positions), size, GPU_CHUNK if refills else 1, job)

    def reuse(self, positions: Positions, known: Earlier, job: Job) -> Iterator[tuple[list[Row], float]]:
        """Yield the rows at `positions` for images that another run made, inspected anew; none for a damaged image."""
        if len(positions):
            job.note(
                f"{self.title}: {counted(len(positions), 'image')} of run {known.run.short},"
                " which attacked the same network."
            )
        for start in range(0, len(positions), GPU_BATCH):
            # Counted alone: its pace does not apply to the images that are attacked afterwards.
            job.progress(start, len(positions), f"Reusing images of {self.title}")
            started = job.clock()
            here = positions[start : start + GPU_BATCH]
            images = known.images(here.tolist())
            if lost := len(here) - len(images):
                job.note(
                    f"{self.title}: {counted(lost, 'image')} of run {known.run.short} cannot be read: computed anew."
                )
            rows = []
            if images:
                for row in self._inspected(np.array(list(images), np.int64), np.stack(list(images.values())), job):
                    noted = known.rows[row.position]
                    facts = {name: getattr(noted, name) for name in (*_OF_ATTACK, "seconds")}
                    rows.append(_attacked(row, facts))
            yield rows, job.clock() - started
            job.progress(start + len(here), len(positions), f"Reusing images of {self.title}")

    def _rows(self, positions: Positions, job: Job, width: int) -> list[Row]:
        index = self.order[positions]
        images, labels = self.data.images[index], self.data.labels[index]
        if self.attack is None:
            return self._inspected(positions, images, job)
        # Not `run`, which refuses a batch that is all of the target class; here it is a part of more images.
        result = running.run_checked(self.attack, self.attacked, images, labels, job, width, self.evade)
        facts = [{name: getattr(result, name)[k].item() for name in _OF_ATTACK} for k in range(len(positions))]
        made = []
        for row, each in zip(self._inspected(positions, result.images, job), facts, strict=True):
            if not self.evade:
                each["evaded"] = None
            elif self.known:
                each["evaded"] = not any(flags(detector, row) for detector in self.known)
                if each["fooled"]:
                    each["reason"] = FOOLED if each["evaded"] else FLAGGED
            made.append(_attacked(row, each))
        return made

    def _inspected(self, positions: Positions, shown: npt.NDArray[np.uint8], job: Job) -> list[Row]:
        """Return rows with the images `shown` at these positions, f1's class and every detector's scores."""
        index = self.order[positions]
        verdict = self.system.inspect(shown, job=Inner(job))  # its progress is that of the attack
        rows = []
        for k, (position, place) in enumerate(zip(positions.tolist(), index.tolist(), strict=True)):
            y1 = int(verdict.y1[k])
            rows.append(
                Row(
                    attack=self.name,
                    position=position,
                    image_index=place,
                    name=self.data.names[place],
                    label=int(self.data.labels[place]),
                    y1=y1,
                    p1_y1=float(verdict.p1[k, y1]),
                    image=shown[k].tobytes(),
                    scores={name: _score(finding, k) for name, finding in verdict.findings.items()},
                )
            )
        return rows


def _score(finding: Finding, k: int) -> Score:
    """Return what a detector found for image `k`."""
    if finding.labels is None:
        return Score(None, None, float(finding.scores[k]))
    label = int(finding.labels[k])
    return Score(label, float(finding.probabilities[k, label]), float(finding.scores[k]))


# What a row holds about the attack alone, whichever detectors look at the image.
_OF_ATTACK = (
    "fooled", "evaded", "reason", "label_before", "label_after", "confidence_after", "l0_values", "l0_pixels", "l2",
    "linf", "ssim", "forwards", "backwards", "steps",
)  # fmt: skip


def _attacked(row: Row, facts: Mapping[str, Any]) -> Row:
    """Return the row with these facts about the attack; the image of one that did not fool is the benign one."""
    return dataclasses.replace(row, **facts, image=row.image if facts["fooled"] else None)


def _fitted(stage: _Stage, attack: FittedAttack, database: Database, run: str, job: Stretch) -> FittedAttack:
    """Return the attack as this run began with it, or fitted now to the images that are not evaluated, and kept."""
    raw = database.fitting(run, stage.name)
    if raw is None:
        ready = attack.fitted(stage.attacked, stage.data.images[stage.spare[: attack.most]], job.images(0, 0))
        job.note(f"{attack.title}: {ready.about_fitting()}.")
        raw = database.keep_fitting(run, stage.name, ready.fitting())
    return attack.with_fitting(raw)

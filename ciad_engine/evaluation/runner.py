"""Compute what a plan asks for, batch by batch, into the database; go on where it stopped."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ciad_engine import __version__, bundles, compute
from ciad_engine import attacks as registry
from ciad_engine.attacks.fitted import FittedAttack
from ciad_engine.attacks.model import device_of
from ciad_engine.detectors.contrast import GRADED, ContrastDetector
from ciad_engine.detectors.controls import second_opinions
from ciad_engine.errors import RunError
from ciad_engine.evaluation import earlier, planning
from ciad_engine.evaluation.earlier import Earlier
from ciad_engine.jobs import Job
from ciad_engine.runs import BENIGN, Database, Opinion, Row, Run

if TYPE_CHECKING:
    from ciad_engine.attacks.base import Attack, AttackResult
    from ciad_engine.datasets import ImageSet

Positions = npt.NDArray[np.int64]

# Images computed, and stored, together. On a CPU a full batch of C&W takes about a minute, which is what a stop costs
# at most; a GPU is busy with wider ones only.
CPU_BATCH, GPU_BATCH = 100, 512
# Batches stored together on a GPU where waiting images can take the places of finished ones.
GPU_CHUNK = 4


def run(
    plan: planning.Plan,
    system: bundles.System,
    data: ImageSet,
    database: Database,
    job: Job | None = None,
    batch_size: int | None = None,
) -> str:
    """Compute the rows of a plan that are not in the database yet: benign images first, then each attack.

    After each stored batch `job.partial` gets its `list[Row]` (with images; only rows computed in this call).
    Progress counts images times (1 + attacks). `batch_size` None takes what suits the device. Killed anywhere and
    called again, it ends with the same rows. Where another run has attacked the same images of the same network with
    the same settings, its images are taken over, and inspected anew; progress counts those alone meanwhile.

    Returns:
        The run's key. A finished run is returned at once.

    Raises:
        RunError: bundle or data are not those of the plan, or the database cannot be used.
        SettingError: an attack's settings do not fit the images. Nothing was computed yet.
        Cancelled: through `job`; everything up to the last stored batch is kept.
    """
    job = job or Job()
    size = batch_size or (GPU_BATCH if system.device.type == "cuda" else CPU_BATCH)
    found = begin(plan, system, data, database)
    stages = _stages(plan, system, data)
    versions = current_versions(plan)
    done, total = sum(database.counts(found.key).values()), plan.limit * (1 + len(plan.attacks))
    if found.finished:
        job.progress(total, total, "Already computed")
        return found.key
    if done and found.versions != versions:
        job.note(f"This run was begun with {_text(found.versions)}; it goes on with {_text(versions)}.")
    device = compute.describe_device(system.device)
    for stage, choice in zip(stages, (None, *plan.attacks), strict=True):
        left = np.array(sorted(set(range(plan.limit)) - database.done_positions(found.key, stage.name)), np.int64)
        known = None
        if choice is not None and len(left):
            known = earlier.find(database, plan, choice, versions_of(choice), device)
        if known is not None:
            again = left[np.isin(left, list(known.rows))]
            left = np.setdiff1d(left, again)
            for rows, seconds in stage.take_over(again, known, job):
                database.append(found.key, rows, seconds)
                job.partial(rows)
                done += len(rows)
        inner = _Stretch(job, done, total, len(left), stage.title)
        for rows, seconds in stage.compute(left, size, inner, _Kept(database, found.key, stage.name)):
            database.append(found.key, rows, seconds)
            job.partial(rows)
        done += len(left)
    database.finish(found.key)
    job.progress(total, total, "Finished")
    return found.key


def begin(plan: planning.Plan, system: bundles.System, data: ImageSet, database: Database) -> Run:
    """The run of a plan, the one in the database or a new one, if it can be computed; nothing is computed yet.

    Raises:
        RunError, SettingError: as `run`. There is no new run then.
    """
    _check(plan, system, data)
    _stages(plan, system, data)
    device = compute.describe_device(system.device)
    return database.start(plan.key(), planning.to_json(plan), current_versions(plan), device)


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
    return {
        **({} if other is None else dict([other])),
        "ciad": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _stages(plan: planning.Plan, system: bundles.System, data: ImageSet) -> list[_Stage]:
    """The benign images and each attack, all checked before the first of them starts."""
    detector = ContrastDetector(
        system.network(bundles.CLASSIFIER),
        system.network(bundles.MASK_GENERATOR),
        system.network(bundles.MASK_CLASSIFIER),
        GRADED,  # its score is stored; the paper's rule follows from y1 and y2
    )
    attacked = system.network(plan.attacked)
    control = system.network(bundles.CONTROL) if system.card.has(bundles.CONTROL) else None
    everything = choose_images(len(data), len(data), plan.seed)
    order, spare = everything[: plan.limit], everything[plan.limit :]
    stages = [_Stage(BENIGN, None, attacked, detector, control, data, order, spare)]
    for label, choice in zip(plan.labels, plan.attacks, strict=True):
        attack = registry.create(choice.name, **choice.parameters())
        attack.check_labels(data.labels[order])
        if isinstance(attack, FittedAttack):
            attack.check_spare(len(spare))
        stages.append(_Stage(label, attack, attacked, detector, control, data, order, spare))
    return stages


def _text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _check(plan: planning.Plan, system: bundles.System, data: ImageSet) -> None:
    if system.card.checksum != plan.bundle_checksum:
        raise RunError(
            f"The bundle '{system.card.name}' at {system.card.folder} is not the one this run was planned for"
            f" ('{plan.bundle}', checksum {plan.bundle_checksum[:12]}): load that one, or start a new run."
        )
    if data.checksum != plan.data_checksum:
        raise RunError(
            f"The data ({data.source}) are not those this run was planned for ({plan.data}, checksum"
            f" {plan.data_checksum[:12]}): open those, or start a new run."
        )


class _Stretch(Job):
    """Progress of a stretch of `count` images, told to the outer job in images from `start` on."""

    def __init__(self, outer: Job, start: int, total: int, count: int, title: str) -> None:
        super().__init__()
        self._cancel = outer._cancel  # one flag: cancelling the outer job also stops an attack inside a batch
        self._outer, self._start, self._total, self._count, self._title = outer, start, total, count, title

    def images(self, start: int, count: int) -> _Stretch:
        """The stretch of `count` images that begins `start` images into this one."""
        return _Stretch(self._outer, self._start + start, self._total, count, self._title)

    def on_progress(self, done: int, total: int, text: str) -> None:
        inside = self._count * min(done, total) // max(total, 1)
        # A stretch of no images is work before the first of them: how far that is only its own words can say.
        words = self._title if self._count else f"{text} ({100 * done // max(total, 1)} %)"
        self._outer.progress(self._start + inside, self._total, words)

    def on_note(self, text: str) -> None:
        self._outer.note(text)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Where a run keeps what its attack was fitted to, so that it goes on with just that."""

    database: Database
    run: str
    attack: str

    def read(self) -> bytes | None:
        return self.database.fitting(self.run, self.attack)

    def write(self, raw: bytes) -> bytes:
        return self.database.keep_fitting(self.run, self.attack, raw)


@dataclasses.dataclass(frozen=True)
class _Stage:
    """One attack on all images, or with `attack` None the benign images themselves."""

    name: str
    attack: Attack | None
    attacked: nn.Module
    detector: ContrastDetector
    control: nn.Module | None
    data: ImageSet
    order: Positions
    spare: Positions  # the images that are not evaluated: what an attack may be fitted on

    @property
    def title(self) -> str:
        return planning.titled(self.name) if self.attack else "Benign images"

    def compute(self, positions: Positions, size: int, job: _Stretch, kept: _Kept) -> Iterator[tuple[list[Row], float]]:
        """The rows at `positions` in batches, each with the seconds it took; the first with those of fitting, too."""
        if len(positions) == 0:
            return
        fitting, stage = 0.0, self
        if isinstance(self.attack, FittedAttack):
            started = time.perf_counter()
            stage = dataclasses.replace(self, attack=self._fitted(self.attack, job, kept))
            fitting = time.perf_counter() - started

        def work(part: slice, width: int) -> tuple[list[Row], float]:
            started = time.perf_counter()
            here = positions[part]
            rows = stage._rows(here, job.images(part.start, len(here)), width)
            seconds = time.perf_counter() - started
            return [dataclasses.replace(row, seconds=seconds / len(rows)) for row in rows], seconds

        batches = 1
        if self.attack is not None and self.attack.refills and device_of(self.attacked).type == "cuda":
            batches = GPU_CHUNK
        for rows, seconds in compute.in_chunks(work, len(positions), size, batches, job):
            yield rows, seconds + fitting
            fitting = 0.0

    def take_over(self, positions: Positions, known: Earlier, job: Job) -> Iterator[tuple[list[Row], float]]:
        """The rows at `positions` of images another run has attacked: what it noted of that, and what is seen now."""
        if len(positions):
            job.note(
                f"{self.title}: {len(positions):,} images of run {known.run.short}, which attacked the same network."
            )
        for start in range(0, len(positions), GPU_BATCH):
            # Work of its own, counted alone: its pace says nothing about the images that are attacked after it.
            job.progress(start, len(positions), f"Taking over images of {self.title}")
            started = time.perf_counter()
            here = positions[start : start + GPU_BATCH]
            shown = known.images(here.tolist())
            rows = []
            for row, image in zip(self._looked_at(here, shown), shown, strict=True):
                noted = known.rows[row.position]
                attacked = {name: getattr(noted, name) for name in _OF_ATTACK}
                rows.append(dataclasses.replace(row, **attacked, image=image.tobytes() if noted.success else None))
            yield rows, time.perf_counter() - started
            job.progress(start + len(here), len(positions), f"Taking over images of {self.title}")

    def _fitted(self, attack: FittedAttack, job: _Stretch, kept: _Kept) -> FittedAttack:
        """The attack as this run began with it, or fitted now to the images that are not evaluated."""
        raw = kept.read()
        if raw is not None:
            return attack.with_fitting(raw)
        ready = attack.fitted(self.attacked, self.data.images[self.spare[: attack.most]], job.images(0, 0))
        job.note(f"{attack.title}: {ready.about_fitting()}.")
        return attack.with_fitting(kept.write(ready.fitting()))

    def _rows(self, positions: Positions, job: Job, width: int) -> list[Row]:
        index = self.order[positions]
        images, labels = self.data.images[index], self.data.labels[index]
        # Not `run`, which refuses a batch that is all of the target class; here it is a part of more images.
        result = self.attack.run_checked(self.attacked, images, labels, job, width) if self.attack else None
        rows = self._looked_at(positions, images if result is None else result.images)
        if result is None:
            return [dataclasses.replace(row, image=images[k].tobytes()) for k, row in enumerate(rows)]
        return [_attacked(row, result, k) for k, row in enumerate(rows)]

    def _looked_at(self, positions: Positions, shown: npt.NDArray[np.uint8]) -> list[Row]:
        """The rows of the images `shown` at these positions, with what detector and controls say of them."""
        index = self.order[positions]
        labels = self.data.labels[index]
        verdict = self.detector.inspect(shown)
        controls = second_opinions(verdict, shown, self.detector.mask_classifier, self.control)
        rows = []
        for k, (position, place) in enumerate(zip(positions.tolist(), index.tolist(), strict=True)):
            y1, y2 = int(verdict.y1[k]), int(verdict.y2[k])
            rows.append(
                Row(
                    attack=self.name,
                    position=position,
                    image_index=place,
                    name=self.data.names[place],
                    label=int(labels[k]),
                    y1=y1,
                    y2=y2,
                    p1_y1=float(verdict.p1[k, y1]),
                    p2_y2=float(verdict.p2[k, y2]),
                    p2_y1=float(verdict.p2[k, y1]),
                    score_graded=float(verdict.score[k]),
                    opinions=tuple(Opinion(name, int(o.y[k]), float(o.score[k])) for name, o in controls.items()),
                )
            )
        return rows


_OF_ATTACK = (
    "success", "reason", "label_before", "label_after", "confidence_after", "l0_values", "l0_pixels", "l2", "linf",
    "ssim", "forwards", "backwards", "steps", "seconds",
)  # fmt: skip


def _attacked(row: Row, result: AttackResult, k: int) -> Row:
    """The row with what the attack did to image `k` of its batch."""
    return dataclasses.replace(
        row,
        success=bool(result.success[k]),
        reason=str(result.reason[k]),
        label_before=int(result.label_before[k]),
        label_after=int(result.label_after[k]),
        confidence_after=float(result.confidence_after[k]),
        l0_values=int(result.l0_values[k]),
        l0_pixels=int(result.l0_pixels[k]),
        l2=float(result.l2[k]),
        linf=int(result.linf[k]),
        ssim=float(result.ssim[k]),
        forwards=int(result.forwards[k]),
        backwards=int(result.backwards[k]),
        steps=int(result.steps[k]),
        image=result.images[k].tobytes() if result.success[k] else None,
    )

"""How an attack is run on a network: 8-bit images in, 8-bit images out, whatever its algorithm finds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import compute, distances, imaging
from ciad_engine.attacks import parameters
from ciad_engine.attacks.base import Attack, AttackResult, Found
from ciad_engine.attacks.checks import check
from ciad_engine.attacks.goal import Evasion, Goal
from ciad_engine.attacks.lattice import on_lattice, repair
from ciad_engine.attacks.model import Model, classify, look
from ciad_engine.attacks.words import (
    ALREADY_WRONG,
    FLAGGED,
    FLAT,
    FOOLED,
    LOST_TO_ROUNDING,
    NO_ADVERSARIAL,
    NO_PAIR,
    OWN_CLASS,
)
from ciad_engine.compute import borrowed, in_chunks
from ciad_engine.domain import Labels, Pixels
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

# Batches that an attack that refills is given at once: more leave fewer unfilled ends, and hold more images.
CHUNK = 8
CHECKED = 8  # images that `checks` is given


def run_checked(
    attack: Attack,
    network: nn.Module,
    images: Pixels,
    labels: Labels,
    job: Job,
    width: int,
    evade: tuple[Evasion, ...] = (),
) -> AttackResult:
    """`Attack.run` on a piece of a batch whose images and labels were checked as a whole before.

    The network takes at most `width` images at once; fewer than there are only for attacks that `refills`.
    """
    attack.check_evade([detector.name for detector in evade])
    job.checkpoint()
    started = time.perf_counter()
    # A caller's `no_grad` or `inference_mode` must not reach in here.
    with borrowed(network), torch.inference_mode(False), torch.enable_grad():
        device = compute.device_of(network)
        originals = torch.tensor(np.ascontiguousarray(images), device=device)
        wanted = torch.tensor(labels, device=device)
        seen = look(network, originals) if attack.starts_at_images and width >= len(images) and not evade else None
        before = _classified(network, originals, width) if seen is None else seen.logits.detach()
        if int(wanted.max()) >= before.shape[1]:
            raise SettingError(f"labels: {int(wanted.max())} is none of the classes 0 to {before.shape[1] - 1}.")
        turns = attack.choose_targets(before, wanted, originals)
        right = before.argmax(1) == wanted
        best = _Candidates(originals, before, evaded=not evade)
        cost = torch.zeros(3, len(images), dtype=torch.int64, device=device)
        cost[0] += 1  # `before`
        why = np.where(right.cpu().numpy(), OWN_CLASS, ALREADY_WRONG).astype(object)
        for number, targets in enumerate(turns):
            goal = Goal(wanted, targets, evade)
            # What is wrong already is nobody's success, and costs nothing more.
            rows = (right & goal.possible).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            goal = goal.of(rows)
            share = job.part(number / len(turns), (number + 1) / len(turns)) if len(turns) > 1 else job
            kept = None if seen is None else dataclasses.replace(seen, rows=rows, keep=number < len(turns) - 1)
            model = Model(network, len(rows), width, kept)
            part = attack.find(model, imaging.to_unit(originals[rows]), goal, share)
            lattice = _to_lattice(attack, model, part, originals[rows], goal)
            after = _answers(network, model, lattice, part)
            best.offer(rows, lattice, after, goal, _distance(attack.norm, originals[rows], lattice), width)
            cost[:, rows] += torch.stack([model.forwards, model.backwards, part.steps.to(device)])
            flat = (model.flat & (model.backwards > 0)).tolist()
            for row, reason, blind in zip(rows.tolist(), part.reason, flat, strict=True):
                if number == 0 or why[row] != FOOLED:  # of several targets: one that was reached, if any
                    why[row] = FLAT if blind and reason in (NO_ADVERSARIAL, NO_PAIR) else reason
        after_all = torch.where(best.fooled[:, None, None, None], best.images, originals)
        logits = torch.where(best.fooled[:, None], best.logits, before)
    answer = logits.argmax(1)
    probability = logits.float().softmax(1).gather(1, answer[:, None])[:, 0]
    forwards, backwards, steps = cost.cpu().numpy()
    final, fooled, evaded = after_all.cpu().numpy(), best.fooled.cpu().numpy(), best.evaded.cpu().numpy()
    why[(why == FOOLED) | (why == FLAGGED)] = LOST_TO_ROUNDING
    why[fooled] = np.where(evaded[fooled], FOOLED, FLAGGED)
    return AttackResult(
        images=final,
        candidates=best.images.cpu().numpy(),
        fooled=fooled,
        evaded=evaded,
        reason=why.astype(np.str_),
        label_before=before.argmax(1).cpu().numpy(),
        label_after=answer.cpu().numpy(),
        confidence_after=probability.cpu().numpy(),
        forwards=forwards,
        backwards=backwards,
        steps=steps,
        seconds=time.perf_counter() - started,
        attack=attack.name,
        settings=parameters.values(attack),
        notes=(),
        **distances.measure(images, final),
    )


def run_batched(
    attack: Attack,
    network: nn.Module,
    images: Pixels,
    labels: Labels,
    job: Job | None = None,
    batch_size: int | None = 128,
    evade: tuple[Evasion, ...] = (),
) -> AttackResult:
    """Do `Attack.run` on any number of images, `batch_size` (None: all) in the network at once; halved if memory ends.

    The result depends on the batch size by rounding at most, which is a matter of memory and of how quickly a
    cancelled attack stops: at its next iteration, a fifth of a second on a slow CPU at the default.
    An attack that `refills` is given CHUNK batches at once, so that its batches stay full.
    """
    job = job or Job()
    images, labels = batch_of(images, labels)
    attack.check_labels(labels)
    count = len(images)

    def work(part: slice, size: int) -> AttackResult:
        share = job.part(part.start / count, part.stop / count)
        return run_checked(attack, network, images[part], labels[part], share, size, evade)

    batches = CHUNK if attack.refills else 1
    whole = concatenate(list(in_chunks(work, count, batch_size or count, batches, job, attack.title)))
    return dataclasses.replace(whole, notes=check(network, images[:CHECKED], labels[:CHECKED], evade))


class _Candidates:
    """The best 8-bit candidate of each of N images so far, and what is true of it.

    Attributes:
        images: uint8 (N, 3, H, W); the originals at first.
        logits: (N, classes), the network's.
        fooled, evaded: bool (N,).
    """

    def __init__(self, originals: Tensor, logits: Tensor, evaded: bool) -> None:
        self.images, self.logits = originals.clone(), logits.clone()
        self.fooled = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        self.evaded = torch.full_like(self.fooled, evaded)
        self._level = torch.full_like(self.fooled, -1, dtype=torch.int64)  # 2 reached the goal, 1 fooled, 0 neither
        self._missing = torch.full(self.fooled.shape, torch.inf, dtype=torch.float64, device=logits.device)

    def offer(self, rows: Tensor, lattice: Tensor, logits: Tensor, goal: Goal, distance: Tensor, width: int) -> None:
        """Take those of the candidates for the images `rows` that are better than what is known.

        That is the nearest that reaches the goal, else the least flagged that fools, else what is nearest to fooling.
        """
        with torch.no_grad():
            pairs = zip(torch.split(lattice, width), torch.split(logits.argmax(1), width), strict=True)
            excess = torch.cat([goal.excess(imaging.to_unit(part), classes) for part, classes in pairs], 1)
        fooled, evaded = goal.fooled(logits), (excess <= 0).all(0)
        missing = goal.lead(logits).double().clamp(min=0) + excess.double().clamp(min=0).sum(0)
        missing = torch.where(fooled & evaded, distance, missing)
        level = fooled.long() + (fooled & evaded)
        better = (level > self._level[rows]) | ((level == self._level[rows]) & (missing < self._missing[rows]))
        taken = rows[better]
        self.images[taken], self.logits[taken] = lattice[better], logits[better]
        self.fooled[taken], self.evaded[taken] = fooled[better], evaded[better]
        self._level[taken], self._missing[taken] = level[better], missing[better]


def _to_lattice(attack: Attack, model: Model, found: Found, originals: Tensor, goal: Goal) -> Tensor:
    """What was found as 8-bit images; what rounding undid is repaired, with detectors to evade in two stages.

    What reached the goal shall reach it again, and if that cannot be had, what fooled the classifier shall do that.
    """
    images, start = imaging.to_lattice(found.images), found.images
    stages: list[tuple[Goal, tuple[str, ...]]] = [(goal, (FOOLED,))]
    if goal.evade:
        stages.append((dataclasses.replace(goal, evade=()), (FOOLED, FLAGGED)))
    for wanted, reasons in stages:
        known = torch.tensor([reason in reasons for reason in found.reason], device=images.device)
        undone = (known & ~on_lattice(found.images)).nonzero()[:, 0]
        for rows in torch.split(undone, model.width) if len(undone) else ():
            images[rows] = repair(model, rows, originals[rows], start[rows], wanted.of(rows), attack.norm)
        start = imaging.to_unit(images)
    return images


def _answers(network: nn.Module, model: Model, lattice: Tensor, found: Found) -> Tensor:
    """The logits (N, classes) of the 8-bit images `lattice`, those the attack knows taken from it."""
    if found.logits is None:
        model.forwards += 1
        return _classified(network, lattice, model.width)
    logits = found.logits.detach().clone()
    unknown = (imaging.to_unit(lattice) != found.images).flatten(1).any(1)
    if unknown.any():
        model.forwards[unknown] += 1
        logits[unknown] = _classified(network, lattice[unknown], model.width)
    return logits


def _classified(network: nn.Module, lattice: Tensor, width: int) -> Tensor:
    """`classify`, at most `width` images at once."""
    return torch.cat([classify(network, part) for part in torch.split(lattice, width)])


def _distance(norm: str, before: Tensor, after: Tensor) -> Tensor:
    """How far images are apart by an attack's norm, then by the Euclidean one: float64 (N,), to be compared alone."""
    change = (after.double() - before.double()).flatten(1)
    euclidean: Tensor = change.norm(dim=1)
    if norm != "l2":
        euclidean += 1e6 * ((change != 0).sum(1) if norm == "l0" else change.abs().amax(1))
    return euclidean


def batch_of(images: npt.ArrayLike | Tensor, labels: npt.ArrayLike | Tensor) -> tuple[Pixels, Labels]:
    """Return 8-bit colour images (N, 3, H, W) and their labels (N,), given as lists, tuples, arrays or tensors.

    Raises:
        SettingError: they are something else; says what was found and what is needed.
    """
    if isinstance(labels, list | tuple) and any(isinstance(one, bool | np.bool_) for one in labels):
        raise SettingError("labels: True and False are not class numbers.")  # beside a number numpy would make them one
    images, labels = _array("images", images), _array("labels", labels)
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:] or images.dtype != np.uint8:
        raise SettingError(f"images: expected uint8 of shape (N, 3, H, W), got {images.dtype} {images.shape}.")
    if len(images) == 0:
        raise SettingError("images: the batch is empty; choose at least one image.")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise SettingError(
            f"labels: expected whole numbers of shape ({len(images)},), one per image, "
            f"got {labels.dtype} {labels.shape}."
        )
    if labels.min() < 0:
        raise SettingError(f"labels: {labels.min()} is negative; a label is a class number from 0.")
    if labels.max() > np.iinfo(np.int64).max:
        raise SettingError(f"labels: {labels.max()} is too large; a label is a class number from 0.")
    return images, labels.astype(np.int64)


def _array(name: str, values: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SettingError(f"{name}: these cannot be read as an array ({error}).") from error


def concatenate(results: Sequence[AttackResult]) -> AttackResult:
    """Join the results of consecutive batches of one attack; seconds add up."""
    first = results[0]
    arrays: dict[str, Any] = {
        f.name: np.concatenate([getattr(r, f.name) for r in results])
        for f in dataclasses.fields(AttackResult)
        if isinstance(getattr(first, f.name), np.ndarray)
    }
    return dataclasses.replace(first, **arrays, seconds=sum(r.seconds for r in results))

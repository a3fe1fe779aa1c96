"""The contract of an attack.

8-bit images go in, 8-bit images come out, and everything said about the result (success, labels,
distances) is computed on what comes out: that is the image a person can save.
"""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ciad_engine import distances, imaging
from ciad_engine.attacks import parameters
from ciad_engine.attacks.lattice import on_lattice, repair
from ciad_engine.attacks.model import Model, classify, device_of, look, reached
from ciad_engine.compute import borrowed, in_chunks
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

# Reasons why an image came back unchanged.
FOOLED = ""  # it did not: the attack succeeded
ALREADY_WRONG = "already misclassified"  # before the attack, which leaves it as it is
OWN_CLASS = "the target is its own class"
NO_ADVERSARIAL = "no adversarial image found"  # within the attack's budget
NO_PAIR = "no pair of values left that helps"  # JSMA: the saliency map is empty
LOST_TO_ROUNDING = "lost when rounded to 8 bits"  # fooled as floats, not as the image that can be saved

# Batches that an attack that refills is given at once: more leave fewer unfilled ends, and hold more images.
CHUNK = 8


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack did to N images; all arrays have N rows and belong to the returned images.

    Attributes:
        images: uint8 (N, 3, H, W). A failed image is the original.
        success: bool (N,). The classifier's label of `images` is wrong (untargeted) or the target.
        reason: str (N,). Empty where it succeeded, else one of the reasons above.
        label_before, label_after: int64 (N,). The classifier's labels of the input and of `images`.
        confidence_after: float32 (N,). Softmax probability of `label_after`.
        l0_values: int64 (N,). Changed channel values, of 3*H*W.
        l0_pixels: int64 (N,). Changed pixels, of H*W.
        l2: float64 (N,). Euclidean distance, images in [0, 1].
        linf: int64 (N,). Largest change of a value, in units of 1/255.
        ssim: float64 (N,). Mean structural similarity (`ciad_engine.distances`), 1 for an unchanged image.
        forwards, backwards: int64 (N,). Network evaluations each image needed, the tests before and
            after the attack included.
        steps: int64 (N,). Iterations of the attack on each image.
        seconds: wall time of the whole call.
        attack: registry name; `settings`: its parameters.
    """

    images: npt.NDArray[np.uint8]
    success: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.str_]
    label_before: npt.NDArray[np.int64]
    label_after: npt.NDArray[np.int64]
    confidence_after: npt.NDArray[np.float32]
    l0_values: npt.NDArray[np.int64]
    l0_pixels: npt.NDArray[np.int64]
    l2: npt.NDArray[np.float64]
    linf: npt.NDArray[np.int64]
    ssim: npt.NDArray[np.float64]
    forwards: npt.NDArray[np.int64]
    backwards: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    seconds: float
    attack: str
    settings: dict[str, Any]


@dataclasses.dataclass
class Found:
    """What an attack's own algorithm hands back to `Attack.run` (floats, not yet an 8-bit result).

    Attributes:
        images: float (N, 3, H, W) in [0, 1], best candidate per image; off the lattice it is repaired (`lattice.py`).
        steps: int64 (N,), iterations.
        reason: one per image, why it fails in case its rounded candidate does not fool: FOOLED
            where the candidate itself is known to fool, so that rounding must have lost it.
        logits: float (N, classes), the network's of exactly these `images`, if the attack has them anyway: an
            image that comes back as just these floats is not classified again.
    """

    images: Tensor
    steps: Tensor
    reason: list[str]
    logits: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Attack(abc.ABC):
    """An attack with its hyper-parameters: a frozen dataclass whose fields are `parameter(...)`.

    Class attributes every attack sets: `name` (registry), `title` (for people), `source` (paper and
    equation), `norm` (the distance it keeps small: "linf", "l2" or "l0"). One whose images need different
    numbers of steps sets `refills`: its `find` takes any number of images and keeps at most `model.width` of them
    under way, each that is finished making room for one that waits (`model.Queue`); a subclass whose own `find` puts
    all it is given into the network at once sets it back. One whose first gradient is that at the images
    themselves sets `starts_at_images` (not both) and takes it by `model.first_logits`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    norm: ClassVar[str]
    refills: ClassVar[bool] = False
    starts_at_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        parameters.check(self)

    @abc.abstractmethod
    def find(self, model: Model, images: Tensor, labels: Tensor, targets: Tensor | None, job: Job) -> Found:
        """The attack's own algorithm on float images (N, 3, H, W) in [0, 1], on the model's device.

        `labels` and `targets` are int64 (N,). With `targets` the goal is to be classified as the
        target, without it to be classified as anything but the label.
        """

    def choose_targets(self, logits: Tensor, labels: Tensor, images: Tensor) -> Sequence[Tensor | None]:
        """The class each image is pushed to, int64 (N,), or None for an untargeted attack; several are tried in turn.

        `logits` (N, classes) are the network's for the `images`, uint8 (N, 3, H, W), before the attack.
        """
        return [None]

    def check_labels(self, labels: npt.NDArray[np.int64]) -> None:  # noqa: B027 - most attacks take any labels
        """Refuse labels (of all images asked for) that do not fit the attack's settings.

        Raises:
            SettingError: names the setting.
        """

    def run(
        self,
        network: nn.Module,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        job: Job | None = None,
    ) -> AttackResult:
        """Attack a batch of 8-bit images; `run_batched` takes more than fit into memory at once.

        Args:
            network: maps float images (N, 3, H, W) in [0, 1] to logits (N, classes). Its mode,
                gradients and `requires_grad` flags are as before afterwards.
            images: uint8 (N, 3, H, W).
            labels: int64 (N,), the true classes. Images the network gets wrong beforehand come
                back unchanged with the reason ALREADY_WRONG.
            job: progress and cancellation.

        Returns:
            The result; each image's part of it does not depend on its batch mates.

        Raises:
            SettingError: empty batch, wrong shape or type, label or target outside the classes.
            CiadError: the network returns NaN, probabilities or has no gradient.
            Cancelled: through `job`.
        """
        check_batch(images, labels)
        self.check_labels(labels)
        return self.run_checked(network, images, labels, job or Job())

    def run_checked(
        self,
        network: nn.Module,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        job: Job,
        width: int | None = None,
    ) -> AttackResult:
        """`run` on a piece of a batch whose images and labels were checked as a whole before.

        The network takes at most `width` images at once, all of them if nothing is said; less than all
        are for attacks that `refills` alone.
        """
        job.checkpoint()
        started = time.perf_counter()
        # A caller's `no_grad` or `inference_mode` must not reach in here.
        with borrowed(network), torch.inference_mode(False), torch.enable_grad():
            device = device_of(network)
            originals = torch.tensor(np.ascontiguousarray(images), device=device)
            wanted = torch.tensor(labels.astype(np.int64), device=device)
            width = width or len(images)
            seen = look(network, originals) if self.starts_at_images and width >= len(images) else None
            before = _classified(network, originals, width) if seen is None else seen.logits.detach()
            if int(wanted.max()) >= before.shape[1]:
                raise SettingError(f"labels: {int(wanted.max())} is none of the classes 0 to {before.shape[1] - 1}.")
            goals = self.choose_targets(before, wanted, originals)
            right = before.argmax(1) == wanted
            found, logits = originals.clone(), before.clone()
            success = torch.zeros_like(right)
            nearest = torch.full(right.shape, torch.inf, dtype=torch.float64, device=device)
            cost = torch.zeros(3, len(images), dtype=torch.int64, device=device)
            cost[0] += 1  # `before`
            why = np.where(right.cpu().numpy(), OWN_CLASS, ALREADY_WRONG).astype(object)
            for number, targets in enumerate(goals):
                # What is wrong already is nobody's success, and costs nothing more.
                rows = (right if targets is None else right & (targets != wanted)).nonzero()[:, 0]
                if len(rows) == 0:
                    continue
                share = job.part(number / len(goals), (number + 1) / len(goals)) if len(goals) > 1 else job
                kept = None
                if seen is not None:
                    kept = dataclasses.replace(seen, rows=rows, keep=number < len(goals) - 1)
                model, labels_here = Model(network, len(rows), width, kept), wanted[rows]
                aims = None if targets is None else targets[rows]
                part = self.find(model, imaging.to_unit(originals[rows]), labels_here, aims, share)
                lattice = self._to_lattice(model, part, originals[rows], labels_here, aims)
                after = _answers(network, model, lattice, part)
                distance = _distance(self.norm, originals[rows], lattice)
                better = reached(after, labels_here, aims) & (distance < nearest[rows])
                taken = rows[better]
                found[taken], logits[taken], nearest[taken] = lattice[better], after[better], distance[better]
                success[taken] = True
                cost[:, rows] += torch.stack([model.forwards, model.backwards, part.steps.to(device)])
                for row, reason in zip(rows.tolist(), part.reason, strict=True):
                    if number == 0 or why[row] != FOOLED:  # of several targets: one that was reached, if any
                        why[row] = reason
        answer = logits.argmax(1)
        probability = logits.float().softmax(1).gather(1, answer[:, None])[:, 0]
        forwards, backwards, steps = cost.cpu().numpy()
        final, succeeded = found.cpu().numpy(), success.cpu().numpy()
        why[why == FOOLED] = LOST_TO_ROUNDING
        why[succeeded] = FOOLED
        return AttackResult(
            images=final,
            success=succeeded,
            reason=why.astype(np.str_),
            label_before=before.argmax(1).cpu().numpy(),
            label_after=answer.cpu().numpy(),
            confidence_after=probability.cpu().numpy(),
            forwards=forwards,
            backwards=backwards,
            steps=steps,
            seconds=time.perf_counter() - started,
            attack=self.name,
            settings=parameters.values(self),
            **distances.measure(images, final),
        )

    def _to_lattice(
        self, model: Model, found: Found, originals: Tensor, labels: Tensor, targets: Tensor | None
    ) -> Tensor:
        """What was found as 8-bit images; those that fooled as floats are repaired where rounding undid it."""
        images = imaging.to_lattice(found.images)
        fooled = torch.tensor([reason == FOOLED for reason in found.reason], device=images.device)
        undone = (fooled & ~on_lattice(found.images)).nonzero()[:, 0]
        for rows in torch.split(undone, model.width) if len(undone) else ():
            aims = None if targets is None else targets[rows]
            images[rows] = repair(model, rows, originals[rows], found.images[rows], labels[rows], aims, self.norm)
        return images


def run_batched(
    attack: Attack,
    network: nn.Module,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    job: Job | None = None,
    batch_size: int = 128,
) -> AttackResult:
    """`Attack.run` on any number of images, `batch_size` in the network at a time; halved where memory runs out.

    The result depends on the batch size by rounding at most, which is a matter of memory and of how quickly a
    cancelled attack stops: at its next iteration, a fifth of a second on a slow CPU at the default.
    An attack that `refills` is given CHUNK batches at once, so that its batches stay full.
    """
    job = job or Job()
    check_batch(images, labels)
    attack.check_labels(labels)
    count = len(images)

    def work(part: slice, size: int) -> AttackResult:
        share = job.part(part.start / count, part.stop / count)
        return attack.run_checked(network, images[part], labels[part], share, size)

    batches = CHUNK if attack.refills else 1
    return concatenate(list(in_chunks(work, count, batch_size, batches, job, attack.title)))


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


def check_batch(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
    """Refuse what is not a batch of 8-bit colour images with one label each.

    Raises:
        SettingError: says what was found and what is needed.
    """
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


def concatenate(results: Sequence[AttackResult]) -> AttackResult:
    """Join the results of consecutive batches of one attack; seconds add up."""
    first = results[0]
    arrays: dict[str, Any] = {
        f.name: np.concatenate([getattr(r, f.name) for r in results])
        for f in dataclasses.fields(AttackResult)
        if isinstance(getattr(first, f.name), np.ndarray)
    }
    return dataclasses.replace(first, **arrays, seconds=sum(r.seconds for r in results))

"""The contract of an attack. This module imports no torch: what an attack is can be shown before it runs.

8-bit images go in, 8-bit images come out, and everything said about the result (success, labels,
distances) is computed on what comes out: that is the image a person can save.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ciad_engine.attacks import parameters
from ciad_engine.domain import Labels, Pixels
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ciad_engine.attacks.goal import Evasion, Goal
    from ciad_engine.attacks.model import Model


Counts = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack did to N images; all arrays have N rows and belong to the returned images.

    Attributes:
        images: (N, 3, H, W). The candidate if it fooled the classifier, even if a detector flags it; else the original.
        candidates: (N, 3, H, W). The best that the attack found, even if it failed.
        fooled: the classifier's label of the candidate is wrong (untargeted) or the target. Never true of an image that
            was not attacked.
        evaded: no detector that was to be evaded flags the candidate; True if there was none. With one it is False of
            an image that was not attacked.
        reason: empty if it succeeded, else one of the reasons in `words`.
        label_before, label_after: the classifier's labels of the input and of `images`.
        confidence_after: softmax probability of `label_after`.
        l0_values, l0_pixels: changed channel values, of 3*H*W; changed pixels, of H*W.
        l2: Euclidean distance, images in [0, 1].
        linf: largest change of a value, in units of 1/255.
        ssim: mean structural similarity (`ciad_engine.distances`), 1 for an unchanged image.
        forwards, backwards: network evaluations each image needed, the tests before and after the attack included.
        steps: iterations of the attack on each image.
        seconds: wall time of the whole call.
        attack: registry name; `settings`: its parameters.
        notes: what makes the result doubtful (`checks.py`), a sentence each; empty from `running.run_checked`.
    """

    images: Pixels
    candidates: Pixels
    fooled: npt.NDArray[np.bool_]
    evaded: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.str_]
    label_before: Labels
    label_after: Labels
    confidence_after: npt.NDArray[np.float32]
    l0_values: Counts
    l0_pixels: Counts
    l2: npt.NDArray[np.float64]
    linf: Counts
    ssim: npt.NDArray[np.float64]
    forwards: Counts
    backwards: Counts
    steps: Counts
    seconds: float
    attack: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def success(self) -> npt.NDArray[np.bool_]:
        """bool (N,): the whole goal is reached."""
        return self.fooled & self.evaded


@dataclasses.dataclass
class Found:
    """What an attack's own algorithm hands back to `Attack.run` (floats, not yet an 8-bit result).

    Attributes:
        images: float (N, 3, H, W) in [0, 1], best candidate per image; off the lattice it is repaired (`lattice.py`).
        steps: int64 (N,), iterations.
        reason: one per image, why it fails in case its rounded candidate does not fool: FOOLED if the candidate
            itself is known to reach the goal, so that rounding must have lost it; FLAGGED if it is known to fool the
            classifier alone.
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
    themselves sets `starts_at_images` (not both) and takes it by `model.first_logits`. One that follows the loss or the
    margin of its goal sets `evades`: it can evade detectors. A change of the algorithm raises `version`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    norm: ClassVar[str]
    version: ClassVar[int] = 1
    evades: ClassVar[bool] = False
    refills: ClassVar[bool] = False
    starts_at_images: ClassVar[bool] = False

    def __post_init__(self) -> None:
        parameters.check(self)

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the attack's documentation, on one line."""
        return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())

    @abc.abstractmethod
    def find(self, model: Model, images: Tensor, goal: Goal, job: Job) -> Found:
        """Run the attack's own algorithm on float images (N, 3, H, W) in [0, 1], on the model's device.

        The `goal` of these images says how near they are: `goal.at(logits, images)` has `reached`, `loss` and `margin`.
        """

    def choose_targets(self, logits: Tensor, labels: Tensor, images: Tensor) -> Sequence[Tensor | None]:
        """The class each image is pushed to, int64 (N,), or None for an untargeted attack; several are tried in turn.

        `logits` (N, classes) are the network's for the `images`, uint8 (N, 3, H, W), before the attack.
        """
        return [None]

    def check_labels(self, labels: Labels) -> None:  # noqa: B027 - most attacks take any labels
        """Refuse labels (of all images asked for) that do not fit the attack's settings.

        Raises:
            SettingError: names the setting.
        """

    def check_evade(self, detectors: Sequence[str]) -> None:
        """Refuse to evade these detectors (by name) if the attack cannot evade any.

        Raises:
            SettingError: says so.
        """
        if detectors and not self.evades:
            raise SettingError(f"{self.title} cannot evade a detector ({', '.join(detectors)}); choose another attack.")

    def run(
        self,
        network: nn.Module,
        images: Pixels,
        labels: Labels,
        job: Job | None = None,
        evade: tuple[Evasion, ...] = (),
    ) -> AttackResult:
        """Attack a batch of 8-bit images; `run_batched` takes more than fit into memory at once.

        Args:
            network: maps float images (N, 3, H, W) in [0, 1] to logits (N, classes), in any precision; its first layer
                may work in place. Its mode, gradients and `requires_grad` flags are as before afterwards.
            images: uint8 (N, 3, H, W), an array or a tensor.
            labels: (N,), the true classes: an array, a tensor or a list of whole numbers. Images the network gets wrong
                beforehand come back unchanged with the reason ALREADY_WRONG.
            job: progress and cancellation.
            evade: the detectors that must stay quiet.

        Returns:
            The result; each image's part of it does not depend on its batch mates.

        Raises:
            SettingError: empty batch, wrong shape or type, label or target outside the classes; or there is a detector
                to evade, and the attack cannot.
            CiadError: the network fails, returns NaN, probabilities or no tensor, or has no gradient; or a detector to
                evade has none.
            Cancelled: through `job`.
        """
        from ciad_engine.attacks import running

        return running.run_batched(self, network, images, labels, job, None, evade)


class FittedAttack(Attack):
    """An `Attack` that has to be `fitted` first. It is run like any other then, and refuses to be before.

    Class attribute: `fewest`, how many images it is fitted on at least.
    """

    fewest: ClassVar[int]

    @property
    @abc.abstractmethod
    def most(self) -> int:
        """Return the largest number of images it is fitted on: the first of those it is given."""

    @property
    @abc.abstractmethod
    def needs_fitting(self) -> bool:
        """Return whether it still has to be fitted."""

    @abc.abstractmethod
    def fitted(self, network: nn.Module, images: Pixels, job: Job | None = None) -> Self:
        """This attack, computed for `network` from `images`, uint8 (N, 3, H, W); no labels are needed.

        To be measured fairly it is run on others than these. On the CPU the same images, settings and
        network give the same attack.

        Raises:
            SettingError: too few images, or none that teaches it anything.
            CiadError, Cancelled: as `run`.
        """

    @abc.abstractmethod
    def fitting(self) -> bytes:
        """Return the result of `fitted` as bytes, for `with_fitting`."""

    @abc.abstractmethod
    def with_fitting(self, kept: bytes) -> Self:
        """This attack, fitted as the one whose `fitting` this is.

        Raises:
            SettingError: it is damaged, or another attack's.
        """

    @abc.abstractmethod
    def about_fitting(self) -> str:
        """Describe in a few words what it was fitted on and how well."""

    def check_spare(self, count: int) -> None:
        """Refuse too few images, `count`, to be fitted on.

        Raises:
            SettingError: says how many are needed.
        """
        if count < self.fewest:
            raise SettingError(
                f"{self.name}: it is computed from at least {self.fewest} images besides those that are attacked, "
                f"and {count} are left: attack fewer images, or take a larger data set."
            )

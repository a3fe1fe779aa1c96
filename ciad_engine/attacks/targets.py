"""What an attack aims at: any wrong class, or a certain one."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import parameter
from ciad_engine.attacks.words import BEST, GIVEN, LEAST_LIKELY, NEXT, RANDOM, UNTARGETED
from ciad_engine.domain import Labels
from ciad_engine.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor


def target(best: bool = True) -> Any:
    """The field `target` of a `TargetedAttack`; without `best` if an attack cannot try one class after the other."""
    return parameter(
        UNTARGETED,
        "Target",
        "Aim at any wrong class, the class after the label, the one the classifier finds least likely, a random one, "
        + ("the given one, or at each wrong class in turn and keep the best." if best else "or the given one."),
        choices=(UNTARGETED, NEXT, LEAST_LIKELY, RANDOM, GIVEN, *((BEST,) if best else ())),
        place=2,
    )


@dataclasses.dataclass(frozen=True)
class TargetedAttack(Attack):
    """An attack that can aim at a class; these settings come behind its own."""

    target: str = target()
    target_class: int = parameter(
        0, "Given class",
        "The class to aim at, as number from 0 or, on the command line, by name; used by target 'given'.",
        low=0, high=999, place=2,
    )  # fmt: skip
    target_seed: int = parameter(
        0, "Seed of the target", "Decides the class drawn by target 'random'.", low=0, high=2**31 - 1, place=2
    )

    def check_labels(self, labels: Labels) -> None:
        """Refuse a given class that is the label of every image, before anything is computed.

        Raises:
            SettingError: names the field.
        """
        if self.target == GIVEN and (labels == self.target_class).all():
            raise SettingError(
                f"{self.name}: target_class = {self.target_class} is the label of every chosen image; "
                "choose another class."
            )

    def choose_targets(self, logits: Tensor, labels: Tensor, images: Tensor) -> Sequence[Tensor | None]:
        """See `Attack.choose_targets`. A random class follows from the seed and the image alone.

        Raises:
            SettingError: the given class is none of the network's.
        """
        classes = logits.shape[1]
        if self.target == UNTARGETED:
            return [None]
        if self.target == NEXT:
            return [(labels + 1) % classes]
        if self.target == LEAST_LIKELY:
            return [logits.argmin(1)]
        if self.target == BEST:
            return [(labels + step) % classes for step in range(1, classes)]
        if self.target == RANDOM:
            seeds = [[self.target_seed, zlib.crc32(image.tobytes())] for image in images.cpu().numpy()]
            steps = [int(np.random.default_rng(seed).integers(1, classes)) for seed in seeds]  # from the label on
            return [(labels + labels.new_tensor(steps)) % classes]
        if self.target_class >= classes:
            raise SettingError(
                f"{self.name}: target_class = {self.target_class} is none of the network's classes 0 to {classes - 1}."
            )
        return [labels.new_full(labels.shape, self.target_class)]

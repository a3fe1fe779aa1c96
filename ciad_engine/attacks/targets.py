"""What an attack aims at: any wrong class, or a certain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ciad_engine.attacks.base import Attack
from ciad_engine.attacks.parameters import parameter
from ciad_engine.errors import SettingError

UNTARGETED = "untargeted"
NEXT = "next"
LEAST_LIKELY = "least-likely"
GIVEN = "given"


def target() -> Any:
    """The field `target` of a `TargetedAttack`."""
    return parameter(
        UNTARGETED,
        "Target",
        "Aim at any wrong class, the class after the label, the class the classifier finds least likely, "
        "or the given class.",
        choices=(UNTARGETED, NEXT, LEAST_LIKELY, GIVEN),
    )


def target_class() -> Any:
    """The field `target_class` of a `TargetedAttack`."""
    return parameter(
        0, "Given class", "Number of the class to aim at, counted from 0; used by target 'given'.", low=0, high=999
    )


class TargetedAttack(Attack):
    """An attack with the fields `target` and `target_class`.

    Not itself a dataclass, so that each attack places the two fields behind its own in the form:
    `target: str = targets.target()` and `target_class: int = targets.target_class()`.
    """

    target: str
    target_class: int

    def check_labels(self, labels: npt.NDArray[np.int64]) -> None:
        """Refuse a given class that is the label of every image, before anything is computed.

        Raises:
            SettingError: names the field.
        """
        if self.target == GIVEN and (labels == self.target_class).all():
            raise SettingError(
                f"{self.name}: target_class = {self.target_class} is the label of every chosen image; "
                "choose another class."
            )

    def choose_targets(self, logits: Tensor, labels: Tensor) -> Tensor | None:
        """See `Attack.choose_targets`.

        Raises:
            SettingError: the given class is none of the network's.
        """
        classes = logits.shape[1]
        if self.target == UNTARGETED:
            return None
        if self.target == NEXT:
            return (labels + 1) % classes
        if self.target == LEAST_LIKELY:
            return logits.argmin(1)
        if self.target_class >= classes:
            raise SettingError(
                f"{self.name}: target_class = {self.target_class} is none of the network's classes 0 to {classes - 1}."
            )
        return labels.new_full(labels.shape, self.target_class)

"""The contract of an attack that is computed from images before it is run on others."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Self

from ciad_engine.attacks.base import Attack
from ciad_engine.domain import Pixels
from ciad_engine.errors import SettingError
from ciad_engine.jobs import Job

if TYPE_CHECKING:
    from torch import nn


class FittedAttack(Attack):
    """An `Attack` that has to be `fitted` first. It is run like any other then, and refuses to be before.

    Class attribute: `fewest`, how many images it is fitted on at least.
    """

    fewest: ClassVar[int]

    @property
    @abc.abstractmethod
    def most(self) -> int:
        """How many images it is fitted on at most; it takes the first of those it is given."""

    @property
    @abc.abstractmethod
    def needs_fitting(self) -> bool:
        """Whether that is still to be done."""

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
        """What it was fitted to, to be kept; `with_fitting` takes it."""

    @abc.abstractmethod
    def with_fitting(self, kept: bytes) -> Self:
        """This attack, fitted as the one whose `fitting` this is.

        Raises:
            SettingError: it is damaged, or another attack's.
        """

    @abc.abstractmethod
    def about_fitting(self) -> str:
        """What it was fitted on and how well it went, in a few words."""

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

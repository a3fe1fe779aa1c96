"""The page Inspect as plain data: which image, what is known of it, what is waited for, and what that allows."""

from __future__ import annotations

import dataclasses
import enum
from typing import Self

from ciad_app.inspect.collection import Entry
from ciad_engine.inspection import Inspection

LOADING = "The models are loading."


class Wait(enum.Enum):
    """Kinds of work that the page can wait for."""

    NOTHING = enum.auto()
    LOOK = enum.auto()
    ATTACK = enum.auto()
    TRY = enum.auto()  # an attack at once, while its settings change


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Each event returns the state after it.

    Attributes:
        loaded: the models are there.
        loading: the bundle that was chosen and is not loaded yet; "" if none.
        unavailable: why the models could not be loaded; "" if they could, or if that is not known yet.
        entry: the image that is selected.
        found: what is known of it.
    """

    loaded: bool = False
    loading: str = ""
    unavailable: str = ""
    entry: Entry | None = None
    found: Inspection | None = None
    wait: Wait = Wait.NOTHING

    @property
    def why_not_attack(self) -> str:
        """Return why the image cannot be attacked; "" if it can."""
        if self.loading:
            return f"Wait until bundle {self.loading} is loaded."
        if self.unavailable:
            return f"The models could not be loaded: {self.unavailable}"
        if not self.loaded:
            return LOADING
        if self.entry is None:
            return "Select an image first."
        return "An attack is running." if self.wait is Wait.ATTACK else ""

    @property
    def can_look(self) -> bool:
        """Return whether the image can be looked at; a look or an attack that is waited for comes first."""
        return self.loaded and self.entry is not None and self.wait is Wait.NOTHING

    @property
    def incomplete(self) -> bool:
        """Return whether the image's verdict, or that on its stored adversarial version, is missing
        and nothing brings it."""
        if self.entry is None or self.wait is not Wait.NOTHING:
            return False
        stored = self.entry.adversarial is not None
        return self.found is None or (stored and self.found.adversarial is None)

    def selected(self, entry: Entry | None) -> Self:
        """An image was selected, or none is there any more; what is waited for is given up."""
        return dataclasses.replace(self, entry=entry, found=None, wait=Wait.NOTHING)

    def looking(self) -> Self:
        """The image is looked at."""
        return dataclasses.replace(self, wait=Wait.LOOK)

    def attacking(self) -> Self:
        """The image is attacked: an attack before does not count any more."""
        found = None if self.found is None else self.found.without_attack()
        return dataclasses.replace(self, found=found, wait=Wait.ATTACK)

    def trying(self) -> Self:
        """Other settings of the attack are tried; what is shown stays until their answer is there."""
        return dataclasses.replace(self, wait=Wait.TRY)

    def answered(self, found: Inspection) -> Self:
        """A look or an attack has ended with this, or an earlier attack was chosen from the history."""
        return dataclasses.replace(self, found=found, wait=Wait.NOTHING)

    def gave_up(self) -> Self:
        """A look or an attack failed or was cancelled: what was known before it counts."""
        stored = self.entry is not None and self.entry.adversarial is not None
        lost = self.wait is Wait.ATTACK and stored  # the stored pair is to be seen again
        return dataclasses.replace(self, found=None if lost else self.found, wait=Wait.NOTHING)

    def decided(self, detector: str, rule: str) -> Self:
        """Another detector or rule was chosen: it decides on what is known, unless an attack is to change that."""
        if self.found is None or self.wait is Wait.ATTACK:
            return self
        found = self.found.by(detector or self.found.benign.detector, rule)
        return dataclasses.replace(self, found=found)

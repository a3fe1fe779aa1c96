"""The page Evaluate as plain data: what happened so far, and what that allows."""

from __future__ import annotations

import dataclasses
from typing import Self

NO_MODELS, NO_DATABASE = "The models are being loaded.", "The results database is being opened."


@dataclasses.dataclass(frozen=True)
class State:
    """Each event returns the state after it.

    Attributes:
        models, database: why these are not there; "" if they are.
        opening: one waits for the database; else, if it is not there, Start tries it again.
        loading: the bundle that was chosen and is not loaded yet; "" if none.
        has_data: images are loaded.
        wrong: what is wrong with the settings; "" if nothing.
        running: an evaluation of this window runs.
        run: key of the run that is shown or about to be; "" if none.
        shown: its rows are there.
    """

    models: str = NO_MODELS
    database: str = NO_DATABASE
    opening: bool = True
    loading: str = ""
    has_data: bool = False
    wrong: str = ""
    running: bool = False
    run: str = ""
    shown: bool = False

    @property
    def why_not_start(self) -> str:
        """Return why no evaluation can be started; "" if one can."""
        if self.running:
            return "An evaluation is running."
        if self.loading:
            return f"Wait until bundle {self.loading} is loaded."
        no_data = "" if self.has_data else "No images are loaded: choose them under Images."
        no_database = self.database if self.opening else ""
        return self.models or no_database or no_data or self.wrong

    @property
    def waiting(self) -> bool:
        """Return whether the database is locked and one waits for it."""
        return self.opening and self.database not in ("", NO_DATABASE)

    @property
    def can_choose_run(self) -> bool:
        """Return whether another run can be shown."""
        return not self.running

    @property
    def can_export(self) -> bool:
        return self.shown

    @property
    def can_remove(self) -> bool:
        """Return whether the run that is shown can be removed."""
        return self.shown and not self.running

    def started(self) -> Self:
        """An evaluation was started; `began` follows with its run. Until then the run shown before stays.

        One that was chosen and is still being read is given up.
        """
        return dataclasses.replace(self, running=True, run=self.run if self.shown else "")

    def began(self, run: str) -> Self:
        """The evaluation of this window is the run with this key."""
        return dataclasses.replace(self, run=run, shown=False) if self.running else self

    def ended(self) -> Self:
        """The evaluation of this window is finished, was cancelled or has failed."""
        return dataclasses.replace(self, running=False)

    def chose(self, run: str) -> Self:
        """Somebody chose a run to see; an evaluation that runs stays in view."""
        return dataclasses.replace(self, run=run, shown=False) if run and self.can_choose_run else self

    def read(self, run: str) -> Self:
        """Rows of a run have arrived."""
        return dataclasses.replace(self, shown=True) if run == self.run else self

    def removed(self, run: str) -> Self:
        """A run was removed from the database."""
        return dataclasses.replace(self, run="", shown=False) if run == self.run and not self.running else self

"""Going on with an interrupted evaluation, once its images are there; they may have to be asked for."""

from __future__ import annotations

from collections.abc import Callable

from ciad_app.evaluate.continue_bar import ContinueBar
from ciad_app.evaluate.data_loader import DataLoader
from ciad_app.evaluate.setup_panel import DataChoice
from ciad_engine.datasets import ImageSet
from ciad_engine.runs import Run


class Continuation:
    """Waits for the images of the run that somebody wants to continue; meanwhile the bar says so."""

    def __init__(
        self, bar: ContinueBar, loader: DataLoader, choice: DataChoice, launch: Callable[[Run, ImageSet], None]
    ) -> None:
        self._bar, self._loader, self._choice, self._launch = bar, loader, choice, launch
        self._waiting: Run | None = None

    def go_on(self, run: Run) -> None:
        """Continue with the images that are loaded, or are where they were, or are asked for."""
        self._waiting = run
        if self._launched():
            return
        if place := self._loader.place_of(_checksum(run)):
            self._choice.choose(place)
        else:
            self._ask("are not where they were")

    def forget(self) -> None:
        """Something else was begun, or another run is shown: wait for nothing any more."""
        self._waiting = None

    def data_changed(self) -> None:
        """Other images were loaded, or none."""
        if self._waiting is not None and self._loader.data is not None and not self._launched():
            self._ask("are others")

    def data_failed(self) -> None:
        """What was chosen could not be loaded: the next choice may be the right one."""
        if self._waiting is not None:
            self._ask("are not loaded")

    def _launched(self) -> bool:
        run, data = self._waiting, self._loader.data
        if run is None or data is None or data.checksum != _checksum(run):
            return False
        self._waiting = None
        self._launch(run, data)
        return True

    def _ask(self, why: str) -> None:
        assert self._waiting is not None
        of_run = f"The images of this run ({self._waiting.plan.get('data')})"
        self._bar.offer(f"{of_run} {why}: choose their folder or file under Images, and it goes on.")


def _checksum(run: Run) -> str:
    return str(run.plan.get("data_checksum"))

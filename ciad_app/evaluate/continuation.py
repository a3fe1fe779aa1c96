"""Going on with an interrupted evaluation: the bar that offers it, and the wait for the images it needs."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QStyle

from ciad_app.evaluate.data_loader import DataLoader
from ciad_app.evaluate.setup_panel import DataChoice
from ciad_app.widgets.build import button, in_row, label
from ciad_engine.datasets import ImageSet
from ciad_engine.runs import Run

_SURE = "Remove this run and all its rows for good?"
_SURE_IF_UNFINISHED = f"{_SURE} If another window or terminal still computes it, that ends, too."


class ContinueBar(QFrame):
    """A sentence and two buttons; hidden until `offer`, and never in the way."""

    accepted = Signal()  # Continue was pressed
    discarded = Signal()  # Discard was pressed, and confirmed

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        icon = QLabel()
        size = self.style().pixelMetric(QStyle.PixelMetric.PM_SmallIconSize)
        standard = self.style().standardIcon(QStyle.StandardPixmap.SP_MessageBoxInformation)
        icon.setPixmap(standard.pixmap(size, size))
        self.label = label(wrap=True)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        of_continue = "Compute the missing images of this run with the settings it was started with"
        self.go_on = button("Continue", of_continue, self._left)
        self.discard = button("Discard", "Remove this run and its rows from the results database", self._right)
        in_row(icon, (self.label, 1), self.go_on, self.discard, parent=self, margins=(8, 4, 8, 4))
        self._text = ""
        self._asking = False  # whether Discard was pressed once, and the buttons mean Keep and Remove
        self.setVisible(False)

    def offer(self, text: str) -> None:
        self._text = text
        self._ask(False)
        self.setVisible(True)

    def ask_to_remove(self, what: str) -> None:
        """Ask whether the run that is shown shall be removed; `what` says what goes."""
        if self.isHidden():
            self._text = ""
        self._ask(True, f"{_SURE} {what}")
        self.setVisible(True)

    def _ask(self, asking: bool, sure: str = _SURE_IF_UNFINISHED) -> None:
        self._asking = asking
        self.label.setText(sure if asking else self._text)
        self.go_on.setText("Keep" if asking else "Continue")
        self.discard.setText("Remove" if asking else "Discard")

    def _left(self) -> None:
        if self._asking:
            self._ask(False)
            self.setVisible(bool(self._text))  # there may be nothing to continue
        else:
            self.accepted.emit()

    def _right(self) -> None:
        if self._asking:
            self.discarded.emit()
        else:
            self._ask(True)


class Continuation:
    """Waits for the images of the run that somebody wants to continue; meanwhile the bar says so."""

    def __init__(
        self, bar: ContinueBar, loader: DataLoader, choice: DataChoice, launch: Callable[[Run, ImageSet], None]
    ) -> None:
        self._bar, self._loader, self._choice, self._launch = bar, loader, choice, launch
        self._waiting: Run | None = None

    @property
    def waiting(self) -> bool:
        """Return whether it waits for the images of a run."""
        return self._waiting is not None

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

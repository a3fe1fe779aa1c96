"""`ciad-gui --demo`: one inspection and one small evaluation through the real window, without a display.

It does what a person would do, with the same widgets, and waits for what a person would see: load the
models, look through the bundled samples, attack one with FGSM, read the verdict, save, evaluate, export.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QWidget

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine, Failure
from ciad_engine import inspection
from ciad_engine.errors import CiadError
from ciad_engine.evaluation.records import load
from ciad_engine.evaluation.table import Table, render_text
from ciad_engine.evaluation.tables import for_screen, tables_of
from ciad_engine.inspection import Inspection
from ciad_engine.jobs import Cancelled
from ciad_engine.runs import Database

ATTACK = "fgsm"
# Fewer steps than C&W's own defaults, for seconds instead of minutes on two CPU cores; the tables name them.
EVALUATED: tuple[tuple[str, dict[str, float]], ...] = (
    ("fgsm", {}),
    ("cw", {"initial_c": 1.0, "search_steps": 3, "iterations": 100}),
)
IMAGES = 10
TRIES = 20  # samples looked at for the one that is shown
SECONDS = 600.0  # the longest wait for one thing; a slow machine needs minutes, a hang must end
SIZE = (1280, 860)
_TICK = 20  # ms
_INSPECT_VIEW, _EVALUATE_VIEW, _ADVERSARIAL = "window.png", "evaluate.png", "adversarial.png"


class DemoError(CiadError):
    """The demonstration could not do a step. Says which, and why."""


def run(
    folder: Path,
    bundle: str,
    device: str,
    say: Callable[[str], object] = print,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Write window.png, evaluate.png, adversarial.png and the tables' CSV files and charts into `folder`.

    Needs the QApplication. `say` is given the verdict and the tables; `cancelled` is asked again and again.

    Raises:
        Cancelled: `cancelled` said so.
        CiadError: a step failed, or `folder` is in use for something else.
        OSError: `folder` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {path.name for path in folder.iterdir()}
    if found and not found & {_INSPECT_VIEW, _ADVERSARIAL}:  # not those of an earlier demonstration
        raise DemoError(f"{folder} holds other files, such as {min(found)}: name a new or an empty folder.")
    # A database of its own: the demonstration computes anew each time, and leaves the user's runs alone.
    with tempfile.TemporaryDirectory(prefix="ciad-demo-", ignore_cleanup_errors=True) as temporary:
        engine = Engine()
        window = MainWindow(engine, Settings(), Path(temporary) / "runs.sqlite", remember=False)
        demo = _Demo(window, folder, say, cancelled)
        hook, sys.excepthook = sys.excepthook, demo.on_exception
        try:
            window.resize(*SIZE)
            window.show()
            window.loading()
            engine.start(bundle, device)
            demo.wait("loading the models", lambda: engine.info is not None)
            demo.inspect()
            demo.evaluate()
        finally:
            window.close()
            sys.excepthook = hook
    say(f"Written to {folder.resolve()}: {', '.join(sorted(demo.written))}")


class _Demo:
    def __init__(
        self, window: MainWindow, folder: Path, say: Callable[[str], object], cancelled: Callable[[], bool]
    ) -> None:
        self.window, self.folder, self.say, self.cancelled = window, folder, say, cancelled
        self.engine = window.engine
        self.problems: list[str] = []
        self.written: list[str] = []  # names of files
        self.engine.unavailable.connect(self.problems.append)
        self.engine.failed.connect(self._on_failure)
        window.page(InspectPage).failed.connect(self.problems.append)
        evaluate = window.page(EvaluatePage)
        evaluate.failed.connect(self.problems.append)
        evaluate.loader.failed.connect(lambda: self.problems.append(evaluate.panel.data.state.text()))

    def _on_failure(self, failure: Failure) -> None:
        self.problems.append(failure.traceback)

    def on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """The hook for exceptions in slots: Qt would go on and the demonstration wait in vain."""
        self.problems.append(f"{kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Let the window live until something has happened.

        Raises:
            DemoError: an error was met meanwhile, or it did not happen in time.
            Cancelled: somebody asked for it.
        """
        stop = time.monotonic() + SECONDS
        while not until():
            if self.cancelled():
                raise Cancelled
            if self.problems:
                raise DemoError(f"The demonstration failed while {what}: {self.problems[0]}")
            if time.monotonic() > stop:
                raise DemoError(f"The demonstration gave up while {what}: nothing happened for {SECONDS:.0f} s.")
            self._live(_TICK)

    def _live(self, milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def picture(self, name: str, widget: QWidget) -> None:
        self._live(5 * _TICK)  # layouts settle and everything is painted
        path = self.folder / name
        if not widget.grab().save(str(path)):
            raise DemoError(f"{path} cannot be written.")
        self.written.append(name)

    def inspect(self) -> None:
        """Find a sample whose attack tells something, show it, save picture and view."""
        page, info = self.window.page(InspectPage), self.engine.info
        if info is None or not info.has_samples:
            raise DemoError("The bundled samples are missing, or the bundle is for other images.")
        self.window.show_page(InspectPage)
        page.panel.choose(ATTACK, {})
        shown = self._attack_one()
        path = self.folder / _ADVERSARIAL
        if not page.saves.save_image(path, overwrite=True):
            raise DemoError(f"{path} cannot be written.")
        self.written.append(path.name)
        self.picture(_INSPECT_VIEW, self.window)
        self.say(f"{shown.name}: {inspection.sentence(shown)}")

    def _attack_one(self) -> Inspection:
        """Attack samples f1 is right about until one is fooled and detected; any fooled one will do at the end."""
        page = self.window.page(InspectPage)
        fooled = -1
        for tried in range(TRIES):
            if tried:
                page.gallery.step(1)
            found = self._looked_at(f"inspecting sample {tried + 1}")
            if int(found.benign.y1[0]) != found.label or bool(found.benign.adversarial[0]):
                continue
            found = self._attacked()
            if found.adversarial is not None:
                fooled = tried
                if bool(found.adversarial.adversarial[0]):
                    return found
        if fooled < 0:
            raise DemoError(f"None of {TRIES} samples could be attacked with {ATTACK}: is the bundle a trained one?")
        page.gallery.select(fooled)
        self._looked_at("going back to a sample")
        return self._attacked()

    def _looked_at(self, what: str) -> Inspection:
        page = self.window.page(InspectPage)
        self.wait(what, lambda: page.found is not None and not self.engine.busy)
        assert page.found is not None
        return page.found

    def _attacked(self) -> Inspection:
        page = self.window.page(InspectPage)
        page.panel.button.click()
        self.wait("attacking a sample", lambda: page.found is not None and page.found.attack is not None)
        assert page.found is not None
        return page.found

    def evaluate(self) -> None:
        """Evaluate a few samples, export the tables, and print them."""
        self.window.show_page(EvaluatePage)
        page = self.window.page(EvaluatePage)
        self.wait("loading the samples", page.panel.start.isEnabled)
        page.panel.attacks.choose(EVALUATED)
        page.panel.limit.setValue(IMAGES)
        page.panel.start.click()
        expected = IMAGES * (1 + len(EVALUATED))
        self.wait("evaluating", lambda: len(page.model.rows) >= expected and not self.engine.busy)
        shown = self._tables_shown()
        exported: list[Path] = []
        page.exported.connect(exported.extend)
        page.export(self.folder)
        self.wait("exporting the tables", lambda: bool(exported))
        self.written += [path.name for path in exported]
        self.picture(_EVALUATE_VIEW, self.window)
        self.say("\nThe tables' run was computed for this demonstration alone and is not kept:")
        for table in shown:
            self.say("\n" + render_text(table))

    def _tables_shown(self) -> tuple[Table, ...]:
        """The tables of the finished run, once the window shows just these."""
        page, info = self.window.page(EvaluatePage), self.engine.info
        assert info is not None
        assert self.window.database_path is not None
        with Database(self.window.database_path) as database:
            (run,) = database.runs()
            expected = for_screen(tables_of(load(database, run.key), info.card))
        self.wait("showing the tables", lambda: page.results.tables.tables == expected)
        return expected

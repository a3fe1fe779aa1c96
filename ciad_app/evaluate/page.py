"""The page *Evaluate*: sets up a run, follows it, and opens past ones."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFileDialog, QSplitter, QWidget

from ciad_app.durations import duration
from ciad_app.evaluate import costs, work
from ciad_app.evaluate.background import Background
from ciad_app.evaluate.continuation import Continuation
from ciad_app.evaluate.data_loader import DataLoader
from ciad_app.evaluate.live_tables import LiveTables, Results
from ciad_app.evaluate.model import OpenedRow, RowsModel
from ciad_app.evaluate.results_view import ResultsView, moment
from ciad_app.evaluate.setup_panel import SetupPanel
from ciad_app.widgets.build import in_row
from ciad_app.worker import Engine, EngineInfo, Task, Work
from ciad_engine import attacks, bundles, datasets
from ciad_engine.counting import counted
from ciad_engine.domain import Domain
from ciad_engine.errors import CiadError
from ciad_engine.evaluation import export, planning
from ciad_engine.evaluation.records import of_detectors
from ciad_engine.runs import BENIGN, Database, Row, Run


class EvaluatePage(QWidget):
    """Settings on the left, results on the right."""

    row_opened = Signal(object)  # OpenedRow: somebody wants to see a row's images
    exported = Signal(object)  # list[Path]: these files were written
    interrupted = Signal()  # an unfinished run of the loaded bundle was found, and is offered here
    folder_used = Signal(str)  # a dialog chose this folder, or a file in it
    failed = Signal(str)  # something did not work, and why; the page shows it, too

    def __init__(self, engine: Engine, folder: str = "", database_path: Path | None = None) -> None:
        """File dialogs begin in `folder`; without a path the results database is the user's own."""
        super().__init__()
        self._engine = engine
        self._database: Database | None = None
        self._problem = "The models are being loaded."  # why Start is not possible, besides the settings
        self._domain: Domain | None = None  # of the bundle in use
        self._task: Task | None = None
        self._run: Run | None = None  # the run that is shown
        self._card: bundles.Card | None = None  # of the bundle it was made with
        self._remaining: costs.Remaining | None = None
        self._rates: dict[str, costs.Rate] = {}

        self.model = RowsModel(self)
        self.panel = SetupPanel()
        self.results = ResultsView(self.model)
        self.loader = DataLoader(
            engine, self.panel.data, lambda: self._database.path.parent if self._database else None, self
        )
        self._continuation = Continuation(self.results.bar, self.loader, self.panel.data, self._go_on)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(self.panel)
        split.addWidget(self.results)
        split.setStretchFactor(1, 1)
        split.setSizes([320, 900])
        split.setChildrenCollapsible(False)
        in_row(split, parent=self, margins=0)
        self.setFocusProxy(self.panel.start)

        self._background = Background(self)
        self._tables = LiveTables(self._background, self._show_results, self._failed, self)
        self._rates_timer = QTimer(self, singleShot=True, interval=200)
        self._rates_timer.timeout.connect(self._look_up_rates)
        self._connect()
        self._folder = self.panel.data.folder_to_begin = folder
        self._open_database(database_path)
        if engine.info is not None:
            self._ready(engine.info)
        if engine.problem:
            self._unavailable(engine.problem)
        self._update()

    def _connect(self) -> None:
        self.panel.start.clicked.connect(lambda: self.start())
        self.panel.cancel.clicked.connect(lambda: self.cancel())
        self.panel.changed.connect(self._rates_timer.start)
        self.panel.changed.connect(self._update)
        self.loader.changed.connect(self._data_changed)
        self.loader.changed.connect(self._continuation.data_changed)  # last: the panel knows the images by then
        self.loader.failed.connect(self._continuation.data_failed)
        self.panel.data.folder_used.connect(self._dialog_used)
        self.results.run_chosen.connect(self.open_run)
        self.results.copy.clicked.connect(lambda: self.copy_tables())
        self.results.export.clicked.connect(lambda: self.export())
        self.results.bar.accepted.connect(self._continue)
        self.results.bar.discarded.connect(self._discard)
        self.results.rows.opened.connect(self._open_row)
        self._engine.ready.connect(self._ready)
        self._engine.unavailable.connect(self._unavailable)
        self._engine.loading_changed.connect(self._update)

    def _open_database(self, path: Path | None) -> None:
        try:
            self._database = Database(path)
        except CiadError as error:
            self._problem = str(error)
            self._say(f"⚠ {error}")
            return
        self._list_runs()

    # What the window calls.

    def start(self) -> None:
        """Evaluate with the settings of the panel; a run of the same plan goes on where it stopped."""
        reason = self._why_not()
        if reason or self.loader.data is None or self._database is None:
            self._say(f"⚠ {reason}")
            return
        self._launch(work.evaluate(self.panel.request(), self.loader.data, self._database))

    def cancel(self) -> None:
        """Stop the running evaluation within a second; its rows are kept."""
        if self._task is not None:
            self._task.cancel()
            self._say("Cancelling …")

    def export(self, folder: Path | None = None) -> None:
        """Write the shown run as CSV; `exported` tells when it is done.

        If no folder is given one is asked for, and a new one made in it: nothing there is replaced.
        """
        if self._run is None or self._database is None:
            self._say("There is nothing to export yet: start an evaluation or choose a past one.")
            return
        if folder is None:
            title = "Where to put the folder of CSV files and charts"
            chosen = QFileDialog.getExistingDirectory(self, title, self._folder)
            if not chosen:
                return
            self._dialog_used(chosen)
            folder = _new_folder(Path(chosen), f"ciad-{self._run.short}")
        write = functools.partial(export.write_csv, folder, self._database, self._run.key, self._card)

        def done(paths: list[Path]) -> None:
            names = ", ".join(path.name for path in paths)
            self._say(f"{counted(len(paths), 'file')} written to {folder}: {names}.")
            self.exported.emit(paths)

        self._beside(write, done)

    def copy_tables(self) -> None:
        self.results.tables.copy()
        self._say("The tables are in the clipboard.")

    def offer_to_continue(self) -> None:
        """Show the newest unfinished run of the loaded bundle, with a bar that offers to continue it."""
        info, database = self._engine.info, self._database
        if info is None or database is None or self._task is not None or self._run is not None:
            return
        card = info.card

        def find() -> Run | None:
            mine = (run for run in database.runs() if card.knows(str(run.plan.get("bundle_checksum"))))
            return next((run for run in mine if not run.finished and planning.can_go_on(run)), None)

        def found(run: Run | None) -> None:
            if run is not None and self._task is None and self._run is None:
                self.open_run(run.key)
                self.interrupted.emit()

        self._beside(find, found)

    def open_run(self, key: str) -> None:
        """Show the rows and tables of a run in the database."""
        if self._task is None and key:
            self._continuation.forget()
            self._say("Reading …")
            self._read(key, announce=True)

    def stop(self) -> None:
        """Let the second thread end; nothing is read or written any more. The window calls it when it is closed."""
        self.loader.stop()
        self._background.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._begin_with_samples()

    def _read(self, key: str, announce: bool) -> None:
        """Show a run's rows; `announce` says how many they are."""
        if (database := self._database) is not None:
            self._beside(lambda: work.read(database, key), lambda found: self._opened(found, announce))

    # The engine.

    def _ready(self, info: EngineInfo) -> None:
        self._problem = "" if self._database else self._problem
        self.panel.set_engine(info)
        if info.domain != self._domain and not self.loader.busy:
            self.panel.data.reload()  # they are labelled with the classes of the former bundle, or were refused by it
        self._domain = info.domain
        self._begin_with_samples()
        self._list_runs()
        self._rates_timer.start()
        self._update()
        self._reload()  # the run that is shown may be of this bundle
        self.offer_to_continue()

    def _begin_with_samples(self) -> None:
        """Where nothing was chosen yet; not before somebody looks at the page, for it keeps the engine busy."""
        info = self._engine.info
        if self.isVisible() and info and info.has_samples and not self.panel.data.touched and not self.loader.busy:
            self.panel.data.choose(datasets.SAMPLES)

    def _unavailable(self, reason: str) -> None:
        if self._database is not None:
            self._problem = reason
        self._say(f"⚠ {reason}")
        self._update()

    def _progress(self, done: int, total: int, text: str) -> None:
        if self._remaining is None:
            return
        self.results.show_progress(done, total)
        if total == self._remaining.total:
            left = self._remaining.text(done)
            self._say(", ".join(part for part in (f"{text}: {done:,} of {total:,} rows", left) if part))
        else:  # images of another run are reused, which counts these alone
            self._remaining.begin_anew()
            self._say(f"{text}: {done:,} of {total:,}")

    def _data_changed(self) -> None:
        self.panel.set_data(self.loader.data)
        self._rates_timer.start()
        self._update()

    # A run.

    def _launch(self, inner: Work) -> None:
        self._continuation.forget()
        self.results.bar.hide()
        self._say("Starting …")
        self.panel.estimate.setText("")
        self._task = self._engine.submit(
            inner,
            self._finished,
            failed=self._evaluation_failed,
            cancelled=self._cancelled,
            partial=self._arrived,
            progress=self._progress,
            text="Evaluating",
            tells_time=True,
        )
        self._update()

    def _arrived(self, result: Any) -> None:
        if isinstance(result, work.Stored):
            self._remaining = costs.Remaining((BENIGN, *result.plan.labels), result.plan.limit, self._rates)
            self._show(result)
            self._list_runs()
        else:
            self.model.append(result)
            if self._remaining is not None:
                self._remaining.add(result)
            self._tables.refresh()

    def _finished(self, run: Run) -> None:
        self._ended()
        self._run = run
        self._say(f"Finished: {counted(len(self.model.rows), 'row')} in {duration(run.seconds)} of computing.")
        self._tables.refresh()

    def _cancelled(self) -> None:
        self._ended()
        self._reload()
        self._say("Cancelled. The rows computed so far are kept.")

    def _evaluation_failed(self, message: str) -> None:
        self._ended()
        self._reload()
        self._failed(message)

    def _ended(self) -> None:
        self._task, self._remaining = None, None
        self.results.show_progress(0, 0)
        self._list_runs()
        self._rates_timer.start()
        self._update()

    def _reload(self) -> None:
        """Rows that were on their way when the task ended are in the database, but were not shown."""
        if self._run is not None:
            self._read(self._run.key, announce=False)

    def _opened(self, found: work.Stored, announce: bool) -> None:
        if self._task is not None:
            return
        run, plan, rows = found.run, found.plan, found.rows
        self._continuation.forget()  # whatever its bar promised, another text is there now
        if announce:
            self._say(f"{counted(len(rows), 'row')}, {duration(run.seconds)} of computing.")
        self._show(found)
        self.results.runs.setCurrentIndex(self.results.runs.findData(run.key))
        if run.finished or self._loaded(plan) is None or not planning.can_go_on(run):
            self.results.bar.hide()
        else:
            self.results.bar.offer(
                f"An evaluation was interrupted at {len(rows):,} of {plan.rows:,} rows"
                f" ({plan.data}, {', '.join(plan.title(label) for label in plan.labels)}; {moment(run)})."
            )

    def _show(self, found: work.Stored) -> None:
        run, plan, rows = found.run, found.plan, found.rows
        if self._run is None or self._run.key != run.key:
            self._clear_results(computing=bool(rows))  # those of another run must not stand under this one's name
        self._run, self._card = run, self._loaded(plan) or found.card
        self.model.set_rows(rows, plan.classes, of_detectors(self._card, plan))
        self.results.show_data_warning(plan)
        if self._database is not None:
            self._tables.follow(self._database, run.key, self._card)
        self._update()

    def _loaded(self, plan: planning.Plan) -> bundles.Card | None:
        """The card of the loaded bundle if the plan's run was made with it; it may lie where no other is looked for."""
        info = self._engine.info
        return info.card if info is not None and info.card.knows(plan.bundle_checksum) else None

    def _continue(self) -> None:
        if self._run is not None and self._task is None:
            self._continuation.go_on(self._run)

    def _go_on(self, run: Run, data: datasets.ImageSet) -> None:
        if self._task is None and self._database is not None:
            self.panel.set_plan(planning.from_json(run.plan))
            self._launch(work.go_on(run, data, self._database))

    def _discard(self) -> None:
        run, database = self._run, self._database
        self._continuation.forget()
        self.results.bar.hide()
        if run is None or database is None or self._task is not None:
            return

        def done(_: object) -> None:
            if self._run is not None and self._run.key == run.key and self._task is None:
                self._run = None
                self.model.set_rows([])
                self._tables.stop()
                self._clear_results(computing=False)
                self.results.show_data_warning(None)
                self._say("The run was removed.")
                self._update()
            self._list_runs()

        self._beside(lambda: database.delete(run.key), done)

    def _open_row(self, row: Row) -> None:
        if self._run is None or self._database is None:
            return
        try:
            benign = self._database.image(self._run.key, BENIGN, row.position)
            changed = self._database.image(self._run.key, row.attack, row.position) if row.fooled else None
        except CiadError as error:
            self._failed(str(error))
            return
        known = self._engine.info.domain.classes if self._engine.info else ()
        true_class = self.model.class_name(row.label)
        label = known.index(true_class) if true_class in known else None
        self.row_opened.emit(OpenedRow(benign, label, changed, row.name))

    # Tables, list of runs, cost: read from the database beside the running engine.

    def _show_results(self, found: Results) -> None:
        self.results.tables.show_tables(found.tables)
        self.results.curves.show_curves(found.curves, found.thresholds)
        self._update()

    def _clear_results(self, computing: bool) -> None:
        self.results.tables.clear(computing)
        self.results.curves.clear(computing)
        self._update()

    def _list_runs(self) -> None:
        if self._database is not None:
            self._beside(
                self._database.runs, lambda runs: self.results.list_runs(runs, self._run.key if self._run else None)
            )

    def _look_up_rates(self) -> None:
        info, database = self._engine.info, self._database
        if info is None or database is None:
            return
        request = self.panel.request()

        def done(rates: dict[str, costs.Rate]) -> None:
            self._rates = rates
            labels = planning.labels(request.attacks)
            titles = {label: attacks.title(planning.attack_of(label)) for label in labels}
            if self._task is None:  # else the remaining time stands beside the results
                self.panel.estimate.setText(costs.estimate(titles, request.limit, rates))

        self._beside(
            lambda: costs.measured(database, request.attacks, request.attacked, info.device, request.evade), done
        )

    def _beside(self, work: Callable[[], Any], done: Callable[[Any], object]) -> None:
        """Read or write the database while the engine computes."""
        self._background.run(work, done, self._failed)

    # What is said and what can be pressed.

    def _why_not(self) -> str:
        if self._task is not None:
            return "An evaluation is running."
        if self._engine.loading:
            return f"Bundle {self._engine.loading} is to be loaded first."
        if self._problem:
            return self._problem
        if self.loader.data is None:
            return "No images are loaded: choose them under Images."
        if not self.panel.attacks.chosen():
            return "No attack is chosen: tick at least one."
        if twice := self.panel.attacks.twice():
            return f"{twice} is chosen twice with the same settings: change one of the two or remove it."
        if unable := self.panel.cannot_evade():
            return f"{unable} cannot evade a detector: untick it, or let the attacker know none."
        return ""

    def _update(self) -> None:
        running = self._task is not None
        self.panel.set_state(running, self._why_not())
        self.results.runs.setEnabled(not running)
        self.results.export.setEnabled(self._run is not None)
        self.results.copy.setEnabled(bool(self.results.tables.tables))

    def _dialog_used(self, folder: str) -> None:
        self._folder = self.panel.data.folder_to_begin = folder
        self.folder_used.emit(folder)

    def _failed(self, message: str) -> None:
        self._say(f"⚠ {message}")
        self.failed.emit(message)

    def _say(self, text: str) -> None:
        self.results.state.setText(text)


def _new_folder(parent: Path, name: str) -> Path:
    """A path in `parent` at which there is nothing yet: `name`, or `name-2` and so on."""
    path, number = parent / name, 1
    while os.path.lexists(path):
        number += 1
        path = parent / f"{name}-{number}"
    return path

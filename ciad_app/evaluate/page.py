"""The page *Evaluate*: sets up a run, follows it, and opens past ones."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QSplitter

from ciad_app.actions import MenuRow
from ciad_app.durations import duration
from ciad_app.evaluate import costs, work
from ciad_app.evaluate.background import Background
from ciad_app.evaluate.continuation import Continuation
from ciad_app.evaluate.data_loader import DataLoader
from ciad_app.evaluate.following import Following, News
from ciad_app.evaluate.model import RowsModel
from ciad_app.evaluate.results_view import ResultsView, moment
from ciad_app.evaluate.setup_panel import SetupPanel
from ciad_app.evaluate.state import State
from ciad_app.incoming import Incoming, OpenedRow, Thing
from ciad_app.later import Later
from ciad_app.page import Page
from ciad_app.widgets.build import in_row
from ciad_app.widgets.folder_dialog import ask_folder
from ciad_app.worker import Engine, EngineInfo, Task, Work
from ciad_engine import attacks, bundles, datasets
from ciad_engine.counting import counted, disk_size
from ciad_engine.domain import Domain
from ciad_engine.evaluation import export, planning
from ciad_engine.evaluation.records import attack_result, of_detectors
from ciad_engine.runs import BENIGN, Busy, Database, Row, Run

AGAIN = 300  # ms for which a locked database is waited for at a time


class EvaluatePage(Page):
    """Settings on the left, results on the right."""

    title = "Evaluate"
    tip = "Many images: tables of attacks and detection"
    menu = "Ru&n"

    exported = Signal(object)  # list[Path]: these files were written

    def __init__(self, engine: Engine, folder: str = "", database: Path | None = None) -> None:
        super().__init__(engine, folder, database)
        self._database: Database | None = None
        self._state = State()
        self._domain: Domain | None = None  # of the bundle in use
        self._task: Task | None = None  # the evaluation that runs
        self._news: News | None = None  # the last about the run that is shown
        self._announce = False  # whether to say how many rows the run has that was chosen, once they are there
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
        self._following = Following(self._background, self._show_news, self._failed, self)
        self._rates_timer = Later(self, 200, self._look_up_rates)
        self._connect()
        self.panel.data.folder_to_begin = folder
        self._path = database
        self._starts = False  # whether to start when the database is open
        self._again = Later(self, AGAIN, self._open)
        self._open()
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
        self.results.copy.clicked.connect(lambda: self.copy())
        self.results.export.clicked.connect(lambda: self.export())
        self.results.bar.accepted.connect(self._continue)
        self.results.bar.discarded.connect(self._discard)
        self.results.remove.clicked.connect(lambda: self.remove())
        self.results.rows.opened.connect(self._open_row)
        self.engine.ready.connect(self._ready)
        self.engine.unavailable.connect(self._unavailable)
        self.engine.loading_changed.connect(self._update)

    def _open(self) -> None:
        """Open the database in the second thread; while another program has it locked, try it again and again."""
        self._change(opening=True)
        self._background.run(self._try_to_open, self._opened, self._not_opened)

    def _try_to_open(self) -> Database | str:
        """Return the database, or why it has to be tried again: to wait in the thread could not be cancelled."""
        try:
            return Database(self._path, patience=AGAIN / 1000)
        except Busy as error:
            return str(error)

    def _opened(self, database: Database | str) -> None:
        if isinstance(database, str):
            if self._state.opening:
                self._change(database=database)
                self._say(f"⚠ {database} Waiting for it …")
                self._again.start()
            return
        self._database = database
        if self._state.waiting:
            self._say("")
        self._change(database="", opening=False)
        self._list_runs()
        self._rates_timer.start()
        if self._starts:
            self._starts = False
            self.start()
        else:
            self.offer_to_continue()

    def _not_opened(self, reason: str) -> None:
        self._starts = False
        self._change(database=reason, opening=False)
        self._say(f"⚠ {reason} Start tries it again.")

    # What the window calls.

    def menu_rows(self) -> Sequence[MenuRow]:
        return (
            ("&Start", self.start, "Evaluate with these settings", ("Ctrl+Return", "Ctrl+Enter")),
            ("&Cancel evaluation", self.cancel, "Stop the evaluation; its rows are kept"),
        )

    def start(self) -> None:
        """Evaluate with the settings of the panel; a run of the same plan goes on where it stopped."""
        if self._state.why_not_start or self.loader.data is None:
            self._say(f"⚠ {self._state.why_not_start}")
            return
        if self._database is None:
            self._starts = True
            self._say("Opening the results database …")
            self._open()
            return
        self._launch(work.evaluate(self.panel.request(), self.loader.data, self._database))

    def take(self, thing: Thing) -> bool:
        """Take one data set, to evaluate it."""
        if not isinstance(thing, Incoming) or len(thing.paths) != 1:
            return False
        try:
            if not datasets.looks_like_one(thing.paths[0]):
                return False
        except OSError:  # page Inspect says why
            return False
        if self._state.running:
            self._say("⚠ An evaluation is running: drop other images when it has ended.")
        else:
            self.panel.data.choose(str(thing.paths[0]))
        return True

    def cancel(self) -> None:
        """Stop the running evaluation within a second; its rows are kept. Or stop waiting for the database."""
        if self._state.waiting:
            self._again.stop()
            self._not_opened(self._state.database)
        elif self._task is not None:
            self._task.cancel()
            self._say("Cancelling …")

    def export(self, folder: Path | None = None) -> None:
        """Write the shown run as CSV; `exported` tells when it is done.

        If no folder is given one is asked for. A new one is made in it unless it is new itself: nothing is replaced.
        """
        if self._news is None or self._database is None:
            self._say("There is nothing to export yet: start an evaluation or choose a past one.")
            return
        if folder is None:
            title = "Where to put the folder of CSV files and charts"
            chosen = ask_folder(self, title, self.folder)
            if chosen is None:
                return
            new = not os.path.lexists(chosen)
            self._dialog_used(str(chosen.parent if new else chosen))
            folder = chosen if new else _new_folder(chosen, f"ciad-{self._news.run.short}")
        write = functools.partial(export.write_csv, folder, self._database, self._news.run.key, self._news.card)

        def done(paths: list[Path]) -> None:
            names = ", ".join(path.name for path in paths)
            self._say(f"{counted(len(paths), 'file')} written to {folder}: {names}.")
            self.exported.emit(paths)

        self._beside(write, done)

    def remove(self) -> None:
        """Ask whether the run that is shown shall be removed; the bar's buttons answer."""
        if self._news is None or not self._state.can_remove:
            self._say("There is no evaluation to remove: choose a past one.")
            return
        run, plan = self._news.run, self._news.plan
        what = f"It has {counted(len(self.model.rows), 'row')}, {plan.setting}, of {plan.data}; {moment(run)}."
        self.results.bar.ask_to_remove(what)

    def copy(self) -> None:
        if not self.results.tables.tables:
            self._say("There are no tables to copy yet: start an evaluation or choose a past one.")
            return
        self.results.tables.copy()
        self._say("The tables are in the clipboard.")

    def offer_to_continue(self) -> None:
        """Show the newest unfinished run of the loaded bundle, with a bar that offers to continue it."""
        info, database = self.engine.info, self._database
        if info is None or database is None or self._state.running or self._state.run:
            return
        card = info.card

        def find() -> Run | None:
            mine = (run for run in database.runs() if card.knows(str(run.plan.get("bundle_checksum"))))
            return next((run for run in mine if not run.finished and planning.can_go_on(run)), None)

        def found(run: Run | None) -> None:
            if run is not None and not self._state.running and not self._state.run:
                self.open_run(run.key)
                if not self.isVisible():
                    self.message.emit(f"An evaluation was interrupted: see {self.title}.")

        self._beside(find, found)

    def open_run(self, key: str) -> None:
        """Show the rows and tables of a run in the database, and follow it while another program computes it."""
        if key and self._state.can_choose_run:
            self._continuation.forget()
            self._say("Reading …")
            self._follow(key, self._state.chose(key), announce=True)

    def _follow(self, key: str, state: State, announce: bool = False) -> None:
        if self._database is not None:
            info = self.engine.info
            self._announce = announce
            self._set(state)
            self._following.follow(self._database, key, info.card if info else None)

    def stop(self) -> None:
        """Let the second thread end; nothing is read or written any more. The window calls it when it is closed."""
        self.loader.stop()
        self._again.stop()
        self._following.stop()
        self._background.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._begin_with_samples()

    # The engine.

    def _ready(self, info: EngineInfo) -> None:
        self._change(models="")
        self.panel.set_engine(info)
        if info.domain != self._domain and not self.loader.busy:
            self.panel.data.reload()  # they are labelled with the classes of the former bundle, or were refused by it
        self._domain = info.domain
        self._begin_with_samples()
        self._list_runs()
        self._rates_timer.start()
        self._update()
        if self._state.run and not self._state.running:  # it may be of this bundle
            self._follow(self._state.run, self._state, self._announce)
        self.offer_to_continue()

    def _begin_with_samples(self) -> None:
        """Where nothing was chosen yet; not before somebody looks at the page, for it keeps the engine busy."""
        info = self.engine.info
        if self.isVisible() and info and info.has_samples and not self.panel.data.touched and not self.loader.busy:
            self.panel.data.choose(datasets.SAMPLES)

    def _unavailable(self, reason: str) -> None:
        self._change(models=reason)
        self._say(f"⚠ {reason}")

    def _progress(self, done: int, total: int, text: str) -> None:
        if self._remaining is None:
            return
        self.results.show_progress(done, total)
        rows = " rows" if total == self._remaining.total else ""  # else images of another run are reused
        if not rows:
            self._remaining.begin_anew()
        parts = (f"{text}: {done:,} of {total:,}{rows}", self._left(done, total, text))
        self._say(", ".join(filter(None, parts)))

    def _left(self, done: int, total: int, text: str) -> str:
        """Return the remaining time, here and in the status bar."""
        return self._remaining.text(done) if self._remaining and total == self._remaining.total else ""

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
        self._following.stop()
        self._set(self._state.started())
        self._task = self.engine.submit(
            inner,
            self._finished,
            failed=self._evaluation_failed,
            cancelled=self._cancelled,
            partial=self._arrived,
            progress=self._progress,
            text="Evaluating",
            left=self._left,
        )

    def _arrived(self, run: Any) -> None:
        """The database has the run of this evaluation; its rows come from there."""
        if isinstance(run, Run):
            plan = planning.of_run(run)
            self._remaining = costs.Remaining((BENIGN, *plan.labels), plan.limit, self._rates)
            self._follow(run.key, self._state.began(run.key))
            self._list_runs()

    def _finished(self, run: Run) -> None:
        self._ended()
        rows = planning.of_run(run).rows
        self._say(f"Finished: {counted(rows, 'row')} in {duration(run.seconds)} of computing.")

    def _cancelled(self) -> None:
        self._ended()
        self._say("Cancelled. The rows computed so far are kept.")

    def _evaluation_failed(self, message: str) -> None:
        self._ended()
        self._failed(message)

    def _ended(self) -> None:
        self._task, self._remaining = None, None
        self._set(self._state.ended())
        self.results.show_progress(0, 0)
        self._list_runs()
        self._rates_timer.start()
        if self._following.active:
            self._following.refresh()
        elif self._state.run:  # the evaluation ended before it was a run, or reading it failed
            self._follow(self._state.run, self._state)

    def _show_news(self, news: News) -> None:
        """Show what is new of the run that is followed."""
        other = self._news is None or self._news.run.key != news.run.key
        self._news = news
        if news.first:
            if other:  # the tables of another run must not stand under this one's name
                self._clear_results(computing=bool(news.rows))
            self.model.set_rows(news.rows, news.plan.classes, of_detectors(news.card, news.plan))
            self.results.show_data_warning(news.plan)
            self.results.runs.setCurrentIndex(self.results.runs.findData(news.run.key))
        elif news.rows:
            self.model.append(news.rows)
        if self._remaining is not None:
            self._remaining.add(news.rows)
        if news.results is not None:
            self.results.tables.show_tables(news.results.tables)
            self.results.curves.show_curves(news.results.curves, news.results.thresholds)
        self._set(self._state.read(news.run.key))
        if news.more:
            return
        elsewhere = news.results and news.reads > 1 and not self._state.running  # another program computes it
        if self._announce or elsewhere:
            some = "" if news.run.finished else f"{len(self.model.rows):,} of "
            self._say(f"{some}{counted(news.plan.rows, 'row')}, {duration(news.run.seconds)} of computing.")
        self._announce = False
        if news.reads == 1 and not self._state.running:
            self._offer(news)
        elif news.rows:  # another program computes it
            self.results.bar.hide()

    def _offer(self, news: News) -> None:
        """Offer to continue a run that is not finished, unless the person is asked for its images already."""
        run, plan = news.run, news.plan
        if run.finished or self._loaded(plan) is None or not planning.can_go_on(run):
            self.results.bar.hide()
        elif not self._continuation.waiting:
            self.results.bar.offer(
                f"An evaluation was interrupted at {len(self.model.rows):,} of {plan.rows:,} rows"
                f" ({plan.data}, {', '.join(plan.title(label) for label in plan.labels)}; {moment(run)})."
            )

    def _loaded(self, plan: planning.Plan) -> bundles.Card | None:
        """The card of the loaded bundle if the plan's run was made with it; it may lie where no other is looked for."""
        info = self.engine.info
        return info.card if info is not None and info.card.knows(plan.bundle_checksum) else None

    def _continue(self) -> None:
        if self._state.loading:
            self._say(f"⚠ {self._state.why_not_start}")
        elif self._news is not None and not self._state.running:
            self._continuation.go_on(self._news.run)

    def _go_on(self, run: Run, data: datasets.ImageSet) -> None:
        if not self._state.running and self._database is not None:
            self.panel.set_plan(planning.of_run(run))
            self._launch(work.go_on(run, data, self._database))

    def _discard(self) -> None:
        news, database = self._news, self._database
        self._continuation.forget()
        self.results.bar.hide()
        if news is None or database is None or self._state.running:
            return
        key = news.run.key

        def done(_: object) -> None:
            if self._state.run == key and not self._state.running:
                self._following.stop()
                self._news = None
                self.model.set_rows([])
                self._clear_results(computing=False)
                self.results.show_data_warning(None)
                self._say("The run was removed.")
                self._set(self._state.removed(key))
            self._list_runs()

        self._beside(lambda: database.delete(key), done)

    def _open_row(self, row: Row) -> None:
        if self._news is None or self._database is None:
            return
        database, key, plan = self._database, self._news.run.key, self._news.plan
        known = self.engine.info.domain.classes if self.engine.info else ()
        true_class = self.model.class_name(row.label)
        label = known.index(true_class) if true_class in known else None

        def read() -> OpenedRow:
            benign = database.image(key, BENIGN, row.position, plan.size)
            changed = database.image(key, row.attack, row.position, plan.size) if row.fooled else None
            opened = OpenedRow(benign, label, changed, row.name)
            if row.attack == BENIGN or plan.transferred:
                return opened
            attack = attack_result(plan, row, benign if changed is None else changed)
            evade = tuple(one.text for one in plan.evade)
            return opened._replace(attack=attack, evade=evade, bundle=plan.bundle_checksum)

        self._beside(read, self.handed_on.emit)

    # Tables, list of runs, cost: read from the database beside the running engine.

    def _clear_results(self, computing: bool) -> None:
        self.results.tables.clear(computing)
        self.results.curves.clear(computing)
        self._update()

    def _list_runs(self) -> None:
        database = self._database
        if database is None:
            return

        def read() -> tuple[list[Run], str]:
            return database.runs(), f"{database.path} takes {disk_size(database.size)}"

        def done(found: tuple[list[Run], str]) -> None:
            runs, about = found
            self.results.list_runs(runs, self._state.run or None, about)

        self._beside(read, done)

    def _look_up_rates(self) -> None:
        info, database = self.engine.info, self._database
        if info is None or database is None:
            return
        request = self.panel.request()

        def done(rates: dict[str, costs.Rate]) -> None:
            self._rates = rates
            labels = planning.labels(request.attacks)
            titles = {label: attacks.title(planning.attack_of(label)) for label in labels}
            if not self._state.running:  # else the remaining time stands beside the results
                self.panel.estimate.setText(costs.estimate(titles, request.limit, rates))

        self._beside(
            lambda: costs.measured(database, request.attacks, request.attacked, info.device, request.evade), done
        )

    def _beside(self, work: Callable[[], Any], done: Callable[[Any], object]) -> None:
        """Read or write the database while the engine computes."""
        self._background.run(work, done, self._failed)

    # What is said and what can be pressed.

    def _set(self, state: State) -> None:
        self._state = state
        self._update()

    def _change(self, **changes: Any) -> None:
        self._set(dataclasses.replace(self._state, **changes))

    def _wrong(self) -> str:
        """Return what is wrong with the settings; "" if nothing."""
        if not self.panel.attacks.chosen():
            return "No attack is chosen: tick at least one."
        if twice := self.panel.attacks.twice():
            return f"{twice} is chosen twice with the same settings: change one of the two or remove it."
        if unable := self.panel.cannot_evade():
            return f"{unable} cannot evade a detector: untick it, or let the attacker know none."
        return ""

    def _update(self) -> None:
        self._state = state = dataclasses.replace(
            self._state, loading=self.engine.loading, has_data=self.loader.data is not None, wrong=self._wrong()
        )
        self.panel.set_state(state.running, state.why_not_start, state.waiting)
        self.results.runs.setEnabled(state.can_choose_run)
        self.results.export.setEnabled(state.can_export)
        self.results.remove.setEnabled(state.can_remove)
        self.results.copy.setEnabled(bool(self.results.tables.tables))

    def _dialog_used(self, folder: str) -> None:
        self.folder = self.panel.data.folder_to_begin = folder
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

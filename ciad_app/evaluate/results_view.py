"""The right side of *Evaluate*: which run, how far it is, its tables and its rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QProgressBar, QSizePolicy, QSplitter, QTabWidget, QWidget

from ciad_app.evaluate.continuation import ContinueBar
from ciad_app.evaluate.curves_view import CurvesView
from ciad_app.evaluate.model import RowsModel
from ciad_app.evaluate.rows_view import RowsView
from ciad_app.evaluate.tables_view import TablesView
from ciad_app.widgets.build import button, choice, in_column, in_row, label, label_of
from ciad_engine import attacks, moments
from ciad_engine.counting import counted
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import RunError
from ciad_engine.evaluation import planning
from ciad_engine.runs import Run

_ALL = "All evaluations in the results database, the newest first"


def moment(run: Run) -> str:
    """Return when a run began, in local time, e.g. "23 Nov 2026, 21:04"; as it is stored if that is not a date."""
    began = moments.local(run.created)
    return run.created if began is None else began.strftime("%d %b %Y, %H:%M")


def describe(plan: planning.Plan, chosen: Sequence[planning.AttackChoice]) -> str:
    """A plan in one line: data, number, attacks with the settings in `chosen`, setting."""
    which = ", ".join(dataclasses.replace(one, name=attacks.title(one.name)).text(plan.classes) for one in chosen)
    return f"{plan.data} · {counted(plan.limit, 'image')} · {which} · {plan.setting}"


class ResultsView(QWidget):
    """Everything about the run that is shown."""

    run_chosen = Signal(str)  # key of a past run somebody wants to see

    def __init__(self, model: RowsModel) -> None:
        super().__init__()
        self.runs = choice("Past evaluations", _ALL)
        self.runs.setPlaceholderText("Choose a past evaluation here, or press Start for a new one")
        self.runs.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        of_copy = "Copy all tables, for a text, a word processor or a spreadsheet"
        self.copy = button("Copy tables", of_copy)
        of_export = "Write tables, curves and rows as CSV files, charts as SVG and PNG, plan and versions"
        self.export = button("Export…", of_export)
        of_remove = "Remove the evaluation that is shown, and its rows, from the results database"
        self.remove = button("Remove…", of_remove)
        self.bar = ContinueBar()
        self.banner = label(wrap=True)
        self.banner.setVisible(False)
        self.progress = QProgressBar(textVisible=False)
        self.progress.setFixedWidth(180)
        self.progress.setAccessibleName("Progress of the evaluation")
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.progress.setVisible(False)
        self.state = label(wrap=True, selectable=True)
        self.tables = TablesView()
        self.curves = CurvesView()
        self.views = QTabWidget()
        self.views.setDocumentMode(True)
        self.views.addTab(self.tables, "&Tables")
        self.views.addTab(self.curves, "&ROC and scores")
        self.rows = RowsView(model)

        self.split = QSplitter(Qt.Orientation.Vertical)
        for place, (view, stretch) in enumerate(((self.views, 3), (self.rows, 2))):
            self.split.addWidget(view)
            self.split.setStretchFactor(place, stretch)
        self.split.setSizes([360, 240])
        self.split.setChildrenCollapsible(False)
        head = in_row(label_of(self.runs, "Eval&uation"), (self.runs, 1), self.copy, self.export, self.remove)
        line = in_row((self.state, 1), self.progress)
        in_column(head, self.bar, line, self.banner, (self.split, 1), parent=self, margins=8)
        self.runs.activated.connect(lambda _: self.run_chosen.emit(self.runs.currentData() or ""))

    def list_runs(self, runs: Sequence[Run], shown: str | None, about: str = "") -> None:
        """Fill the choice of runs; the one with key `shown` is the current one. `about` tells of their database."""
        self.runs.setToolTip("\n".join(filter(None, (_ALL, about))))
        self.runs.clear()
        plans = {}
        for run in runs:
            with contextlib.suppress(RunError):  # another version of the program wrote a plan that this one cannot read
                plans[run.key] = planning.of_run(run)
        chosen = dict(zip(plans, planning.told_apart(list(plans.values())), strict=True))
        for run in runs:
            unreadable = f"⚠ {run.short} is damaged" if run.damage else f"⚠ {run.short} cannot be read"
            what = describe(plans[run.key], chosen[run.key]) if run.key in plans else unreadable
            self.runs.addItem(f"{moment(run)} · {what} · {run.state}", run.key)
        self.runs.setCurrentIndex(-1 if shown is None else self.runs.findData(shown))

    def show_data_warning(self, plan: planning.Plan | None) -> None:
        """Warn if a run's data are of CIFAR-10's classes and size, but not the official ones."""
        self.banner.setVisible(plan is not None and plan.domain == CIFAR10 and not plan.official)
        if plan is not None:
            self.banner.setText(f"⚠ Computed on {plan.data}. Do not compare these figures directly with the paper's.")

    def show_progress(self, done: int, total: int) -> None:
        """Move the bar; a total of 0 hides it."""
        self.progress.setVisible(total > 0)
        if total > 0:
            self.progress.setRange(0, total)
            self.progress.setValue(done)

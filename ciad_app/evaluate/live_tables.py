"""Keeps tables and curves of the shown run up to date while rows arrive, at most twice a second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, QTimer

from ciad_app.evaluate.background import Background
from ciad_engine import bundles
from ciad_engine.evaluation.curves import Curve, curves
from ciad_engine.evaluation.records import Thresholds, load, of_detectors
from ciad_engine.evaluation.table import Table
from ciad_engine.evaluation.tables import for_screen, tables_of
from ciad_engine.runs import Database

INTERVAL = 500  # ms at least between two computations


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run's rows say: its tables, its curves, and each detector's thresholds."""

    tables: tuple[Table, ...]
    curves: tuple[Curve, ...]
    thresholds: Mapping[str, Thresholds]


class LiveTables(QObject):
    """Computes tables and curves beside the engine: at 30,000 rows that takes longer than a window may stand still."""

    def __init__(
        self,
        background: Background,
        shown: Callable[[Results], None],
        failed: Callable[[str], None],
        parent: QObject | None = None,
    ) -> None:
        """`shown` is called with the results of the run asked for last."""
        super().__init__(parent)
        self._background, self._shown, self._failed = background, shown, failed
        self._wanted: tuple[Database, str, bundles.Card | None] | None = None
        self._working, self._stale = False, False
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._compute)

    def follow(self, database: Database, run: str, card: bundles.Card | None) -> None:
        """Show the tables of this run, now."""
        self._wanted = (database, run, card)
        self._timer.stop()
        self.refresh(0)

    def stop(self) -> None:
        """Show no run's tables."""
        self._wanted, self._stale = None, False
        self._timer.stop()

    def refresh(self, delay: int = INTERVAL) -> None:
        """Rows have arrived."""
        self._stale = True
        if not self._working and not self._timer.isActive():
            self._timer.start(delay)

    def _compute(self) -> None:
        if (wanted := self._wanted) is None:
            return
        self._working, self._stale = True, False
        database, run, card = wanted

        def work() -> tuple[Results, float]:
            started = time.monotonic()
            records = load(database, run)
            tables, thresholds = for_screen(tables_of(records, card)), of_detectors(card, records.plan)
            return Results(tables, curves(records), thresholds), time.monotonic() - started

        def done(result: tuple[Results, float]) -> None:
            results, seconds = result
            if wanted == self._wanted:
                self._shown(results)
            # At most a third of the time goes into tables, or the engine would feel it; but another run's
            # are not kept waiting for that.
            self._again(max(INTERVAL, round(2000 * seconds)) if wanted == self._wanted else 0)

        def failed(message: str) -> None:
            if wanted == self._wanted:
                self._failed(message)
            self._again(INTERVAL)

        self._background.run(work, done, failed)

    def _again(self, delay: int) -> None:
        self._working = False
        if self._stale:
            self._timer.start(delay)

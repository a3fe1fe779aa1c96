"""Follows a run in the database, whoever computes it: this window, another one or a terminal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, QTimer

from ciad_app.evaluate.background import Background
from ciad_engine import bundles
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.curves import Curve, curves
from ciad_engine.evaluation.records import Records, Thresholds, of_detectors
from ciad_engine.evaluation.table import Table
from ciad_engine.evaluation.tables import for_screen, tables_of
from ciad_engine.runs import Database, Row, Run

INTERVAL = 500  # ms between two looks, at least


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run's rows say: its tables, its curves, and each detector's thresholds."""

    tables: tuple[Table, ...]
    curves: tuple[Curve, ...]
    thresholds: Mapping[str, Thresholds]


@dataclasses.dataclass(frozen=True)
class News:
    """What a look at the followed run found.

    Attributes:
        card: of the bundle that the run was made with, if it is there.
        first: whether this is the first look, at all rows that there are.
        rows: those that the look before did not find, in the order in which they were stored, without images.
        results: of all rows so far; None if nothing has changed.
        looks: how often it was looked since `follow` or `look` was called last; 0 if this look had begun before.
    """

    run: Run
    plan: planning.Plan
    card: bundles.Card | None
    first: bool
    rows: list[Row]
    results: Results | None
    looks: int = 0


class Following(QObject):
    """Looks at one run at a time, beside the engine: at 30,000 rows a look takes longer than a window may stand still.

    It looks again and again until the run is finished.
    """

    def __init__(
        self,
        background: Background,
        told: Callable[[News], object],
        failed: Callable[[str], object],
        parent: QObject | None = None,
    ) -> None:
        """Nothing is told of a run that is not followed any more; after `failed` none is followed."""
        super().__init__(parent)
        self._background, self._told, self._failed = background, told, failed
        self._reader: _Reader | None = None
        self._looking = False
        self._looks = 0
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._look)

    def follow(self, database: Database, run: str, loaded: bundles.Card | None) -> None:
        """Follow the run with this key from its first row on. `loaded` is the card of the bundle in use."""
        self._reader = _Reader(database, run, loaded)
        self.look()

    def stop(self) -> None:
        """Follow no run."""
        self._reader = None
        self._timer.stop()

    def look(self) -> None:
        """Look now: something has changed."""
        self._looks = 0
        self._timer.start(0)

    def _look(self) -> None:
        reader = self._reader
        if reader is None:
            return
        if self._looking:  # at a run that is not followed any more, or at what has changed again meanwhile
            self._timer.start(INTERVAL // 10)
            return
        self._looking = True
        self._looks += 1
        looks = self._looks

        def done(found: tuple[News, float]) -> None:
            news, seconds = found
            self._looking = False
            if reader is not self._reader:
                return
            if not news.run.finished and not self._timer.isActive():
                # At most a third of the time goes into tables, or the engine would feel it.
                self._timer.start(max(INTERVAL, round(2000 * seconds)))
            self._told(dataclasses.replace(news, looks=looks if self._looks else 0))

        def failed(message: str) -> None:
            self._looking = False
            if reader is self._reader:
                self.stop()
                self._failed(message)

        self._background.run(reader.read, done, failed)


class _Reader:
    """The rows of one run as far as they were read; used by the thread of `Background` alone."""

    def __init__(self, database: Database, key: str, loaded: bundles.Card | None) -> None:
        self._database, self._key = database, key
        self._card = loaded
        self._records: Records | None = None
        self._cursor = 0

    def read(self) -> tuple[News, float]:
        """Read what is new; return it with the seconds that took. Raises RunError as `Database` does."""
        started = time.monotonic()
        run, before = self._database.run(self._key), self._records
        plan = planning.from_json(run.plan) if before is None else before.plan
        if before is None and not (self._card and self._card.knows(plan.bundle_checksum)):
            self._card = bundles.with_checksum(plan.bundle_checksum)
        fresh, self._cursor = self._database.rows_after(self._key, self._cursor)
        rows = fresh if before is None else [*before.rows, *fresh]
        self._records = records = Records(run, plan, rows, self._database.notes(self._key))
        results = None
        if before is None or fresh or run.finished != before.run.finished:
            tables = for_screen(tables_of(records, self._card))
            results = Results(tables, curves(records), of_detectors(self._card, plan))
        news = News(run, plan, self._card, before is None, fresh, results)
        return news, time.monotonic() - started

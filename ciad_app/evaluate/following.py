"""Follow a run in the database, whoever computes it: this window, another one or a terminal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, QTimer

from ciad_app.evaluate.background import Background
from ciad_app.later import Later
from ciad_engine import bundles
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.curves import Curve, curves
from ciad_engine.evaluation.records import Records, Thresholds, of_detectors, with_more
from ciad_engine.evaluation.table import Table
from ciad_engine.evaluation.tables import for_screen, tables_of
from ciad_engine.runs import Database, Row, Run

INTERVAL = 500  # ms between two readings, at least
PIECE = 1000  # rows handed over at a time


@dataclasses.dataclass(frozen=True)
class Results:
    """Tables and curves of a run's rows, and each detector's thresholds."""

    tables: tuple[Table, ...]
    curves: tuple[Curve, ...]
    thresholds: Mapping[str, Thresholds]


@dataclasses.dataclass(frozen=True)
class News:
    """News of the run that is followed.

    Attributes:
        card: of the bundle that the run was made with, if it is there.
        first: these are all rows that there are, read for the first time.
        rows: those that were not known yet, in the order in which they were stored, without images.
        results: of all rows so far; None if nothing has changed.
        more: further rows of the same reading follow at once; `results` come with the last.
        reads: how often the run was read since `follow` or `refresh` was called last; 0 if this began before.
    """

    run: Run
    plan: planning.Plan
    card: bundles.Card | None
    first: bool
    rows: list[Row]
    results: Results | None
    reads: int = 0
    more: bool = False


class Following(QObject):
    """Reads one run at a time, again and again until it is finished.

    Beside the window and the engine: with 30,000 rows that takes longer than a window may stand still.
    """

    def __init__(
        self,
        background: Background,
        on_news: Callable[[News], object],
        failed: Callable[[str], object],
        parent: QObject | None = None,
    ) -> None:
        """Make it follow no run yet; `on_news` is called for the followed run only, and after `failed` it is none."""
        super().__init__(parent)
        self._background, self._on_news, self._failed = background, on_news, failed
        self._reader: _Reader | None = None
        self._reading = False
        self._reads = 0
        self._timer = Later(self, INTERVAL, self._read)

    def follow(self, database: Database, run: str, loaded: bundles.Card | None) -> None:
        """Follow the run with this key from its first row on. `loaded` is the card of the bundle in use."""
        self._reader = _Reader(database, run, loaded)
        self.refresh()

    @property
    def active(self) -> bool:
        """Return whether a run is followed."""
        return self._reader is not None

    def stop(self) -> None:
        """Follow no run."""
        self._reader = None
        self._timer.stop()

    def refresh(self) -> None:
        """Read the run now: something has changed."""
        self._reads = 0
        self._timer.start(0)

    def _read(self) -> None:
        reader = self._reader
        if reader is None:
            return
        if self._reading:  # a run that is not followed any more, or what has changed again meanwhile
            self._timer.start(INTERVAL // 10)
            return
        self._reading = True
        self._reads += 1
        reads = self._reads

        def read() -> tuple[News, float]:
            try:
                return reader.read()
            finally:  # also after an error that nobody expected
                self._reading = False

        def done(found: tuple[News, float]) -> None:
            news, seconds = found
            if reader is not self._reader:
                return
            if not news.run.finished and not self._timer.isActive():
                # At most a third of the time goes into tables, or the engine would feel it.
                pause = INTERVAL if news.results else 2 * INTERVAL
                self._timer.start(max(pause, round(2000 * seconds)))
            self._deliver(reader, dataclasses.replace(news, reads=reads if self._reads else 0))

        def failed(message: str) -> None:
            if reader is self._reader:
                self.stop()
                self._failed(message)

        self._background.run(read, done, failed)

    def _deliver(self, reader: _Reader, news: News) -> None:
        """Hand over a long list of rows in pieces, between which the window can do something else."""
        if reader is not self._reader:
            return
        rows, left = news.rows[:PIECE], news.rows[PIECE:]
        self._on_news(dataclasses.replace(news, rows=rows, results=None if left else news.results, more=bool(left)))
        if left:
            QTimer.singleShot(0, self, lambda: self._deliver(reader, dataclasses.replace(news, first=False, rows=left)))


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
        plan = planning.of_run(run) if before is None else before.plan
        if before is None and not (self._card and self._card.knows(plan.bundle_checksum)):
            self._card = bundles.with_checksum(plan.bundle_checksum)
        fresh, self._cursor = self._database.rows_after(self._key, self._cursor)
        rows = with_more(run, plan, [] if before is None else before.rows, fresh)
        self._records = records = Records(run, plan, rows, self._database.notes(self._key))
        results = None
        if before is None or fresh or run.finished != before.run.finished:
            tables = for_screen(tables_of(records, self._card))
            results = Results(tables, curves(records), of_detectors(self._card, plan))
        news = News(run, plan, self._card, before is None, fresh, results)
        return news, time.monotonic() - started

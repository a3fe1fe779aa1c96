"""The tables of the results database, and the migration of older databases to them.

The detectors' scores are one JSON object per row. For a million rows of five detectors, a table of scores is read no
faster, is 9% larger and takes twice as long to delete; packed numbers are read in three quarters of the time, but need
the order of the detectors kept elsewhere (`tests/benchmarks/scores.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from ciad_engine.errors import RunError

VERSION = 5  # PRAGMA user_version
_APPLICATION = 0x43494144  # "CIAD": distinguishes our files from other programs' SQLite databases
_WAIT_SECONDS = 600.0  # for another program that migrates the file: about a minute per million rows
_CHUNK = 2000  # rows moved at a time

_ROWS = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE,
    attack TEXT NOT NULL, position INTEGER NOT NULL, image_index INTEGER NOT NULL, name TEXT NOT NULL,
    label INTEGER NOT NULL, y1 INTEGER NOT NULL, p1_y1 REAL NOT NULL, seconds REAL NOT NULL,
    fooled INTEGER NOT NULL, evaded INTEGER, reason TEXT NOT NULL,
    label_before INTEGER, label_after INTEGER, confidence_after REAL,
    l0_values INTEGER NOT NULL, l0_pixels INTEGER NOT NULL, l2 REAL NOT NULL, linf INTEGER NOT NULL, ssim REAL,
    forwards INTEGER NOT NULL, backwards INTEGER NOT NULL, steps INTEGER NOT NULL,
    scores TEXT NOT NULL, image BLOB,
    UNIQUE (run, attack, position)
);
CREATE INDEX rows_of_run ON rows (run);
"""
_NOTES = """
CREATE TABLE notes (
    run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE, attack TEXT NOT NULL, text TEXT NOT NULL,
    UNIQUE (run, attack, text)
);
"""
_FITTINGS = """
CREATE TABLE fittings (
    run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE, attack TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (run, attack)
);
"""
_RUNS = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY, created TEXT NOT NULL, plan TEXT NOT NULL, versions TEXT NOT NULL, device TEXT NOT NULL,
    state TEXT NOT NULL, seconds REAL NOT NULL
);
"""
# The columns of `rows` that format 4 has as well.
_KEPT = (
    "run, attack, position, image_index, name, label, y1, p1_y1, seconds, reason, label_before, label_after,"
    " confidence_after, l0_values, l0_pixels, l2, linf, ssim, forwards, backwards, steps, image"
)


def prepare(connection: sqlite3.Connection, path: Path, patience: float | None = None) -> None:
    """Create the tables of an empty database, or migrate those of an older one, which is copied beside itself first.

    If another program migrates it, one waits for that, or for `patience` seconds.

    Raises:
        RunError: it is another program's database, comes from a newer version of CIAD, or cannot be copied.
        sqlite3.Error: it cannot be read or written. It is left as it is in all these cases.
    """
    connection.execute("BEGIN")  # so that all that decides the version is read at the same moment
    version = _version(connection, path)
    connection.rollback()
    if version == VERSION:
        return
    (usual,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * (_WAIT_SECONDS if patience is None else patience))}")
    connection.execute("BEGIN IMMEDIATE")  # of two programs starting at once, one does it and the other waits
    connection.execute(f"PRAGMA busy_timeout = {usual}")
    with connection:
        version = _version(connection, path)
        if version == 0:
            _execute(connection, _RUNS + _ROWS + _NOTES + _FITTINGS)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version < VERSION:
            with _copied(path, version):
                for older in range(version, VERSION):
                    _MIGRATIONS[older](connection)
                connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of a migration is as long as the file


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a database of ours, 0 for an empty file; refuse everything else."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != _APPLICATION:
        raise RunError(f"{path} is a database, but not one of CIAD's results; choose another file.")
    if version != VERSION and version not in _MIGRATIONS:
        raise RunError(
            f"The results database {path} has format {version}; this version of CIAD knows format {VERSION}."
            " It was left as it is: use the version of CIAD that wrote it, or move the file away."
        )
    return int(version)


@contextlib.contextmanager
def _copied(path: Path, version: int) -> Iterator[None]:
    """Copy the database beside itself, and keep the copy if what is done to the database meanwhile succeeds.

    The caller has the database locked against other writers.
    """
    part = path.with_name(f"{path.name}.format-{version}.part")
    try:
        try:
            _remove(part)  # left by a program that was killed
            with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
                source.backup(copy)  # includes what is only in the write-ahead log yet
        except (OSError, sqlite3.Error) as error:
            needed = 2.2 * path.stat().st_size / 1e6  # the copy, and the log of the migration
            raise RunError(
                f"The results database {path} was left as it is: it has to be brought to format {VERSION}, and it"
                f" cannot be copied beforehand ({error}). Make sure that its folder can be written and has"
                f" {math.ceil(needed):,} MB free, then try again."
            ) from error
        yield
        ends = itertools.chain(("bak",), (f"{k}.bak" for k in itertools.count(2)))
        names = (path.with_name(f"{path.name}.format-{version}.{end}") for end in ends)
        part.rename(next(name for name in names if not name.exists()))
    finally:
        with contextlib.suppress(OSError):
            _remove(part)


def _remove(database: Path) -> None:
    for name in (database.name, f"{database.name}-journal"):
        database.with_name(name).unlink(missing_ok=True)


def _rows_with_scores(connection: sqlite3.Connection) -> None:
    """Migrate from format 4: scores by detector, ids that are never reused, the flags fooled and evaded, notes."""
    connection.create_function("scores_of", 5, _scores)
    _execute(connection, "ALTER TABLE rows RENAME TO old_rows;" + _ROWS + _NOTES)
    chunk = f"SELECT max(rowid) FROM (SELECT rowid FROM old_rows ORDER BY rowid LIMIT {_CHUNK})"
    # Rows that were moved are deleted at once: their place in the file serves the next ones, and it hardly grows.
    while (last := connection.execute(chunk).fetchone())[0] is not None:
        connection.execute(
            f"INSERT INTO rows (id, {_KEPT}, fooled, scores) SELECT rowid, {_KEPT}, success,"
            " scores_of(y2, p2_y2, score_graded, opinions, p1_y1) FROM old_rows WHERE rowid <= ?",
            last,
        )
        connection.execute("DELETE FROM old_rows WHERE rowid <= ?", last)
    connection.execute("DROP TABLE old_rows")


def _scores(y2: int, p2_y2: float, score_graded: float, opinions: str, p1_y1: float) -> str:
    """Return the scores of a row of format 4; damaged ones unchanged, so that reading that row reports them."""
    try:
        scores = {
            "mask": (y2, p2_y2, score_graded),
            **{name: (y, None, value) for name, y, value in json.loads(opinions)},
            "confidence": (None, None, -math.log(p1_y1)),
        }
    except (TypeError, ValueError):
        return opinions
    return json.dumps(scores, separators=(",", ":"))


def _execute(connection: sqlite3.Connection, script: str) -> None:
    """Execute statements within the open transaction, which `executescript` would commit."""
    for statement in script.split(";"):
        connection.execute(statement)


# By format, the step to the next one.
_MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {
    1: lambda connection: _execute(connection, "ALTER TABLE rows ADD COLUMN ssim REAL"),
    2: lambda connection: _execute(connection, _FITTINGS),
    3: lambda connection: _execute(connection, "ALTER TABLE rows ADD COLUMN opinions TEXT NOT NULL DEFAULT '[]'"),
    4: _rows_with_scores,
}

"""The results database: runs, their per-image rows, and what is left to do of them (SQLite).

A run is named by the key of its plan (`evaluation/planning.py`). Each finished batch is one transaction, so a
killed program loses at most the batch it was computing. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ciad_engine.errors import RunError

VERSION = 4  # PRAGMA user_version
_APPLICATION = 0x43494144  # "CIAD": tells our files from other programs' SQLite databases
_BUSY_SECONDS = 10.0

BENIGN = ""  # the `attack` of the rows about the benign images themselves

UNFINISHED = "unfinished"
FINISHED = "finished"

_SCHEMA = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY, created TEXT NOT NULL, plan TEXT NOT NULL, versions TEXT NOT NULL, device TEXT NOT NULL,
    state TEXT NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE rows (
    run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE,
    attack TEXT NOT NULL, position INTEGER NOT NULL, image_index INTEGER NOT NULL, name TEXT NOT NULL,
    label INTEGER NOT NULL, y1 INTEGER NOT NULL, y2 INTEGER NOT NULL, p1_y1 REAL NOT NULL, p2_y2 REAL NOT NULL,
    p2_y1 REAL NOT NULL, score_graded REAL NOT NULL, seconds REAL NOT NULL,
    success INTEGER NOT NULL, reason TEXT NOT NULL, label_before INTEGER, label_after INTEGER, confidence_after REAL,
    l0_values INTEGER NOT NULL, l0_pixels INTEGER NOT NULL, l2 REAL NOT NULL, linf INTEGER NOT NULL, ssim REAL,
    forwards INTEGER NOT NULL, backwards INTEGER NOT NULL, steps INTEGER NOT NULL, image BLOB,
    opinions TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (run, attack, position)
);
CREATE TABLE fittings (
    run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE, attack TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (run, attack)
);
"""
# What brings a database of an older version to the next one. An older CIAD then refuses it.
_MIGRATIONS = {
    1: "ALTER TABLE rows ADD COLUMN ssim REAL",
    2: "CREATE TABLE fittings (run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE, attack TEXT NOT NULL,"
    " content BLOB NOT NULL, PRIMARY KEY (run, attack))",
    3: "ALTER TABLE rows ADD COLUMN opinions TEXT NOT NULL DEFAULT '[]'",
}


@dataclasses.dataclass(frozen=True)
class Opinion:
    """What a control says of a row's image (`detectors.controls`): its class `y`, and its `score` of f1's class."""

    name: str
    y: int
    score: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of one run, either benign (`attack` is "") or after one attack.

    Attributes:
        attack: the attack's label in its plan (`Plan.labels`), "" for the benign image.
        position: place in the run's order, from 0; the same for a benign image and its adversarials.
        image_index: place in the data set; `name`: what the data set calls it.
        label: true class.
        y1, y2: class by the classifier f1 and by the mask classifier f2, of this row's image.
        p1_y1, p2_y2, p2_y1: f1's probability of y1, f2's of y2, f2's of f1's class y1.
        score_graded: -log p2_y1, the graded detector's score; the paper's rule is y1 != y2.
        seconds: wall time of this row's batch, attack, detector and controls together, divided by its images; where
            the image was taken over from another run, that run's.
        success: the attack fooled the network it was run on (the stored 8-bit image does).
        reason: why it did not ("" where it did, and for benign rows).
        label_before, label_after, confidence_after: by the attacked network; None for benign rows.
        l0_values, l0_pixels, l2, linf, forwards, backwards, steps: see `AttackResult`; 0 for benign rows.
        ssim: see `AttackResult`; 1 for benign rows, None for rows that were computed before it was measured.
        image: the 3*32*32 bytes of the uint8 image (3, 32, 32). None for a failed attack, whose image is the
            benign one, and where rows were read without images.
        opinions: of the controls; none in rows that were computed before there were any.
    """

    attack: str
    position: int
    image_index: int
    name: str
    label: int
    y1: int
    y2: int
    p1_y1: float
    p2_y2: float
    p2_y1: float
    score_graded: float
    seconds: float = 0.0
    success: bool = False
    reason: str = ""
    label_before: int | None = None
    label_after: int | None = None
    confidence_after: float | None = None
    l0_values: int = 0
    l0_pixels: int = 0
    l2: float = 0.0
    linf: int = 0
    ssim: float | None = 1.0
    forwards: int = 0
    backwards: int = 0
    steps: int = 0
    image: bytes | None = dataclasses.field(default=None, repr=False)
    opinions: tuple[Opinion, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """What is known of a run besides its rows.

    Attributes:
        key: the plan's key (64 hex digits); `short` is enough for people.
        created: start, ISO 8601 with time zone.
        plan: the plan as plain data; `evaluation.planning.from_json` makes it a `Plan` again.
        versions: of python, torch, numpy and ciad when the run began.
        device: what it began on.
        state: "finished" or "unfinished".
        seconds: computing time so far, all sittings together.
    """

    key: str
    created: str
    plan: dict[str, Any]
    versions: dict[str, str]
    device: str
    state: str
    seconds: float

    @property
    def short(self) -> str:
        return self.key[:12]

    @property
    def finished(self) -> bool:
        return self.state == FINISHED


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_RUN_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Run))


class Database:
    """The runs in one SQLite file. Safe from several threads and several processes at once.

    A file of an older version is brought up to date when it is opened; the version of CIAD that wrote it cannot
    open it any more.

    Raises (every method):
        RunError: the file cannot be opened or written, is damaged, is another program's database, or comes
            from a newer version of CIAD. It is left as it is in all these cases.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        # One connection a thread: a reader (the window) never waits for the writer's batch.
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._connected():
            pass

    @classmethod
    def default(cls) -> Database:
        """The database in the user's data folder."""
        import platformdirs  # late: the engine also evaluates on machines without it, given a path

        return cls(platformdirs.user_data_path("ciad") / "runs.sqlite")

    def close(self) -> None:
        """Close the connections of all threads. The object opens new ones if it is used again."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._local = threading.local()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, key: str, plan: Mapping[str, Any], versions: Mapping[str, str], device: str) -> Run:
        """The run called `key`: the one that exists, finished or not, else a new one."""
        created = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        values = (key, created, json.dumps(dict(plan)), json.dumps(dict(versions)), device, UNFINISHED, 0.0)
        with self._connected() as connection, connection:
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", values)
        return self.run(key)

    def append(self, run: str, rows: Sequence[Row], seconds: float = 0.0) -> None:
        """Store a batch of rows in one transaction and add `seconds` to the run's computing time.

        Rows that are already there stay: two programs at the same plan compute the same.
        """
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        statement = (
            f"INSERT INTO rows (run, {', '.join(_COLUMNS)}) VALUES ({marks})"
            " ON CONFLICT (run, attack, position) DO NOTHING"
        )
        values = [(run, *(_stored(row, name) for name in _COLUMNS)) for row in rows]
        with self._connected() as connection, connection:
            connection.executemany(statement, values)
            connection.execute("UPDATE runs SET seconds = seconds + ? WHERE key = ?", (seconds, run))

    def fitting(self, run: str, attack: str) -> bytes | None:
        """What the run keeps of an attack that was fitted, or None where that is still to be done."""
        with self._connected() as connection:
            query = "SELECT content FROM fittings WHERE run = ? AND attack = ?"
            found = connection.execute(query, (run, attack)).fetchone()
        return None if found is None else bytes(found[0])

    def keep_fitting(self, run: str, attack: str, content: bytes) -> bytes:
        """Keep what an attack was fitted to; returns what is kept, which may be another program's."""
        statement = "INSERT INTO fittings VALUES (?, ?, ?) ON CONFLICT (run, attack) DO NOTHING"
        with self._connected() as connection, connection:
            connection.execute(statement, (run, attack, content))
        return self.fitting(run, attack) or content

    def finish(self, run: str) -> None:
        """Mark a run as complete."""
        with self._connected() as connection, connection:
            connection.execute("UPDATE runs SET state = ? WHERE key = ?", (FINISHED, run))

    def delete(self, run: str) -> None:
        """Remove a run and its rows for good."""
        with self._connected() as connection, connection:
            connection.execute("DELETE FROM runs WHERE key = ?", (run,))

    def run(self, key: str) -> Run:
        """The run whose key is or uniquely begins with `key`.

        Raises:
            RunError: there is none, or there are several.
        """
        found = self._runs("WHERE substr(key, 1, ?) = ? LIMIT 2", (len(key), key)) if key else []
        if len(found) != 1:
            what = "more than one run's name begins with" if found else "there is no run called"
            raise RunError(f"{self.path}: {what} '{key}'; `ciad runs list` lists them.")
        return found[0]

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return self._runs("ORDER BY created DESC, rowid DESC")

    def unfinished(self) -> list[Run]:
        """The runs that can be continued, the newest first."""
        return self._runs("WHERE state = ? ORDER BY created DESC, rowid DESC", (UNFINISHED,))

    def done_positions(self, run: str, attack: str) -> set[int]:
        """The positions that have a row for this attack ("" for the benign images)."""
        with self._connected() as connection:
            query = "SELECT position FROM rows WHERE run = ? AND attack = ?"
            return {position for (position,) in connection.execute(query, (run, attack))}

    def counts(self, run: str) -> dict[str, int]:
        """Number of rows by attack ("" for the benign images)."""
        with self._connected() as connection:
            return dict(connection.execute("SELECT attack, count(*) FROM rows WHERE run = ? GROUP BY attack", (run,)))

    def rows(self, run: str, attack: str | None = None, images: bool = False) -> list[Row]:
        """The rows of a run by position, of one attack or of all in the order they were computed.

        `images` reads their images, too, about 2.5 kB each.
        """
        chosen = [name if images or name != "image" else "NULL" for name in _COLUMNS]
        query = f"SELECT {', '.join(chosen)} FROM rows WHERE run = ?"
        values: tuple[object, ...] = (run,)
        if attack is not None:
            query, values = query + " AND attack = ? ORDER BY position", (run, attack)
        else:
            query += " ORDER BY rowid"
        with self._connected() as connection:
            return [_row(values) for values in connection.execute(query, values)]

    def image(self, run: str, attack: str, position: int) -> npt.NDArray[np.uint8]:
        """The image of a row, uint8 (3, 32, 32); for a failed attack that is the benign image.

        Raises:
            RunError: the run has no such row yet.
        """
        with self._connected() as connection:
            query = (
                "SELECT image FROM rows WHERE run = ? AND position = ? AND attack IN (?, ?) AND image IS NOT NULL"
                " ORDER BY attack DESC LIMIT 1"  # "" sorts before any name
            )
            found = connection.execute(query, (run, position, attack, BENIGN)).fetchone()
        if found is None:
            raise RunError(f"{self.path}: run {run[:12]} has no image at position {position} yet.")
        return pixels(self._unpacked(found[0]))

    def _runs(self, clause: str, values: tuple[object, ...] = ()) -> list[Run]:
        with self._connected() as connection:
            found = connection.execute(f"SELECT {_RUN_COLUMNS} FROM runs {clause}", values).fetchall()
        return [Run(key, at, json.loads(plan), json.loads(versions), *rest) for key, at, plan, versions, *rest in found]

    def _unpacked(self, blob: bytes) -> bytes:
        try:
            return zlib.decompress(blob)
        except zlib.error as error:
            raise RunError(f"The results database {self.path} is damaged: an image in it cannot be read.") from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; whatever SQLite complains about becomes a RunError with the file's name."""
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._open()
                self._local.connection = connection
                with self._lock:
                    self._all.append(connection)
            yield connection
        except OSError as error:
            raise RunError(f"Cannot make the folder of the results database {self.path}: {error.strerror}.") from error
        except (sqlite3.Error, json.JSONDecodeError, zlib.error) as error:
            raise RunError(self._explained(error)) from error

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Only `close` uses a connection from another thread than its own.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN")  # what is read of the version belongs together
            version = self._version(connection)
            connection.rollback()
            if version != VERSION:
                self._bring_up_to_date(connection)
            self._turn_on_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of a database of ours, 0 for an empty file; all else is refused unaltered."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and version == 0 and tables == 0:
            return 0
        if application != _APPLICATION:
            raise RunError(f"{self.path} is a database, but not one of CIAD's results; choose another file.")
        if version != VERSION and version not in _MIGRATIONS:
            raise RunError(
                f"The results database {self.path} has format {version}; this version of CIAD knows format {VERSION}."
                " It was left as it is: use the version of CIAD that wrote it, or move the file away."
            )
        return int(version)

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")  # of two programs starting at once one does it, the other waits
        with connection:
            found = self._version(connection)
            if found == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            else:
                for version in range(found, VERSION):
                    connection.execute(_MIGRATIONS[version])
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _turn_on_wal(self, connection: sqlite3.Connection) -> None:
        """Write-ahead logging: readers do not block the writer; a crash loses nothing that was committed.

        The file remembers it. Where another program writes to a file that is not in this mode yet, SQLite answers
        "locked" at once, whatever the connection's timeout is: hence the waiting here.
        """
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _busy(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _explained(self, error: Exception) -> str:
        code = _code(error)
        if _busy(error):
            return f"The results database {self.path} is in use by another program; close it and try again."
        if code == sqlite3.SQLITE_FULL:
            return f"The results database {self.path} cannot grow: the disk is full. Free some space and continue."
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return f"The results database {self.path} cannot be opened for writing; check its folder's permissions."
        if code == sqlite3.SQLITE_CONSTRAINT:
            return f"{self.path}: the run was deleted while it was being computed, or a row of it is invalid ({error})."
        if code == sqlite3.SQLITE_IOERR:
            return f"The results database {self.path} cannot be read or written ({error}); check its disk."
        return f"The results database {self.path} is damaged ({error}). Move it away; a new one will be made."


def _code(error: Exception) -> int:
    """SQLite's primary result code, 0 for what is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _busy(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def pixels(image: bytes) -> npt.NDArray[np.uint8]:
    """A row's image as uint8 (3, 32, 32)."""
    return np.frombuffer(image, np.uint8).reshape(3, 32, 32)


def _stored(row: Row, name: str) -> object:
    value = getattr(row, name)
    if name == "image" and value is not None:
        return zlib.compress(value)
    if name == "opinions":
        return json.dumps([dataclasses.astuple(opinion) for opinion in value])
    # A file name may hold bytes that are no text, which neither SQLite nor a UTF-8 file takes.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _row(values: Sequence[Any]) -> Row:
    found = dict(zip(_COLUMNS, values, strict=True))
    found["success"] = bool(found["success"])
    if found["image"] is not None:
        found["image"] = zlib.decompress(found["image"])
    found["opinions"] = tuple(Opinion(*opinion) for opinion in json.loads(found["opinions"]))
    return Row(**found)

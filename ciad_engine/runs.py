"""The results database: runs, their per-image rows, and what is left to do of them (SQLite).

A run is named by the key of its plan (`evaluation/planning.py`). Each finished batch is one transaction, so a
killed program loses at most the batch it was computing. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ciad_engine import folders, runs_schema
from ciad_engine.errors import CiadError, RunError
from ciad_engine.plain_text import storable

_BUSY_SECONDS = 10.0

BENIGN = ""  # the `attack` of the rows about the benign images themselves

UNFINISHED = "unfinished"
FINISHED = "finished"


class Score(NamedTuple):
    """What one detector computed for a row's image.

    Attributes:
        label: its class; None for a detector without one.
        probability: its probability of that class; None if the detector has none or it was not stored.
        value: graded score, higher for an image that is more likely adversarial.
    """

    label: int | None
    probability: float | None
    value: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of one run, either benign (`attack` is "") or after one attack.

    Attributes:
        attack: the attack's label in its plan (`Plan.labels`), "" for the benign image.
        position: place in the run's order, from 0; the same for a benign image and its adversarials.
        image_index: place in the data set; `name`: its name there.
        label: true class.
        y1, p1_y1: f1's class of this row's image, and its probability of that class.
        seconds: wall time of this row's batch, attack and detectors together, divided by its images; if the image
            was reused from another run, that run's.
        fooled: the attack reached its aim on the network it was run on (the stored 8-bit image does).
        evaded: no detector that was to be evaded flags the image; None if none was to be evaded.
        reason: why the attack failed ("" if it succeeded, and for benign rows).
        label_before, label_after, confidence_after: by the attacked network; None for benign rows.
        l0_values, l0_pixels, l2, linf, forwards, backwards, steps: see `AttackResult`; 0 for benign rows.
        ssim: see `AttackResult`; 1 for benign rows, None for rows that were computed before it was measured.
        image: the bytes of the uint8 image (3, size, size), see `pixels`. None if the attack did not fool, because
            the image is then the benign one, and if rows were read without images.
        scores: by detector name.
    """

    attack: str
    position: int
    image_index: int
    name: str
    label: int
    y1: int
    p1_y1: float
    seconds: float = 0.0
    fooled: bool = False
    evaded: bool | None = None
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
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Return whether the attacked network is fooled and no detector that is to be evaded flags the image."""
        return self.fooled and self.evaded is not False


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
_FOOLED, _EVADED, _IMAGE, _SCORES = map(_COLUMNS.index, ("fooled", "evaded", "image", "scores"))
_RUN_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Run))


class Database:
    """The runs in one SQLite file. Safe from several threads and several processes at once.

    A file of an older version is migrated when it is opened; the version of CIAD that wrote it cannot open it any
    more, but it can open the copy `<name>.format-<version>.bak` that is kept beside it.

    Raises (every method):
        RunError: the file cannot be opened, copied or written, is damaged, is another program's database, or comes
            from a newer version of CIAD. It is left as it is in all these cases.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        """Open the database at `path`, by default the one in the user's data folder."""
        if path is None:
            try:
                path = folders.of_user("data", "name a file for the results with --database") / "runs.sqlite"
            except CiadError as error:
                raise RunError(str(error)) from error
        self.path = Path(path)
        # One connection a thread: a reader (the window) never waits for the writer's batch.
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._connected():
            pass

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
        """Return the run called `key`: the one that exists, finished or not, else a new one."""
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

    def note(self, run: str, attack: str, text: str) -> None:
        """Keep a note about a run, or about one of its attacks, once however often it is stored."""
        statement = "INSERT INTO notes VALUES (?, ?, ?) ON CONFLICT (run, attack, text) DO NOTHING"
        with self._connected() as connection, connection:
            connection.execute(statement, (run, attack, storable(text)))

    def notes(self, run: str) -> dict[str, tuple[str, ...]]:
        """Return the notes of a run by attack ("" for the run), in the order in which they were stored."""
        found: dict[str, tuple[str, ...]] = {}
        with self._connected() as connection:
            for attack, text in connection.execute(
                "SELECT attack, text FROM notes WHERE run = ? ORDER BY rowid", (run,)
            ):
                found[attack] = (*found.get(attack, ()), text)
        return found

    def fitting(self, run: str, attack: str) -> bytes | None:
        """Return what the run keeps of an attack that was fitted, or None if that is still to be done."""
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
        """Return the run whose key is or uniquely begins with `key`.

        Raises:
            RunError: there is none, or there are several.
        """
        found = self._runs("WHERE substr(key, 1, ?) = ? LIMIT 2", (len(key), key)) if key else []
        if len(found) != 1:
            what = "more than one run's name begins with" if found else "there is no run called"
            raise RunError(f"{self.path}: {what} '{key}'; `ciad runs list` lists them.")
        return found[0]

    def runs(self) -> list[Run]:
        """Return all runs, the newest first."""
        return self._runs("ORDER BY created DESC, rowid DESC")

    def done_positions(self, run: str, attack: str) -> set[int]:
        """Return the positions that have a row for this attack ("" for the benign images)."""
        with self._connected() as connection:
            query = "SELECT position FROM rows WHERE run = ? AND attack = ?"
            return {position for (position,) in connection.execute(query, (run, attack))}

    def counts(self, run: str) -> dict[str, int]:
        """Return the number of rows by attack ("" for the benign images)."""
        with self._connected() as connection:
            return dict(connection.execute("SELECT attack, count(*) FROM rows WHERE run = ? GROUP BY attack", (run,)))

    def rows(self, run: str, attack: str | None = None, images: bool = False) -> list[Row]:
        """Return the rows of a run: of one attack by position, or all in the order they were computed.

        `images` reads their images, too, about 2.5 kB each at 32 pixels.
        """
        chosen = ", ".join(name if images or name != "image" else "NULL" for name in _COLUMNS)
        which, order = ("", "id") if attack is None else ("AND attack = ?", "position")
        query = f"SELECT {chosen} FROM rows WHERE run = ? {which} ORDER BY {order}"
        with self._connected() as connection, self._decoding(f"a row of run {run[:12]}"):
            found = connection.execute(query, (run,) if attack is None else (run, attack))
            return [_row(list(stored)) for stored in found]

    def rows_after(self, run: str, cursor: int) -> tuple[list[Row], int]:
        """Return the rows of a run that were stored after `cursor`, without images, and the cursor for the next call.

        0 is before the first. Rows of several writers come in the order in which they were stored, each once.
        """
        chosen = ", ".join(name if name != "image" else "NULL" for name in _COLUMNS)
        query = f"SELECT id, {chosen} FROM rows WHERE run = ? AND id > ? ORDER BY id"
        with self._connected() as connection, self._decoding(f"a row of run {run[:12]}"):
            stored = connection.execute(query, (run, cursor)).fetchall()
            return [_row(list(values)) for _, *values in stored], stored[-1][0] if stored else cursor

    def image(self, run: str, attack: str, position: int) -> npt.NDArray[np.uint8]:
        """Return the image of a row, uint8 (3, size, size); after an attack that did not fool, the benign one.

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
        with self._decoding(f"an image of run {run[:12]}"):
            return pixels(zlib.decompress(found[0]))

    def _runs(self, clause: str, values: tuple[object, ...] = ()) -> list[Run]:
        with self._connected() as connection:
            found = connection.execute(f"SELECT {_RUN_COLUMNS} FROM runs {clause}", values).fetchall()
        with self._decoding("the plan of a run"):
            return [
                Run(key, at, json.loads(plan), json.loads(versions), *rest) for key, at, plan, versions, *rest in found
            ]

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """Report what cannot be decoded as damage of the file."""
        try:
            yield
        except (zlib.error, ValueError, TypeError, AttributeError) as error:
            raise RunError(
                f"The results database {self.path} is damaged: {what} cannot be read ({error}). Delete the run, or move"
                " the file away; a new one will be made."
            ) from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection; an error of SQLite becomes a RunError with the file's name."""
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._open()
                self._local.connection = connection
                with self._lock:
                    self._all.append(connection)
            yield connection
        except sqlite3.Error as error:
            raise RunError(self._explained(error)) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the folder of the results database {self.path}: {error.strerror}.") from error
        # Only `close` uses a connection from another thread than its own.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            runs_schema.prepare(connection, self.path)
            self._turn_on_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _turn_on_wal(self, connection: sqlite3.Connection) -> None:
        """Turn on write-ahead logging: readers do not block the writer; a crash loses nothing that was committed.

        The file remembers it. If another program writes to a file that is not in this mode yet, SQLite reports
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

    def _explained(self, error: sqlite3.Error) -> str:
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


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 for an error of Python's own module."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def pixels(image: bytes) -> npt.NDArray[np.uint8]:
    """Return a row's image as uint8 (3, size, size); it is square, so its length gives the size."""
    size = math.isqrt(len(image) // 3)
    return np.frombuffer(image, np.uint8).reshape(3, size, size)


def _stored(row: Row, name: str) -> object:
    value = getattr(row, name)
    if name == "image" and value is not None:
        return zlib.compress(value)
    if name == "scores":
        if any(math.isnan(score.value) for score in value.values()):
            raise RunError(f"Image {row.name}: the score of a detector is not a number; its row cannot be stored.")
        return json.dumps(dict(value), separators=(",", ":"))
    return storable(value) if isinstance(value, str) else value


def _row(values: list[Any]) -> Row:
    # By position: with keywords, reading a run takes a sixth longer.
    values[_FOOLED] = bool(values[_FOOLED])
    if values[_EVADED] is not None:
        values[_EVADED] = bool(values[_EVADED])
    if values[_IMAGE] is not None:
        values[_IMAGE] = zlib.decompress(values[_IMAGE])
    values[_SCORES] = {name: Score._make(score) for name, score in json.loads(values[_SCORES]).items()}
    return Row(*values)

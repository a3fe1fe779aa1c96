"""The results database: runs, their per-image rows, and what is left to do of them (SQLite).

A run is named by the key of its plan (`evaluation/planning.py`). Each finished batch is one transaction, so a
killed program loses at most the batch it was computing. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import os
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ciad_engine import files, folders, runs_schema
from ciad_engine.errors import DAMAGE, CiadError, RunError
from ciad_engine.moments import instant
from ciad_engine.plain_text import storable

_BUSY_SECONDS = 10.0
_CHECKPOINT_SECONDS = 0.2  # for which emptying the log waits for programs that read

BENIGN = ""  # the `attack` of the rows about the benign images themselves

UNFINISHED = "unfinished"
FINISHED = "finished"

_ANY_SIZE = 2**63  # bytes: the file of many runs is large
_ONE = 1.001  # a probability may exceed 1 by rounding
_MOST_IMAGE = 3 * 2048**2  # bytes
_Place = tuple[int, int]  # device and inode of a file


class Busy(RunError):  # noqa: N818 - said of the database
    """Another program has the results database locked: it can be tried again."""


class Moved(RunError):  # noqa: N818 - said of the database
    """The results database was deleted or replaced while a run used it."""


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
        damage: why the other fields cannot be read; "" if they can. Then the plan is empty.
    """

    key: str
    created: str
    plan: dict[str, Any]
    versions: dict[str, str]
    device: str
    state: str
    seconds: float
    damage: str = ""

    @property
    def short(self) -> str:
        return self.key[:12]

    @property
    def finished(self) -> bool:
        return self.state == FINISHED


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_RUN_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Run) if field.name != "damage")


class Database:
    """The runs in one SQLite file. Safe from several threads and several processes at once.

    A file of an older version is migrated when it is opened; the version of CIAD that wrote it cannot open it any
    more, but it can open the copy `<name>.format-<version>.bak` that is kept beside it. On media that cannot be
    written to, runs can be read.

    Raises (every method):
        RunError: the file cannot be opened, copied or written, is damaged, is another program's database, or comes
            from a newer version of CIAD. It is left as it is in all these cases.
        Busy: another program has it locked for longer than one waits.
        Moved: within `kept`, it was deleted or replaced.
    """

    def __init__(self, path: Path | str | None = None, patience: float | None = None) -> None:
        """Open the database at `path`, by default the one in the user's data folder.

        `patience` is how many seconds to wait if it is locked now; None is as long as usual.
        """
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
        self._kept: _Place | None = None  # where the file has to stay
        self._unstored: tuple[str, Sequence[Row], float] | None = None  # of a batch that could not be stored
        with self._connected(patience):
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

    @property
    def size(self) -> int:
        """Return the bytes on disk, with the log and with the copies that were made before a migration."""
        return sum(
            files.size_of(path) for path in (self.path, self.path.with_name(f"{self.path.name}-wal"), *self.copies)
        )

    @property
    def copies(self) -> list[Path]:
        """Return the copies of older formats beside the database."""
        start = f"{self.path.name}.format-"
        with contextlib.suppress(OSError):
            found = (path for path in self.path.parent.iterdir() if path.name.startswith(start))
            return sorted(path for path in found if path.name.endswith(".bak"))
        return []

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Insist, as long as this lasts, on the file that is there now: a run's rows belong into one file.

        If it is deleted or replaced meanwhile, its rows, and those that could not be stored any more, are written to
        another file, if that is possible; the error names it. One run at a time.
        """
        with self._connected():
            self._kept = self._place()
        try:
            yield
            self._check_place()
        except BaseException as error:  # also if it was cancelled: the rows are not where they were said to be
            if self._place() == self._kept:
                raise
            rescued = self._rescued()
            raise RunError(
                f"The results database {self.path} was deleted or replaced while a run was being computed. "
                + (
                    f"All its rows were written to {rescued}: move that file to where the database was, or name it as"
                    " the database, and continue."
                    if rescued
                    else "Its rows could not be written elsewhere; start the run again."
                )
            ) from error
        finally:
            self._kept, self._unstored = None, None

    def _check_place(self) -> None:
        """Raise `Moved` if the file that must stay is not there any more."""
        if self._kept is not None and self._place() != self._kept:
            raise Moved(f"The results database {self.path} was deleted or replaced by another file.")

    def _place(self) -> _Place | None:
        """Return device and inode of the file at the path; None if there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _rescued(self) -> Path | None:
        """Write what this thread's connection still reads, and what was not stored, to a new file; None if it fails.

        The connection is closed: the file that it reads has no name any more.
        """
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is None:
            return None
        ends = itertools.chain(("rescued",), (f"rescued-{k}" for k in itertools.count(2)))
        names = [f"{self.path.stem}.{end}{self.path.suffix}" for end in itertools.islice(ends, 100)]
        try:
            for folder in _refuges(self.path.parent):
                target = next((folder / name for name in names if not os.path.lexists(folder / name)), None)
                if target is None or (folder == self.path.parent and not folder.is_dir()):
                    continue
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with contextlib.closing(sqlite3.connect(target)) as copy:
                        connection.backup(copy)
                    with Database(target) as other:
                        if self._unstored is not None:
                            other.append(*self._unstored)
                    return target
                except (OSError, sqlite3.Error, RunError):
                    for name in (target.name, f"{target.name}-wal", f"{target.name}-shm", f"{target.name}-journal"):
                        with contextlib.suppress(OSError):
                            target.with_name(name).unlink(missing_ok=True)
            return None
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def start(self, key: str, plan: Mapping[str, Any], versions: Mapping[str, str], device: str) -> Run:
        """Return the run called `key`: the one that exists, finished or not, else a new one."""
        created = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        values = (key, created, json.dumps(dict(plan)), json.dumps(dict(versions)), device, UNFINISHED, 0.0)
        with self._writing() as connection:
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
        self._unstored = run, rows, seconds
        with self._writing() as connection:
            connection.executemany(statement, values)
            connection.execute("UPDATE runs SET seconds = seconds + ? WHERE key = ?", (seconds, run))
        self._unstored = None

    def note(self, run: str, attack: str, text: str) -> None:
        """Keep a note about a run, or about one of its attacks, once however often it is stored."""
        statement = "INSERT INTO notes VALUES (?, ?, ?) ON CONFLICT (run, attack, text) DO NOTHING"
        with self._writing() as connection:
            connection.execute(statement, (run, attack, storable(text)))

    def notes(self, run: str) -> dict[str, tuple[str, ...]]:
        """Return the notes of a run by attack ("" for the run), in the order in which they were stored."""
        found: dict[str, tuple[str, ...]] = {}
        with self._reading(f"a note of run {run[:12]}") as connection:
            for attack, text in connection.execute(
                "SELECT attack, text FROM notes WHERE run = ? ORDER BY rowid", (run,)
            ):
                if not isinstance(attack, str) or not isinstance(text, str):
                    raise ValueError("it is not a text")
                found[attack] = (*found.get(attack, ()), text)
        return found

    def fitting(self, run: str, attack: str) -> bytes | None:
        """Return what the run keeps of an attack that was fitted, or None if that is still to be done."""
        with self._reading(f"an attack of run {run[:12]}") as connection:
            query = "SELECT content FROM fittings WHERE run = ? AND attack = ?"
            found = connection.execute(query, (run, attack)).fetchone()
            if found is not None and not isinstance(found[0], bytes):
                raise ValueError("what it was fitted to is not binary data")
        return None if found is None else found[0]

    def keep_fitting(self, run: str, attack: str, content: bytes) -> bytes:
        """Keep what an attack was fitted to; returns what is kept, which may be another program's."""
        statement = "INSERT INTO fittings VALUES (?, ?, ?) ON CONFLICT (run, attack) DO NOTHING"
        with self._writing() as connection:
            connection.execute(statement, (run, attack, content))
        return self.fitting(run, attack) or content

    def finish(self, run: str) -> None:
        """Mark a run as complete."""
        with self._writing() as connection:
            connection.execute("UPDATE runs SET state = ? WHERE key = ?", (FINISHED, run))

    def delete(self, run: str) -> None:
        """Remove a run and its rows for good. Later runs reuse their space in the file, or `shrink` gives it back."""
        with self._writing() as connection:
            connection.execute("DELETE FROM runs WHERE key = ?", (run,))

    def shrink(self) -> None:
        """Give the space of deleted runs back to the disk; meanwhile this needs as much again as the file will take."""
        with self._connected() as connection:
            connection.execute("VACUUM")
            _empty_log(connection)

    def run(self, key: str) -> Run:
        """Return the run whose key is or uniquely begins with `key`.

        Raises:
            RunError: there is none, or there are several, or it is damaged.
        """
        found = self.find(key)
        if found.damage:
            raise RunError(self.about_damage(found))
        return found

    def find(self, key: str) -> Run:
        """Return the run as `run` does, even if it is damaged."""
        found = self._runs("WHERE substr(key, 1, ?) = ? LIMIT 2", (len(key), key)) if key else []
        if len(found) != 1:
            what = "more than one run's name begins with" if found else "there is no run called"
            raise RunError(f"{self.path}: {what} '{key}'; `ciad runs list` lists them.")
        return found[0]

    def runs(self) -> list[Run]:
        """Return all runs, the newest first; those that are damaged say so."""
        return sorted(self._runs("ORDER BY rowid DESC"), key=lambda run: instant(run.created), reverse=True)

    def about_damage(self, run: Run) -> str:
        """Return what to say of a damaged run."""
        return self._damaged(f"run {run.short}", run.damage)

    def sizes(self) -> dict[str, int]:
        """Return about how many bytes the rows of each run take in the file."""
        query = "SELECT run, sum(250 + length(name) + length(scores) + ifnull(length(image), 0)) FROM rows GROUP BY run"
        with self._reading("the rows") as connection:
            return {run: int(size) for run, size in connection.execute(query)}

    def done_positions(self, run: str, attack: str) -> set[int]:
        """Return the positions that have a row for this attack ("" for the benign images)."""
        with self._reading(f"a row of run {run[:12]}") as connection:
            query = "SELECT position FROM rows WHERE run = ? AND attack = ?"
            return {int(position) for (position,) in connection.execute(query, (run, attack))}

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
        with self._reading(f"a row of run {run[:12]}") as connection:
            found = connection.execute(query, (run,) if attack is None else (run, attack))
            return [_row(list(stored)) for stored in found]

    def rows_after(self, run: str, cursor: int) -> tuple[list[Row], int]:
        """Return the rows of a run that were stored after `cursor`, without images, and the cursor for the next call.

        0 is before the first. Rows of several writers come in the order in which they were stored, each once.
        """
        chosen = ", ".join(name if name != "image" else "NULL" for name in _COLUMNS)
        query = f"SELECT id, {chosen} FROM rows WHERE run = ? AND id > ? ORDER BY id"
        with self._reading(f"a row of run {run[:12]}") as connection:
            stored = connection.execute(query, (run, cursor)).fetchall()
            return [_row(list(values)) for _, *values in stored], stored[-1][0] if stored else cursor

    def image(self, run: str, attack: str, position: int, size: int | None = None) -> npt.NDArray[np.uint8]:
        """Return the image of a row, uint8 (3, size, size); after an attack that did not fool, the benign one.

        `size` is the one that it must have.

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
            image = pixels(_unpacked(found[0]))
            if size not in (None, image.shape[-1]):
                raise ValueError(f"an image has {image.shape[-1]} pixels a side, not {size}")
            return image

    def _runs(self, clause: str, values: tuple[object, ...] = ()) -> list[Run]:
        with self._reading("the list of runs") as connection:
            return [_run(stored) for stored in connection.execute(f"SELECT {_RUN_COLUMNS} FROM runs {clause}", values)]

    def _damaged(self, what: str, reason: object) -> str:
        return (
            f"The results database {self.path} is damaged: {what} cannot be read ({reason}). Delete the run, or move"
            " the file away; a new one will be made."
        )

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """Report what cannot be decoded as damage of the file."""
        try:
            yield
        except (zlib.error, *DAMAGE) as error:
            raise RunError(self._damaged(what, error)) from error

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection to read and decode `what`."""
        with self._connected() as connection, self._decoding(what):
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection for one transaction, which is in the file itself afterwards.

        So the file can be copied, moved or lost without its log, and a log that is left behind does not damage a file
        that is put in its place.
        """
        with self._connected() as connection:
            with connection:
                yield connection
            _empty_log(connection)
            self._check_place()

    @contextlib.contextmanager
    def _connected(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection; an error of SQLite becomes a RunError with the file's name."""
        self._check_place()
        try:
            connection, place = getattr(self._local, "connection", None), getattr(self._local, "place", None)
            if connection is not None and self._place() != place:  # another file: what is there now is meant
                connection.close()
                connection = None
            if connection is None:
                connection = self._open(patience)
                self._local.connection, self._local.place = connection, self._place()
                with self._lock:
                    self._all.append(connection)
            yield connection
        except sqlite3.Error as error:
            raise (Busy if _busy(error) else RunError)(self._explained(error)) from error

    def _open(self, patience: float | None) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.check_regular(self.path, _ANY_SIZE)
        except FileNotFoundError:
            pass  # it is made
        except OSError as error:
            what = "make the folder of" if not self.path.parent.is_dir() else "open"
            raise RunError(
                f"Cannot {what} the results database {self.path}: {error.strerror}. Choose another file."
            ) from error
        try:
            return self._opened(str(self.path), patience)
        except sqlite3.OperationalError as error:
            if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or not self.path.is_file():
                raise
            # On media that cannot be written to, the usual way fails, because SQLite makes a file beside the database.
            # Nobody changes it there, unless there is a log: then another program may.
            log = self.path.with_name(f"{self.path.name}-wal")
            unchanging = "" if files.size_of(log) else "&immutable=1"
            try:
                return self._opened(f"{self.path.absolute().as_uri()}?mode=ro{unchanging}", patience, uri=True)
            except sqlite3.Error:
                raise error from None

    def _opened(self, name: str, patience: float | None, uri: bool = False) -> sqlite3.Connection:
        """Return a connection to the database called so; `uri`: to read only."""
        # Only `close` uses a connection from another thread than its own.
        seconds = _BUSY_SECONDS if patience is None else patience
        connection = sqlite3.connect(name, timeout=seconds, check_same_thread=False, uri=uri)
        try:
            connection.text_factory = _as_text
            connection.execute("PRAGMA foreign_keys = ON")
            with self._decoding("its header"):
                runs_schema.prepare(connection, self.path, patience)
            if not uri:
                self._turn_on_wal(connection, seconds)
                connection.execute("PRAGMA synchronous = FULL")  # a power loss takes no batch along
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * _BUSY_SECONDS)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _turn_on_wal(self, connection: sqlite3.Connection, patience: float) -> None:
        """Turn on write-ahead logging: readers do not block the writer; a crash loses nothing that was committed.

        The file remembers it. If another program writes to a file that is not in this mode yet, SQLite reports
        "locked" at once, whatever the connection's timeout is: hence the waiting here.
        """
        until = time.monotonic() + patience
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


def _empty_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file; what another program still reads stays there until the next time."""
    (usual,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * _CHECKPOINT_SECONDS)}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:
        if not _busy(error):
            raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")


def _as_text(raw: bytes) -> str | bytes:
    """Return a text, or what was found in its place: one damaged text must not hide the others."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def pixels(image: bytes) -> npt.NDArray[np.uint8]:
    """Return a row's image as uint8 (3, size, size); it is square, so its length gives the size."""
    size = math.isqrt(len(image) // 3)
    if size == 0:
        raise ValueError("an image has no pixel")
    return np.frombuffer(image, np.uint8).reshape(3, size, size)


def _refuges(own: Path) -> Iterator[Path]:
    """Yield the folders in which rows may be rescued: the database's `own`, the user's, and that of temporary files."""
    yield own
    with contextlib.suppress(CiadError):  # the user's home is not known
        yield folders.of_user("data", "name a file for the results with --database")
    with contextlib.suppress(OSError):  # there is none
        yield Path(tempfile.gettempdir())


def _stored(row: Row, name: str) -> object:
    value = getattr(row, name)
    if name == "image" and value is not None:
        return zlib.compress(value)
    if name == "scores":
        if any(math.isnan(score.value) for score in value.values()):
            raise RunError(f"Image {row.name}: the score of a detector is not a number; its row cannot be stored.")
        return json.dumps(dict(value), separators=(",", ":"))
    return storable(value) if isinstance(value, str) else value


def _run(stored: Sequence[Any]) -> Run:
    """Return the run of a line of `runs`; one that is damaged has no plan, and says so."""
    key, created, plan, versions, device, state, seconds = stored
    called = key if isinstance(key, str) else ""
    try:
        read = json.loads(plan), json.loads(versions)
        if not isinstance(key, str) or not all(isinstance(text, str) for text in (created, device, state)):
            raise ValueError("its name, date, device or state is not a text")
        if not all(isinstance(one, dict) for one in read) or not all(isinstance(v, str) for v in read[1].values()):
            raise ValueError("its plan or its versions are not an object")
        "".join((*read[1], *read[1].values())).encode()  # no file can hold half a character
        if state not in (UNFINISHED, FINISHED) or type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise ValueError("its state or its time is none")
    except DAMAGE as error:
        return Run(called, created if isinstance(created, str) else "", {}, {}, "", UNFINISHED, 0.0, str(error))
    return Run(key, created, *read, device, state, float(seconds))


# What the columns of `rows` may hold; "evaded" and "fooled" are numbers there. SQLite itself takes anything anywhere.
_REAL, _WHOLE = (float, int), (int,)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("attack", "name", "reason", "scores"), (str,)),
    **dict.fromkeys(("position", "image_index", "label", "y1", "fooled"), _WHOLE),
    **dict.fromkeys(("l0_values", "l0_pixels", "linf", "forwards", "backwards", "steps"), _WHOLE),
    **dict.fromkeys(("p1_y1", "seconds", "l2"), _REAL),
    **dict.fromkeys(("evaded", "label_before", "label_after"), (*_WHOLE, type(None))),
    **dict.fromkeys(("confidence_after", "ssim"), (*_REAL, type(None))),
    "image": (bytes, type(None)),
}
_ALLOWED = [_KINDS[name] for name in _COLUMNS]
_AT = {name: place for place, name in enumerate(_COLUMNS)}
_FOOLED, _EVADED, _IMAGE, _SCORES = _AT["fooled"], _AT["evaded"], _AT["image"], _AT["scores"]
_POSITION, _LABEL, _Y1, _P1, _SECONDS = (_AT[name] for name in ("position", "label", "y1", "p1_y1", "seconds"))
_seen: set[tuple[type, ...]] = set()  # kinds that were found allowed: to look at each value takes long


def _row(values: list[Any]) -> Row:
    """Return the row of these columns. By position: with keywords, reading a run takes a sixth longer.

    Raises:
        zlib.error, and those of `DAMAGE`: it is none.
    """
    kinds = tuple(map(type, values))
    if kinds not in _seen:
        for name, kind, allowed in zip(_COLUMNS, kinds, _ALLOWED, strict=True):
            if kind not in allowed:
                raise ValueError(f"its {name} is of a wrong kind")
        _seen.add(kinds)
    if min(values[_POSITION], values[_LABEL], values[_Y1]) < 0 or not 0 <= values[_P1] <= _ONE:
        raise ValueError("its position, class or probability is impossible")
    if not 0 <= values[_SECONDS] < math.inf:
        raise ValueError("its time is impossible")
    values[_FOOLED] = bool(values[_FOOLED])
    if values[_EVADED] is not None:
        values[_EVADED] = bool(values[_EVADED])
    if values[_IMAGE] is not None:
        values[_IMAGE] = _unpacked(values[_IMAGE])
    stored = values[_SCORES]
    values[_SCORES] = {name: _score(score) for name, score in json.loads(stored).items()}
    if "\\u" in stored:
        "".join(values[_SCORES]).encode()  # no file can hold half a character
    return Row(*values)


def _score(stored: Sequence[Any]) -> Score:
    score = Score._make(stored)
    label, probability, value = score
    if type(value) not in _REAL or value != value:
        raise ValueError("a score is not a number")
    if not (label is None or (type(label) is int and label >= 0)):
        raise ValueError("a detector's class is none")
    if not (probability is None or (type(probability) in _REAL and 0 <= probability <= _ONE)):
        raise ValueError("a detector's probability is none")
    return score


def _unpacked(image: bytes) -> bytes:
    """Return the bytes of a stored image; raises ValueError or zlib.error if they are not those of an image."""
    unpacking = zlib.decompressobj()
    raw = unpacking.decompress(image, _MOST_IMAGE + 1)
    if not unpacking.eof:
        raise ValueError("an image is cut off or too large")
    pixels(raw)
    return raw

"""Damage of the results database: one error that names the file, and a bad run never hides the others."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciad_engine.errors import CiadError, RunError
from ciad_engine.evaluation import export, planning
from ciad_engine.evaluation.records import load
from ciad_engine.evaluation.tables import tables_of
from ciad_engine.jobs import Cancelled
from ciad_engine.runs import BENIGN, Busy, Database, Row, Run
from tests.engine.evaluation import test_tables
from tests.engine.test_runs import KEY, PLAN, VERSIONS, direct, image, row

OTHER = "f" * 64
ROW_COLUMNS = ("run", *(field.name for field in dataclasses.fields(Row)))
RUN_COLUMNS = tuple(field.name for field in dataclasses.fields(Run) if field.name != "damage")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "runs.sqlite") as database:
        database.start(KEY, PLAN, VERSIONS, "CPU")
        yield database


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database with a run of real rows, and the run's key."""
    path = tmp_path_factory.mktemp("filled") / "runs.sqlite"
    with Database(path) as database:
        return path, test_tables.filled(database)


def read_all(path: Path) -> None:
    """Do with a database whatever the program does when it only reads."""
    with Database(path, patience=0.1) as database:
        for run in database.runs():
            database.sizes()
            with contextlib.suppress(CiadError):
                planning.of_run(run)
            records = load(database, run.key)
            for position in {row.position for row in records.rows}:
                database.image(run.key, BENIGN, position)
            database.rows(run.key, images=True)
            tables_of(records, None)
            export.write_csv(path.parent / "out", database, run.key)


WRONG: list[object] = [
    None, -1, 0, 10, 2**31, 2**62, -(2**63), 0.5, -1.5, 1e308, float("inf"), float("-inf"), "", "text", "1", "\0", b"",
    b"\xff", b"\0" * 9, "{}", "[]", "null", "[1]", '{"mask": 1}', '{"mask": [1, 2, 3]}', '{"mask": [null, null, null]}',
    '{"mask": ["a", 0.5, 1]}', '{"mask": [1, 2.5, NaN]}', '{"mask": [-1, 0.5, 1]}', '{"": [0, 0, 0]}', "[" * 100_000,
    "9" * 5000, '{"attacks": []}', '{"attacks": 3}', "finished", "\ud7ff",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(WRONG), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=9),
    st.binary(max_size=9),
)  # fmt: skip
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(source: Path, folder: Path, table: str, column: str, value: object) -> Path:
    """Copy a database and put a value into a column of one of its lines; SQLite itself takes nearly everything."""
    target = folder / "changed.sqlite"
    target.unlink(missing_ok=True)
    shutil.copy(source, target)
    with contextlib.closing(sqlite3.connect(target)) as connection, connection, contextlib.suppress(sqlite3.Error):
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 3 OR '{table}' = 'runs'", (value,))
    return target


def only_our_errors(path: Path) -> None:
    with contextlib.suppress(CiadError):
        read_all(path)


@QUICK
@given(column=st.sampled_from(ROW_COLUMNS), value=VALUES)
def test_a_damaged_row_is_one_error(filled, tmp_path, column: str, value: object) -> None:
    only_our_errors(changed(filled[0], tmp_path, "rows", column, value))


@QUICK
@given(column=st.sampled_from(RUN_COLUMNS), value=VALUES)
def test_a_damaged_run_is_one_error(filled, tmp_path, column: str, value: object) -> None:
    only_our_errors(changed(filled[0], tmp_path, "runs", column, value))


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.integers(), st.floats(), st.text(max_size=5))
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def places(content: object, at: tuple = ()) -> Iterator[tuple]:
    """Yield where the values of plain data are."""
    if at:
        yield at
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from places(value, (*at, key))


def replaced(content: object, at: tuple, value: object) -> object:
    """Return plain data with another value at a place; `...` removes what is there."""
    first, *rest = at
    copy = dict(content) if isinstance(content, dict) else list(content)  # type: ignore[call-overload]
    if rest:
        copy[first] = replaced(copy[first], tuple(rest), value)
    elif value is ...:
        del copy[first]
    else:
        copy[first] = value
    return copy


@QUICK
@given(data=st.data())
def test_a_damaged_plan_is_one_error(filled, tmp_path, data: st.DataObject) -> None:
    with Database(filled[0]) as database:
        plan = json.loads(json.dumps(database.run(filled[1]).plan))
    at = data.draw(st.sampled_from(list(places(plan))))
    plan = replaced(plan, at, data.draw(st.just(...) | TREES))
    only_our_errors(changed(filled[0], tmp_path, "runs", "plan", json.dumps(plan)))


@pytest.mark.parametrize("seed", range(60))
def test_a_corrupted_file_is_one_error(filled, tmp_path: Path, seed: int) -> None:
    """Bytes changed, pages exchanged, or the end cut off."""
    chance, raw = random.Random(seed), bytearray(filled[0].read_bytes())
    for _ in range(chance.choice((1, 1, 5, 200))):
        start = chance.choice((chance.randrange(200), chance.randrange(len(raw)), chance.randrange(len(raw))))
        raw[start : start + chance.choice((1, 1, 4, 40))] = chance.randbytes(chance.choice((1, 1, 4, 40)))
    if seed % 4 == 0:
        one, other = (4096 * chance.randrange(len(raw) // 4096) for _ in range(2))
        raw[one : one + 4096], raw[other : other + 4096] = raw[other : other + 4096], raw[one : one + 4096]
    if seed % 5 == 0:
        raw = raw[: chance.randrange(len(raw))]
    path = tmp_path / "corrupt.sqlite"
    path.write_bytes(raw)
    only_our_errors(path)


@pytest.mark.parametrize(
    "damage",
    ["plan = '{'", "plan = '[' || 3", "plan = x'ff'", "created = x'00'", "state = 'x'", "versions = '[]'",
     "plan = CAST(x'ff' AS TEXT)", "seconds = 'long'", "seconds = 9e999", "device = CAST(x'ff' AS TEXT)"],
)  # fmt: skip
def test_one_damaged_run_is_named_and_does_not_hide_the_others(started: Database, damage: str) -> None:
    started.start(OTHER, PLAN, VERSIONS, "CPU")
    started.append(KEY, [row(0)])
    direct(started.path, f"UPDATE runs SET {damage} WHERE key = '{KEY}'")
    found = {run.key: run for run in started.runs()}
    assert (found[OTHER].plan, found[OTHER].damage) == (PLAN, "")
    assert found[KEY].damage
    assert started.run(OTHER).plan == PLAN
    with pytest.raises(RunError, match=r"runs\.sqlite is damaged: run 0123456789ab"):
        started.run(KEY)
    started.delete(started.find(KEY[:5]).key)  # as the message advises
    assert [run.key for run in started.runs()] == [OTHER]
    assert started.counts(KEY) == {}


def test_times_are_compared_as_moments(started: Database) -> None:
    times = ["2026-01-01T10:00:00+14:00", "2026-01-01T09:00:00-11:00", "2026-01-01T00:30:00+00:00", "no time", ""]
    for number, text in enumerate(times):
        started.start(f"{number}" * 64, PLAN, VERSIONS, "CPU")
        direct(started.path, f"UPDATE runs SET created = '{text}' WHERE key = '{str(number) * 64}'")
    direct(started.path, f"DELETE FROM runs WHERE key = '{KEY}'")
    assert [run.key[0] for run in started.runs()] == ["1", "2", "0", "4", "3"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sqlite")
    for path in (tmp_path / "pipe.sqlite", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(RunError, match=f"{path}.*not a regular file"):
            Database(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder can be protected otherwise there")
def test_a_database_that_cannot_be_written_to_can_be_read(started: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CD: SQLite cannot make the files that it uses beside the database. Also where root runs the tests."""
    started.append(KEY, [row(0, image=image(1))])
    started.close()
    path, connect = started.path, sqlite3.connect

    class ReadOnly(sqlite3.Connection):
        def execute(self, statement: str, *more: object) -> sqlite3.Cursor:
            if "journal_mode" in statement or "user_version" in statement:
                error = sqlite3.OperationalError("unable to open database file")
                error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
                raise error
            return super().execute(statement, *more)

    def on_media(name: object, **more: object) -> sqlite3.Connection:
        return connect(name, **more) if more.get("uri") else connect(name, factory=ReadOnly, **more)

    monkeypatch.setattr("sqlite3.connect", on_media)
    before = path.read_bytes()
    with Database(path) as database:
        assert [run.key for run in database.runs()] == [KEY]
        assert database.rows(KEY, images=True)[0].image == image(1)
        with pytest.raises(RunError, match="cannot be opened for writing"):
            database.append(KEY, [row(1)])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_who_has_no_patience_is_told_at_once_that_it_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Busy, match="in use by another program"):
            Database(path, patience=0.05)
        other.execute("COMMIT")
        with Database(path, patience=0.05) as database:
            database.start(KEY, PLAN, VERSIONS, "CPU")


def in_the_file_alone(path: Path, folder: Path) -> Database:
    """Return the database as it is after a power loss that took along whatever is not in the file itself."""
    folder.mkdir()
    shutil.copy(path, folder / "after.sqlite")
    return Database(folder / "after.sqlite")


def test_after_a_power_loss_every_stored_batch_is_there(started: Database, tmp_path: Path) -> None:
    with started._connected() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: a commit is synced
    started.append(KEY, [row(0), row(1)])
    with in_the_file_alone(started.path, tmp_path / "a") as after:
        assert after.rows(KEY) == [row(0), row(1)]
    started.finish(KEY)
    with in_the_file_alone(started.path, tmp_path / "b") as after:
        assert after.run(KEY).finished


def test_a_log_that_is_left_behind_harms_no_file_that_is_put_in_its_place(started: Database, tmp_path: Path) -> None:
    with Database(tmp_path / "other.sqlite") as other:
        other.start(OTHER, PLAN, VERSIONS, "CPU")
        other.append(OTHER, [row(k, image=image(k)) for k in range(50)])
    started.append(KEY, [row(k, image=image(k)) for k in range(50)])
    if sys.platform != "win32":
        shutil.copy(f"{started.path}-wal", tmp_path / "wal")  # as a program leaves it that is killed now
        started.close()
        (tmp_path / "other.sqlite").replace(started.path)
        shutil.copy(tmp_path / "wal", f"{started.path}-wal")
        with Database(started.path) as database:
            assert [run.key for run in database.runs()] == [OTHER]
            assert database.counts(OTHER) == {BENIGN: 50}


GONE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_name("elsewhere.sqlite")),
    "folder deleted": lambda path: shutil.rmtree(path.parent),
    "replaced": lambda path: shutil.copy(path, path.with_name("new")) and path.with_name("new").replace(path),
}


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("how", GONE)
def test_a_database_that_is_taken_away_while_a_run_computes_is_rescued(started: Database, how: str) -> None:
    started.append(KEY, [row(0, image=image(1))])

    def computed() -> None:
        with started.kept():
            started.append(KEY, [row(1)])
            GONE[how](started.path)
            started.append(KEY, [row(2)], 1.5)

    with pytest.raises(RunError, match=r"runs\.sqlite was deleted or replaced.*All its rows.*rescued") as caught:
        computed()
    (name,) = [word for word in str(caught.value).split() if "rescued" in word]
    with Database(name.rstrip(":")) as rescued:
        assert rescued.rows(KEY) == [row(0), row(1), row(2)]
        assert rescued.run(KEY).seconds == 1.5
        assert rescued.image(KEY, BENIGN, 0).shape == (3, 32, 32)
    if how == "replaced":
        assert started.counts(KEY) == {BENIGN: 2}  # the new file, as it was put there
    else:
        assert started.runs() == []  # a new one


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("how", ["deleted", "folder deleted"])
def test_rows_are_rescued_when_nobody_knows_the_users_home(
    started: Database, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("platformdirs.user_data_path", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def computed() -> None:
        with started.kept():
            GONE[how](started.path)
            started.append(KEY, [row(2)])

    with pytest.raises(RunError, match=r"All its rows were written to .*rescued"):
        computed()
    folder = started.path.parent if how == "deleted" else tmp_path / "temporary"
    with Database(folder / f"{started.path.stem}.rescued.sqlite") as rescued:
        assert rescued.rows(KEY) == [row(2)]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_a_database_that_vanishes_at_the_end_or_before_a_cancellation_is_noticed(started: Database) -> None:

    def run(vanishes: bool, error: type[BaseException] | None = None) -> None:
        started.start(KEY, PLAN, VERSIONS, "CPU")
        with started.kept():
            started.append(KEY, [row(0)])
            started.finish(KEY)
            if vanishes:
                started.path.unlink()
            if error is not None:
                raise error

    for error in (None, KeyboardInterrupt, Cancelled):
        with pytest.raises(RunError, match="deleted or replaced"):
            run(True, error)
    with pytest.raises(Cancelled):
        run(False, Cancelled)
    run(False)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_between_runs_another_file_is_simply_the_database(started: Database, tmp_path: Path) -> None:
    with Database(tmp_path / "other.sqlite") as other:
        other.start(OTHER, PLAN, VERSIONS, "CPU")
    (tmp_path / "other.sqlite").replace(started.path)
    assert [run.key for run in started.runs()] == [OTHER]
    started.append(OTHER, [row(0)])
    assert started.counts(OTHER) == {BENIGN: 1}


def test_sizes_and_shrinking(started: Database) -> None:
    started.start(OTHER, PLAN, VERSIONS, "CPU")
    started.append(KEY, [row(k, image=image(k)) for k in range(300)])
    started.append(OTHER, [row(k, image=image(k)) for k in range(100)])
    sizes = started.sizes()
    assert sizes[KEY] == pytest.approx(3 * sizes[OTHER], rel=0.01)
    assert sum(sizes.values()) == pytest.approx(started.size, rel=0.3)
    before = started.size
    started.delete(KEY)
    started.shrink()
    assert started.size < 0.5 * before
    assert started.counts(OTHER) == {BENIGN: 100}

"""The results database: what is stored comes back, nothing is lost, nothing foreign is touched."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from ciad_engine import runs_schema
from ciad_engine.errors import RunError
from ciad_engine.runs import BENIGN, Database, Row, Score, pixels

PLAN = {"bundle": "b", "limit": 3}
VERSIONS = {"ciad": "1"}
KEY = "0123456789abcdef" * 4
ROOT = Path(__file__).parents[2]


def image(seed: int, size: int = 32) -> bytes:
    return np.random.RandomState(seed).randint(0, 256, 3 * size * size).astype(np.uint8).tobytes()


def row(position: int, attack: str = BENIGN, y1: int = 0, **changes: object) -> Row:
    scores = {"mask": Score(3, 0.5, 1.25), "confidence": Score(None, None, -math.log(0.75))}
    facts = {"image_index": 100 + position, "name": f"image {position}", "label": 0, "y1": y1, "p1_y1": 0.75}
    return Row(attack=attack, position=position, **{**facts, "scores": scores, **changes})


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "deep" / "runs.sqlite") as opened:
        yield opened


@pytest.fixture
def started(database: Database) -> Database:
    database.start(KEY, PLAN, VERSIONS, "CPU")
    return database


def direct(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Execute statements without our module; returns what the last one finds."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def test_rows_come_back_exactly(started: Database) -> None:
    scores = {
        "shuffled-mask": Score(9, 1 / 3, np.pi), "mask": Score(0, 0.1 + 0.2, -0.0),
        "confidence": Score(None, None, np.e), "squeezing": Score(None, None, math.inf), "mlp": Score(3, None, 5e-324),
    }  # fmt: skip
    attacked = row(
        0, "fgsm", label=3, y1=4, p1_y1=1 / 3, seconds=0.1, fooled=True, evaded=False, label_before=3, label_after=4,
        confidence_after=1 / 3, l0_values=9, l0_pixels=4, l2=2**0.5, linf=8, ssim=0.1 + 0.2, forwards=3, backwards=1,
        steps=1, image=image(2), scores=scores,
    )  # fmt: skip
    failed = row(1, "fgsm", reason="no adversarial image found", evaded=True, scores={})
    rows = [row(0, image=image(1)), attacked, failed]
    started.append(KEY, rows, 2.5)
    assert started.rows(KEY, images=True) == rows
    without = [dataclasses.replace(r, image=None) for r in rows]
    assert started.rows(KEY) == without
    assert started.rows(KEY, "fgsm") == without[1:]
    assert list(started.rows(KEY)[1].scores) == list(scores)
    assert all(type(r.fooled) is bool for r in started.rows(KEY))
    assert [type(r.evaded) for r in started.rows(KEY)] == [type(None), bool, bool]
    assert started.run(KEY).seconds == 2.5
    assert started.counts(KEY) == {BENIGN: 1, "fgsm": 2}
    assert started.done_positions(KEY, "fgsm") == {0, 1}


@pytest.mark.parametrize(
    ("fooled", "evaded", "success"),
    [(True, None, True), (True, True, True), (True, False, False), (False, None, False), (False, True, False)],
)
def test_success_is_the_whole_goal(fooled: bool, evaded: bool | None, success: bool) -> None:
    assert row(0, "pgd", fooled=fooled, evaded=evaded).success is success


def test_rows_of_one_attack_come_by_position(started: Database) -> None:
    started.append(KEY, [row(2), row(0)])
    started.append(KEY, [row(1)])
    assert [r.position for r in started.rows(KEY, BENIGN)] == [0, 1, 2]
    assert [r.position for r in started.rows(KEY)] == [2, 0, 1]


def test_rows_come_in_the_order_in_which_they_were_stored_whoever_stored_them(started: Database) -> None:
    started.start("f" * 64, PLAN, VERSIONS, "CPU")
    started.append(KEY, [row(2, image=image(2)), row(0)])
    with Database(started.path) as other:  # another program
        other.append("f" * 64, [row(0), row(1)])
        other.append(KEY, [row(0, "fgsm"), row(1), row(0)])
    assert started.rows(KEY) == [row(2), row(0), row(0, "fgsm"), row(1)]
    assert started.rows(KEY, images=True)[0].image == image(2)


def test_rows_are_followed_from_where_one_was(started: Database) -> None:
    assert started.rows_after(KEY, 0) == ([], 0)
    started.append(KEY, [row(2, image=image(2)), row(0)])
    started.start("f" * 64, PLAN, VERSIONS, "CPU")
    found, cursor = started.rows_after(KEY, 0)
    assert found == [row(2), row(0)]
    assert started.rows_after(KEY, cursor) == ([], cursor)
    with Database(started.path) as other:  # another program
        other.append("f" * 64, [row(0), row(1)])
        other.append(KEY, [row(0, "fgsm"), row(1), row(0)])
    found, cursor = started.rows_after(KEY, cursor)
    assert found == [row(0, "fgsm"), row(1)]
    started.delete(KEY)
    started.start(KEY, PLAN, VERSIONS, "CPU")
    started.append(KEY, [row(0)])  # a run that was deleted and begun again: its rows are new ones
    assert started.rows_after(KEY, cursor)[0] == [row(0)]


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda database: database.rows_after(KEY, 5), "INDEX rows_of_run (run=? AND rowid>?)"),
        (lambda database: database.rows(KEY), "INDEX rows_of_run (run=?)"),
        (lambda database: database.rows(KEY, "cw"), "INDEX sqlite_autoindex_rows_1 (run=? AND attack=?)"),
        (lambda database: database.counts(KEY), "COVERING INDEX sqlite_autoindex_rows_1 (run=?)"),
        (lambda database: database.done_positions(KEY, ""), "COVERING INDEX sqlite_autoindex_rows_1 (run=? AND atta"),
    ],
)
def test_no_query_reads_other_runs_or_sorts(started: Database, read, index: str) -> None:
    """A window asks several times a second, perhaps in a file of a million rows."""
    asked: list[str] = []
    with started._connected() as connection:
        connection.set_trace_callback(asked.append)
        read(started)
        connection.set_trace_callback(None)
        (query,) = (sql for sql in asked if sql.startswith("SELECT"))
        steps = [text for *_, text in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert len(steps) == 1
    assert index in steps[0]


def test_notes_are_kept_once_and_in_order(started: Database) -> None:
    started.start("f" * 64, PLAN, VERSIONS, "CPU")
    for _ in range(2):
        started.note(KEY, "pgd", "the gradient is zero for 12% of the images")
        started.note(KEY, BENIGN, "caf\udce9")
        started.note(KEY, "pgd", "another")
    started.note("f" * 64, "pgd", "another")
    assert started.notes(KEY) == {
        "pgd": ("the gradient is zero for 12% of the images", "another"),
        BENIGN: ("caf\ufffd",),
    }
    started.delete(KEY)
    assert started.notes(KEY) == {}
    assert started.notes("f" * 64) == {"pgd": ("another",)}
    with pytest.raises(RunError, match="deleted"):
        started.note(KEY, "pgd", "late")


def test_image_of_a_failed_attack_is_the_benign_one(started: Database) -> None:
    started.append(KEY, [row(0, image=image(1)), row(1, image=image(2))])
    started.append(KEY, [row(0, "cw", fooled=True, image=image(3)), row(1, "cw", reason="no")])
    assert np.array_equal(started.image(KEY, "cw", 0), pixels(image(3)))
    assert np.array_equal(started.image(KEY, "cw", 1), pixels(image(2)))
    assert np.array_equal(started.image(KEY, BENIGN, 0), pixels(image(1)))
    assert started.image(KEY, "cw", 1).shape == (3, 32, 32)
    with pytest.raises(RunError, match="position 7"):
        started.image(KEY, "cw", 7)


@pytest.mark.parametrize("size", [1, 8, 64, 224])
def test_images_may_have_any_size(started: Database, size: int) -> None:
    started.append(KEY, [row(0, image=image(1, size))])
    found = started.image(KEY, BENIGN, 0)
    assert found.shape == (3, size, size)
    assert found.tobytes() == image(1, size)


def test_starting_again_continues_and_finishing_is_remembered(started: Database) -> None:
    started.append(KEY, [row(0)])
    again = started.start(KEY, PLAN, {"ciad": "2"}, "another device")
    assert (again.versions, again.device, again.state) == (VERSIONS, "CPU", "unfinished")
    assert [run.finished for run in started.runs()] == [False]
    started.finish(KEY)
    assert [run.finished for run in started.runs()] == [True]
    assert started.start(KEY, PLAN, VERSIONS, "CPU").finished
    assert started.counts(KEY) == {BENIGN: 1}


def test_a_row_that_is_there_stays(started: Database) -> None:
    started.append(KEY, [row(0, y1=1)])
    started.append(KEY, [row(0, y1=2), row(1)])
    assert [r.y1 for r in started.rows(KEY)] == [1, 0]


def test_a_batch_is_stored_whole_or_not_at_all(started: Database) -> None:
    invalid = dataclasses.replace(row(1), y1=None)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="invalid"):
        started.append(KEY, [row(0), invalid], 1.0)
    assert started.rows(KEY) == []
    assert started.run(KEY).seconds == 0


def test_a_score_that_is_not_a_number_is_refused(started: Database) -> None:
    with pytest.raises(RunError, match=r"image 1: .*not a number"):
        started.append(KEY, [row(0), row(1, scores={"mask": Score(3, 0.5, math.nan)})])
    assert started.rows(KEY) == []


def test_delete_takes_the_rows_along_and_late_batches_are_refused(started: Database) -> None:
    other = "f" * 64
    started.start(other, PLAN, VERSIONS, "CPU")
    started.append(other, [row(0)])
    started.append(KEY, [row(0)])
    started.delete(KEY)
    assert [run.key for run in started.runs()] == [other]
    assert started.counts(KEY) == {}
    assert len(started.rows(other)) == 1
    with pytest.raises(RunError, match="deleted"):
        started.append(KEY, [row(1)])


def test_runs_are_found_by_the_start_of_their_name(started: Database) -> None:
    started.start("0123" + "f" * 60, PLAN, VERSIONS, "CPU")
    assert started.run(KEY[:12]).key == KEY
    with pytest.raises(RunError, match="more than one"):
        started.run("0123")
    for absent in ("", "zz", "%"):
        with pytest.raises(RunError, match="no run called"):
            started.run(absent)


def test_newest_run_first(started: Database) -> None:
    started.start("e" * 64, PLAN, VERSIONS, "CPU")
    assert [run.key for run in started.runs()] == ["e" * 64, KEY]


def test_a_name_that_is_no_text_is_stored_readably(started: Database) -> None:
    started.append(KEY, [dataclasses.replace(row(0), name="caf\udce9.png")])
    assert started.rows(KEY)[0].name == "caf\ufffd.png"


def test_default_is_in_the_users_folder(own_folders: Path) -> None:
    with Database() as database:
        assert database.path == own_folders / "data" / "runs.sqlite"
        assert database.runs() == []


def test_reopened_after_close(started: Database) -> None:
    started.close()
    assert started.run(KEY).plan == PLAN


FORMATS = {
    1: """
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
    l0_values INTEGER NOT NULL, l0_pixels INTEGER NOT NULL, l2 REAL NOT NULL, linf INTEGER NOT NULL,
    forwards INTEGER NOT NULL, backwards INTEGER NOT NULL, steps INTEGER NOT NULL, image BLOB,
    PRIMARY KEY (run, attack, position)
);
PRAGMA application_id = 0x43494144;
""",
    2: "ALTER TABLE rows ADD COLUMN ssim REAL;",
    3: """
CREATE TABLE fittings (
    run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE, attack TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (run, attack)
);
""",
    4: "ALTER TABLE rows ADD COLUMN opinions TEXT NOT NULL DEFAULT '[]';",
}
GONE = {"y2": 7, "p2_y2": 1 / 3, "p2_y1": 0.01, "score_graded": 4.6, "success": 1}
OPINIONS = [["mlp", 3, np.e], ["shuffled-mask", 2, 0.1 + 0.2], ["constant-mask", 0, 0.0]]


def old_database(path: Path, version: int, rows: list[Row], opinions: str = json.dumps(OPINIONS)) -> list[Row]:
    """Write a database of an old format as the CIAD of then did; return its rows as they are to be read today."""
    expected = []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(FORMATS[k] for k in range(1, version + 1)))
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute(
                "INSERT INTO runs VALUES (?, 'at', ?, '{}', 'CPU', 'unfinished', 1.5)", (KEY, json.dumps(PLAN))
            )
            for each in rows:
                values = dataclasses.asdict(each) | GONE | {"run": KEY, "opinions": opinions}
                values["image"] = None if each.image is None else zlib.compress(each.image)
                known = {name for (_, name, *_) in connection.execute("PRAGMA table_info(rows)")}
                values = {name: value for name, value in values.items() if name in known}
                marks = ", ".join(f":{name}" for name in values)
                connection.execute(f"INSERT INTO rows ({', '.join(values)}) VALUES ({marks})", values)
                scores = {"mask": Score(7, 1 / 3, 4.6), "confidence": Score(None, None, -math.log(each.p1_y1))}
                if version >= 4:
                    scores |= {name: Score(y, None, value) for name, y, value in OPINIONS}
                ssim = each.ssim if version >= 2 else None
                expected.append(dataclasses.replace(each, fooled=True, ssim=ssim, scores=scores))
            if version >= 3:
                connection.execute("INSERT INTO fittings VALUES (?, 'universal', x'01')", (KEY,))
    return expected


def copies(path: Path) -> list[str]:
    """Names of the files that were made beside a closed database."""
    return sorted(file.name for file in path.parent.iterdir() if file != path)


ROWS = [
    # Not in the order of their keys: rows are listed in the order in which they were computed.
    row(1, "pgd", y1=4, p1_y1=0.1, ssim=0.5, l2=0.25, label_before=0, label_after=4, confidence_after=0.9),
    row(0, image=image(1)),
    row(0, "cw", p1_y1=1.0, image=image(2), reason="why"),
    row(2, "cw"),
    row(1, "cw"),
]


@pytest.mark.parametrize("version", FORMATS)
def test_an_old_database_is_migrated_and_copied_first(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows stay, in their order, and what was not measured then is not made up."""
    monkeypatch.setattr(runs_schema, "_CHUNK", 2)
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, version, ROWS)
    direct(path, "DELETE FROM rows WHERE position = 2")
    del expected[3]
    before = direct(path, "SELECT rowid, * FROM rows ORDER BY rowid")
    with Database(path) as database:
        assert Path(f"{path}-wal").stat().st_size == 0
        assert database.rows(KEY, images=True) == expected
        assert database.run(KEY).plan == PLAN
        assert database.fitting(KEY, "universal") == (b"\1" if version >= 3 else None)
        database.note(KEY, "cw", "new")
        database.append(KEY, [row(2, "cw", fooled=True), row(0)])
        assert database.rows(KEY)[4:] == [row(2, "cw", fooled=True)]
    assert copies(path) == [f"runs.sqlite.format-{version}.bak"]
    copy = path.with_name(copies(path)[0])
    assert direct(copy, "PRAGMA user_version") == [(version,)]
    assert direct(copy, "SELECT rowid, * FROM rows ORDER BY rowid") == before
    with Database(tmp_path / "other" / "fresh.sqlite") as fresh:
        fresh.runs()
    assert schema_of(path) == schema_of(fresh.path)
    with Database(path) as database:  # once is enough
        assert len(database.rows(KEY)) == 5
    assert len(copies(path)) == 2


def schema_of(path: Path) -> tuple[object, ...]:
    found = direct(path, "SELECT type, name, sql FROM sqlite_master")
    spaced = {(kind, name, sql and " ".join(sql.split())) for kind, name, sql in found}
    return spaced, direct(path, "PRAGMA user_version"), direct(path, "PRAGMA application_id")


def test_the_copy_has_what_another_program_wrote_last(tmp_path: Path) -> None:
    """Its transactions may be in the write-ahead log alone."""
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, 4, ROWS)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_autocheckpoint = 0")
        with other:
            other.execute("UPDATE rows SET name = 'last'")
        with Database(path) as database:
            assert database.rows(KEY, images=True) == [dataclasses.replace(r, name="last") for r in expected]
    assert set(direct(tmp_path / "runs.sqlite.format-4.bak", "SELECT name FROM rows")) == {("last",)}


def test_a_copy_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    names = [f"runs.sqlite.format-4.{end}" for end in ("bak", "2.bak")]
    for name in names:
        (tmp_path / name).write_text("somebody's")
    old_database(path, 4, ROWS)
    Database(path).close()
    assert copies(path) == sorted([*names, "runs.sqlite.format-4.3.bak"])
    assert [(tmp_path / name).read_text() for name in names] == ["somebody's"] * 2
    assert direct(tmp_path / "runs.sqlite.format-4.3.bak", "PRAGMA user_version") == [(4,)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, 2, ROWS)
    before = direct(path, "SELECT rowid, * FROM rows"), schema_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(runs_schema, "_CHUNK", 2)
        patch.setattr(runs_schema, "_scores", failing_at(4))
        with pytest.raises(RunError, match=r"runs\.sqlite"):
            Database(path)
    assert (direct(path, "SELECT rowid, * FROM rows"), schema_of(path)) == before
    assert copies(path) == []
    with Database(path) as database:
        assert [r.name for r in database.rows(KEY)] == [r.name for r in expected]


def failing_at(call: int):
    left = iter(range(call - 1))
    return lambda *_: "{}" if next(left, None) is not None else 1 / 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_in_the_middle_of_a_migration(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, 4, ROWS)
    code = (
        "import os, signal, sys\n"
        "from ciad_engine import runs, runs_schema\n"
        "runs_schema._CHUNK, whole, calls = 2, runs_schema._scores, []\n"
        "def scores(*values):\n"
        "    calls.append(values)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(*values)\n"
        "runs_schema._scores = scores\n"
        "runs.Database(sys.argv[1])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert direct(path, "PRAGMA user_version") == [(4,)]
    with Database(path) as database:
        assert database.rows(KEY, images=True) == expected
    assert copies(path) == ["runs.sqlite.format-4.bak"]


def test_a_full_disk_is_reported_before_anything_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, 4, [row(k, image=image(k)) for k in range(40)])
    connect = sqlite3.connect

    class Full(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **_: object) -> None:
            target.execute("CREATE TABLE begun (x)")
            Path(target.execute("PRAGMA database_list").fetchone()[2] + "-journal").touch()
            raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("sqlite3.connect", lambda name, **more: connect(name, factory=Full, **more))
        with pytest.raises(RunError, match=r"runs\.sqlite was left as it is.*disk is full.* [1-9]\d* MB free"):
            Database(path)
    assert copies(path) == []
    assert direct(path, "PRAGMA user_version") == [(4,)]
    with Database(path) as database:
        assert database.rows(KEY, images=True) == expected


def test_a_copy_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    old_database(path, 4, ROWS)
    part = tmp_path / "runs.sqlite.format-4.part"
    part.mkdir()
    with pytest.raises(RunError, match=r"runs\.sqlite was left as it is.*cannot be copied"):
        Database(path)
    assert direct(path, "PRAGMA user_version") == [(4,)]
    part.rmdir()
    part.write_bytes(b"left by a program that was killed" * 100)
    with Database(path) as database:
        assert len(database.rows(KEY)) == 5
    assert copies(path) == ["runs.sqlite.format-4.bak"]


def test_two_processes_migrate_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    expected = old_database(path, 4, [row(k, image=image(k)) for k in range(300)])
    code = (
        "import sys; from ciad_engine.runs import Database\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"print(len(Database(sys.argv[1]).rows({KEY!r})))\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=60)[0] for child in children]
    assert answers == ["300\n"] * 3
    # Of two processes that end at once, neither may find itself the last, whose task it is to remove the log.
    log = {f"{path.name}-shm", f"{path.name}-wal"}
    assert [name for name in copies(path) if name not in log] == ["runs.sqlite.format-4.bak"]
    with Database(path) as database:
        assert database.rows(KEY, images=True) == expected


@pytest.mark.parametrize("done", [False, True])
def test_a_program_waits_for_another_one_that_migrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """That takes longer than a batch, for which the usual timeout is meant; what is `done` then is not done again."""
    monkeypatch.setattr("ciad_engine.runs._BUSY_SECONDS", 0.05)
    path = tmp_path / "runs.sqlite"
    old_database(path, 4, ROWS)
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        if done:
            other.execute(f"PRAGMA user_version = {runs_schema.VERSION}")
        timer = threading.Timer(0.5, other.commit)
        timer.start()
        with Database(path) as database, database._connected() as connection:
            assert connection.execute("PRAGMA busy_timeout").fetchone() == (50,)
        timer.join()
    assert copies(path) == ([] if done else ["runs.sqlite.format-4.bak"])


@pytest.mark.parametrize("opinions", ["", "nothing", "[1]", "[[]]", "{}x", '[["mlp", 3]]', "null"])
def test_damage_in_an_old_row_does_not_keep_the_other_runs_from_migrating(tmp_path: Path, opinions: str) -> None:
    path = tmp_path / "runs.sqlite"
    old_database(path, 4, ROWS, opinions)
    direct(path, f"INSERT INTO runs VALUES ('{'f' * 64}', 'at', '{{}}', '{{}}', 'CPU', 'unfinished', 1.5)")
    with Database(path) as database:
        with pytest.raises(RunError, match=r"runs\.sqlite is damaged.*row of run 0123456789ab"):
            database.rows(KEY)
        assert database.rows("f" * 64) == []
        assert database.image(KEY, "cw", 0).shape == (3, 32, 32)


def test_an_impossible_probability_in_an_old_row_is_damage(tmp_path: Path) -> None:
    old_database(tmp_path / "runs.sqlite", 4, [row(0)], "[]")
    direct(tmp_path / "runs.sqlite", "UPDATE rows SET p1_y1 = 0")
    with Database(tmp_path / "runs.sqlite") as database, pytest.raises(RunError, match=r"runs\.sqlite is damaged"):
        database.rows(KEY)


def test_what_an_attack_was_fitted_to_is_kept_once(started: Database) -> None:
    assert started.fitting(KEY, "universal") is None
    assert started.keep_fitting(KEY, "universal", b"first") == b"first"
    assert started.keep_fitting(KEY, "universal", b"second") == b"first"
    assert started.fitting(KEY, "universal") == b"first"
    started.delete(KEY)
    assert started.fitting(KEY, "universal") is None
    with pytest.raises(RunError, match="deleted"):
        started.keep_fitting(KEY, "universal", b"third")


@pytest.mark.parametrize("content", [b"not a database at all " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"broken\.sqlite.*damaged"):
        Database(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        "image = x'00112233'", "image = 'text'", "scores = 'no'", "scores = '[]'", 'scores = \'{"mask": [1]}\'',
        "scores = '3'", "scores = x'ff'", "name = CAST(x'ff' AS TEXT)",
    ],
)  # fmt: skip
def test_damage_found_while_reading_is_named(started: Database, damage: str) -> None:
    started.append(KEY, [row(0, image=image(1))])
    direct(started.path, f"UPDATE rows SET {damage}")
    with pytest.raises(RunError, match=r"runs\.sqlite is damaged"):
        started.rows(KEY, images=True)
    started.delete(KEY)  # as the message advises
    assert started.runs() == []


@pytest.mark.parametrize("damage", [b"\0\1\2\3", "text", zlib.compress(image(1)[:-3])])
def test_damage_of_an_image_is_named(started: Database, damage: bytes | str) -> None:
    started.append(KEY, [row(0, image=image(1))])
    with contextlib.closing(sqlite3.connect(started.path)) as other, other:
        other.execute("UPDATE rows SET image = ?", (damage,))
    with pytest.raises(RunError, match=r"runs\.sqlite is damaged"):
        started.image(KEY, BENIGN, 0)


def test_damage_of_a_plan_is_named(started: Database) -> None:
    direct(started.path, "UPDATE runs SET plan = '{'")
    with pytest.raises(RunError, match=r"runs\.sqlite is damaged: run 0123456789ab .*Delete the run"):
        started.run(KEY)


@pytest.mark.parametrize(("pragma", "message"), [("user_version = 99", "format 99"), ("application_id = 7", "not one")])
def test_newer_and_foreign_databases_are_refused_unaltered(started: Database, pragma: str, message: str) -> None:
    started.append(KEY, [row(0)])
    started.close()
    direct(started.path, f"PRAGMA {pragma}")
    before = started.path.read_bytes()
    with pytest.raises(RunError, match=rf"runs\.sqlite.*{message}"):
        Database(started.path)
    assert started.path.read_bytes() == before
    assert copies(started.path) == []


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    direct(path, "CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(RunError, match="not one of CIAD"):
        Database(path)


def test_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="folder of the results database"):
        Database(tmp_path / "file" / "runs.sqlite")
    with pytest.raises(RunError, match=r"Cannot open.*directory.*another file"):
        Database(tmp_path)


def test_a_lock_held_by_another_program_is_explained(started: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciad_engine.runs._BUSY_SECONDS", 0.05)
    other = sqlite3.connect(started.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Database(started.path) as second:
        with pytest.raises(RunError, match="in use by another program"):
            second.append(KEY, [row(0)])
        assert second.rows(KEY) == []  # readers are not held up
        other.execute("COMMIT")
        second.append(KEY, [row(0)])
    other.close()


def test_threads_write_and_read_at_once(started: Database) -> None:
    errors: list[BaseException] = []

    def work(attack: str) -> None:
        try:
            for position in range(40):
                started.append(KEY, [row(position, attack)], 0.5)
                assert len(started.rows(KEY, attack)) == position + 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert started.counts(KEY) == {"a": 40, "b": 40, "c": 40}
    assert started.run(KEY).seconds == 60


def test_two_processes_start_and_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from ciad_engine.runs import Database, Row\n"
        "def row(p, attack): return Row(attack, p, 0, 'n', 0, 0, 0.5)\n"
        "d = Database(sys.argv[1]); d.start('k' * 64, {}, {}, 'CPU')\n"
        "for p in range(60): d.append('k' * 64, [row(p, sys.argv[2]), row(p, 'both')])\n"
    )
    path = tmp_path / "shared.sqlite"
    children = [subprocess.Popen([sys.executable, "-c", code, path, name], cwd=ROOT) for name in ("a", "b")]
    assert [child.wait(60) for child in children] == [0, 0]
    with Database(path) as database:
        assert database.counts("k" * 64) == {"a": 60, "b": 60, "both": 60}


def test_opening_waits_for_a_program_that_writes_to_a_file_not_in_wal_mode_yet(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    Database(path).close()
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = DELETE")  # as it is between a new file's schema and its first write
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.rollback)
        timer.start()
        with Database(path) as database:
            assert database.runs() == []
        timer.join()
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (0,)  # reads the file's mode anew
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_importing_needs_no_torch() -> None:
    names = "runs, inspection, evaluation.planning, evaluation.tables, evaluation.export, evaluation.statistics"
    imports = "".join(f"import ciad_engine.{name}\n" for name in names.split(", "))
    code = imports + "import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_row_defaults_are_those_of_an_untouched_image() -> None:
    benign: Row = row(0)
    assert (benign.fooled, benign.evaded, benign.l2, benign.linf, benign.forwards, benign.label_after) == (
        False,
        None,
        0,
        0,
        0,
        None,
    )

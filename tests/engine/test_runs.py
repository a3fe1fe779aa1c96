"""The results database: what is stored comes back, nothing is lost, nothing foreign is touched."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from ciad_engine.errors import RunError
from ciad_engine.runs import BENIGN, Database, Opinion, Row, pixels
from tests.engine.evaluation.tiny import row

PLAN = {"bundle": "b", "limit": 3}
VERSIONS = {"ciad": "1"}
KEY = "0123456789abcdef" * 4


def image(seed: int) -> bytes:
    return np.random.RandomState(seed).randint(0, 256, 3072).astype(np.uint8).tobytes()


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "deep" / "runs.sqlite") as opened:
        yield opened


@pytest.fixture
def started(database: Database) -> Database:
    database.start(KEY, PLAN, VERSIONS, "CPU")
    return database


def test_rows_come_back_exactly(started: Database) -> None:
    attacked = row(
        0, "fgsm", label=3, y1=4, y2=3, score=np.pi, seconds=0.1, success=True, label_before=3, label_after=4,
        confidence_after=1 / 3, l0_values=9, l0_pixels=4, l2=2**0.5, linf=8, ssim=0.1 + 0.2, forwards=3, backwards=1,
        steps=1, image=image(2), opinions=(Opinion("mlp", 3, np.e), Opinion("constant-mask", 0, 0.0)),
    )  # fmt: skip
    rows = [row(0, image=image(1)), attacked, row(1, "fgsm", reason="no adversarial image found")]
    started.append(KEY, rows, 2.5)
    assert started.rows(KEY, images=True) == rows
    without = [dataclasses.replace(r, image=None) for r in rows]
    assert started.rows(KEY) == without
    assert started.rows(KEY, "fgsm") == without[1:]
    assert started.run(KEY).seconds == 2.5
    assert started.counts(KEY) == {BENIGN: 1, "fgsm": 2}
    assert started.done_positions(KEY, "fgsm") == {0, 1}


def test_rows_of_one_attack_come_by_position(started: Database) -> None:
    started.append(KEY, [row(2), row(0)])
    started.append(KEY, [row(1)])
    assert [r.position for r in started.rows(KEY, BENIGN)] == [0, 1, 2]


def test_image_of_a_failed_attack_is_the_benign_one(started: Database) -> None:
    started.append(KEY, [row(0, image=image(1)), row(1, image=image(2))])
    started.append(KEY, [row(0, "cw", success=True, image=image(3)), row(1, "cw", reason="no")])
    assert np.array_equal(started.image(KEY, "cw", 0), pixels(image(3)))
    assert np.array_equal(started.image(KEY, "cw", 1), pixels(image(2)))
    assert np.array_equal(started.image(KEY, BENIGN, 0), pixels(image(1)))
    assert started.image(KEY, "cw", 1).shape == (3, 32, 32)
    with pytest.raises(RunError, match="position 7"):
        started.image(KEY, "cw", 7)


def test_starting_again_continues_and_finishing_is_remembered(started: Database) -> None:
    started.append(KEY, [row(0)])
    again = started.start(KEY, PLAN, {"ciad": "2"}, "another device")
    assert (again.versions, again.device, again.state) == (VERSIONS, "CPU", "unfinished")
    assert [run.key for run in started.unfinished()] == [KEY]
    started.finish(KEY)
    assert started.unfinished() == []
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
    assert started.rows(KEY)[0].name == "caf?.png"


def test_default_is_in_the_users_folder(own_folders: Path) -> None:
    with Database.default() as database:
        assert database.path == own_folders / "data" / "runs.sqlite"
        assert database.runs() == []


def test_reopened_after_close(started: Database) -> None:
    started.close()
    assert started.run(KEY).plan == PLAN


FORMAT_1 = """
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
PRAGMA user_version = 1;
"""


def test_a_database_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    """It knew neither SSIM nor fitted attacks nor controls; its rows stay, and what was not measured is not made up."""
    old = dataclasses.replace(row(0, "cw", success=True, l2=0.5, image=image(2)), ssim=None)
    names = [field.name for field in dataclasses.fields(Row) if field.name not in ("ssim", "opinions")]
    values = [getattr(old, name) for name in names]
    values[-1] = zlib.compress(image(2))
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection, connection:
        connection.executescript(FORMAT_1)
        connection.execute("INSERT INTO runs VALUES (?, 'at', '{}', '{}', 'CPU', 'unfinished', 1.5)", (KEY,))
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO rows (run, {', '.join(names)}) VALUES (?, {marks})", (KEY, *values))
    with Database(tmp_path / "runs.sqlite") as database:
        assert database.rows(KEY, images=True) == [old]
        assert database.fitting(KEY, "universal") is None
        database.append(KEY, [row(1, "cw", success=True, ssim=0.8)])
        assert [r.ssim for r in database.rows(KEY)] == [None, 0.8]
    with Database(tmp_path / "fresh.sqlite") as fresh:
        fresh.runs()
    assert tables_of(tmp_path / "runs.sqlite") == tables_of(tmp_path / "fresh.sqlite")
    with Database(tmp_path / "runs.sqlite") as database:  # once is enough
        assert len(database.rows(KEY)) == 2


def test_a_database_of_the_second_format_is_brought_up_to_date(started: Database) -> None:
    """It knew neither fitted attacks nor controls."""
    started.append(KEY, [row(0, ssim=0.5)])
    started.close()
    with contextlib.closing(sqlite3.connect(started.path)) as connection, connection:
        connection.execute("DROP TABLE fittings")
        connection.execute("ALTER TABLE rows DROP COLUMN opinions")
        connection.execute("PRAGMA user_version = 2")
    assert started.keep_fitting(KEY, "universal", b"kept") == b"kept"
    assert [r.ssim for r in started.rows(KEY)] == [0.5]


def test_a_database_of_the_third_format_is_brought_up_to_date(started: Database) -> None:
    """It did not know controls."""
    started.append(KEY, [row(0)])
    started.close()
    with contextlib.closing(sqlite3.connect(started.path)) as connection, connection:
        connection.execute("ALTER TABLE rows DROP COLUMN opinions")
        connection.execute("PRAGMA user_version = 3")
    told = dataclasses.replace(row(1), opinions=(Opinion("mlp", 4, 0.5),))
    started.append(KEY, [told])
    assert started.rows(KEY) == [row(0), told]


def tables_of(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """Columns with their types by table, whatever their order, and the version."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: {c[1:] for c in connection.execute(f"PRAGMA table_info({name})")} for name in names}
        return {**found, "version": set(connection.execute("PRAGMA user_version"))}


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


def test_damage_found_while_reading_is_named(started: Database) -> None:
    started.append(KEY, [row(0, image=image(1))])
    with sqlite3.connect(started.path) as direct:
        direct.execute("UPDATE rows SET image = x'00112233'")
    direct.close()
    for read in (lambda: started.rows(KEY, images=True), lambda: started.image(KEY, BENIGN, 0)):
        with pytest.raises(RunError, match=r"runs\.sqlite.*damaged"):
            read()


@pytest.mark.parametrize(("pragma", "message"), [("user_version = 99", "format 99"), ("application_id = 7", "not one")])
def test_newer_and_foreign_databases_are_refused_unaltered(started: Database, pragma: str, message: str) -> None:
    started.append(KEY, [row(0)])
    started.close()
    direct = sqlite3.connect(started.path)
    direct.execute(f"PRAGMA {pragma}")
    direct.close()
    before = started.path.read_bytes()
    with pytest.raises(RunError, match=rf"runs\.sqlite.*{message}"):
        Database(started.path)
    assert started.path.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    direct = sqlite3.connect(path)
    direct.execute("CREATE TABLE bookmarks (url TEXT)")
    direct.commit()
    direct.close()
    with pytest.raises(RunError, match="not one of CIAD"):
        Database(path)


def test_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="folder of the results database"):
        Database(tmp_path / "file" / "runs.sqlite")
    with pytest.raises(RunError, match="cannot be opened"):
        Database(tmp_path)


def test_a_lock_held_by_another_program_is_explained(started: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciad_engine.runs._BUSY_SECONDS", 0.05)
    direct = sqlite3.connect(started.path, isolation_level=None)
    direct.execute("BEGIN IMMEDIATE")
    with Database(started.path) as second:
        with pytest.raises(RunError, match="in use by another program"):
            second.append(KEY, [row(0)])
        assert second.rows(KEY) == []  # readers are not held up
        direct.execute("COMMIT")
        second.append(KEY, [row(0)])
    direct.close()


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
        "def row(p, attack): return Row(attack, p, 0, 'n', 0, 0, 0, 0.5, 0.5, 0.5, 0.0)\n"
        "d = Database(sys.argv[1]); d.start('k' * 64, {}, {}, 'CPU')\n"
        "for p in range(60): d.append('k' * 64, [row(p, sys.argv[2]), row(p, 'both')])\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    path = tmp_path / "shared.sqlite"
    children = [subprocess.Popen([sys.executable, "-c", code, path, name], env=environment) for name in ("a", "b")]
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
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_row_defaults_are_those_of_an_untouched_image() -> None:
    benign: Row = row(0)
    assert (benign.success, benign.l2, benign.linf, benign.forwards, benign.label_after) == (False, 0, 0, 0, None)

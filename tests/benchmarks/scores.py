"""Where the results database keeps the detectors' scores of each row, and its image: layouts compared.

    python -m tests.benchmarks.scores [--rows N] [--layouts NAME ...] [--folder DIR]

Each layout stores the same rows, five detectors each, as runs of 30,000 in batches of 500. Then one run in the middle
of the file is read into `Row` objects, aggregated by detector, asked for its positions, and deleted. Times are the
best of several, those of the processor; "cold" ones by the clock, after the file has left the system's cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ciad_engine.runs import Row, Score

DETECTORS = ("mask", "mlp", "shuffled-mask", "constant-mask", "confidence")
RUN, ATTACKS, BATCH = 30_000, 6, 500
REPEATS = 7
THRESHOLD = 2.0
# An image of CIFAR-10 takes about this many bytes when it is compressed; half of the rows have one.
IMAGE = 2_400

FACTS = "attack, position, image_index, name, label, y1, p1_y1, seconds, fooled, evaded, reason, label_before,"
FACTS += " label_after, confidence_after, l0_values, l0_pixels, l2, linf, ssim, forwards, backwards, steps"
MARKS = ", ".join("?" * (len(FACTS.split(",")) + 1))
ROWS = """
CREATE TABLE runs (key TEXT PRIMARY KEY, detectors TEXT NOT NULL);
CREATE TABLE rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs(key) ON DELETE CASCADE,
    attack TEXT NOT NULL, position INTEGER NOT NULL, image_index INTEGER NOT NULL, name TEXT NOT NULL,
    label INTEGER NOT NULL, y1 INTEGER NOT NULL, p1_y1 REAL NOT NULL, seconds REAL NOT NULL,
    fooled INTEGER NOT NULL, evaded INTEGER, reason TEXT NOT NULL,
    label_before INTEGER, label_after INTEGER, confidence_after REAL,
    l0_values INTEGER NOT NULL, l0_pixels INTEGER NOT NULL, l2 REAL NOT NULL, linf INTEGER NOT NULL, ssim REAL,
    forwards INTEGER NOT NULL, backwards INTEGER NOT NULL, steps INTEGER NOT NULL,
    {more} UNIQUE (run, attack, position)
);
CREATE INDEX rows_of_run ON rows (run);
"""
Values = tuple[Any, ...]
Item = tuple[Values, list[Score], bytes | None]


class Layout:
    """Rows whose scores are stored in a column of theirs; the images, too, or in a table of their own."""

    columns: tuple[str, ...] = ("scores",)
    tables = ""

    def __init__(self, apart: bool) -> None:
        self.apart = apart

    def schema(self) -> str:
        more = ["scores NOT NULL,"] if self.columns else []
        images = "CREATE TABLE images (row INTEGER PRIMARY KEY REFERENCES rows(id) ON DELETE CASCADE, content BLOB);"
        return (
            ROWS.format(more=" ".join([*more, *([] if self.apart else ["image BLOB,"])]))
            + self.tables
            + (images if self.apart else "")
        )

    def insert(self, connection: sqlite3.Connection, batch: Sequence[Item]) -> None:
        columns = [FACTS, *self.columns, *([] if self.apart else ["image"])]
        statement = f"INSERT INTO rows (run, {', '.join(columns)}) VALUES ({MARKS}{', ?' * (len(columns) - 1)})"
        scores: list[Values] = []
        images = []
        for facts, those, image in batch:
            values = [*facts, *self.packed(those), *([] if self.apart else [image])]
            row = connection.execute(statement, values).lastrowid
            scores += [] if self.columns else [(row, name, *s) for name, s in zip(DETECTORS, those, strict=True)]
            images += [(row, image)] if self.apart and image is not None else []
        connection.executemany("INSERT INTO images VALUES (?, ?)", images) if images else None
        connection.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?)", scores) if scores else None

    def read(self, connection: sqlite3.Connection, run: str) -> list[Row]:
        found = connection.execute(f"SELECT {FACTS}, scores FROM rows WHERE run = ? ORDER BY id", (run,))
        return [Row(*facts, None, self.unpacked(packed)) for *facts, packed in found]

    def aggregate(self, connection: sqlite3.Connection, run: str) -> dict[str, tuple[float, float]]:
        """Mean score, and the share of the rows above the threshold, by detector."""
        totals = {name: [0.0, 0] for name in DETECTORS}
        count = 0
        for (packed,) in connection.execute("SELECT scores FROM rows WHERE run = ?", (run,)):
            count += 1
            for name, score in self.unpacked(packed).items():
                totals[name][0] += score.value
                totals[name][1] += score.value > THRESHOLD
        return {name: (total / count, above / count) for name, (total, above) in totals.items()}

    def packed(self, scores: list[Score]) -> tuple[object, ...]:
        """The values of `columns`."""
        raise NotImplementedError

    def unpacked(self, packed: Any) -> dict[str, Score]:
        raise NotImplementedError


class Table(Layout):
    """(a) A row per image and detector."""

    columns = ()
    tables = """
CREATE TABLE scores (
    row INTEGER NOT NULL REFERENCES rows(id) ON DELETE CASCADE, detector TEXT NOT NULL, label INTEGER,
    probability REAL, value REAL NOT NULL, PRIMARY KEY (row, detector)
) WITHOUT ROWID;
"""

    def read(self, connection: sqlite3.Connection, run: str) -> list[Row]:
        scores: dict[int, dict[str, Score]] = {}
        query = "SELECT row, detector, s.label, probability, value FROM rows JOIN scores AS s ON row = id WHERE run = ?"
        for row, detector, *score in connection.execute(query, (run,)):
            scores.setdefault(row, {})[detector] = Score(*score)
        found = connection.execute(f"SELECT id, {FACTS} FROM rows WHERE run = ? ORDER BY id", (run,))
        return [Row(*facts, None, scores.get(row, {})) for row, *facts in found]

    def aggregate(self, connection: sqlite3.Connection, run: str) -> dict[str, tuple[float, float]]:
        query = (
            "SELECT detector, avg(value), avg(value > ?) FROM rows JOIN scores ON row = rows.id WHERE run = ?"
            " GROUP BY detector"
        )
        return {name: (mean, above) for name, mean, above in connection.execute(query, (THRESHOLD, run))}

    def packed(self, scores: list[Score]) -> tuple[object, ...]:
        return ()


class Json(Layout):
    """(b) A JSON object per row."""

    def packed(self, scores: list[Score]) -> tuple[object, ...]:
        return (json.dumps(dict(zip(DETECTORS, scores, strict=True)), separators=(",", ":")),)

    def unpacked(self, packed: str) -> dict[str, Score]:
        return {name: Score(*score) for name, score in json.loads(packed).items()}


class Blob(Layout):
    """(c) 18 bytes per detector; their order is kept with the run."""

    form = struct.Struct("<hdd")

    def packed(self, scores: list[Score]) -> tuple[object, ...]:
        nothing = float("nan")
        parts = [
            self.form.pack(-1 if label is None else label, nothing if probability is None else probability, value)
            for label, probability, value in scores
        ]
        return (b"".join(parts),)

    def unpacked(self, packed: bytes) -> dict[str, Score]:
        return {
            name: Score(None if label < 0 else label, None if math.isnan(probability) else probability, value)
            for name, (label, probability, value) in zip(DETECTORS, self.form.iter_unpack(packed), strict=True)
        }


LAYOUTS = {
    f"{name}{', images apart' if apart else ''}": layout(apart)
    for apart in (False, True)
    for name, layout in (("table", Table), ("json", Json), ("blob", Blob))
}


def batches(count: int) -> Iterator[list[Item]]:
    """The same rows for every layout."""
    drawn = random.Random(0)
    noise = drawn.randbytes(1_000_000)
    batch = []
    for k in range(count):
        run, place = divmod(k, RUN)
        attack, position = divmod(place, RUN // ATTACKS)
        facts = (
            key(run), f"attack{attack}" if attack else "", position, position * 2, f"image {position * 2}", 3, 5,
            drawn.random(), 0.1, k % 2, None, "" if k % 2 else "no adversarial image found", 3, 5, drawn.random(),
            2800, 990, drawn.random(), 8, drawn.random(), 100, 100, 100,
        )  # fmt: skip
        scores = [
            Score(None, None, drawn.expovariate(1))
            if name == "confidence"
            else Score(int(drawn.random() * 10), drawn.random(), drawn.expovariate(1))
            for name in DETECTORS
        ]
        start = int(drawn.random() * (len(noise) - IMAGE))
        batch.append((facts, scores, noise[start : start + IMAGE] if k % 2 else None))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def key(run: int) -> str:
    return f"{run:02d}" * 32


def measure(layout: Layout, path: Path, count: int) -> dict[str, float]:
    """Return the figures of one layout by name and unit."""
    found = {}
    with contextlib.closing(connected(path)) as connection:
        connection.executescript(layout.schema())
        with connection:
            connection.executemany("INSERT INTO runs VALUES (?, '')", [(key(k),) for k in range(count // RUN + 1)])
        spent = 0.0
        for batch in batches(count):
            began = time.process_time()
            with connection:
                layout.insert(connection, batch)
            spent += time.process_time() - began
        found["insert, s"] = spent
    found["file, MB"] = path.stat().st_size / 1e6
    middle = key(count // RUN // 2)
    queries: dict[str, Callable[[sqlite3.Connection], object]] = {
        "read a run": lambda c: layout.read(c, middle),
        "aggregate": lambda c: layout.aggregate(c, middle),
        "done_positions": lambda c: {
            p for (p,) in c.execute("SELECT position FROM rows WHERE run = ? AND attack = 'attack1'", (middle,))
        },
    }
    for name, query in queries.items():
        for cold in (True, False):
            clock = time.perf_counter if cold else time.process_time
            times = []
            for _ in range(REPEATS):
                if cold:
                    forget(path)
                with contextlib.closing(connected(path)) as connection:
                    began = clock()
                    query(connection)
                    times.append(clock() - began)
            found[f"{name}{', cold' if cold else ''}, ms"] = 1000 * min(times)
    with contextlib.closing(connected(path)) as connection:
        assert len(layout.read(connection, middle)) == min(RUN, count)
        began = time.process_time()
        with connection:
            connection.execute("DELETE FROM runs WHERE key = ?", (middle,))
        found["delete a run, ms"] = 1000 * (time.process_time() - began)
        assert layout.read(connection, middle) == []
    return found


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def forget(path: Path) -> None:
    """Remove the file from the operating system's cache, where that is possible."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--folder", type=Path, help="where the databases are written, one at a time")
    options = parser.parse_args()
    print(f"SQLite {sqlite3.sqlite_version}; {options.rows:,} rows of {len(DETECTORS)} detectors")
    for name in options.layouts:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found = measure(LAYOUTS[name], Path(folder) / "rows.sqlite", options.rows)
        print(name.ljust(20), *(f"{what} {value:,.1f}" for what, value in found.items()), sep=" | ", flush=True)


if __name__ == "__main__":
    main()

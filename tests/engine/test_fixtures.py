"""Old databases stay readable: runs, rows and images as they were stored, tables as d468494 computed them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import old_tables
from ciad_engine.evaluation.table import Cell, Table
from ciad_engine.runs import Database, Row, Score
from tests import fixtures
from tests.engine.evaluation import tiny
from tests.fixtures import Content, Place

# The next two functions are all that knows today's rows and tables: change them when those change, nothing else.


def as_schema_4(row: Row) -> Content:
    """Return a row under the names of the columns of schema 4."""
    content = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    assert content.pop("evaded") is None  # attacks knew no detector
    scores = content.pop("scores")
    mask = scores.pop("mask")
    confidence, fooled = scores.pop("confidence"), content.pop("fooled")
    assert confidence == Score(None, None, pytest.approx(-math.log(row.p1_y1), abs=1e-12))
    return {
        **content,
        "success": fooled,
        "y2": mask.label,
        "p2_y2": mask.probability,
        "p2_y1": pytest.approx(math.exp(-mask.value), rel=1e-4),  # the score says it; it is no longer stored
        "score_graded": mask.value,
        "opinions": [[name, score.label, score.value] for name, score in scores.items()],
    }


def today(title: str) -> str:
    """Return a title of an attack in the tables of d468494 as it is written today: with the name of a class."""
    named = re.sub(r"target_class = (\d)", lambda found: f"target_class = {CIFAR10.classes[int(found[1])]}", title)
    return "All attacks together" if title == "All together" else named


def cell_at(tables: Mapping[str, Table], place: Place) -> Cell | None:
    """Return today's cell for what the tables of d468494 had at `place`; None if there is none."""
    name, title, heading = place
    name, key, detector = old_tables.place(name, heading)
    try:
        return tables[name].cell(today(title), key, detector)
    except KeyError:
        return None


@pytest.fixture(params=fixtures.VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def database(version: int, tmp_path: Path) -> Iterator[Database]:
    before = fixtures.databases()[version].read_bytes()
    with Database(fixtures.copy_of(version, tmp_path)) as opened:
        yield opened
    assert fixtures.databases()[version].read_bytes() == before


@pytest.fixture
def card(tmp_path: Path) -> bundles.Card:
    return bundles.read_card(fixtures.old_card(tmp_path))


def test_each_database_has_its_version_and_runs() -> None:
    for version, path in fixtures.databases().items():
        assert int.from_bytes(path.read_bytes()[60:64], "big") == version  # where SQLite keeps PRAGMA user_version
        assert {run["key"] for run in fixtures.stored(version, "runs")} == set(fixtures.old_runs(version))
    assert [len(fixtures.old_runs(version)) for version in fixtures.VERSIONS] == [1, 1, 1, 3]
    assert len(fixtures.stored(3, "fittings")) == 1


def test_csv_files_have_the_rows_and_the_cells(version: int) -> None:
    for key, tables in fixtures.old_tables(version).items():
        files = fixtures.old_csv(version, key)
        assert len(files["rows.csv"]) == sum(row["run"] == key for row in fixtures.stored(version, "rows"))
        for (table, attack, heading), cell in tables.items():
            (line,) = (line for line in files[f"{table}.csv"] if line["Attack"] == attack)
            assert line[heading] == ("" if cell["value"] is None else str(cell["value"]))


def test_runs_are_as_they_were_stored(version: int, database: Database) -> None:
    assert [run.key for run in database.runs()] == list(fixtures.old_runs(version))
    for stored in fixtures.stored(version, "runs"):
        plan, versions = json.loads(stored["plan"]), json.loads(stored["versions"])
        assert dataclasses.asdict(database.run(stored["key"])) == {
            **stored,
            "plan": plan,
            "versions": versions,
            "damage": "",
        }


def test_rows_are_as_they_were_stored(version: int, database: Database) -> None:
    stored: dict[str, list[Content]] = {key: [] for key in fixtures.old_runs(version)}
    for row in fixtures.stored(version, "rows"):
        row["image"] = row["image"] and zlib.decompress(row["image"])
        row.setdefault("ssim", None)  # since schema 2
        row["opinions"] = json.loads(row.get("opinions", "[]"))  # since schema 4
        stored[row.pop("run")].append(row)
    assert {key: [as_schema_4(row) for row in database.rows(key, images=True)] for key in stored} == stored


def test_fittings_are_as_they_were_stored(version: int, database: Database) -> None:
    for stored in fixtures.stored(version, "fittings"):
        assert database.fitting(stored["run"], stored["attack"]) == stored["content"]


def test_tables_are_those_of_d468494(version: int, database: Database, card: bundles.Card) -> None:
    for key, old in fixtures.old_tables(version).items():
        assert len(old) > 100
        tables = {table.name: table for table in tiny.all_tables(database, key, card)}
        found = {place: cell_at(tables, place) for place in old}
        assert {place: (was, found[place]) for place, was in old.items() if not _equal(was, found[place])} == {}


def test_only_runs_of_the_old_card_have_graded_rates(version: int) -> None:
    """The frozen tables were computed with thresholds, so the test above would notice if they were lost."""
    for tables in fixtures.old_tables(version).values():
        graded = {cell["value"] for (_, _, heading), cell in tables.items() if heading.startswith("Graded, ")}
        assert (graded != {None}) == (version == 4)


def _equal(was: Content, found: Cell | None) -> bool:
    """Return whether two cells are equal; floats may differ by what another processor rounds differently."""
    if found is None:
        return False
    if was["value"] is None and was["n"] == 0:  # an empty rate: today's tables leave its count out as well
        return found.value is None and not found.n
    for name in ("value", "n", "low", "high"):
        old, new = was[name], getattr(found, name)
        if type(new) is not type(old) or new != (pytest.approx(old, rel=1e-6) if isinstance(old, float) else old):
            return False
    return True

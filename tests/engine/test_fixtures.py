"""Databases of older versions are still read, and give the tables that they gave before."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from ciad_engine.evaluation.table import to_json
from ciad_engine.evaluation.tables import all_tables
from ciad_engine.runs import Database

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROZEN = json.loads(gzip.decompress((FIXTURES / "tables.json.gz").read_bytes()))


@pytest.mark.parametrize("schema", sorted(FROZEN))
def test_an_old_database_gives_its_tables(schema: str, tmp_path: Path) -> None:
    path = shutil.copy(FIXTURES / f"schema_{schema}.sqlite", tmp_path)
    with Database(path) as database:
        assert [run.key for run in database.runs()] == [run["run"] for run in FROZEN[schema]]
        for run in FROZEN[schema]:
            tables = [to_json(table) for table in all_tables(database, run["run"])]
            assert database.counts(run["run"]) == run["counts"]
            assert len(tables) == len(run["tables"])
            for table, frozen in zip(tables, run["tables"], strict=True):
                assert table["rows"] == frozen["rows"]
                assert list(table["columns"]) == frozen["columns"]

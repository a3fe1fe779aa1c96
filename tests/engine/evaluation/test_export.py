"""CSV files a spreadsheet reads without harm and a program without loss."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ciad_engine import __version__
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import RunError
from ciad_engine.evaluation import export, planning, runner, tables
from ciad_engine.evaluation.records import attack_title
from ciad_engine.runs import Database
from tests.engine.evaluation import test_tables, tiny


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(database: Database, folder: Path, key: str) -> list[Path]:
    card = tiny.system().card
    return export.write_csv(folder, database, key, card)


def test_files_and_header_rows(database: Database, tmp_path: Path) -> None:
    paths = written(database, tmp_path / "a" / "b", test_tables.filled(database))
    assert [path.name for path in paths] == [
        "table1.csv", "table2.csv", "table4.csv", "attacks.csv", "controls.csv", "roc.csv", "rows.csv", "run.json",
        "roc.svg", "roc.png", "scores.svg", "scores.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(path.name for path in paths)
    raw = (tmp_path / "a" / "b" / "attacks.csv").read_bytes()
    assert raw.decode("utf-8").startswith("Attack,Images,Already misclassified,Success rate,")
    assert raw.count(b"\n") == raw.count(b"\r\n") == 3


def test_charts_of_an_earlier_export_do_not_stay(database: Database, tmp_path: Path) -> None:
    written(database, tmp_path, test_tables.filled(database))
    (tmp_path / "mine.svg").write_text("kept")
    plan = planning.Plan("b", "b", "d", "d", True, (planning.AttackChoice("jsma", ()),), 5, 1)
    database.start(plan.key(), planning.to_json(plan), {}, "CPU")
    written(database, tmp_path, plan.key())
    assert sorted(path.name for path in tmp_path.glob("*.[sp][vn]g")) == ["mine.svg"]


def test_tables_keep_full_precision_and_intervals(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    fgsm, cw, _ = read(tmp_path / "table2.csv")
    (cells,) = [r for r in tables.table2(database, key).rows if r[0].value == "FGSM (L∞)"]
    assert float(fgsm["True positive, low"]) == cells[2].low
    assert (fgsm["True positive"], fgsm["True positive, n"]) == ("0.5", "4")
    assert (cw["True positive"], cw["True positive, n"], cw["True positive, low"]) == ("", "0", "")
    assert fgsm["Paper's true positive"] == "0.878"


def test_columns_do_not_depend_on_what_was_found(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path / "with", key)
    export.write_csv(tmp_path / "without", database, key)
    with_card, without = (read(tmp_path / name / "table2.csv")[0] for name in ("with", "without"))
    assert list(with_card) == list(without)
    assert without["Graded, 5 %: true positive, n"] == "0"
    # Neither an interval nor a control that is missing takes its columns along.
    system, data = tiny.system(), tiny.data(60)
    full = runner.run(tiny.plan(data, system, 60, attacks=(planning.choose("fgsm", eps=12),)), system, data, database)
    written(database, tmp_path / "full", full)
    for name in ("table2.csv", "rows.csv"):
        assert list(read(tmp_path / "full" / name)[0]) == list(read(tmp_path / "with" / name)[0])
    assert float(read(tmp_path / "full" / "table2.csv")[0]["Graded: AUROC, low"]) > 0
    assert read(tmp_path / "with" / "table2.csv")[0]["Graded: AUROC, low"] == ""


def test_rows_keep_full_precision(database: Database, tmp_path: Path) -> None:
    system, data = tiny.system(), tiny.data()
    key = runner.run(tiny.plan(data, system), system, data, database)
    written(database, tmp_path, key)
    lines = read(tmp_path / "rows.csv")
    rows = database.rows(key)
    assert len(lines) == len(rows) == 60
    assert "image" not in lines[0]
    for line, row in zip(lines, rows, strict=True):
        assert line["attack"] == (row.attack or "benign")
        assert line["attack_title"] == (attack_title(row.attack) if row.attack else "benign")
        for name in ("p1_y1", "p2_y2", "score_graded", "l2", "seconds"):
            assert float(line[name]) == getattr(row, name)
        assert line["success"] == str(int(row.success))
        assert line["label_after"] == ("" if row.label_after is None else str(row.label_after))
        assert line["name"] == row.name
        assert line["paper_rule"] == ("benign" if row.y1 == row.y2 else "adversarial")
        assert line["y2_class"] == CIFAR10.classes[row.y2]
        for opinion in row.opinions:
            told = opinion.name.replace("-", "_")
            assert (int(line[f"{told}_y"]), float(line[f"{told}_score"])) == (opinion.y, opinion.score)
        assert len(row.opinions) == 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_neutralised_in_text_only(database: Database, tmp_path: Path, start: str) -> None:
    key = test_tables.filled(database)
    hostile = start + '2+3;cmd|"/c calc",x\nnext'
    database.append(key, [tiny.row(90, "fgsm", score=-1.5, label=0, reason=hostile, label_before=0)])
    written(database, tmp_path, key)
    line = next(line for line in read(tmp_path / "rows.csv") if line["position"] == "90")
    assert line["reason"] == "'" + hostile
    assert line["score_graded"] == "-1.5"


def test_harmless_text_and_numbers_stay() -> None:
    for value in ("cat", "a=b", "", 3, -3, -0.5, None):
        assert export.neutral(value) == value


def test_side_car_says_how_it_came_about(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    content = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert content["run"] == key
    assert content["plan"] == database.run(key).plan
    assert content["versions"] == {"torch": "2"}
    assert content["exported_with"] == __version__
    assert (content["device"], content["seconds"], content["images"]) == ("CPU", 2.0, 6)
    assert content["thresholds"]["graded"] == {"value": 1.5, "source": "chosen for tests"}
    assert content["thresholds"]["paper"]["value"] == 0.5
    assert content["thresholds of controls"] == {}  # this bundle's card has none
    assert content["classes"][0] == "airplane"
    assert [table["name"] for table in content["tables"]] == ["table1", "table2", "table4", "attacks", "controls"]
    assert any("Not computed on the official" in note for note in content["tables"][0]["notes"])
    json.dumps(export.as_json(database, key, tables.all_tables(database, key)), allow_nan=False)


def test_writing_again_replaces_the_files(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    (tmp_path / "rows.csv").write_text("old")
    written(database, tmp_path, key)
    assert len(read(tmp_path / "rows.csv")) == 18


def test_a_folder_that_cannot_be_written_is_named(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"Cannot write .*taken.table1\.csv: .+ Choose another folder"):
        written(database, tmp_path / "taken", key)
    with pytest.raises(RunError, match="no run called"):
        export.write_csv(tmp_path, database, "ff")


def test_every_table_says_on_which_data_it_was_computed(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    for name in ("table1", "table2", "attacks"):
        for line in read(tmp_path / f"{name}.csv"):
            assert line["data"] == "bundled samples (generated images)"
            assert key.startswith(line["run"])

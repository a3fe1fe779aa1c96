"""CSV files a spreadsheet reads without harm and a program without loss."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from pathlib import Path

import pytest

from ciad_engine import __version__, bundles, resources
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import RunError
from ciad_engine.evaluation import export, old_tables, planning, runner, tables
from ciad_engine.evaluation.records import load
from ciad_engine.runs import Database, Row
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
        "table1.csv", "table2.csv", "table4.csv", "attacks.csv", "roc.csv", "rows.csv", "run.json",
        "roc.svg", "roc.png", "scores.svg", "scores.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(path.name for path in paths)
    raw = (tmp_path / "a" / "b" / "attacks.csv").read_bytes()
    assert raw.decode("utf-8").startswith("attack,norm,settings,detector,images,already_misclassified,success_rate,")
    assert raw.count(b"\n") == raw.count(b"\r\n") == 3


def test_files_of_an_earlier_export_do_not_stay(database: Database, tmp_path: Path) -> None:
    known = (bundles.Evaded("mask", "disagreement", 0.5, ""),)
    written(database, tmp_path, test_tables.filled(database, evade=known))
    assert (tmp_path / "adaptive.csv").exists()
    (tmp_path / "mine.svg").write_text("kept")
    plan = planning.Plan("b", "b", "d", "d", True, (planning.AttackChoice("jsma", ()),), 5, 1)
    database.start(plan.key(), planning.to_json(plan), {}, "CPU")
    written(database, tmp_path, plan.key())
    assert sorted(path.name for path in tmp_path.glob("*.[sp][vn]g")) == ["mine.svg"]
    assert not (tmp_path / "adaptive.csv").exists()


def test_tables_keep_full_precision_and_intervals(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    fgsm, cw, _ = [line for line in read(tmp_path / "table2.csv") if line["detector"] == "mask"]
    cell = tiny.all_tables(database, key)[1].cell("FGSM (L∞)", "true_positive_rate", "mask")
    assert float(fgsm["true_positive_rate_low"]) == cell.low
    assert (fgsm["true_positive_rate"], fgsm["true_positive_rate_n"]) == ("0.5", "4")
    assert [cw[f"true_positive_rate{part}"] for part in ("", "_n", "_low")] == ["", "0", ""]
    assert fgsm["paper_true_positive_rate"] == "0.878"


def test_columns_do_not_depend_on_what_was_found(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path / "with", key)
    export.write_csv(tmp_path / "without", database, key)
    with_card, without = (read(tmp_path / name / "table2.csv")[0] for name in ("with", "without"))
    assert list(with_card) == list(without)
    assert without["graded_5_true_positive_rate_n"] == "0"
    # Neither an interval nor a control that has no row takes its columns along.
    system, data = tiny.system(), tiny.data(60)
    full = runner.run(tiny.plan(data, system, 60, attacks=(planning.choose("fgsm", eps=12),)), system, data, database)
    written(database, tmp_path / "full", full)
    assert list(read(tmp_path / "full" / "table2.csv")[0]) == list(with_card)
    assert float(read(tmp_path / "full" / "table2.csv")[0]["auroc_low"]) > 0
    assert read(tmp_path / "with" / "table2.csv")[0]["auroc_low"] == ""


def test_the_rows_of_a_growing_run_are_those_of_its_tables(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, rows = test_tables.filled(database, finished=False, limit=100), Database.rows

    def grown(self: Database, run: str, *which: object) -> list[Row]:
        found = rows(self, run, *which)
        self.append(run, [tiny.row(len(found))])
        return found

    monkeypatch.setattr(Database, "rows", grown)
    written(database, tmp_path, key)
    benign = [line for line in read(tmp_path / "rows.csv") if line["attack"] == "benign"]
    assert len(benign) == json.loads((tmp_path / "run.json").read_text())["images"] == 6


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
        settings = planning.choose("fgsm", eps=8).parameters() if row.attack else {}
        assert (line["norm"], json.loads(line["settings"])) == ("linf" if row.attack else "", settings)
        for name in ("p1_y1", "l2", "seconds"):
            assert float(line[name]) == getattr(row, name)
        assert (line["fooled"], line["success"]) == (str(int(row.fooled)),) * 2
        assert line["evaded"] == ""
        assert line["label_after"] == ("" if row.label_after is None else str(row.label_after))
        assert line["name"] == row.name
        assert (line["label_class"], line["y1_class"]) == (CIFAR10.classes[row.label], CIFAR10.classes[row.y1])
        for name, score in row.scores.items():
            told = name.replace("-", "_")
            assert float(line[f"{told}_score"]) == score.value
            found = [line[f"{told}_{what}"] for what in ("class", "probability")]
            assert found == ["" if value is None else repr(value) for value in (score.label, score.probability)]
        assert len(row.scores) == 5


STARTS = [
    "=",
    "+",
    "-",
    "@",
    "\t=",
    "\r-",
    "  =",
    "\n=",
    "\u00a0@",
    "\ufeff=",
    '"=',
    "'=",
    "\u201c+",
    "\uff1d",
    "\uff0b",
    "\uff0d",
]
STARTS += ["\uff20", "\ufe66", "\u2212", "\u200b=", "name;=", "name\t@", 'name\n "=', "\x00="]


@pytest.mark.parametrize("start", STARTS)
def test_formulas_are_neutralised_in_text_only(database: Database, tmp_path: Path, start: str) -> None:
    key = test_tables.filled(database, limit=7)
    hostile = start + '2+3;cmd|"/c calc",x\nnext'
    database.append(key, [tiny.row(6), tiny.row(6, "fgsm", score=-1.5, label=0, reason=hostile, label_before=0)])
    written(database, tmp_path, key)
    line = [line for line in read(tmp_path / "rows.csv") if line["position"] == "6"][1]
    assert line["reason"] == "'" + hostile
    assert line["mask_score"] == "-1.5"


def test_harmless_text_and_numbers_stay() -> None:
    for value in (
        "cat",
        "a=b",
        "",
        3,
        -3,
        -0.5,
        None,
        '{"eps": -8.0, "k": "-"}',
        "x, -y",
        "f2 on the mask - paper",
        "café",
    ):
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
    assert content["thresholds"]["mask"] == {
        "0.05": {"value": 1.5, "source": "chosen for tests"},
        "0.01": {"value": 2.5, "source": "chosen, too"},
    }
    assert list(content["thresholds"]) == ["mask", "mlp", "shuffled-mask", "confidence"]
    assert content["classes"][0] == "airplane"
    assert [table["name"] for table in content["tables"]] == ["table1", "table2", "table4", "attacks"]
    assert any("Not computed on the official" in note for note in content["tables"][0]["notes"])
    records = load(database, key)
    json.dumps(export.as_json(records, tables.tables_of(records)), allow_nan=False)


def test_writing_again_replaces_the_files(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    written(database, tmp_path, key)
    (tmp_path / "rows.csv").write_text("old")
    written(database, tmp_path, key)
    assert len(read(tmp_path / "rows.csv")) == 18


def test_a_folder_that_cannot_be_written_is_named(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"Cannot write .*taken: .+ Choose another folder"):
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


def test_headers_are_keys_and_each_row_is_about_one_thing(database: Database, tmp_path: Path) -> None:
    system, data = tiny.system(), tiny.data(60)
    chosen = (planning.choose("fgsm", eps=4), planning.choose("fgsm", eps=12))
    key = runner.run(tiny.plan(data, system, 20, attacks=chosen), system, data, database)
    written(database, tmp_path, key)
    attacks = [("fgsm", "linf", choice.parameters()) for choice in chosen]
    detectors = ["mask", "mlp", "shuffled-mask", "constant-mask", "confidence"]
    wanted = {
        "table1": [(*attack, "mask") for attack in attacks],
        "table2": [(*attack, detector) for detector in detectors for attack in attacks],
        "table4": [(*attack, "mask") for attack in attacks],
        "attacks": [(*attack, "") for attack in attacks],
    }
    for name, subjects in wanted.items():
        header = (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        assert all(re.fullmatch("[a-z][a-z0-9_]*", heading) for heading in header)
        assert len(set(header)) == len(header)
        assert (header[:4], header[-2:]) == (["attack", "norm", "settings", "detector"], ["data", "run"])
        lines = read(tmp_path / f"{name}.csv")
        assert [
            (line["attack"], line["norm"], json.loads(line["settings"]), line["detector"]) for line in lines
        ] == subjects
    for name in ("roc", "rows"):
        for line in read(tmp_path / f"{name}.csv"):
            assert all(re.fullmatch("[a-z][a-z0-9_]*", heading) for heading in line)
            assert isinstance(json.loads(line["settings"]), dict)


def test_rows_of_all_attacks_together_and_of_benign_images_have_no_settings(database: Database, tmp_path: Path) -> None:
    written(database, tmp_path, test_tables.filled(database))
    pooled = [line for line in read(tmp_path / "table2.csv") if line["attack"] == "*"]
    assert [(line["norm"], line["settings"], line["detector"]) for line in pooled] == [
        ("", "{}", "mask"),
        ("", "{}", "confidence"),
    ]
    benign = [line for line in read(tmp_path / "rows.csv") if line["attack"] == "benign"]
    assert {(line["norm"], line["settings"]) for line in benign} == {("", "{}")}


# resources/docs/columns.md


def described() -> dict[str, list[str]]:
    """The columns that the page describes, by file; a name with "..." at its end stands for all that begin so."""
    found: dict[str, list[str]] = {}
    file = ""
    for line in resources.path("docs", "columns.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            file = line[3:]
        cell = line[2:].partition(" |")[0] if line.startswith("| `") else line if file == "roc.csv" else ""
        found.setdefault(file, []).extend(re.findall("`([^`]+)`", cell))
    return found


def is_described(column: str, names: list[str]) -> bool:
    # "The same four at 1%": the page describes those at 5% one by one.
    column = column.replace("graded_1_", "graded_5_")
    return column in names or any(name.endswith("...") and column.startswith(name[:-3]) for name in names)


@pytest.mark.parametrize("attacked", ["classifier", "second_classifier"])
def test_every_column_of_every_file_is_described(database: Database, tmp_path: Path, attacked: str) -> None:
    known = (bundles.Evaded("mask", "disagreement", 0.5, ""),)
    key = test_tables.filled(database, finished=False, attacked=attacked, evade=known)
    evading = {"y1": 1, "label_before": 0, "fooled": True, "evaded": True}
    aimed = tiny.row(7, "cw", reason="the target is its own class", label_before=0)
    database.append(key, [tiny.row(6), tiny.row(7), tiny.row(6, "cw", **evading), aimed])
    written(database, tmp_path, key)
    known = described()
    subject = known["What a row is about"]
    assert subject == ["attack", "norm", "settings", "detector", "data", "run"]
    seen = set()
    for name in ("table1", "table2", "table4", "attacks", "adaptive", "roc"):
        header = list(read(tmp_path / f"{name}.csv")[0])
        own = [column for column in header if column not in subject]
        base = [column for column in own if not re.fullmatch(r".*_(n|low|high)", column)]
        assert [column for column in base if not is_described(column, known[f"{name}.csv"])] == [], name
        assert {column.rpartition("_")[0] for column in own} - {column.rpartition("_")[0] for column in base} <= set(
            base
        )
        seen |= {(name, column) for column in base}
    assert ("table2", "evasion_rate") in seen
    assert {("adaptive", "evasion_rate"), ("adaptive", "evasion_rate_fgsm"), ("adaptive", "evasion_rate_cw")} <= seen
    assert ("attacks", "not_attacked_the_target_is_its_own_class") in seen
    rows = [column for column in read(tmp_path / "rows.csv")[0] if column not in subject]
    told = [*known["rows.csv"], "label_class", "y1_class"]
    for column in rows:
        detector, _, what = column.rpartition("_")
        assert column in told or (detector in ("mask", "confidence") and f"DETECTOR_{what}" in told), column


def test_every_column_that_a_table_can_have_is_described() -> None:
    known = described()
    every = {"table1": tables.TABLE1, "table2": tables.TABLE2, "table4": tables.TABLE4, "attacks": tables.ATTACKS}
    for name, columns in every.items():
        assert [c.key for c in columns if not is_described(c.key, known[f"{name}.csv"])] == [], name
        assert len({c.key for c in columns}) == len(columns)
        names = [one for one in known[f"{name}.csv"] if not one.endswith("...")]
        assert set(names) - {c.key for c in columns} <= {"not_attacked_the_target_is_its_own_class"}, name


def test_every_old_heading_on_the_page_has_the_key_that_old_tables_are_read_by() -> None:
    """The third column of the page says where a column of an export before version 0.2 went."""
    checked, file = 0, ""
    for line in resources.path("docs", "columns.md").read_text(encoding="utf-8").splitlines():
        file = line[3:].removesuffix(".csv") if line.startswith("## ") else file
        cells = line.strip("| ").split(" | ")
        if not line.startswith("| `") or len(cells) != 3 or "..." in cells[0] or cells[2] == "in the notes":
            continue
        keys = re.findall("`([^`]+)`", cells[0])
        headings = cells[2].split("; ")
        if headings[-1] == "median":
            headings[-1] = f"{headings[0].rpartition(', ')[0]}, median"
        if keys == ["auroc"]:
            keys = ["auroc", "auroc"]
        for key, heading in zip(keys, headings, strict=True):
            table = "controls" if heading == "AUROC" else file
            assert old_tables.place(table, heading)[:2] == (file, key)
            checked += 1
    assert checked > 40


class Stopped(BaseException):
    """The process is killed."""


def exported(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


OLD = dict.fromkeys(("table1.csv", "table2.csv", "adaptive.csv", "roc.svg", "run.json"), b"old")
NEW = dict.fromkeys(("table1.csv", "table2.csv", "rows.csv", "roc.svg", "run.json"), b"new")
STEPS = [(export, "write_synced"), (Path, "unlink"), (export.shutil, "move"), (export, "sync_folder")]


@pytest.mark.parametrize("error", [Stopped(), OSError(28, "No space left on device")])
@pytest.mark.parametrize(("holder", "name"), STEPS)
def test_an_export_that_is_stopped_anywhere_never_mixes_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: object, name: str, error: BaseException
) -> None:
    """Killed, or refused by a full disk, at each of its steps; then the same again completes it."""
    folder, real = tmp_path / "out", getattr(holder, name)
    for stop in range(1, 50):
        export._replace(folder, OLD)
        left = iter(range(1, stop))

        def step(*arguments: object, left=left, **more: object) -> object:
            if next(left, None) is None:
                raise error
            return real(*arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(holder, name, step)
            try:
                export._replace(folder, NEW)
                break
            except (Stopped, RunError) as raised:
                message = str(raised)
        assert message == "" or "No space left" in message
        found = exported(folder)
        assert found in (OLD, NEW) or ("run.json" not in found and len(set(found.values())) <= 1)
        if name == "write_synced":
            assert found == OLD  # nothing is touched before everything is written
    assert 2 < stop < 49
    assert exported(folder) == NEW
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and modes")
def test_a_link_stays_one_and_a_file_keeps_its_mode(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    folder = tmp_path / "out"
    written(database, folder, key)
    (tmp_path / "elsewhere.csv").write_text("old")
    (folder / "rows.csv").unlink()
    (folder / "rows.csv").symlink_to(tmp_path / "elsewhere.csv")
    (folder / "roc.csv").chmod(0o600)
    written(database, folder, key)
    assert (folder / "rows.csv").is_symlink()
    assert len(read(tmp_path / "elsewhere.csv")) == 18
    assert (folder / "roc.csv").stat().st_mode & 0o777 == 0o600


def test_a_folder_in_the_place_of_a_file_leaves_the_earlier_export_as_it_is(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    folder = tmp_path / "out"
    written(database, folder, key)
    (folder / "rows.csv").unlink()
    (folder / "rows.csv").mkdir()
    before = exported(folder)
    with pytest.raises(RunError, match=r"rows\.csv: Is a directory"):
        written(database, folder, key)
    assert exported(folder) == before


def test_what_a_killed_export_left_is_removed_when_it_is_surely_old(database: Database, tmp_path: Path) -> None:
    key = test_tables.filled(database)
    for name in (".ciad-export-old", ".ciad-export-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text("half")
    os.utime(tmp_path / ".ciad-export-old", (0, 0))
    written(database, tmp_path, key)
    assert [path.name for path in tmp_path.glob(".ciad*")] == [".ciad-export-new"]

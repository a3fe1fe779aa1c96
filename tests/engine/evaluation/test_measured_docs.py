"""packaging/measured_docs.py: which evaluations on a card it shows, and how."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from ciad_engine import bundles
from ciad_engine.evaluation import planning, runner, tables
from ciad_engine.evaluation.records import attack_title
from ciad_engine.runs import Database
from tests.engine.evaluation import tiny

MADE = runpy.run_path(str(Path(__file__).resolve().parents[3] / "packaging" / "measured_docs.py"))
SETTINGS = {False: ("DIRECT", "SWEPT", "CONTROLS", "HEADLINE"), True: ("TRANSFERRED", "SWEPT_TRANSFERRED")}
SHOWN = {
    transferred: list(dict.fromkeys(measure for name in names for measure in MADE[name]))
    for transferred, names in SETTINGS.items()
}


def figure(table: str, column: str, own: float) -> float:
    """A number of its own for each column, from `own` on."""
    known = sorted({(m.table, c) for each in SHOWN.values() for m in each for c in (m.column, m.paper)})
    return own + known.index((table, column)) / 1000


def evaluation(
    preset: str,
    limit: int,
    transferred: bool = False,
    own: float = 0.5,
    names: tuple[str, ...] = (),
    attacks: tuple[planning.AttackChoice, ...] = (),
    data: str = "test images",
) -> dict[str, Any]:
    """As on a card, of the preset's attacks, of those in `names` alone, or of `attacks`; figures from `own` on."""
    chosen = attacks or tuple(choice for choice in planning.preset(preset) if not names or choice.name in names)
    attacked = bundles.SECOND_CLASSIFIER if transferred else bundles.CLASSIFIER
    plan = planning.Plan("paper", "ab", data, "cd", False, chosen, limit, 7, attacked)
    tables = []
    for name in sorted({measure.table for measure in SHOWN[transferred]}):
        measures = [measure for measure in SHOWN[transferred] if measure.table == name]
        columns = list(dict.fromkeys(c for m in measures for c in (m.column, m.paper) if c))
        cells = [{"value": figure(name, column, own)} for column in columns]
        rows = [[{"value": attack_title(label)}, *cells] for label in plan.labels]
        tables.append({"name": name, "title": name, "columns": ["Attack", *columns], "rows": rows, "notes": []})
    command = f"ciad evaluate --limit {limit}{' --transferred' if transferred else ''}"
    entry = {"run": plan.key(), "plan": planning.to_json(plan), "command": command, "device": "CPU"}
    return {**entry, "seconds_alone": 6.0 * limit, "tables": tables}


def card(*evaluations: dict[str, Any]) -> bundles.Card:
    measured = {"test images": {"n": 1000, "f1": 0.75, "f2 on masks": 0.5, "benign rate": 0.1}}
    content = {bundles.EVALUATIONS: list(evaluations), "measured": measured}
    return bundles.Card("paper", Path("nowhere"), (), content, "ab")


def sections(made: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", made, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_setting_has_its_measures() -> None:
    swept = evaluation("sweep", 100), evaluation("sweep", 50, transferred=True, names=("fgsm",))
    made = sections(MADE["page"](card(*swept, evaluation("paper", 200, transferred=True), evaluation("paper", 300))))
    right, direct, transferred, other, other_transferred = made.values()

    def line(words: str, table: str, column: str, paper: str = "") -> str:
        brackets = f" (paper {figure(table, paper, 0.5):.3f})" if paper else ""
        return f"\n| {words} | {figure(table, column, 0.5):.3f}{brackets} |"

    assert "f1 0.7500 [0.722, 0.776] (paper 0.82), f2 on masks 0.5000 [0.469, 0.531] (paper 0.60).\n" in right
    assert "On test images:\n\n- `ciad evaluate --limit 300` (30 min on CPU)\n\n|" in direct
    for words, table, column, paper in (
        ("Table 1: the mask keeps its class", "table1", "Mask retention", "Paper"),
        ("Table 2: true positive", "table2", "True positive", "Paper's true positive"),
        ("Table 2: true negative", "table2", "True negative", "Paper's true negative"),
        ("True negative, all benign images", "table2", "True negative, all benign", "Paper's true negative"),
        ("Table 4: recovery", "table4", "Recovery", "Paper, all three"),
        ("AUROC: f1 alone, its top probability", "controls", "AUROC: f1's own confidence", ""),
    ):
        assert line(words, table, column, paper) in direct
    assert "`ciad evaluate --limit 200 --transferred`" in transferred
    place = "VGG-like network in f1's place"
    assert line("Table 3: true positive", "table2", "True positive", "Paper's true positive") in transferred
    for rate in ("positive", "negative"):
        column, paper = f"Attacked network in f1's place: true {rate}", f"Paper's true {rate}"
        assert line(f"Table 3: true {rate}, {place}", "table2", column, paper) in transferred
    assert "`ciad evaluate --limit 100`" in other
    assert "| The mask keeps its class | True positive | True negative |" in other
    assert f"\n| FGSM (L∞), eps = 2 | {figure('attacks', 'Images', 0.5):.3f} |" in other
    assert "\n| C&W (L2), confidence = 0, target = random | 0." in other
    assert "\n| FGSM (L∞), eps = 2 | 0." in other_transferred
    assert "JSMA" not in other_transferred
    assert "(paper" not in other + other_transferred


def test_of_each_attack_the_evaluation_with_most_images_is_shown() -> None:
    several = (
        evaluation("paper", 2000, own=0.75),
        evaluation("paper", 9000, names=("fgsm", "jsma"), own=0.875),
        evaluation("paper", 1000),
        evaluation("paper", 10_000, transferred=True, names=("cw",)),
        evaluation("sweep", 500),
        evaluation("sweep", 400),
    )
    made = sections(MADE["page"](card(*several)))
    direct = made["Attacks on f1 (direct)"]
    assert re.findall("^- .*", direct, re.MULTILINE) == [
        "- FGSM (L∞), JSMA (L0): `ciad evaluate --limit 9000` (900 min on CPU)",
        "- C&W (L2): `ciad evaluate --limit 2000` (200 min on CPU)",
    ]
    (line,) = re.findall(r"^\| Table 2: true positive.*", direct, re.MULTILINE)
    assert re.findall(r"\| (0\.\d+) \(", line) == [
        f"{figure('table2', 'True positive', own):.3f}" for own in (0.875, 0.875, 0.75)
    ]
    transferred = made["Attacks on the VGG-like network (transferred)"]
    assert re.findall(r"^\| Table 3: true positive \| – \| – \| 0.*", transferred, re.MULTILINE)
    swept = made["Settings compared, direct"]
    assert re.findall("^- .*", swept, re.MULTILINE) == ["- `ciad evaluate --limit 500` (50 min on CPU)"]


def test_attacks_are_called_alike_whatever_else_was_evaluated() -> None:
    one = tuple(choice for choice in planning.preset("sweep") if dict(choice.settings).get("confidence") == 20.0)
    made = sections(MADE["page"](card(evaluation("sweep", 500), evaluation("sweep", 900, attacks=one))))
    assert "- C&W (L2), confidence = 20: `ciad evaluate --limit 900`" in made["Settings compared, direct"]
    assert "| FGSM (L∞) | JSMA (L0) | C&W (L2) |" in made["Attacks on f1 (direct)"]


def test_the_headline_is_of_both_settings() -> None:
    of_both = evaluation("paper", 300), evaluation("paper", 200, transferred=True, own=0.125, names=("jsma", "cw"))
    made = MADE["headline"](card(*of_both))
    lines = re.findall(r"^\| (Table \d: .*?) \| (\S+)(?: \(paper \S+)? \| (\S+) ", made, re.MULTILINE)
    assert [words for words, *_ in lines] == [
        "Table 1: the mask keeps its class",
        "Table 2: true positive",
        "Table 2: true negative",
        "Table 4: adversarial images whose benign mask was right",
        "Table 4: true positive",
        "Table 4: recovery",
        "Table 3: adversarial images",
        "Table 3: true positive",
        "Table 3: true negative",
    ]
    assert lines[1][1:] == (f"{figure('table2', 'True positive', 0.5):.3f}",) * 2
    assert lines[7][1:] == ("–", f"{figure('table2', 'True positive', 0.125):.3f}")
    assert "Table 3" not in MADE["headline"](card(evaluation("paper", 300)))


def test_a_share_says_of_how_many_where_these_are_not_the_adversarial_images() -> None:
    entry = evaluation("paper", 100)
    for table in entry["tables"]:
        for row in table["rows"]:
            for column, cell in zip(table["columns"], row, strict=True):
                if column == "Adversarial images":
                    cell["value"] = 1500
                elif column in ("True positive", "Success rate", "True negative, all benign"):
                    cell |= {"share": True, "n": 1500 if column == "True positive" else 2000}
        if table["name"] == "table4":
            table["notes"] = ["Filtered on the truth.", "Data: these."]
    page, head = MADE["page"](card(entry)), MADE["headline"](card(entry))
    found, success, passed = (
        f"{figure(*place, 0.5):.3f}"
        for place in (("table2", "True positive"), ("attacks", "Success rate"), ("table2", "True negative, all benign"))
    )
    assert f"| Table 2: true positive | {found} (paper" in page
    assert f"| Success rate | {success} of 2,000 |" in page
    for text in (page, head):
        assert f"| True negative, all benign images | {passed} of 2,000 (paper" in text
        assert "\nTable 4. Filtered on the truth.\n" in text
    assert "| Table 4: adversarial images whose benign mask was right | 1,500 |" in head


def test_of_two_with_as_many_images_the_newest_is_shown() -> None:
    both = evaluation("paper", 300), {**evaluation("paper", 300, own=0.75), "command": "ciad evaluate --seed 8"}
    assert "--seed 8" in MADE["headline"](card(*both))
    assert "--seed 8" not in MADE["headline"](card(*reversed(both)))


def test_other_evaluations_are_left_out() -> None:
    foreign = evaluation("paper", 100, names=("fgsm",))
    foreign["plan"]["attacks"][0]["settings"]["eps"] = 3.0
    elsewhere = evaluation("paper", 9000, data="other images")
    wider = evaluation(
        "paper", 900, attacks=(*planning.preset("paper"), planning.choose("bim"))
    )  # BIM is not in the sweep
    shown = card(foreign, wider, elsewhere)
    assert [source.plan.limit for source in MADE["sources"](shown, "paper", False).values()] == [900] * 3
    assert set(MADE["sources"](shown, "sweep", False).values()) == {None}
    assert list(sections(MADE["page"](card(foreign)))) == ["How often the networks are right"]


def test_what_a_card_lacks_is_named() -> None:
    entry = evaluation("paper", 100)
    (table,) = [table for table in entry["tables"] if table["name"] == "table1"]
    table["columns"][1] = "Retention"
    with pytest.raises(SystemExit, match=r"no 'Mask retention' of FGSM \(L∞\) in table1: record its run"):
        MADE["page"](card(entry))
    entry["tables"].remove(table)
    with pytest.raises(SystemExit, match=r"no 'Mask retention' of FGSM \(L∞\) in table1: record its run"):
        MADE["page"](card(entry))


@pytest.mark.parametrize("transferred", [False, True])
def test_our_tables_have_the_columns_that_are_shown(tmp_path: Path, transferred: bool) -> None:
    data, system = tiny.data(), tiny.system()
    attacked = bundles.SECOND_CLASSIFIER if transferred else bundles.CLASSIFIER
    plan = tiny.plan(data, system, 6, attacks=(planning.choose("fgsm"),), attacked=attacked)
    with Database(tmp_path / "runs.sqlite") as database:
        made = tables.all_tables(database, runner.run(plan, system, data, database), system.card)
    columns = {(table.name, column) for table in made for column in table.columns}
    wanted = {(m.table, column) for m in SHOWN[transferred] for column in (m.column, m.paper) if column}
    assert wanted - columns == set()


def test_only_what_lies_between_the_lines_is_made_anew() -> None:
    text = f"before\n{MADE['START']}old\n{MADE['END']}after\n"
    made = MADE["filled"](text, card(evaluation("paper", 100)))
    assert made.startswith(f"before\n{MADE['START']}\nFGSM (L∞) eps 8/255; JSMA")
    assert made.endswith(f"\n{MADE['END']}after\n")
    assert "old" not in made
    assert MADE["filled"](made, card(evaluation("paper", 100))) == made
    with pytest.raises(SystemExit, match=r"README.md lacks the lines"):
        MADE["filled"]("no such lines", card())

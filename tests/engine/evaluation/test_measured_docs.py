"""packaging/measured_docs.py: which evaluations on a card it shows, and how."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from ciad_engine import bundles
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import planning, runner
from ciad_engine.evaluation.records import subject
from ciad_engine.evaluation.table import Cell, Column, Table, to_json
from ciad_engine.runs import Database
from tests.engine.evaluation import tiny

MADE = runpy.run_path(str(Path(__file__).resolve().parents[3] / "packaging" / "measured_docs.py"))
SETTINGS = {False: ("DIRECT", "SWEPT", "CONTROLS", "HEADLINE"), True: ("TRANSFERRED", "SWEPT_TRANSFERRED")}
SHOWN = {
    transferred: list(dict.fromkeys(measure for name in names for measure in MADE[name]))
    for transferred, names in SETTINGS.items()
}


def figure(table: str, column: str, own: float, detector: str = "mask") -> float:
    """A number of its own for each column and detector, from `own` on."""
    known = sorted({(m.table, c, m.detector) for each in SHOWN.values() for m in each for c in (m.column, m.paper)})
    return own + known.index((table, column, detector)) / 1000


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
        subjects, cells = [], []
        for detector in dict.fromkeys(measure.detector for measure in measures):
            having = {c for m in measures if m.detector == detector for c in (m.column, m.paper)}
            subjects += [subject(plan, label, detector) for label in plan.labels]
            line = tuple(Cell(figure(name, c, own, detector) if c in having else None) for c in columns)
            cells += [line] * len(plan.labels)
        headed = tuple(Column(key, key) for key in columns)
        tables.append(to_json(Table(name, name, headed, tuple(subjects), tuple(cells), ())))
    command = f"ciad evaluate --limit {limit}{' --transferred' if transferred else ''}"
    entry = {"run": plan.key(), "plan": planning.to_json(plan), "command": command, "device": "CPU"}
    return {**entry, "seconds_alone": 6.0 * limit, "tables": tables}


def card(*evaluations: dict[str, Any]) -> bundles.Card:
    measured = {"test images": {"n": 1000, "accuracy": {"f1": 0.75}, "detectors": {"mask": {"accuracy": 0.5}}}}
    content = {bundles.EVALUATIONS: list(evaluations), "measured": measured}
    return bundles.Card("paper", Path("nowhere"), CIFAR10, (), content, "ab")


def sections(made: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", made, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_setting_has_its_measures() -> None:
    swept = evaluation("sweep", 100), evaluation("sweep", 50, transferred=True, names=("fgsm",))
    made = sections(MADE["page"](card(*swept, evaluation("paper", 200, transferred=True), evaluation("paper", 300))))
    right, direct, transferred, other, other_transferred = made.values()

    def line(words: str, table: str, column: str, paper: str = "", detector: str = "mask") -> str:
        brackets = f" (paper {figure(table, paper, 0.5, detector):.3f})" if paper else ""
        return f"\n| {words} | {figure(table, column, 0.5, detector):.3f}{brackets} |"

    assert "f1 0.7500 [0.722, 0.776] (paper 0.82), f2 on masks 0.5000 [0.469, 0.531] (paper 0.60).\n" in right
    assert "On test images:\n\n- `ciad evaluate --limit 300` (30 min on CPU)\n\n|" in direct
    for words, *where in (
        ("Table 1: mask retention rate", "table1", "mask_retention_rate", "paper_mask_retention_rate"),
        ("Table 2: true positive rate", "table2", "true_positive_rate", "paper_true_positive_rate"),
        (
            "Table 2: true negative rate, same images before the attack",
            "table2",
            "true_negative_rate_paired",
            "paper_true_negative_rate",
        ),
        ("True negative rate, all benign images", "table2", "true_negative_rate_all", "paper_true_negative_rate"),
        ("Table 4: recovery rate", "table4", "recovery_rate", "paper_rate"),
        ("AUROC: f1's confidence", "table2", "auroc", "", "confidence"),
        ("AUROC: MLP on the image", "table2", "auroc", "", "mlp"),
    ):
        assert line(words, *where) in direct
    assert "`ciad evaluate --limit 200 --transferred`" in transferred
    place = "VGG-like network in f1's place"
    assert (
        line("Table 3: true positive rate", "table2", "true_positive_rate", "paper_true_positive_rate") in transferred
    )
    for rate in ("positive", "negative"):
        column, paper = f"attacked_true_{rate}_rate", f"paper_true_{rate}_rate"
        assert line(f"Table 3: true {rate} rate, {place}", "table2", column, paper) in transferred
    assert "`ciad evaluate --limit 100`" in other
    assert "| Mask retention rate | True positive rate | True negative rate, same images before the attack |" in other
    assert f"\n| FGSM (L∞), eps = 2 | {figure('attacks', 'images', 0.5, ''):.3f} |" in other
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
    (line,) = re.findall(r"^\| Table 2: true positive rate.*", direct, re.MULTILINE)
    assert re.findall(r"\| (0\.\d+) \(", line) == [
        f"{figure('table2', 'true_positive_rate', own):.3f}" for own in (0.875, 0.875, 0.75)
    ]
    transferred = made["Attacks on the VGG-like network (transferred)"]
    assert re.findall(r"^\| Table 3: true positive rate \| – \| – \| 0.*", transferred, re.MULTILINE)
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
        "Table 1: mask retention rate",
        "Table 2: true positive rate",
        "Table 2: true negative rate, same images before the attack",
        "Table 4: adversarial images whose benign mask is classified correctly",
        "Table 4: true positive rate",
        "Table 4: recovery rate",
        "Table 3: adversarial images",
        "Table 3: true positive rate",
        "Table 3: true negative rate, same images before the attack",
    ]
    assert lines[1][1:] == (f"{figure('table2', 'true_positive_rate', 0.5):.3f}",) * 2
    assert lines[7][1:] == ("–", f"{figure('table2', 'true_positive_rate', 0.125):.3f}")
    assert "Table 3" not in MADE["headline"](card(evaluation("paper", 300)))


def test_a_share_says_of_how_many_where_these_are_not_the_adversarial_images() -> None:
    entry = evaluation("paper", 100)
    for table in entry["tables"]:
        for row in table["cells"]:
            for column, cell in zip(table["columns"], row, strict=True):
                if column["key"] == "adversarial_images":
                    cell["value"] = 1500
                elif column["key"] in ("true_positive_rate", "success_rate", "true_negative_rate_all"):
                    cell |= {"rate": True, "n": 1500 if column["key"] == "true_positive_rate" else 2000}
        if table["name"] == "table4":
            table["notes"] = ["Filtered on the truth.", "Data: these."]
    page, head = MADE["page"](card(entry)), MADE["headline"](card(entry))
    found, success, passed = (
        f"{figure(table, column, 0.5, detector):.3f}"
        for table, column, detector in (
            ("table2", "true_positive_rate", "mask"),
            ("attacks", "success_rate", ""),
            ("table2", "true_negative_rate_all", "mask"),
        )
    )
    assert f"| Table 2: true positive rate | {found} (paper" in page
    assert f"| Success rate | {success} of 2,000 |" in page
    for text in (page, head):
        assert f"| True negative rate, all benign images | {passed} of 2,000 (paper" in text
        assert "\nTable 4. Filtered on the truth.\n" in text
    assert "| Table 4: adversarial images whose benign mask is classified correctly | 1,500 |" in head


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
    harmless = {"run": "ab", "title": "Harmless changes", "tables": []}  # not of a run
    shown = card(foreign, harmless, wider, elsewhere)
    assert [source.plan.limit for source in MADE["sources"](shown, "paper", False).values()] == [900] * 3
    assert set(MADE["sources"](shown, "sweep", False).values()) == {None}
    assert list(sections(MADE["page"](card(foreign)))) == ["How often the networks are right"]


def test_what_a_card_lacks_is_named() -> None:
    entry = evaluation("paper", 100)
    (table,) = [table for table in entry["tables"] if table["name"] == "table1"]
    missing = r"no 'mask_retention_rate' of FGSM \(L∞\) by 'mask' in table1: record its run once more"
    table["columns"][0]["key"] = "retention"
    with pytest.raises(SystemExit, match=missing):
        MADE["page"](card(entry))
    entry["tables"].remove(table)
    with pytest.raises(SystemExit, match=missing):
        MADE["page"](card(entry))


@pytest.mark.parametrize("transferred", [False, True])
def test_our_tables_have_the_columns_that_are_shown(tmp_path: Path, transferred: bool) -> None:
    data, system = tiny.data(), tiny.system()
    attacked = bundles.SECOND_CLASSIFIER if transferred else bundles.CLASSIFIER
    plan = tiny.plan(data, system, 6, attacks=(planning.choose("fgsm"),), attacked=attacked)
    with Database(tmp_path / "runs.sqlite") as database:
        made = tiny.all_tables(database, runner.run(plan, system, data, database), system.card)
    found = {table.name: table for table in made}
    for measure in SHOWN[transferred]:
        for column in filter(None, (measure.column, measure.paper)):
            found[measure.table].cell("FGSM (L∞)", column, measure.detector)


def test_only_what_lies_between_the_lines_is_made_anew() -> None:
    text = f"before\n{MADE['START']}old\n{MADE['END']}after\n"
    made = MADE["filled"](text, card(evaluation("paper", 100)))
    assert made.startswith(f"before\n{MADE['START']}\nFGSM (L∞) eps 8/255; JSMA")
    assert made.endswith(f"\n{MADE['END']}after\n")
    assert "old" not in made
    assert MADE["filled"](made, card(evaluation("paper", 100))) == made
    with pytest.raises(SystemExit, match=r"README.md lacks the lines"):
        MADE["filled"]("no such lines", card())

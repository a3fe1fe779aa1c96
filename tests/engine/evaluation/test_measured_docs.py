"""packaging/measured_docs.py: which evaluations on a card it shows, and how."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from ciad_engine import bundles
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import attack_title

MADE = runpy.run_path(str(Path(__file__).resolve().parents[3] / "packaging" / "measured_docs.py"))
MEASURES = [
    measure
    for value in MADE.values()
    for measure in (value if isinstance(value, tuple) and not isinstance(value, MADE["Measure"]) else (value,))
    if isinstance(measure, MADE["Measure"])
]


def evaluation(
    preset: str,
    limit: int,
    transferred: bool = False,
    own: float = 0.5,
    names: tuple[str, ...] = (),
    more: tuple[plans.AttackChoice, ...] = (),
) -> dict[str, Any]:
    """As on a card: each figure is `own`, but the paper's 0.25. `names`: of the preset's attacks only these."""
    attacks = tuple(choice for choice in plans.preset(preset) if not names or choice.name in names) + more
    attacked = bundles.SECOND_CLASSIFIER if transferred else bundles.CLASSIFIER
    plan = plans.Plan("paper", "ab", "test images", "cd", False, attacks, limit, 7, attacked)
    tables = []
    for name in sorted({measure.table for measure in MEASURES}):
        measures = [measure for measure in MEASURES if measure.table == name]
        columns = list(dict.fromkeys(c for m in measures for c in (m.column, m.paper) if c))
        ours, papers = {"value": own, "low": 0.0, "high": 1.0}, {"value": 0.25}
        cells = [papers if c.startswith("Paper") else ours for c in columns]
        rows = [[{"value": attack_title(label)}, *cells] for label in plan.labels]
        tables.append({"name": name, "title": name, "columns": ["Attack", *columns], "rows": rows, "notes": []})
    command = f"ciad evaluate --limit {limit}{' --transferred' if transferred else ''}"
    return {"plan": plans.to_json(plan), "command": command, "seconds_alone": 6.0 * limit, "tables": tables}


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
    assert "f1 0.7500 (paper 0.82), f2 on masks 0.5000 (paper 0.60).\n" in right
    assert "On test images:\n\n- `ciad evaluate --limit 300` (30 min)\n\n|" in direct
    assert "| Table 2: true positive | 0.500 [0.000, 1.000] (paper 0.250) |" in direct
    assert "`ciad evaluate --limit 200 --transferred`" in transferred
    assert "| Table 3: true positive | 0.500 [0.000, 1.000] (paper 0.250) |" in transferred
    assert "| VGG-like network in f1's place: images | 0.500" in transferred
    assert "`ciad evaluate --limit 100`" in other
    assert "| The mask keeps its class | True positive | True negative |" in other
    assert "\n| FGSM (L∞), eps = 2 | 0.500" in other
    assert "\n| C&W (L2), confidence = 0, target = random | 0.500" in other
    assert "(paper" not in other
    assert "\n| FGSM (L∞), eps = 2 | 0.500" in other_transferred
    assert "JSMA" not in other_transferred


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
        "- `ciad evaluate --limit 9000` (900 min)",
        "- C&W (L2) from: `ciad evaluate --limit 2000` (200 min)",
    ]
    (line,) = re.findall(r"^\| Table 2: true positive.*", direct, re.MULTILINE)
    assert re.findall(r"0\.\d+ \[", line) == ["0.875 [", "0.875 [", "0.750 ["]
    assert re.findall("^- .*", made["Other settings, direct"], re.MULTILINE) == [
        "- `ciad evaluate --limit 500` (50 min)"
    ]


def test_the_headline_is_of_both_settings() -> None:
    made = MADE["headline"](card(evaluation("paper", 300), evaluation("paper", 200, transferred=True, own=0.125)))
    assert re.findall(r"^\| (Table \d: .*?) \| (\S+)", made, re.MULTILINE) == [
        ("Table 1: the mask keeps its class", "0.500"),
        ("Table 2: true positive", "0.500"),
        ("Table 2: true negative", "0.500"),
        ("Table 3: adversarial images", "0.125"),
        ("Table 3: true positive", "0.125"),
        ("Table 3: true negative", "0.125"),
        ("Table 4: recovery", "0.500"),
    ]
    assert "Table 3" not in MADE["headline"](card(evaluation("paper", 300)))


def test_other_evaluations_are_left_out() -> None:
    foreign = evaluation("paper", 100, names=("fgsm",))
    foreign["plan"]["attacks"][0]["settings"]["eps"] = 3.0
    wider = evaluation("paper", 900, more=(plans.choose("bim"),))  # no sweep, though it has all the sweep begins with
    assert [source.plan.limit for source in MADE["sources"](card(foreign, wider))] == [900] * 3
    assert list(sections(MADE["page"](card(foreign)))) == ["How often the networks are right"]


def test_a_card_that_lacks_a_column_is_named() -> None:
    entry = evaluation("paper", 100)
    (table,) = [table for table in entry["tables"] if table["name"] == "table1"]
    table["columns"][1] = "Retention"
    with pytest.raises(SystemExit, match="table1 on the card has no column 'Mask retention'"):
        MADE["page"](card(entry))


def test_only_what_lies_between_the_lines_is_made_anew() -> None:
    text = f"before\n{MADE['START']}old\n{MADE['END']}after\n"
    made = MADE["filled"](text, card(evaluation("paper", 100)))
    assert made.startswith(f"before\n{MADE['START']}\nFGSM (L∞) eps 8/255; JSMA")
    assert made.endswith(f"\n{MADE['END']}after\n")
    assert "old" not in made
    assert MADE["filled"](made, card(evaluation("paper", 100))) == made
    with pytest.raises(SystemExit, match=r"README.md lacks the lines"):
        MADE["filled"]("no such lines", card())

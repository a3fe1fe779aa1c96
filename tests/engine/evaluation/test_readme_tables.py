"""packaging/readme_tables.py: which evaluations on a card it shows, and how."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from ciad_engine import bundles
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import attack_title

MADE = runpy.run_path(str(Path(__file__).resolve().parents[3] / "packaging" / "readme_tables.py"))
MEASURES = ("DIRECT", "TRANSFERRED", "SWEPT", "SWEPT_TRANSFERRED")


def evaluation(
    preset: str, limit: int, transferred: bool = False, own: float = 0.5, names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """As on a card: each share is `own`, but the paper's 0.25. `names`: of the preset's attacks only these."""
    attacks = tuple(choice for choice in plans.preset(preset) if not names or choice.name in names)
    attacked = bundles.SECOND_CLASSIFIER if transferred else bundles.CLASSIFIER
    plan = plans.Plan("paper", "ab", "test images", "cd", False, attacks, limit, 7, attacked)
    tables = []
    for name in ("table1", "table2", "table4", "controls", "attacks"):
        measures = [m for m in (m for name in MEASURES for m in MADE[name]) if m.table == name]
        columns = list(dict.fromkeys(c for m in measures for c in (m.column, m.paper) if c))
        ours, papers = {"value": own, "low": 0.0, "high": 1.0}, {"value": 0.25}
        cells = [papers if c.startswith("Paper") else ours for c in columns]
        rows = [[{"value": attack_title(label)}, *cells] for label in plan.labels]
        tables.append({"name": name, "title": name, "columns": ["Attack", *columns], "rows": rows, "notes": []})
    return {"plan": plans.to_json(plan), "command": f"ciad evaluate --limit {limit}", "tables": tables}


def card(*evaluations: dict[str, Any]) -> bundles.Card:
    return bundles.Card("paper", Path("nowhere"), (), {bundles.EVALUATIONS: list(evaluations)}, "ab")


def test_each_setting_has_its_measures() -> None:
    swept = evaluation("sweep", 100), evaluation("sweep", 50, transferred=True, names=("fgsm",))
    made = MADE["section"](card(*swept, evaluation("paper", 200, transferred=True), evaluation("paper", 300)))
    parts = made.split("**")
    assert "direct" in parts[1]
    assert "transferred" in parts[3]
    assert "Other settings" in parts[5]
    assert "| Table 2: true positive | 0.500 [0.000, 1.000] (paper 0.250) |" in parts[2]
    assert "| Table 3: true positive | 0.500 [0.000, 1.000] (paper 0.250) |" in parts[4]
    assert "\n| FGSM (L∞), eps = 2 | 0.500" in parts[6]
    assert "\n| C&W (L2), confidence = 0, target = random | 0.500" in parts[6]
    assert parts[7] == "Other settings of the attacks on the VGG-like network."
    assert "\n| FGSM (L∞), eps = 2 | 0.500" in parts[8]
    assert "JSMA" not in parts[8]
    assert "Test images, seed 7:\n\n    ciad evaluate --limit 300\n" in parts[2]


def test_of_each_attack_the_evaluation_with_most_images_is_shown() -> None:
    several = (
        evaluation("paper", 2000, own=0.75),
        evaluation("paper", 9000, names=("fgsm", "jsma"), own=0.875),
        evaluation("paper", 1000),
        evaluation("paper", 10_000, transferred=True, names=("cw",)),
        evaluation("sweep", 500),
        evaluation("sweep", 400),
    )
    whole = MADE["section"](card(*several))
    made = whole.partition("transferred")[0]
    assert "limit 500" in whole
    assert "limit 400" not in whole
    assert [line for line in made.splitlines() if "ciad evaluate" in line] == [
        "    ciad evaluate --limit 9000",
        "    ciad evaluate --limit 2000",
    ]
    (line,) = [line for line in made.splitlines() if line.startswith("| Table 2: true positive")]
    assert re.findall(r"0\.\d+ \[", line) == ["0.875 [", "0.875 [", "0.750 ["]


def test_other_evaluations_are_left_out() -> None:
    foreign = evaluation("paper", 100, names=("fgsm",))
    foreign["plan"]["attacks"][0]["settings"]["eps"] = 3.0
    assert MADE["section"](card(foreign)) == ""


def test_a_card_that_lacks_a_column_is_named() -> None:
    entry = evaluation("paper", 100)
    entry["tables"][0]["columns"][1] = "Retention"
    with pytest.raises(SystemExit, match="table1 on the card has no column 'Mask retention'"):
        MADE["section"](card(entry))


def test_only_what_lies_between_the_lines_is_made_anew() -> None:
    text = f"before\n{MADE['START']}old\n{MADE['END']}after\n"
    made = MADE["filled"](text, card(evaluation("paper", 100)))
    assert made.startswith(f"before\n{MADE['START']}\n**")
    assert made.endswith(f"\n{MADE['END']}after\n")
    assert "old" not in made
    assert MADE["filled"](made, card(evaluation("paper", 100))) == made
    with pytest.raises(SystemExit, match=r"README.md lacks the lines"):
        MADE["filled"]("no such lines", card())

"""Write README's section "Measured" from the evaluations on the card of the shipped bundle.

    .venv/bin/python packaging/readme_tables.py

Every figure of the section is the card's, so the two cannot come to disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ciad_engine import bundles
from ciad_engine.bundles import Card
from ciad_engine.evaluation import opinions
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import TITLES
from ciad_engine.evaluation.table import Cell, Table, from_json

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- made by packaging/readme_tables.py -->\n", "<!-- until here -->\n"

# (what README calls it, table, its column, the column of the paper's figure); transferred, Table 2 is the paper's 3.
DIRECT = (
    ("Adversarial images", "table2", "Adversarial images", ""),
    ("Table 1: mask keeps its class", "table1", "Mask retention", "Paper"),
    ("Table 2: true positive", "table2", "True positive", "Paper's true positive"),
    ("Table 2: true negative", "table2", "True negative", "Paper's true negative"),
    ("Table 4: true positive and recovery", "table4", "True positive", "Paper, all three"),
    ('Rule "graded", AUROC: f2 on the mask', "controls", f"AUROC: {opinions.MASK}", ""),
    ("the same, a plain MLP on the image", "controls", f"AUROC: {opinions.WORDS['mlp']}", ""),
    ("the same, f1's confidence alone", "controls", f"AUROC: {opinions.CONFIDENCE}", ""),
)
TRANSFERRED = (
    ("Adversarial images", "table2", "Adversarial images", ""),
    ("Table 3: true positive", "table2", "True positive", "Paper's true positive"),
    ("Table 3: true negative", "table2", "True negative", "Paper's true negative"),
    ('Rule "graded", AUROC: f2 on the mask', "controls", f"AUROC: {opinions.MASK}", ""),
    ("the same, a plain MLP on the image", "controls", f"AUROC: {opinions.WORDS['mlp']}", ""),
    ("the same, f1's confidence alone", "controls", f"AUROC: {opinions.CONFIDENCE}", ""),
)


def section(card: Card) -> str:
    """The tables in Markdown: of each evaluation with the preset "paper" on the card, direct and transferred."""
    parts = []
    for entry in card.content.get(bundles.EVALUATIONS, ()):
        plan = plans.from_json(entry["plan"])
        if plan.attacks != plans.preset("paper"):
            continue
        tables = {content["name"]: from_json(content) for content in entry["tables"]}
        measures = TRANSFERRED if plan.transferred else DIRECT
        where = "the VGG-like network, detected with f1, g and f2 (transferred)" if plan.transferred else "f1 (direct)"
        settings = ", ".join(f"{TITLES[c.name]} {_varied(c)}" for c in plan.attacks)
        parts.append(
            f"Attacks on {where}: {plan.limit:,} {plan.data}; {settings}.\n\n"
            f"    {entry['command']}\n\n{_table(plan, tables, measures)}"
        )
    return "\n".join(parts)


def _varied(choice: plans.AttackChoice) -> str:
    """The settings that the preset itself fixes."""
    fixed = dict(plans.PRESETS["paper"])[choice.name]
    return ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in fixed.items())


def _table(plan: plans.Plan, tables: Mapping[str, Table], measures: tuple[tuple[str, str, str, str], ...]) -> str:
    titles = [TITLES[choice.name] for choice in plan.attacks]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for words, table, column, paper in measures:
        cells = [
            _with_paper(_cell(tables[table], title, column), _cell(tables[table], title, paper) if paper else None)
            for title in titles
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(table: Table, title: str, column: str) -> Cell:
    row = next(row for row in table.rows if row[0].value == title)
    return row[table.columns.index(column)]


def _with_paper(ours: Cell, paper: Cell | None) -> str:
    return ours.text() if paper is None or paper.value is None else f"{ours.text()}, paper {paper.text()}"


def filled(text: str, card: Card) -> str:
    """README's `text` with the section made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"README.md lacks the lines {START.strip()} and {END.strip()}, between which the tables go.")
    return f"{before}{start}\n{section(card)}\n{end}{after}"


if __name__ == "__main__":
    content = README.read_text(encoding="utf-8")
    card = bundles.read_card(bundles.find("paper"))
    README.write_text(filled(content, card), encoding="utf-8", newline="\n")

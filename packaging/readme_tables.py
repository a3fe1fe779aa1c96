"""Write README's section "Measured" from the evaluations on the card of the shipped bundle.

    .venv/bin/python packaging/readme_tables.py

Every figure of the section is the card's, so the two cannot come to disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ciad_engine import bundles
from ciad_engine.bundles import Card
from ciad_engine.evaluation import opinions
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import TITLES, attack_title
from ciad_engine.evaluation.table import Table, from_json

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- made by packaging/readme_tables.py -->\n", "<!-- until here -->\n"

MASK, MLP = f"AUROC: {opinions.MASK}", f"AUROC: {opinions.WORDS['mlp']}"
CONFIDENCE = f"AUROC: {opinions.CONFIDENCE}"

# (what README calls it, table, its column, the column of the paper's figure)
DIRECT = (
    ("Adversarial images", "table2", "Adversarial images", ""),
    ("Table 1: the mask keeps its class", "table1", "Mask retention", "Paper"),
    ("Table 2: true positive", "table2", "True positive", "Paper's true positive"),
    ("Table 2: true negative", "table2", "True negative", "Paper's true negative"),
    ("the same, all benign images", "table2", "True negative, all benign", "Paper's true negative"),
    ("Table 4: true positive", "table4", "True positive", "Paper, all three"),
    ("Table 4: recovery", "table4", "Recovery", "Paper, all three"),
    ("Graded rule, AUROC: f2 on the mask", "controls", MASK, ""),
    ("the same, a plain MLP on the image", "controls", MLP, ""),
    ("the same, f1's confidence alone", "controls", CONFIDENCE, ""),
)
TRANSFERRED = (
    ("Adversarial images, of which f1 is fooled, too", "table2", "Adversarial images", ""),
    ("Table 3: true positive", "table2", "True positive", "Paper's true positive"),
    ("Table 3: true negative", "table2", "True negative", "Paper's true negative"),
    *DIRECT[-3:],
)
SWEPT = (
    ("Adversarial images", "table2", "Adversarial images", ""),
    ("Mask keeps its class", "table1", "Mask retention", ""),
    ("True positive", "table2", "True positive", ""),
    ("AUROC: f2 on the mask", "controls", MASK, ""),
    ("f1's confidence alone", "controls", CONFIDENCE, ""),
)
Measures = tuple[tuple[str, str, str, str], ...]


def section(card: Card) -> str:
    """Markdown: the evaluations with the presets that are on the card, the paper's settings direct and transferred."""
    parts = []
    for entry in card.content.get(bundles.EVALUATIONS, ()):
        plan = plans.from_json(entry["plan"])
        head = f"{plan.limit:,} {plan.data}, seed {plan.seed}:\n\n    {entry['command']}\n"
        tables = {content["name"]: from_json(content) for content in entry["tables"]}
        if plan.attacks == plans.preset("sweep"):
            parts.append(f"**Other settings.** {head}\n{_by_attack(plan, tables, SWEPT)}")
        elif plan.attacks == plans.preset("paper"):
            words = "Transferred: the VGG-like network is attacked" if plan.transferred else "Direct: f1 is attacked"
            fixed = "; ".join(f"{TITLES[name]} {_settings(values)}" for name, values in plans.PRESETS["paper"])
            measures = TRANSFERRED if plan.transferred else DIRECT
            parts.append(f"**{words}.** {fixed}. {head}\n{_by_measure(plan, tables, measures)}")
    return "\n".join(parts)


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def _by_measure(plan: plans.Plan, tables: Mapping[str, Table], measures: Measures) -> str:
    """A line for each measure, a column for each attack, the paper's figure behind ours."""
    titles = [attack_title(label) for label in plan.labels]
    lines = [
        [words, *(_both(tables[table], title, *columns) for title in titles)] for words, table, *columns in measures
    ]
    return _markdown(["", *titles], lines)


def _by_attack(plan: plans.Plan, tables: Mapping[str, Table], measures: Measures) -> str:
    """A line for each attack, a column for each measure."""
    titles = [attack_title(label) for label in plan.labels]
    lines = [[title, *(_both(tables[table], title, *columns) for _, table, *columns in measures)] for title in titles]
    return _markdown(["", *(words for words, *_ in measures)], lines)


def _both(table: Table, title: str, ours: str, paper: str) -> str:
    row = next(row for row in table.rows if row[0].value == title)
    known = row[table.columns.index(paper)] if paper else None
    text = row[table.columns.index(ours)].text()
    return text if known is None or known.value is None else f"{text} (paper {known.text()})"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


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

"""Write the tables of README's section "Measured" from the evaluations on the card of the shipped bundle.

    .venv/bin/python packaging/readme_tables.py

To be run after `ciad bundles record paper RUN`. Every figure between the two lines below is the card's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ciad_engine import bundles
from ciad_engine.bundles import Card
from ciad_engine.evaluation import opinions
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import TITLES, attack_title
from ciad_engine.evaluation.table import Table, from_json

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- made by packaging/readme_tables.py -->\n", "<!-- until here -->\n"


class Measure(NamedTuple):
    """What README calls it, the table and column of ours, and the column of the paper's figure, if there is one."""

    words: str
    table: str
    column: str
    paper: str = ""


AREAS = (
    Measure("AUROC: f2 on the mask", "controls", f"AUROC: {opinions.MASK}"),
    Measure("AUROC: a plain MLP instead of g and f2", "controls", f"AUROC: {opinions.WORDS['mlp']}"),
    Measure("AUROC: f1's confidence, no second opinion", "controls", f"AUROC: {opinions.CONFIDENCE}"),
)
DIRECT = (
    Measure("Adversarial images", "table2", "Adversarial images"),
    Measure("Table 1: the mask keeps its class", "table1", "Mask retention", "Paper"),
    Measure("Table 2: true positive", "table2", "True positive", "Paper's true positive"),
    Measure("Table 2: true negative", "table2", "True negative", "Paper's true negative"),
    Measure("True negative, all benign images", "table2", "True negative, all benign"),
    Measure("Table 4, where the benign mask was right: true positive", "table4", "True positive", "Paper, all three"),
    Measure("Table 4, the same images: recovery", "table4", "Recovery", "Paper, all three"),
    Measure("Graded rule at 5 %: true positive", "table2", "Graded, 5 %: true positive"),
    Measure("Graded rule at 5 %: true negative", "table2", "Graded, 5 %: true negative"),
    *AREAS,
)
TRANSFERRED = (
    Measure("Adversarial images that fool f1, too", "table2", "Adversarial images"),
    Measure("Table 3: true positive", "table2", "True positive", "Paper's true positive"),
    Measure("Table 3: true negative", "table2", "True negative", "Paper's true negative"),
    *AREAS,
)
SWEPT = (
    Measure("Adversarial images", "table2", "Adversarial images"),
    Measure("The mask keeps its class", "table1", "Mask retention"),
    Measure("True positive", "table2", "True positive"),
    *AREAS,
)


def section(card: Card) -> str:
    """Markdown: of each setting README shows, the evaluation on the card with the most images."""
    settings = "; ".join(f"{TITLES[name]} {_settings(values)}" for name, values in plans.PRESETS["paper"])
    return "\n".join(
        f"**{title}** {entry['plan']['limit']:,} {entry['plan']['data']}, seed {entry['plan']['seed']}:\n\n"
        f"    {entry['command']}\n\n{make(entry, measures)}"
        for preset, transferred, title, measures, make in (
            ("paper", False, f"Attacks on f1 (direct): {settings}.", DIRECT, _by_measure),
            ("paper", True, "The same attacks on the VGG-like network (transferred).", TRANSFERRED, _by_measure),
            ("sweep", False, "Other settings of the attacks on f1.", SWEPT, _by_attack),
        )
        for entry in _largest(card, plans.preset(preset), transferred)
    )


def _largest(card: Card, attacks: tuple[plans.AttackChoice, ...], transferred: bool) -> list[Mapping[str, Any]]:
    """The evaluation with these attacks on most images; none where the card has none."""
    found = []
    for entry in card.content.get(bundles.EVALUATIONS, ()):
        plan = plans.from_json(entry["plan"])
        if (plan.attacks, plan.transferred) == (attacks, transferred):
            found.append((plan.limit, entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])[-1:]]


def _settings(values: Mapping[str, object]) -> str:
    named = {"eps": "eps {:g}/255", "theta": "theta {:g}", "gamma": "gamma {:g}", "confidence": "kappa {:g}"}
    return ", ".join(
        named.get(name, f"{{:g}} {name.replace('_', ' ')}").format(value) for name, value in values.items()
    )


def _by_measure(entry: Mapping[str, Any], measures: Sequence[Measure]) -> str:
    """A line for each measure, a column for each attack, the paper's figure behind ours."""
    titles, figures = _figures(entry, measures)
    lines = [[measure.words, *(figures[title][k] for title in titles)] for k, measure in enumerate(measures)]
    return _markdown(["", *titles], lines)


def _by_attack(entry: Mapping[str, Any], measures: Sequence[Measure]) -> str:
    """A line for each attack, a column for each measure."""
    titles, figures = _figures(entry, measures)
    return _markdown(["", *(m.words for m in measures)], [[title, *figures[title]] for title in titles])


def _figures(entry: Mapping[str, Any], measures: Sequence[Measure]) -> tuple[list[str], dict[str, list[str]]]:
    """The attacks' titles, and the measures of each."""
    tables = {content["name"]: from_json(content) for content in entry["tables"]}
    titles = [attack_title(label) for label in plans.from_json(entry["plan"]).labels]
    return titles, {title: [_figure(tables[m.table], title, m) for m in measures] for title in titles}


def _figure(table: Table, title: str, measure: Measure) -> str:
    for column in filter(None, (measure.column, measure.paper)):
        if column not in table.columns:
            raise SystemExit(f"{table.name} on the card has no column '{column}': record its run once more.")
    row = next(row for row in table.rows if row[0].value == title)
    text = row[table.columns.index(measure.column)].text()
    return f"{text} (paper {row[table.columns.index(measure.paper)].text()})" if measure.paper else text


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

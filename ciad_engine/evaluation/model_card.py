"""A bundle's card as people read it, and the evaluations written on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ciad_engine import bundles, detectors
from ciad_engine.counting import counted
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import DAMAGE, BundleError, RunError
from ciad_engine.evaluation import old_tables, planning
from ciad_engine.evaluation.export import as_json
from ciad_engine.evaluation.records import load
from ciad_engine.evaluation.table import Table, from_json
from ciad_engine.evaluation.tables import for_screen, tables_of
from ciad_engine.runs import Database


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the card: a title, then figures by name, sentences, tables, whichever there are.

    What all tables say below themselves is among the sentences.
    """

    title: str
    figures: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def sections(card: bundles.Card) -> tuple[Section, ...]:
    """The card for people; whatever a card does not say is left out.

    Raises:
        BundleError: the card cannot be read so.
    """
    try:
        return _sections(card)
    except (RunError, *DAMAGE) as error:
        raise BundleError(f"The card of bundle '{card.name}' in {card.folder} is unreadable ({error}).") from error


def _sections(card: bundles.Card) -> tuple[Section, ...]:
    content = card.content
    head = f"{card.name}: {content['title']}" if "title" in content else card.name
    about = {key: content.get(key) for key in ("created", "licence", "seed", "hardware")}
    made_by = content.get("software", {})
    networks = tuple(
        (_said(role), f"{entry['network']}, {entry.get('parameters', 0):,} parameters")
        for role, entry in content["networks"].items()
    )
    data = dict(content.get("data", {}))
    official = data.pop("official", None)
    if card.domain == CIFAR10:
        data["official CIFAR-10 files"] = official
    checksums = {f"checksum, {part}": value for part, value in dict(data.pop("checksum", {})).items()}
    parts = [
        Section(head, _figures({"folder": card.folder, "checksum": card.checksum[:12], **about, **made_by})),
        Section("Limits", sentences=tuple(content.get("limits", ()))),  # first, since the tables are long
        Section("Networks", networks),
        Section("Data", _figures({**data, **checksums})),
        Section("Recipe", _figures(content.get("recipe", {}))),
        *(
            Section(f"Training of the {_said(role)}", _figures(_training(record)))
            for role, record in content.get("training", {}).items()
        ),
        *(
            Section(f"Measured on {source}", _figures(measured(found)))
            for source, found in content.get("measured", {}).items()
        ),
        Section("Thresholds of the detectors", _figures(_thresholds(card))),
        *(_evaluation(entry) for entry in card.evaluations()),
    ]
    return tuple(part for part in parts if part.figures or part.sentences or part.tables)


def record(card: bundles.Card, database: Database, run_id: str) -> Path:
    """Write the tables of a finished run beside the bundle's card, in the place of an earlier record of the run.

    Raises:
        RunError: there is no such run, it is not finished, or it is of another bundle.
        SettingError: an attack of it is not installed any more.
        BundleError: the file cannot be written.
    """
    records = load(database, run_id)
    run, plan = records.run, records.plan
    if not run.finished:
        raise RunError(f"Run {run.short} is not finished: continue it before it goes on a card.")
    if not card.knows(plan.bundle_checksum):
        theirs, ours = plan.bundle_checksum[:12], card.checksum[:12]
        raise RunError(f"Run {run.short} is of the bundle '{plan.bundle}' ({theirs}), not of '{card.name}' ({ours}).")
    whole = as_json(records, tables_of(records, card), card)
    entry = {
        **{key: whole[key] for key in ("run", "plan", "versions", "device", "created", "seconds", "tables")},
        # What the command costs if no image is reused from another run.
        "seconds_alone": sum(row.seconds for row in records.rows),
        "command": planning.command(plan, name_in_commands(card)),
    }
    return bundles.save_evaluation(card, entry)


def measured(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `training.finishing.measure` found, or what an older version did, with one value for each line."""
    lines = {key: value for key, value in found.items() if key not in ("accuracy", "detectors")}
    lines |= {f"accuracy of {name}": value for name, value in found.get("accuracy", {}).items()}
    for name, figures in found.get("detectors", {}).items():
        if "accuracy" in figures:
            lines[f"accuracy of detector {name}"] = figures["accuracy"]
        for rule in (rule for rule in detectors.RULES if rule in figures):
            for key, words in (("all", "all images"), ("correct", "those f1 classifies correctly")):
                lines[f"true negative rate of {name}, rule {rule}, {words}"] = figures[rule][key]
    return lines


def name_in_commands(card: bundles.Card) -> str:
    """Return what a command calls the bundle: its name, if that finds it, else a word to be replaced."""
    with contextlib.suppress(BundleError):
        if bundles.find(card.name).resolve() == card.folder.resolve():
            return card.name
    return "BUNDLE"


def _said(role: str) -> str:
    """A network's role with the name it has in the paper and elsewhere in the program."""
    name = {bundles.CLASSIFIER: "f1", bundles.MASK_GENERATOR: "g", bundles.MASK_CLASSIFIER: "f2"}.get(role)
    return role.replace("_", " ") + (f" ({name})" if name else "")


def _thresholds(card: bundles.Card) -> dict[str, object]:
    return {
        detectors.title(entry.name): "; ".join(
            f"at {100 * rate:g}%: {_text(threshold.value)} ({threshold.source})"
            for rate, threshold in entry.thresholds.items()
        )
        for entry in card.detectors
        if entry.thresholds
    }


_SCHEDULE = {
    "steps": "steps",
    "batch": "images a step",
    "optimizer": "optimiser",
    "learning_rate": "highest rate",
    "warmup": "of the steps the rate rises over",
    "decay": "of the steps it falls over, to 0",
    "weight_decay": "weight decay",
    "clip": "longest gradient",
    "shift": "pixels an image is shifted at most",
    "erase": "side of the square erased",
    "label_smoothing": "label smoothing",
}  # `training.recipes.Schedule`; a test compares them


def _training(found: Mapping[str, Any]) -> dict[str, object]:
    schedule = found.get("schedule", {})
    return {
        **{words: schedule.get(name) for name, words in _SCHEDULE.items()},
        "minutes": round(found["seconds"] / 60, 1) if "seconds" in found else None,
        **found.get("validation", {}),
        **{name: value for name, value in found.items() if name not in ("schedule", "seed", "seconds", "validation")},
    }


def tables_in(entry: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of an evaluation, of this format or of format 1.

    Raises:
        KeyError, TypeError, ValueError, RunError: they cannot be read.
    """
    if any("rows" in table for table in entry["tables"]):
        return old_tables.read(entry["tables"], planning.from_json(entry["plan"]))
    return tuple(from_json(table) for table in entry["tables"])


def _evaluation(entry: Mapping[str, Any]) -> Section:
    tables = for_screen(tables_in(entry))
    told = {
        "command": entry.get("command") or None,
        "run": entry["run"][:12],
        "device": entry.get("device"),
        "begun": entry.get("created"),
        "minutes of computing": round(entry["seconds"] / 60, 1),
        "minutes, had other runs' images not been used": round(entry["seconds_alone"] / 60, 1),
        **entry.get("versions", {}),
    }
    shared = tuple(note for note in tables[0].notes if all(note in table.notes for table in tables)) if tables else ()
    own = (dataclasses.replace(t, notes=tuple(note for note in t.notes if note not in shared)) for t in tables)
    return Section(_title(entry), _figures(told), shared, tuple(own))


def _title(entry: Mapping[str, Any]) -> str:
    if "plan" not in entry:  # not of a run
        return str(entry["title"])
    plan = planning.from_json(entry["plan"])
    return f"Evaluation ({plan.setting}): {counted(plan.limit, 'image')} of {plan.data}"


def _figures(found: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((key, _text(value)) for key, value in found.items() if value is not None)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) else str(value)

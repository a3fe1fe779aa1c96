"""Tables on a card of format 1, which named columns by headings: every figure is found under its new key."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ciad_engine import attacks, bundles
from ciad_engine.errors import BundleError
from ciad_engine.evaluation import model_card, old_tables, planning, tables
from ciad_engine.evaluation.records import POOLED
from ciad_engine.evaluation.table import Cell

CARD = json.loads(gzip.decompress((Path(__file__).parents[2] / "fixtures" / "card_format_1.json.gz").read_bytes()))
ENTRIES: list[dict[str, Any]] = CARD["evaluations"]


@pytest.fixture(params=range(len(ENTRIES)))
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ENTRIES[request.param]


def test_every_figure_is_found_under_its_key(entry: dict[str, Any]) -> None:
    plan = planning.from_json(entry["plan"])
    found = {table.name: table for table in model_card.tables_in(entry)}
    assert list(found) == ["table1", "table2", "table4", "attacks"]
    count = 0
    for old in entry["tables"]:
        for k, row in enumerate(old["rows"]):
            title = "All attacks together" if k == len(plan.labels) else planning.title(plan.labels[k])
            assert row[0]["value"] in (title, "All together")
            for heading, was in zip(old["columns"][1:], row[1:], strict=True):
                name, key, detector = old_tables.place(old["name"], heading)
                cell = found[name].cell(title, key, detector)
                values = {"value": None, **was}
                assert cell == Cell(**{"rate" if field == "share" else field: value for field, value in values.items()})
                count += 1
    assert count == sum((len(old["columns"]) - 1) * len(old["rows"]) for old in entry["tables"]) > 100


def test_no_two_columns_become_one(entry: dict[str, Any]) -> None:
    """Except those that "controls" repeated about the mask, with the same figures (see the test above)."""
    for old in entry["tables"]:
        places = [old_tables.place(old["name"], heading) for heading in old["columns"][1:]]
        assert len(set(places)) == len(places)


def test_subjects_titles_and_notes_are_those_of_tables_of_today(entry: dict[str, Any]) -> None:
    plan = planning.from_json(entry["plan"])
    labels = [*plan.labels, POOLED]
    old = {table["name"]: table for table in entry["tables"]}
    known = {
        column.key: column for column in (*tables.TABLE1, *tables.TABLE2, *tables.TABLE4, *tables.ATTACKS)
    }  # fmt: skip
    for table in model_card.tables_in(entry):
        assert (table.title, list(table.notes)) == (old[table.name]["title"], old[table.name]["notes"])
        for column in table.columns:
            assert known.get(column.key, column) == column
        rows = len(old[table.name]["rows"])
        names = list(dict.fromkeys(subject.detector for subject in table.subjects))
        assert [subject.attack for subject in table.subjects] == [
            POOLED if label == POOLED else planning.attack_of(label) for _ in names for label in labels[:rows]
        ]
        for subject, label in zip(table.subjects, labels[:rows] * len(names), strict=True):
            if label != POOLED:
                choice = plan.attacks[plan.labels.index(label)]
                assert (subject.settings, subject.norm) == (choice.parameters(), attacks.norm(choice.name))
    detectors = {"mask", "mlp", "shuffled-mask", "constant-mask", "confidence"}
    assert {subject.detector for subject in model_card.tables_in(entry)[1].subjects} == detectors


def test_the_old_card_is_shown_whole() -> None:
    card = bundles.card_of(Path("nowhere"), CARD)
    found = [section for section in model_card.sections(card) if section.title.startswith("Evaluation")]
    assert len(found) == len(ENTRIES)
    assert all([table.name for table in section.tables][:3] == ["table1", "table2", "detectors"] for section in found)


@pytest.mark.parametrize("heading", ["Speed", "True positive: magic", "Failed", "Failed: "])
def test_a_column_that_there_never_was_is_refused(heading: str) -> None:
    entry = json.loads(json.dumps(ENTRIES[0]))
    next(table for table in entry["tables"] if table["name"] == "controls")["columns"][1] = heading
    card = bundles.card_of(Path("nowhere"), {**CARD, "evaluations": [entry]})
    with pytest.raises(BundleError, match="is unreadable"):
        model_card.sections(card)

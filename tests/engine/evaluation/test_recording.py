"""Tables beside a card that are not of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from ciad_engine import bundles, datasets, systems
from ciad_engine.evaluation import model_card, recording
from ciad_engine.evaluation.table import Cell, Column, Subject, Table, from_json

TABLE = Table(
    "made", "Made", (Column("images", "Images"),), (Subject("red", "red", "", {}),), ((Cell(3),),), ("n = 3.",)
)


@pytest.fixture
def system(untrained_bundle: Path, tmp_path: Path) -> systems.System:
    loaded = systems.load(untrained_bundle, torch.device("cpu"))
    return dataclasses.replace(loaded, card=bundles.save_card(tmp_path, loaded.card.content))


def test_a_table_lies_beside_the_card_and_is_read_with_it(system: systems.System) -> None:
    data = datasets.samples()
    path = recording.record(system, TABLE, data, 3, "made --limit 3", 1.5)
    (entry,) = system.card.evaluations()
    assert path == system.card.folder / "evaluations" / f"{entry['run'][:12]}.json"
    assert entry["command"] == "ciad made --bundle BUNDLE --data PATH --limit 3"
    assert from_json(entry["tables"][0]) == TABLE
    section = model_card.sections(system.card)[-1]
    assert section.title == f"Made: 3 images of {data.source}"
    assert (section.sentences, section.tables) == (TABLE.notes, (dataclasses.replace(TABLE, notes=()),))
    path.write_text(json.dumps({"run": "", "tables": []}))
    with pytest.raises(bundles.BundleError, match="unreadable"):
        model_card.sections(system.card)


def test_the_same_command_replaces_its_table_and_another_does_not(system: systems.System) -> None:
    data = datasets.samples()
    first = recording.record(system, TABLE, data, 3, "made --limit 3", 1.0)
    again = recording.record(system, dataclasses.replace(TABLE, notes=("again",)), data, 3, "made --limit 3", 1.0)
    assert again == first
    (entry,) = system.card.evaluations()
    assert entry["tables"][0]["notes"] == ["again"]
    assert recording.record(system, TABLE, data, 4, "made --limit 4", 1.0) != first
    assert recording.record(system, TABLE, data.subset([0, 1, 2]), 3, "made --limit 3", 1.0) != first
    assert len(system.card.evaluations()) == 3

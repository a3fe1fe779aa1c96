"""What a card says to people, and evaluations written on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.errors import BundleError, RunError
from ciad_engine.evaluation import model_card, planning, tables, thresholds
from ciad_engine.runs import Database
from ciad_engine.training.recipes import Schedule
from tests.engine.evaluation import test_tables


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


@pytest.fixture
def card(untrained_bundle: Path, tmp_path: Path) -> bundles.Card:
    """A card that may be written on."""
    content = bundles.read_card(untrained_bundle).content
    folder = tmp_path / "bundle"
    folder.mkdir()
    return bundles.save_card(folder, {**content, "thresholds": {"graded": {"value": 1.0, "source": "a test"}}})


def ran(database: Database, card: bundles.Card, **changes: object) -> str:
    return test_tables.filled(database, bundle=card.name, bundle_checksum=card.checksum, **changes)


def test_a_card_is_read_as_sections(card: bundles.Card) -> None:
    found = {section.title: dict(section.figures) for section in model_card.sections(card)}
    assert found["Networks"]["classifier (f1)"].startswith("alexnet, ")
    assert found["Threshold of the rule 'graded'"] == {"value": "1", "source": "a test"}
    assert "Limits" not in found  # this card says none


def test_a_run_goes_on_the_card_with_all_its_tables(card: bundles.Card, database: Database) -> None:
    key = ran(database, card)
    after = model_card.record(card, database, key[:10])
    assert after == dataclasses.replace(bundles.read_card(card.folder))
    section = model_card.sections(after)[-1]
    assert section.title == "Evaluation, direct setting: 6 images of bundled samples (generated images)"
    found = tables.all_tables(database, key, card)
    assert [(table.title, table.rows) for table in section.tables] == [(table.title, table.rows) for table in found]
    assert section.sentences == found[0].notes[-3:]
    for shown, table in zip(section.tables, found, strict=True):
        assert (*shown.notes, *section.sentences) == table.notes
    assert dict(section.figures)["run"] == key[:12]
    assert dict(section.figures)["torch"] == "2"


def test_runs_still_know_their_bundle_afterwards(card: bundles.Card, database: Database) -> None:
    key = ran(database, card)
    after = model_card.record(card, database, key)
    assert after.checksum == card.checksum
    assert thresholds.graded_thresholds(after, planning.from_json(database.run(key).plan)) != {}
    changed = bundles.save_card(card.folder, {**after.content, "seed": 99})
    assert changed.checksum != card.checksum


def test_a_run_is_there_once(card: bundles.Card, database: Database) -> None:
    keys = [ran(database, card, seed=seed) for seed in (1, 2, 1)]
    after = card
    for key in keys:
        after = model_card.record(after, database, key)
    assert [entry["run"] for entry in after.content[bundles.EVALUATIONS]] == [keys[1], keys[0]]


def test_what_does_not_belong_on_the_card_is_refused(card: bundles.Card, database: Database) -> None:
    unfinished = ran(database, card, finished=False, seed=7)
    foreign = test_tables.filled(database)
    for key, message in ((unfinished, "is not finished"), (foreign, r"of the bundle 'tiny' \(abababababab\), not of")):
        with pytest.raises(RunError, match=message):
            model_card.record(card, database, key)
    assert bundles.EVALUATIONS not in bundles.read_card(card.folder).content


@pytest.mark.parametrize("entry", [3, {}, {"plan": {}}, {"tables": []}])
def test_an_unreadable_evaluation_is_named(card: bundles.Card, entry: object) -> None:
    broken = bundles.save_card(card.folder, {**card.content, bundles.EVALUATIONS: [entry]})
    with pytest.raises(BundleError, match=f"The card of bundle '{card.name}' in .* is unreadable"):
        model_card.sections(broken)


def test_the_whole_schedule_is_told_and_what_was_measured_after_it() -> None:
    schedule = Schedule(steps=7, weight_decay=0.05, clip=None, erase=8)
    record = {"schedule": dataclasses.asdict(schedule), "seed": 0, "seconds": 90.0, "validation": {"accuracy": 0.5}}
    content = {"networks": {}, "training": {"classifier": {**record, "of the mean": {"accuracy": 0.75}}}}
    _, training = model_card.sections(bundles.Card("tiny", Path("nowhere"), (), content, "ab"))
    assert training.title == "Training of the classifier (f1)"
    told = dict(training.figures)
    assert len(told) == len(dataclasses.fields(schedule)) - 1 + 3  # without the clip it lacks
    assert (told["steps"], told["weight decay"], told["side of the square erased"]) == ("7", "0.05", "8")
    assert (told["minutes"], told["accuracy"], told["of the mean"]) == ("1.5", "0.5", "accuracy 0.75")


def test_the_thresholds_of_the_controls_are_told() -> None:
    at = {"graded": {"value": 2.5, "source": "a test"}, "graded, 1 %": {"value": 4.0, "source": "a test"}}
    content = {"networks": {}, bundles.CONTROL_THRESHOLDS: {"mlp": at, "confidence": at}}
    _, section = model_card.sections(bundles.Card("tiny", Path("nowhere"), (), content, "ab"))
    assert dict(section.figures) == dict.fromkeys(
        ("a plain MLP on the image", "f1's own confidence"), "graded: 2.5 (a test); graded, 1 %: 4 (a test)"
    )


@pytest.mark.parametrize("odd", [{"measured": {"a": 3}}, {"training": 3}, {"data": 3}])
def test_an_odd_card_is_named(card: bundles.Card, odd: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="is unreadable"):
        model_card.sections(bundles.save_card(card.folder, {**card.content, **odd}))


def test_the_command_names_the_bundle_only_where_its_name_finds_it(
    card: bundles.Card, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ran(database, card)
    assert "--bundle BUNDLE " in model_card.record(card, database, key).content[bundles.EVALUATIONS][0]["command"]
    monkeypatch.setattr(bundles, "available", lambda: (card,))
    named = model_card.record(card, database, key).content[bundles.EVALUATIONS][0]["command"]
    assert f"--bundle {card.name} " in named


def test_the_layout_of_the_file_is_not_part_of_the_card(card: bundles.Card, database: Database) -> None:
    file = card.folder / bundles.CARD
    file.write_text(json.dumps(card.content, indent=4).replace("\n", "\r\n"))
    laid_out = bundles.read_card(card.folder)
    assert laid_out.checksum == card.checksum
    assert model_card.record(laid_out, database, ran(database, laid_out)).checksum == card.checksum


def test_tables_survive_the_card(database: Database) -> None:
    from ciad_engine.evaluation.table import from_json, to_json

    for table in tables.all_tables(database, test_tables.filled(database)):
        assert from_json(json.loads(json.dumps(to_json(table)))) == table
    with pytest.raises(ValueError, match="as many cells"):
        from_json({**to_json(table), "columns": ["one"]})

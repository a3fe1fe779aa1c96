"""What a card says to people, and evaluations written on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import BundleError, RunError
from ciad_engine.evaluation import model_card, planning, records, tables
from ciad_engine.runs import Database
from ciad_engine.training.recipes import Schedule
from tests import untrained
from tests.engine.evaluation import test_tables, tiny


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


@pytest.fixture
def card(untrained_bundle: Path, tmp_path: Path) -> bundles.Card:
    """A card in a folder that may be written to."""
    content = bundles.read_card(untrained_bundle).content
    masks = {0.05: Threshold(1.0, "a test")}
    listed = [bundles.DetectorEntry("mask", "mask", untrained.MASKS, masks)]
    return bundles.save_card(tmp_path / "bundle", {**content, "detectors": bundles.detectors_json(listed)})


def ran(database: Database, card: bundles.Card, **changes: object) -> str:
    return test_tables.filled(database, bundle=card.name, bundle_checksum=card.checksum, **changes)


def test_a_card_is_read_as_sections(card: bundles.Card) -> None:
    found = {section.title: dict(section.figures) for section in model_card.sections(card)}
    assert found["Networks"]["classifier (f1)"].startswith("alexnet, ")
    assert found["Thresholds of the detectors"] == {"f2 on the mask": "at 5%: 1 (a test)"}
    assert "Limits" not in found  # this card says none


@pytest.mark.parametrize(
    ("domain", "figures"),
    [(CIFAR10, {"name": "pictures", "official CIFAR-10 files": "no"}), (Domain(("a", "b"), 48), {"name": "pictures"})],
)
def test_only_data_of_cifar_10_can_be_official(card: bundles.Card, domain: Domain, figures: dict[str, str]) -> None:
    about = {"data": {"name": "pictures", "official": False}}
    other = dataclasses.replace(card, domain=domain, content={**card.content, **about})
    assert {section.title: dict(section.figures) for section in model_card.sections(other)}["Data"] == figures


def test_a_run_is_recorded_beside_the_card_with_all_its_tables(card: bundles.Card, database: Database) -> None:
    key = ran(database, card)
    before = (card.folder / bundles.CARD).read_bytes()
    path = model_card.record(card, database, key[:10])
    assert path == card.folder / "evaluations" / f"{key[:12]}.json"
    assert (card.folder / bundles.CARD).read_bytes() == before
    section = model_card.sections(card)[-1]
    assert section.title == "Evaluation (direct): 6 images of bundled samples (generated images)"
    everything = tiny.all_tables(database, key, card)
    (entry,) = card.evaluations()
    assert model_card.tables_in(entry) == everything
    found = tables.for_screen(everything)
    assert [dataclasses.replace(table, notes=()) for table in section.tables] == [
        dataclasses.replace(table, notes=()) for table in found
    ]
    assert section.sentences == found[0].notes[-3:]
    for shown, table in zip(section.tables, found, strict=True):
        assert (*shown.notes, *section.sentences) == table.notes
    assert dict(section.figures)["run"] == key[:12]
    assert dict(section.figures)["torch"] == "2"


def test_an_evaluation_says_which_detectors_the_attacker_knew(card: bundles.Card, database: Database) -> None:
    known = bundles.Evaded("mask", "graded", 1.0, "")
    model_card.record(card, database, ran(database, card, evade=(known,)))
    assert model_card.sections(card)[-1].title.startswith("Evaluation (direct, evading mask:graded): 6 images of")


def test_runs_still_know_their_bundle_afterwards(card: bundles.Card, database: Database) -> None:
    key = ran(database, card)
    model_card.record(card, database, key)
    after = bundles.read_card(card.folder)
    assert after.checksum == card.checksum
    assert records.of_detectors(after, planning.from_json(database.run(key).plan)) != {}
    changed = bundles.save_card(card.folder, {**after.content, "seed": 99})
    assert changed.checksum != card.checksum


def test_a_run_is_there_once_and_the_earliest_is_first(card: bundles.Card, database: Database) -> None:
    keys = [ran(database, card, seed=seed) for seed in (1, 2)]
    for key in (*keys, keys[0]):
        model_card.record(card, database, key)
    assert len(list((card.folder / "evaluations").iterdir())) == 2
    for first, second in (keys, reversed(keys)):
        for key, created in ((first, "2024-01-01"), (second, "2024-01-02")):
            path = card.folder / "evaluations" / f"{key[:12]}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "created": created}))
        assert [entry["run"] for entry in card.evaluations()] == [first, second]


def test_a_run_of_the_same_networks_under_an_earlier_identity_is_recorded(
    card: bundles.Card, database: Database
) -> None:
    old = "ef" * 32
    key = test_tables.filled(database, bundle=card.name, bundle_checksum=old)
    with pytest.raises(RunError, match=r"of the bundle 'untrained' \(efefefefefef\), not of"):
        model_card.record(card, database, key)
    known = bundles.save_card(card.folder, {**card.content, "earlier_checksums": [old]})
    assert known.checksum == card.checksum
    model_card.record(known, database, key)
    graded = model_card.tables_in(known.evaluations()[0])[1].cell("FGSM (L∞)", "graded_5_true_positive_rate", "mask")
    assert graded.value == 0.5  # the card's threshold is that run's


def test_what_does_not_belong_on_the_card_is_refused(card: bundles.Card, database: Database) -> None:
    unfinished = ran(database, card, finished=False, seed=7)
    foreign = test_tables.filled(database)
    for key, message in ((unfinished, "is not finished"), (foreign, r"of the bundle 'tiny' \(abababababab\), not of")):
        with pytest.raises(RunError, match=message):
            model_card.record(card, database, key)
    assert card.evaluations() == []
    (card.folder / "evaluations").write_text("a file in the folder's place")
    with pytest.raises(BundleError, match=r"Cannot write .*evaluations"):
        model_card.record(card, database, ran(database, card))


@pytest.mark.parametrize("entry", [3, {}, {"plan": {}}, {"tables": []}])
def test_an_unreadable_evaluation_is_named(card: bundles.Card, entry: object) -> None:
    path = card.folder / "evaluations" / "one.json"
    path.parent.mkdir()
    path.write_text(json.dumps(entry))
    with pytest.raises(BundleError, match=rf"The card of bundle '{card.name}' in .* is unreadable|one\.json.* is not"):
        model_card.sections(card)
    path.write_text("{")
    with pytest.raises(BundleError, match=r"one\.json.* is not valid JSON"):
        model_card.sections(card)


def test_the_whole_schedule_is_told_and_what_was_measured_after_it() -> None:
    schedule = Schedule(steps=7, weight_decay=0.05, clip=None, erase=8)
    record = {"schedule": dataclasses.asdict(schedule), "seed": 0, "seconds": 90.0, "validation": {"accuracy": 0.5}}
    content = {"networks": {}, "training": {"classifier": {**record, "of the mean": {"accuracy": 0.75}}}}
    _, training = model_card.sections(bundles.Card("tiny", Path("nowhere"), CIFAR10, (), content, "ab"))
    assert training.title == "Training of the classifier (f1)"
    told = dict(training.figures)
    assert len(told) == len(dataclasses.fields(schedule)) - 1 + 3  # without the clip it lacks
    assert (told["steps"], told["weight decay"], told["side of the square erased"]) == ("7", "0.05", "8")
    assert (told["minutes"], told["accuracy"], told["of the mean"]) == ("1.5", "0.5", "accuracy 0.75")


def test_the_thresholds_of_all_detectors_are_listed() -> None:
    known = {0.05: Threshold(2.5, "a test"), 0.01: Threshold(4, "a test")}
    listed = tuple(
        bundles.DetectorEntry(name, name, {}, of)
        for name, of in (("mlp", known), ("constant-mask", {}), ("confidence", known))
    )
    card = bundles.Card("tiny", Path("nowhere"), CIFAR10, listed, {"networks": {}}, "ab")
    _, section = model_card.sections(card)
    assert dict(section.figures) == dict.fromkeys(
        ("MLP on the image", "f1's confidence"), "at 5%: 2.5 (a test); at 1%: 4 (a test)"
    )


@pytest.mark.parametrize("odd", [{"measured": {"a": 3}}, {"training": 3}, {"data": 3}])
def test_an_odd_card_is_named(card: bundles.Card, odd: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=r"is (unreadable|unusable)"):
        model_card.sections(bundles.save_card(card.folder, {**card.content, **odd}))


def test_the_command_names_the_bundle_only_where_its_name_finds_it(
    card: bundles.Card, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ran(database, card)
    model_card.record(card, database, key)
    assert "--bundle BUNDLE " in card.evaluations()[0]["command"]
    monkeypatch.setattr(bundles, "available", lambda: (card,))
    model_card.record(card, database, key)
    assert f"--bundle {card.name} " in card.evaluations()[0]["command"]


def test_the_layout_of_the_file_is_not_part_of_the_card(card: bundles.Card) -> None:
    file = card.folder / bundles.CARD
    file.write_text(json.dumps(card.content, indent=4).replace("\n", "\r\n"))
    laid_out = bundles.read_card(card.folder)
    assert laid_out.checksum == card.checksum


def test_tables_survive_the_card(database: Database) -> None:
    from ciad_engine.evaluation.table import from_json, to_json

    for table in tiny.all_tables(database, test_tables.filled(database)):
        assert from_json(json.loads(json.dumps(to_json(table)))) == table
    with pytest.raises(ValueError, match="one cell per column"):
        from_json({**to_json(table), "columns": []})

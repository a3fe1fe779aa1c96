"""Another g or f2 is evaluated on the images that were made for the same f1, without attacking again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ciad_engine import bundles, systems
from ciad_engine.attacks import running
from ciad_engine.attacks.catalogue import FGSM
from ciad_engine.evaluation import earlier, planning, runner
from ciad_engine.jobs import Cancelled
from ciad_engine.runs import Database, Row
from tests.engine.evaluation import tiny
from tests.engine.evaluation.test_runner import Listening, assert_alike, timeless
from tests.engine.test_runs import direct

EVADED = bundles.Evaded("mlp", "disagreement", 0.5, "ab" * 32)
ATTACKS = (planning.choose("fgsm", eps=8), planning.choose("jsma", gamma=0.05))


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


def another() -> systems.System:
    """The same f1 with another f2."""
    system = tiny.system()
    with torch.no_grad():
        system.networks[bundles.MASK_CLASSIFIER].weight += 3.0
        system.networks[bundles.MASK_CLASSIFIER].weight[0] *= -1
    return dataclasses.replace(system, card=dataclasses.replace(system.card, checksum="cd" * 32))


def no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it attacked again")

    monkeypatch.setattr(running, "run_checked", refuse)


def test_only_the_detectors_are_computed_anew(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, system, other = tiny.data(), tiny.system(), another()
    first = runner.run(tiny.plan(data, system, attacks=ATTACKS), system, data, database)
    plan = tiny.plan(data, other, attacks=ATTACKS[:1])
    with Database(tmp_path / "alone.sqlite") as alone:
        expected = alone.rows(runner.run(plan, other, data, alone), images=True)
    job = Listening()
    with monkeypatch.context() as patch:
        no_attack(patch)
        key = runner.run(plan, other, data, database, job)
    found = database.rows(key, images=True)
    assert timeless(found) == timeless(expected)
    ours, theirs = database.rows(key, "fgsm"), database.rows(first, "fgsm")
    assert [row.scores["mlp"] for row in ours] == [row.scores["mlp"] for row in theirs]  # of the same image
    assert [row.seconds for row in ours] == [row.seconds for row in theirs]
    assert [row.scores["mask"] for row in ours] != [row.scores["mask"] for row in theirs]
    assert job.notes == [f"FGSM (L∞): 30 images of run {first[:12]}, which attacked the same network."]
    assert job.steps[-2:] == [(30, 30, "Reusing images of FGSM (L∞)"), (60, 60, "Finished")]


def test_what_the_other_run_lacks_is_attacked(database: Database, tmp_path: Path) -> None:
    data, system, other = tiny.data(), tiny.system(), another()
    runner.run(tiny.plan(data, system, 12, attacks=ATTACKS[:1]), system, data, database)
    plan = tiny.plan(data, other, 30, attacks=ATTACKS)
    with Database(tmp_path / "alone.sqlite") as alone:
        expected = alone.rows(runner.run(plan, other, data, alone, batch_size=8))
    job = Listening()
    found = database.rows(runner.run(plan, other, data, database, job, batch_size=8))
    assert_alike(found, expected)
    assert "FGSM (L∞): 12 images of run" in job.notes[0]


def test_a_run_that_was_stopped_reuses_what_it_lacks(database: Database, tmp_path: Path) -> None:
    data, system, other = tiny.data(), tiny.system(), another()
    plan = tiny.plan(data, other, 30, attacks=ATTACKS[:1], attacked=bundles.SECOND_CLASSIFIER)
    with pytest.raises(Cancelled):
        runner.run(plan, other, data, database, Listening(stop=5), batch_size=8)  # benign in four batches, one of FGSM
    run = tiny.plan(data, system, 20, attacks=ATTACKS[:1], attacked=bundles.SECOND_CLASSIFIER)
    runner.run(run, system, data, database)
    job = Listening()
    found = database.rows(runner.run(plan, other, data, database, job))
    assert "FGSM (L∞): 12 images of run" in job.notes[0]  # the first eight of the twenty were there
    with Database(tmp_path / "alone.sqlite") as alone:
        expected = alone.rows(runner.run(plan, other, data, alone))
    by_place = {(row.attack, row.position): row for row in timeless(expected)}
    assert {(row.attack, row.position): row for row in timeless(found)} == by_place


def test_an_image_that_is_damaged_is_made_anew(database: Database, tmp_path: Path) -> None:
    data, system, other = tiny.data(), tiny.system(), another()
    runner.run(tiny.plan(data, system, attacks=ATTACKS[:1]), system, data, database)
    damaged = "UPDATE rows SET image = x'00' WHERE image IS NOT NULL AND position IN (3, 5) AND attack = 'fgsm'"
    direct(database.path, damaged, "UPDATE rows SET image = x'00' WHERE position = 7")
    plan = tiny.plan(data, other, attacks=ATTACKS[:1])
    with Database(tmp_path / "alone.sqlite") as alone:
        expected = alone.rows(runner.run(plan, other, data, alone), images=True)
    job = Listening()
    found = database.rows(runner.run(plan, other, data, database, job), images=True)
    assert_alike(sorted(found, key=place), sorted(expected, key=place))
    assert "cannot be read: computed anew" in job.notes[1]
    assert job.steps[-1] == (60, 60, "Finished")


def test_a_row_that_does_not_fit_its_plan_is_not_taken(database: Database) -> None:
    data, system = tiny.data(), tiny.system()
    more, fewer = (
        runner.run(tiny.plan(data, system, count, attacks=ATTACKS[:1]), system, data, database) for count in (20, 8)
    )
    direct(database.path, f"UPDATE rows SET label_after = 99 WHERE run = '{more}' AND attack = 'fgsm' AND position = 3")
    plan = tiny.plan(data, another(), 30, attacks=ATTACKS[:1])
    device = database.run(more).device
    found = earlier.find(database, plan, plan.attacks[0], runner.versions_of(plan.attacks[0]), device)
    assert found is not None
    assert found.run.key == fewer


def place(row: Row) -> tuple[str, int]:
    return row.attack, row.position


@pytest.mark.parametrize(
    "change",
    [
        {"attacks": (planning.choose("fgsm", eps=4),)},
        {"seed": 12},
        {"data_checksum": "other"},
        {"attacked_network": "other weights"},
        {"attacked_network": ""},
        {"evade": (EVADED,)},
    ],
)
def test_what_would_be_attacked_otherwise_is_not_taken(database: Database, change: dict[str, object]) -> None:
    data, system = tiny.data(), tiny.system()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    key = runner.run(plan, system, data, database)
    wanted = dataclasses.replace(tiny.plan(data, another(), attacks=ATTACKS[:1]), **change)
    run = database.run(key)
    versions = runner.versions_of(wanted.attacks[0])
    assert earlier.find(database, wanted, wanted.attacks[0], versions, run.device) is None
    same = tiny.plan(data, another(), attacks=ATTACKS[:1])
    assert earlier.find(database, same, same.attacks[0], versions, run.device).run == run
    assert earlier.find(database, same, same.attacks[0], {**versions, "torch": "0"}, run.device) is None
    assert earlier.find(database, same, same.attacks[0], versions, "another device") is None
    assert earlier.find(database, plan, plan.attacks[0], versions, run.device) is None  # the run itself


def test_a_fitted_attack_is_made_anew(database: Database) -> None:
    data, system = tiny.data(), tiny.system()
    universal = planning.choose("universal", learns_from=10, passes=1)
    key = runner.run(tiny.plan(data, system, 12, attacks=(universal,)), system, data, database)
    plan = tiny.plan(data, another(), 12, attacks=(universal,))
    found = earlier.find(database, plan, universal, runner.versions_of(universal), database.run(key).device)
    assert found is None


def test_of_several_runs_the_one_with_most_images_is_taken(database: Database) -> None:
    data, system = tiny.data(), tiny.system()
    keys = [
        runner.run(tiny.plan(data, system, count, attacks=ATTACKS[:1]), system, data, database) for count in (8, 20, 12)
    ]
    plan = tiny.plan(data, another(), 30, attacks=ATTACKS[:1])
    device = database.run(keys[0]).device
    found = earlier.find(database, plan, plan.attacks[0], runner.versions_of(plan.attacks[0]), device)
    assert found is not None
    assert (found.run.key, len(found.rows)) == (keys[1], 20)


def test_images_made_against_another_detector_are_never_used(database: Database) -> None:
    """They evade that detector, or another of its rules, thresholds or networks: other images altogether."""
    data, system = tiny.data(), tiny.system()
    plain = tiny.plan(data, system, attacks=ATTACKS[:1])
    evading = dataclasses.replace(plain, evade=(EVADED,))
    for plan in (plain, evading):  # as if both had been computed, on the same images of the same network
        key = runner.run(plain, system, data, database)
        database.start(plan.key(), planning.to_json(plan), database.run(key).versions, database.run(key).device)
        if plan is evading:
            database.append(plan.key(), database.rows(key, images=True))
    run = database.run(plain.key())
    versions = runner.versions_of(ATTACKS[0])

    def found(**changes: object) -> str | None:
        wanted = dataclasses.replace(plain, bundle_checksum="cd" * 32, **changes)
        known = earlier.find(database, wanted, ATTACKS[0], versions, run.device)
        return None if known is None else known.run.key

    assert found() == plain.key()
    assert found(evade=(EVADED,)) == evading.key()
    for other in ({"name": "mask"}, {"rule": "graded"}, {"threshold": 0.6}, {"networks": "cd" * 32}):
        assert found(evade=(dataclasses.replace(EVADED, **other),)) is None
    assert found(evade=(EVADED, dataclasses.replace(EVADED, name="mask"))) is None


def test_another_version_of_an_attack_makes_its_images_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, system = tiny.data(), tiny.system()
    plan = tiny.plan(data, system, attacks=ATTACKS)
    run = database.run(runner.run(plan, system, data, database))

    def found(choice: planning.AttackChoice) -> earlier.Earlier | None:
        wanted = tiny.plan(data, another(), attacks=(choice,))
        return earlier.find(database, wanted, choice, runner.versions_of(choice), run.device)

    assert found(ATTACKS[0]) is not None
    monkeypatch.setattr(FGSM, "version", 2)
    assert found(ATTACKS[0]) is None

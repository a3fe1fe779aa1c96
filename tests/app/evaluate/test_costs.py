"""Estimates before a run, and the remaining time while it runs."""

from __future__ import annotations

from pathlib import Path

from ciad_app.evaluate import costs, data_loader
from ciad_engine import bundles
from ciad_engine.evaluation import planning
from ciad_engine.runs import BENIGN, Database, Row


def plan(*attacks: tuple[str, dict], evade: tuple[bundles.Evaded, ...] = ()) -> dict:
    chosen = tuple(planning.AttackChoice(name, tuple(settings.items())) for name, settings in attacks)
    return planning.to_json(planning.Plan("b", "b", "d", "d", False, chosen, 2, 0, evade=evade))


def rows(attack: str, seconds: float, count: int = 2) -> list[Row]:
    return [Row(attack, k, k, "", 0, 0, 1.0, seconds=seconds) for k in range(count)]


def store(database: Database, key: str, attack: str, settings: dict, seconds: float, device: str = "CPU") -> None:
    database.start(key, plan((attack, settings)), {}, device)
    database.append(key, [*rows(BENIGN, 0.001), *rows(attack, seconds)])


def test_rates_come_from_the_same_settings_where_there_are_any(tmp_path: Path):
    with Database(tmp_path / "r.sqlite") as database:
        store(database, "a", "cw", {"steps": 10}, 1.0)
        store(database, "b", "cw", {"steps": 99}, 9.0)
        store(database, "c", "cw", {"steps": 10}, 500.0, device="GPU")
        same = costs.measured(database, [("cw", {"steps": 10})], "classifier", "CPU")
        other = costs.measured(database, [("cw", {"steps": 50})], "classifier", "CPU")
        none = costs.measured(database, [("fgsm", {})], "second_classifier", "CPU")
    assert same["cw"] == costs.Rate(1.0, True)
    assert (other["cw"].seconds, other["cw"].exact) == (9.0, False)
    assert none == {}


def test_an_attack_at_several_strengths_has_several_rates(tmp_path: Path):
    weak, strong, other = ("fgsm", {"eps": 2.0}), ("fgsm", {"eps": 8.0}), ("fgsm", {"eps": 4.0})
    with Database(tmp_path / "r.sqlite") as database:
        database.start("a", plan(weak, strong), {}, "CPU")
        database.append("a", [*rows("fgsm eps = 2", 1.0), *rows("fgsm eps = 8", 3.0)])
        alone = costs.measured(database, [strong], "classifier", "CPU")
        both = costs.measured(database, [strong, other], "classifier", "CPU")
    assert alone == {"fgsm": costs.Rate(3.0, True)}
    assert both == {"fgsm eps = 8": costs.Rate(3.0, True), "fgsm eps = 4": costs.Rate(1.0, False)}


def test_an_attack_that_evades_a_detector_has_another_rate(tmp_path: Path):
    attack = ("pgd", {"eps": 8.0})
    known = bundles.Evaded("mask", "graded", 1.0, "")
    with Database(tmp_path / "r.sqlite") as database:
        database.start("a", plan(attack, evade=(known,)), {}, "CPU")
        database.append("a", [*rows(BENIGN, 0.001), *rows("pgd", 3.0)])
        assert costs.measured(database, [attack], "classifier", "CPU", ("mask:graded",))["pgd"].exact
        assert costs.measured(database, [attack], "classifier", "CPU")["pgd"] == costs.Rate(3.0, False)


def test_a_damaged_run_has_no_rate_and_hides_none(tmp_path: Path):
    attack = ("fgsm", {"eps": 2.0})
    with Database(tmp_path / "r.sqlite") as database:
        store(database, "a", *attack, 1.0)
        store(database, "b", *attack, 5.0)
        database.start("c", {"attacks": [3]}, {}, "CPU")
        with database._connected() as connection, connection:
            connection.execute("UPDATE rows SET scores = '[' WHERE run = 'b'")
        assert costs.measured(database, [attack], "classifier", "CPU")["fgsm"] == costs.Rate(1.0, True)


def test_estimate_says_what_it_does_not_know():
    rates = {BENIGN: costs.Rate(0.0, True), "fgsm": costs.Rate(0.1, True)}
    titles = {"fgsm": "FGSM", "cw": "C&W"}
    assert costs.estimate({"fgsm": "FGSM"}, 100, rates) == "About 10 s. FGSM: 10 s."
    assert costs.estimate(titles, 100, rates) == "At least 10 s. FGSM: 10 s; not yet measured here: C&W."
    assert "An estimate appears after the first images." in costs.estimate(titles, 100, {})
    assert costs.estimate({}, 100, rates) == "Choose at least one attack."
    several = {"fgsm eps = 2": "FGSM", "fgsm eps = 4": "FGSM", "cw confidence = 0": "C&W", "cw confidence = 5": "C&W"}
    rates = {"fgsm eps = 2": costs.Rate(0.1, True), "fgsm eps = 4": costs.Rate(0.2, True)}
    assert costs.estimate(several, 100, rates) == "At least 30 s. FGSM: 30 s; not yet measured here: C&W."


def test_remaining_counts_stage_by_stage():
    now = [0.0]
    remaining = costs.Remaining(("", "fgsm", "cw"), 100, {"cw": costs.Rate(6.0, True)}, clock=lambda: now[0])
    assert remaining.text(0) == "at least 10 min left"
    remaining.add(rows("", 0.1))
    remaining.add(rows("fgsm", 1.0))
    assert remaining.text(150) == "about 11 min left"  # 50 s of FGSM and 600 s of C&W
    remaining.add(rows("cw", 0.5))
    assert remaining.text(250) == "about 25 s left"


def test_a_stage_never_measured_is_timed_by_its_own_progress():
    now = [0.0]
    remaining = costs.Remaining(("", "cw"), 100, {}, clock=lambda: now[0])
    remaining.add(rows("", 0.1))
    assert remaining.text(100) == ""
    now[0] = 10.0
    assert remaining.text(125) == "about 30 s left"


def test_images_that_are_reused_do_not_make_the_others_look_quick():
    now = [0.0]
    remaining = costs.Remaining(("", "cw"), 100, {"cw": costs.Rate(6.0, True)}, clock=lambda: now[0])
    assert remaining.text(100) == "about 10 min left"
    remaining.begin_anew()
    now[0] = 2.0
    remaining.add(rows("cw", 6.0, 50))  # what they cost the run that made them, where each took as long
    assert remaining.text(150) == "about 5 min left"
    now[0] = 32.0
    assert remaining.text(160) == "about 2 min left"  # by the clock: 3 s an image here


def test_durations():
    assert [costs.duration(s) for s in (0.1, 30, 89, 100, 3000, 7260)] == [
        "1 s", "30 s", "89 s", "2 min", "50 min", "2 h 01 min",
    ]  # fmt: skip


def test_places_of_data_are_remembered_and_never_in_the_way(tmp_path: Path, caplog):
    file = tmp_path / "new" / "places.json"
    data_loader.remember_place(file, "abc", "/data")
    data_loader.remember_place(file, "def", "samples")
    assert data_loader.known_places(file) == {"abc": "/data", "def": "samples"}
    file.write_text("not json")
    assert data_loader.known_places(file) == {}
    assert "Cannot read" in caplog.text

"""Past runs beside the loaded bundle: before there is one, and if it is another than the run's."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from ciad_app.evaluate.model import COL_DECISION
from ciad_app.evaluate.page import EvaluatePage
from ciad_engine import bundles
from ciad_engine.runs import BENIGN, Database, Row, Score
from tests.app.evaluate.conftest import close

TIMEOUT = 60_000  # ms
SCORES = {"mask": Score(0, 0.5, 5.0), "confidence": Score(None, None, 5.0)}
ROW = Row(BENIGN, 0, 0, "an image", 0, 0, 0.5, scores=SCORES)  # above the threshold of each bundle here


@pytest.fixture
def begun(interrupted, database_path):
    """Puts a run with one row into the database."""

    def make(card):
        run = interrupted(card)
        with Database(database_path) as database:
            database.append(run.key, [ROW])
        return run

    return make


@pytest.fixture
def class_folders(tmp_path):
    """A data set of two images in folders by class."""
    for name in ("airplane", "truck"):
        (tmp_path / "set" / "test" / name).mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "set" / "test" / name / "0.png")
    return tmp_path / "set"


def decision(page):
    page.model.choose_detector("confidence")
    return page.model.index(0, COL_DECISION).data()


def note(page):
    """What the tables say about thresholds; "" before there are any."""
    tables = page.results.tables.tables
    return next((each for table in tables for each in table.notes if each.startswith("Graded rule")), "")


def test_a_run_chosen_before_the_models_are_loaded_is_decided_and_offered_then(
    idle_engine, untrained_bundle, begun, database_path, qtbot
):
    run = begun(bundles.read_card(untrained_bundle))
    page = EvaluatePage(idle_engine, "", database_path)
    qtbot.waitUntil(lambda: page._database is not None)
    page.open_run(run.key)
    qtbot.waitUntil(lambda: "not installed" in note(page), timeout=TIMEOUT)
    assert decision(page) == ""
    assert not page.results.bar.isVisibleTo(page)
    idle_engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: "at 5% 3 (chosen for tests)" in note(page), timeout=TIMEOUT)
    assert decision(page) == "▲ adversarial – false alarm"
    assert page.results.bar.isVisibleTo(page)
    close(page)


def test_a_row_keeps_its_true_class_beside_a_bundle_of_other_classes(page, begun, monkeypatch, qtbot):
    info = page.engine.info
    run, image = begun(info.card), bytes(3 * 32 * 32)
    rows = [dataclasses.replace(ROW, position=k, label=k, image=image) for k in (1, 2)]
    page._database.append(run.key, rows)
    page.open_run(run.key)
    qtbot.waitUntil(lambda: len(page.model.rows) == 3, timeout=TIMEOUT)
    domain = dataclasses.replace(info.domain, classes=("lorry", "bird", "airplane"))
    card = dataclasses.replace(info.card, domain=domain)
    monkeypatch.setattr(page.engine, "info", dataclasses.replace(info, card=card))
    labels = []
    page.handed_on.connect(lambda opened: labels.append(opened.label))
    for row in page.model.rows[1:]:
        page._open_row(row)
    qtbot.waitUntil(lambda: labels == [None, 1])  # automobile, bird


def test_a_run_of_another_bundle_has_the_thresholds_of_its_own(page, begun, tmp_path, monkeypatch, qtbot):
    content = page.engine.info.card.content
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path / "models")
    own = bundles.save_card(tmp_path / "models" / "own", {**content, "name": "own", "seed": 8})
    page.open_run(begun(own).key)
    qtbot.waitUntil(lambda: bool(note(page)), timeout=TIMEOUT)
    assert "at 5% 3 (chosen for tests)" in note(page)
    assert decision(page) == "▲ adversarial – false alarm"
    assert not page.results.bar.isVisibleTo(page)  # the loaded networks cannot go on with it
    with qtbot.waitSignal(page.exported, timeout=TIMEOUT):
        page.export(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["thresholds"]["confidence"]["0.05"]["value"] == 3.0


def test_the_chosen_images_follow_the_bundle_or_are_refused(page, signs, untrained_bundle, class_folders, qtbot):
    engine, choice = page.engine, page.panel.data
    choice.choose(str(class_folders))
    qtbot.waitUntil(lambda: page.loader.data is not None, timeout=TIMEOUT)
    engine.choose(str(signs), "signs")
    assert page.panel.start.toolTip() == "Wait until bundle signs is loaded."
    qtbot.waitUntil(lambda: engine.info.card.name == "signs" and not engine.busy, timeout=TIMEOUT)
    assert page.loader.data is None
    assert "classes that the bundle does not know: airplane" in choice.state.text()
    assert not page.panel.start.isEnabled()
    engine.choose(str(untrained_bundle), "untrained")
    qtbot.waitUntil(lambda: page.loader.data is not None, timeout=TIMEOUT)
    assert choice.state.text().startswith("2 images")


def test_a_run_that_is_shown_belongs_to_its_bundle_also_after_a_change(page, begun, keeping, untrained_bundle, qtbot):
    engine = page.engine
    page.open_run(begun(engine.info.card).key)
    qtbot.waitUntil(lambda: "at 5% 3 (chosen for tests)" in note(page), timeout=TIMEOUT)
    assert page.results.bar.isVisibleTo(page)
    engine.choose(str(keeping), "keeping")
    qtbot.waitUntil(lambda: "not installed" in note(page), timeout=TIMEOUT)  # it lies where no bundle is looked for
    assert not page.results.bar.isVisibleTo(page)
    assert len(page.model.rows) == 1
    engine.choose(str(untrained_bundle), "untrained")
    qtbot.waitUntil(lambda: page.results.bar.isVisibleTo(page), timeout=TIMEOUT)

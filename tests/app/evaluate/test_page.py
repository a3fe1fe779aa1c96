"""The page with the real engine, an untrained bundle and a few random images."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from ciad_app.evaluate import page as page_module
from ciad_app.evaluate.model import COL_ATTACK, COL_DECISION, COL_L2
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.evaluate.state import NO_DATABASE
from ciad_app.worker import Engine
from ciad_engine import bundles, systems
from ciad_engine.domain import CIFAR10
from ciad_engine.errors import SettingError
from ciad_engine.evaluation import planning, runner
from ciad_engine.jobs import Job
from ciad_engine.runs import Database
from tests.app.evaluate.conftest import COUNT, close

TIMEOUT = 30_000  # ms


def prepare(page: EvaluatePage, path: Path, qtbot, attacks: tuple[str, ...] = ("fgsm",), limit: int = COUNT) -> None:
    qtbot.waitUntil(lambda: page._database is not None, timeout=TIMEOUT)
    page.panel.data.choose(str(path))
    page.panel.attacks.choose([(name, {}) for name in attacks])
    qtbot.waitUntil(lambda: page.loader.data is not None, timeout=TIMEOUT)
    page.panel.limit.setValue(limit)


def finish(page: EvaluatePage, qtbot) -> None:
    """Wait until the evaluation has ended and what it stored is shown."""
    qtbot.waitUntil(lambda: page._task is None, timeout=TIMEOUT)
    database, key = page._database, page._state.run
    stored = sum(database.counts(key).values()) if key else 0
    qtbot.waitUntil(lambda: len(page.model.rows) == stored and (not key or page._news.reads > 0), timeout=TIMEOUT)


def evaluate(page: EvaluatePage, path: Path, qtbot, **settings) -> Database:
    prepare(page, path, qtbot, **settings)
    page.start()
    assert not page.panel.start.isEnabled()
    assert page.panel.cancel.isEnabled()
    finish(page, qtbot)
    return page._database


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Two images a batch, and after the third batch nothing more until the event is set or the job is cancelled."""
    real, go_on = runner.run, threading.Event()

    def run(plan, system, data, database, job, begun):
        tell, batches = job.on_partial, []

        def on_partial(result):
            tell(result)
            batches.extend([result] if isinstance(result, list) else [])
            while len(batches) == 3 and not go_on.is_set() and not job.cancelled:
                time.sleep(0.005)

        job.on_partial = on_partial
        return real(plan, system, data, database, job, batch_size=2, begun=begun)

    monkeypatch.setattr(runner, "run", run)
    return go_on


def test_rows_and_tables_fill(page, tiny_data, qtbot):
    database = evaluate(page, tiny_data, qtbot)
    assert page.model.rowCount() == 2 * COUNT
    (run,) = database.runs()
    assert run.finished
    assert [(r.attack, r.position, r.y1) for r in page.model.rows] == [
        (r.attack, r.position, r.y1) for r in database.rows(run.key)
    ]
    qtbot.waitUntil(lambda: bool(page.results.tables.tables) and "finished" not in page.results.tables.common.text())
    tables = page.results.tables
    assert [table.name for table in tables.tables] == ["table1", "table2", "detectors", "table4", "attacks"]
    assert (
        tables.cards[1].grid.item(0, 1).text()
        == tables.tables[1].cell("FGSM (L∞)", "adversarial_images", "mask").text()
    )
    long, short = tables.tables[1].columns[3].title, tables.tables[1].columns[3].heading
    line = next(k for k in range(tables.cards[1].grid.rowCount()) if tables.cards[1].grid.item(k, 0).text() == short)
    assert tables.cards[1].grid.item(line, 0).toolTip() == long != short
    assert page.results.banner.isVisibleTo(page)
    assert "random pictures" in page.results.banner.text()
    qtbot.waitUntil(lambda: page.results.runs.count() == 1 and "finished" in page.results.runs.itemText(0))
    qtbot.waitUntil(lambda: page.panel.estimate.text().startswith("About"))


def test_images_that_are_reused_are_counted_alone(page, tiny_data, monkeypatch, qtbot):
    evaluate(page, tiny_data, qtbot)
    said, bars = [], []
    monkeypatch.setattr(page, "_say", said.append)
    monkeypatch.setattr(page.results, "show_progress", lambda done, total: bars.append((done, total)))
    evaluate(page, tiny_data, qtbot, attacks=("fgsm", "jsma"))
    assert f"Reusing images of FGSM (L∞): 0 of {COUNT}" in said
    assert {total for _, total in bars} == {COUNT, 3 * COUNT, 0}


def test_cancel_keeps_rows_and_continue_finishes_the_same_run(page, tiny_data, held, qtbot):
    prepare(page, tiny_data, qtbot)
    page.start()
    assert page._task.left == page._left  # so the status bar does not contradict the page
    page._look_up_rates()
    qtbot.waitUntil(lambda: len(page.model.rows) >= 4, timeout=TIMEOUT)
    assert page.panel.estimate.text() == ""
    page.cancel()
    qtbot.waitUntil(lambda: page._task is None, timeout=1000)
    qtbot.waitUntil(lambda: page.results.bar.isVisibleTo(page))
    (run,) = page._database.runs()
    kept = page._database.rows(run.key)
    assert 4 <= len(kept) < 2 * COUNT
    assert len(page.model.rows) == len(kept)
    assert f"interrupted at {len(kept)} of {2 * COUNT} rows" in page.results.bar.label.text()
    held.set()
    page.panel.limit.setValue(3)  # other settings now: Continue means the run's own
    page.results.bar.go_on.click()
    finish(page, qtbot)
    (again,) = page._database.runs()
    assert (again.key, again.finished) == (run.key, True)
    assert len(page.model.rows) == 2 * COUNT
    assert page._database.rows(run.key)[: len(kept)] == kept
    assert page.panel.limit.value() == COUNT


def test_an_unfinished_run_is_offered_after_a_restart_and_finds_its_data(
    engine: Engine, database_path, tiny_data, held, qtbot
):
    first = EvaluatePage(engine, "", database_path)
    prepare(first, tiny_data, qtbot)
    first.start()
    qtbot.waitUntil(lambda: len(first.model.rows) >= 4, timeout=TIMEOUT)
    first.cancel()
    finish(first, qtbot)
    close(first)
    held.set()

    second = EvaluatePage(engine, "", database_path)
    qtbot.waitUntil(lambda: second.results.bar.isVisibleTo(second))
    assert second.loader.data is None
    second.results.bar.go_on.click()
    qtbot.waitUntil(lambda: bool(second._database.runs()[0].finished), timeout=TIMEOUT)
    finish(second, qtbot)
    assert len(second.model.rows) == 2 * COUNT
    close(second)


def test_data_that_moved_are_asked_for(engine: Engine, database_path, tiny_data, held, qtbot):
    first = EvaluatePage(engine, "", database_path)
    prepare(first, tiny_data, qtbot)
    first.start()
    qtbot.waitUntil(lambda: len(first.model.rows) >= 4, timeout=TIMEOUT)
    first.cancel()
    finish(first, qtbot)
    close(first)
    held.set()
    database_path.with_name("data_paths.json").write_text("{}")

    second = EvaluatePage(engine, "", database_path)
    qtbot.waitUntil(lambda: second.results.bar.isVisibleTo(second))
    second.results.bar.go_on.click()
    assert "choose their folder or file" in second.results.bar.label.text()
    second.panel.data.choose(str(tiny_data))
    qtbot.waitUntil(lambda: bool(second._database.runs()[0].finished), timeout=TIMEOUT)
    finish(second, qtbot)
    close(second)


def test_a_run_of_another_engine_is_shown_but_not_offered(page, tiny_data, held, monkeypatch, qtbot):
    """It computed other rows from the same plan: to go on with it would mix the two."""
    prepare(page, tiny_data, qtbot)
    page.start()
    qtbot.waitUntil(lambda: len(page.model.rows) >= 4, timeout=TIMEOUT)
    page.cancel()
    finish(page, qtbot)
    qtbot.waitUntil(lambda: page.results.bar.isVisibleTo(page))
    monkeypatch.setattr(planning, "SCHEMA", planning.SCHEMA + 1)
    page.open_run(page._news.run.key)
    qtbot.waitUntil(lambda: not page.results.bar.isVisibleTo(page))
    assert page.model.rows
    page._news = None
    page.offer_to_continue()
    looked = []
    page._background.run(lambda: None, looked.append, pytest.fail)  # behind the search for it
    qtbot.waitUntil(lambda: bool(looked))
    assert page._news is None


def test_an_evaluation_that_cannot_begin_leaves_no_run(page, tiny_data, qtbot):
    prepare(page, tiny_data, qtbot, attacks=("universal",))  # all images: nothing is left to learn from
    page.start()
    finish(page, qtbot)
    assert "at least 10 images" in page.results.state.text()
    assert page._database.runs() == []


def test_discard_asks_once_more_and_removes_the_run(page, tiny_data, held, qtbot):
    prepare(page, tiny_data, qtbot)
    page.start()
    qtbot.waitUntil(lambda: len(page.model.rows) >= 2, timeout=TIMEOUT)
    page.cancel()
    qtbot.waitUntil(lambda: page.results.bar.isVisibleTo(page))
    bar = page.results.bar
    bar.discard.click()
    assert "for good" in bar.label.text()
    bar.go_on.click()  # Keep
    assert page._database.runs()
    bar.discard.click()
    bar.discard.click()
    qtbot.waitUntil(lambda: not page._database.runs())
    qtbot.waitUntil(lambda: page.model.rowCount() == 0 and page.results.runs.count() == 0)


def test_double_click_and_enter_open_a_row_with_its_images(page, tiny_data, tiny_set, qtbot):
    evaluate(page, tiny_data, qtbot, limit=8)
    table = page.results.rows.table
    line = next(i for i in range(page.model.rowCount()) if page.model.row_at(i).fooled)
    row = page.model.row_at(line)
    table.scrollTo(page.model.index(line, 0))
    middle = table.visualRect(page.model.index(line, 1)).center()
    with qtbot.waitSignal(page.handed_on) as caught:
        qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
        qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    image, label, adversarial, name, attack, evade, bundle = caught.args[0]
    assert bundle == page.engine.info.card.checksum
    assert np.array_equal(image, tiny_set.images[row.image_index])
    assert (label, name) == (row.label, row.name)
    assert np.abs(adversarial.astype(int) - image).max() == row.linf > 0
    assert (attack.attack, attack.settings) == ("fgsm", dict(page._news.plan.attacks[0].settings))
    assert np.array_equal(attack.images[0], adversarial)
    assert (attack.success.tolist(), attack.linf.tolist(), attack.forwards.tolist()) == (
        [True],
        [row.linf],
        [row.forwards],
    )
    assert (attack.label_after.tolist(), evade) == ([row.label_after], ())
    table.setCurrentIndex(page.model.index(0, 0))
    with qtbot.waitSignal(page.handed_on) as caught:
        qtbot.keyClick(table, Qt.Key.Key_Return)
    assert caught.args[0].adversarial is caught.args[0].attack is None
    assert np.array_equal(caught.args[0].image, tiny_set.images[page.model.row_at(0).image_index])


def test_a_row_can_be_opened_while_the_evaluation_runs(page, tiny_data, tiny_set, held, qtbot):
    prepare(page, tiny_data, qtbot)
    page.start()
    qtbot.waitUntil(lambda: page.model.rowCount() > 0, timeout=TIMEOUT)
    page.results.rows.table.setCurrentIndex(page.model.index(0, 0))
    with qtbot.waitSignal(page.handed_on) as caught:
        qtbot.keyClick(page.results.rows.table, Qt.Key.Key_Return)
    assert page._task is not None
    assert np.array_equal(caught.args[0].image, tiny_set.images[page.model.row_at(0).image_index])
    held.set()
    finish(page, qtbot)


def test_an_image_that_fooled_f1_but_was_flagged_can_be_opened(page, tiny_data, monkeypatch, qtbot):
    database = evaluate(page, tiny_data, qtbot, limit=4)
    row = next(row for row in page.model.rows if row.fooled)
    flagged = dataclasses.replace(row, evaded=False, reason="flagged by a detector")
    with qtbot.waitSignal(page.handed_on) as caught:
        page._open_row(flagged)
    assert np.array_equal(caught.args[0].adversarial, database.image(page._news.run.key, row.attack, row.position))


def test_the_attacker_may_know_a_detector(page, tiny_data, qtbot):
    panel = page.panel
    prepare(page, tiny_data, qtbot, attacks=("fgsm", "deepfool"), limit=3)
    assert [panel.evade.itemText(k) for k in range(panel.evade.count())] == [
        "No detector",
        "f2 on the mask (disagreement)",
        "f2 on the mask (graded)",
        "f2 on the shuffled mask (disagreement)",
        "f2 on the shuffled mask (graded)",
        "f1's confidence (graded)",
    ]  # each of them, and nothing that the engine refuses
    for place in range(1, panel.evade.count()):
        bundles.evaded(page.engine.info.card, panel.evade.itemData(place))
    with pytest.raises(SettingError, match="no attack can evade it"):
        bundles.evaded(page.engine.info.card, "constant-mask")
    panel.evade.setCurrentIndex(2)
    assert panel.request().evade == ("mask:graded",)
    panel.evade.setCurrentIndex(1)
    assert panel.request().evade == ("mask:disagreement",)
    assert panel.start.toolTip().startswith("DeepFool cannot evade a detector")
    panel.attacks.choose([("fgsm", {"eps": 32.0})])
    page.start()
    finish(page, qtbot)
    plan = planning.from_json(page._news.run.plan)
    assert [(one.name, one.rule) for one in plan.evade] == [("mask", "disagreement")]
    assert {row.evaded for row in page.model.rows if row.attack} <= {True, False}
    qtbot.waitUntil(lambda: "direct, evading mask:disagreement" in page.results.runs.currentText(), timeout=TIMEOUT)
    panel.evade.setCurrentIndex(0)
    panel.set_plan(plan)
    assert panel.request().evade == ("mask:disagreement",)
    graded = dataclasses.replace(plan, evade=(dataclasses.replace(plan.evade[0], rule="graded"), *plan.evade))
    panel.set_plan(graded)  # of the command line
    assert panel.request().evade == ("mask:graded", "mask:disagreement")
    panel.attacked.addItem("Transferred", "second_classifier")
    panel.attacked.setCurrentIndex(1)
    assert panel.request().evade == ()
    assert not panel.evade.isEnabled()
    assert "direct setting" in panel.evade.toolTip()


def test_the_rows_show_the_detector_that_is_chosen_beside_the_filter(page, tiny_data, qtbot):
    evaluate(page, tiny_data, qtbot, limit=4)
    choice = page.results.rows.detector
    assert [choice.itemText(k) for k in range(choice.count())] == [
        "f2 on the mask", "f2 on the shuffled mask", "f2 on a constant mask", "f1's confidence",
    ]  # fmt: skip
    assert choice.currentData() == page.model.detector == "mask"
    before = page.model.index(0, COL_DECISION).data()
    choice.setCurrentIndex(choice.findData("confidence"))
    assert page.model.detector == "confidence"
    row = page.model.row_at(0)
    flagged = row.scores["confidence"].value > 3.0  # the threshold on the card
    assert before
    assert page.model.index(0, COL_DECISION).data().startswith("▲" if flagged else "○")
    page.results.rows.filter.setCurrentIndex(1)
    assert choice.currentData() == "confidence"


def test_a_run_of_the_same_networks_under_an_earlier_checksum_is_offered(page, interrupted, monkeypatch, qtbot):
    info = page.engine.info
    run = interrupted(info.card)
    newer = dataclasses.replace(info.card, checksum="f" * 64, earlier=(info.card.checksum,))
    monkeypatch.setattr(page.engine, "info", dataclasses.replace(info, card=newer))
    page.offer_to_continue()
    qtbot.waitUntil(page.results.bar.isVisible)
    assert page._news.run.key == run.key


def test_an_export_replaces_no_file(page, tiny_data, tmp_path, monkeypatch, qtbot):
    database = evaluate(page, tiny_data, qtbot, limit=2)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "table1.csv").write_text("mine")
    monkeypatch.setattr(page_module, "ask_folder", lambda *_: thesis)
    used = []
    page.folder_used.connect(used.append)
    for name in (f"ciad-{database.runs()[0].short}", f"ciad-{database.runs()[0].short}-2"):
        with qtbot.waitSignal(page.exported, timeout=TIMEOUT) as caught:
            page.results.export.click()
        assert {path.parent for path in caught.args[0]} == {thesis / name}
        assert str(thesis / name) in page.results.state.text()
    assert (thesis / "table1.csv").read_text() == "mine"
    assert used == [str(thesis)] * 2


def test_an_export_to_a_new_folder_is_that_folder(page, tiny_data, tmp_path, monkeypatch, qtbot):
    evaluate(page, tiny_data, qtbot, limit=2)
    monkeypatch.setattr(page_module, "ask_folder", lambda *_: tmp_path / "new" / "newer")
    with qtbot.waitSignal(page.exported, timeout=TIMEOUT) as caught:
        page.results.export.click()
    assert {path.parent for path in caught.args[0]} == {tmp_path / "new" / "newer"}


def test_csv_equals_the_database(page, tiny_data, tmp_path, qtbot):
    database = evaluate(page, tiny_data, qtbot)
    with qtbot.waitSignal(page.exported, timeout=TIMEOUT) as caught:
        page.export(tmp_path / "out")
    names = {path.name for path in caught.args[0]}
    tables = {f"{name}.csv" for name in ("table1", "table2", "table4", "attacks", "roc", "rows")}
    assert names == {*tables, "run.json", "roc.svg", "roc.png", "scores.svg", "scores.png"}
    assert str(tmp_path / "out") in page.results.state.text()
    with (tmp_path / "out" / "rows.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = database.rows(database.runs()[0].key)
    assert [(line["attack"], int(line["position"]), float(line["l2"])) for line in lines] == [
        (row.attack or "benign", row.position, row.l2) for row in rows
    ]


def test_a_header_click_sorts_by_number(page, tiny_data, qtbot):
    evaluate(page, tiny_data, qtbot)
    header = page.results.rows.table.horizontalHeader()
    header.setSortIndicator(COL_L2, Qt.SortOrder.DescendingOrder)
    distances = [page.model.row_at(line).l2 for line in range(page.model.rowCount())]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > distances[-1]


def test_tables_are_copied_as_text_and_html(page, tiny_data, qtbot):
    evaluate(page, tiny_data, qtbot)
    qtbot.waitUntil(lambda: page.results.copy.isEnabled())
    page.results.copy.click()
    data = QApplication.clipboard().mimeData()
    assert "Table 2" in data.text()
    assert "<td>True positive rate</td>" in data.html()


def test_a_past_run_can_be_opened(page, tiny_data, qtbot):
    evaluate(page, tiny_data, qtbot, limit=4)
    page.panel.limit.setValue(6)
    page.start()
    finish(page, qtbot)
    qtbot.waitUntil(lambda: page.results.runs.count() == 2)
    older = next(i for i in range(2) if "4 images" in page.results.runs.itemText(i))
    page.results.runs.setCurrentIndex(older)
    page.results.runs.activated.emit(older)
    qtbot.waitUntil(lambda: len(page.model.rows) == 8)
    assert not page.results.bar.isVisibleTo(page)
    assert page.results.state.text().startswith("8 rows")


def test_a_run_whose_plan_cannot_be_read_is_listed_all_the_same(page, interrupted, qtbot):
    interrupted(page.engine.info.card)
    page._database.start("f" * 64, {"what": "a later version plans"}, {}, "CPU")
    page._list_runs()
    qtbot.waitUntil(lambda: page.results.runs.count() == 2, timeout=TIMEOUT)
    texts = sorted((page.results.runs.itemText(k) for k in range(2)), key=len)
    assert texts[0].endswith(" · ⚠ ffffffffffff cannot be read · unfinished")
    assert texts[1].endswith(" · direct · unfinished")


def test_a_bad_path_is_explained_and_nothing_starts(page, tmp_path, qtbot):
    bad = tmp_path / "nowhere"
    page.panel.data.choose(str(bad))
    qtbot.waitUntil(lambda: not page.loader.busy, timeout=TIMEOUT)
    assert str(bad) in page.panel.data.state.text()
    assert not page.panel.start.isEnabled()
    page.start()
    assert "No images are loaded" in page.results.state.text()


def test_start_needs_an_attack(page, tiny_data, qtbot):
    prepare(page, tiny_data, qtbot, attacks=())
    assert not page.panel.start.isEnabled()
    assert "No attack" in page.panel.start.toolTip()


def test_the_number_of_images_is_bounded_by_the_data(page, tiny_data, qtbot):
    prepare(page, tiny_data, qtbot, limit=5000)
    assert page.panel.limit.value() == COUNT
    page.panel.limit.setValue(3)
    page.panel.all.click()
    assert page.panel.request().limit == COUNT


def test_the_papers_attacks_are_a_button_away(page, qtbot):
    page.panel.attacks.choose([("jsma", {})])
    page.panel.preset.click()
    qtbot.waitUntil(
        lambda: {name for name, _ in page.panel.attacks.chosen()} == {"fgsm", "jsma", "cw"}, timeout=TIMEOUT
    )
    assert dict(page.panel.attacks.chosen())["fgsm"]["eps"] == 8.0


def test_a_target_class_has_its_name_wherever_a_run_is_shown(page, tiny_data, qtbot):
    for target in ("cat", "dog"):
        prepare(page, tiny_data, qtbot, attacks=())
        number = CIFAR10.classes.index(target)
        page.panel.attacks.choose([("fgsm", {"target": "given", "target_class": number})])
        page.start()
        finish(page, qtbot)
    qtbot.waitUntil(lambda: page.results.runs.count() == 2, timeout=TIMEOUT)
    for k, target in enumerate(("dog", "cat")):  # the newest first
        assert f"target_class = {target}" in page.results.runs.itemText(k)
    notes = page.results.tables.tables[0].notes
    assert any("target_class = dog" in note for note in notes)


def test_several_strengths_are_evaluated_side_by_side(page, tiny_data, qtbot):
    page.panel.sweep.click()
    qtbot.waitUntil(lambda: len(page.panel.attacks.chosen()) == 12, timeout=TIMEOUT)
    prepare(page, tiny_data, qtbot, attacks=())
    page.panel.attacks.choose([("fgsm", {"eps": 2.0}), ("fgsm", {"eps": 8.0})])
    page.panel.attacks.rows("fgsm")[1].form.editor("eps").setValue(2)
    assert "chosen twice" in page.panel.start.toolTip()
    assert not page.panel.start.isEnabled()
    page.panel.attacks.rows("fgsm")[1].form.editor("eps").setValue(16)
    page.start()
    finish(page, qtbot)
    qtbot.waitUntil(lambda: len(page.results.tables.tables) > 0, timeout=TIMEOUT)
    assert {row.attack for row in page.model.rows} == {"", "fgsm eps = 2", "fgsm eps = 16"}
    titles = {page.model.index(line, COL_ATTACK).data() for line in range(page.model.rowCount())}
    assert titles == {"benign", "FGSM (L∞), eps = 2", "FGSM (L∞), eps = 16"}
    assert page.results.tables.tables[0].turned()[0] == ["FGSM (L∞), eps = 2", "FGSM (L∞), eps = 16"]
    rates = page._rates
    page._look_up_rates()
    qtbot.waitUntil(lambda: page._rates is not rates, timeout=TIMEOUT)
    assert set(page._rates) == {"", "fgsm eps = 2", "fgsm eps = 16"}
    assert all(rate.exact for rate in page._rates.values())


def test_the_papers_attacks_are_ticked_at_first(page):
    assert {name for name, _ in page.panel.attacks.chosen()} == {"fgsm", "jsma", "cw"}
    assert len(page.panel.attacks._rows) > 3


def test_a_foreign_database_is_refused_in_words(engine, tmp_path, qtbot):
    path = tmp_path / "notes.sqlite"
    path.write_bytes(b"this is no database at all, but long enough to be looked at" * 20)
    page = EvaluatePage(engine, "", path)
    qtbot.waitUntil(lambda: str(path) in page.results.state.text())
    assert str(path) in page._state.database
    assert "Start tries it again" in page.results.state.text()
    assert not page.panel.cancel.isEnabled()
    close(page)


def test_the_download_reports_progress_and_leads_to_the_data(page, tiny_data, monkeypatch, qtbot):
    from ciad_engine import download

    def fetch(folder, job):
        job.progress(50, 100, "Downloading")
        return tiny_data

    monkeypatch.setattr(download, "fetch", fetch)
    said = []
    connection = page.engine.progress.connect(lambda *_: said.append(page.panel.data.state.text()))
    page.panel.data.download.click()
    assert page.panel.data.download.text() == "Stop"
    qtbot.waitUntil(lambda: page.loader.data is not None, timeout=TIMEOUT)
    page.engine.progress.disconnect(connection)
    assert "Downloading, 50%" in said
    assert "random pictures" in page.panel.data.state.text()
    assert page.panel.data.path == str(tiny_data)
    assert page.panel.data.download.text() == "Download"


def test_a_download_can_be_stopped(page, monkeypatch, qtbot):
    from ciad_engine import download

    def fetch(folder, job):
        while True:
            job.progress(1, 100, "Downloading")
            time.sleep(0.01)

    monkeypatch.setattr(download, "fetch", fetch)
    page.panel.data.download.click()
    qtbot.waitUntil(lambda: "Downloading" in page.panel.data.state.text(), timeout=TIMEOUT)
    page.panel.data.download.click()
    qtbot.waitUntil(lambda: "Cancelled" in page.panel.data.state.text(), timeout=1000)
    assert not page.loader.busy


def test_what_was_downloaded_is_only_spoken_of_after_a_download(page, tmp_path, monkeypatch, qtbot):
    from ciad_engine import datasets

    def choose(text, job):
        while True:
            job.progress(1, 100, "Reading")
            time.sleep(0.01)

    monkeypatch.setattr(datasets, "choose", choose)
    page.panel.data.choose(str(tmp_path))
    qtbot.waitUntil(lambda: "Reading" in page.panel.data.state.text(), timeout=TIMEOUT)
    page.engine.cancel_current()
    qtbot.waitUntil(lambda: page.panel.data.state.text() == "⚠ Cancelled.", timeout=1000)


def test_a_page_made_after_loading_failed_says_why(tmp_path, qtbot):
    engine = Engine()
    engine.start(str(tmp_path / "missing"), "cpu")
    qtbot.waitUntil(lambda: bool(engine.problem), timeout=60_000)
    page = EvaluatePage(engine, "", tmp_path / "runs.sqlite")
    assert "missing" in page.panel.start.toolTip()
    assert "missing" in page.results.state.text()
    close(page)
    assert engine.shutdown(30)


def test_a_run_that_another_program_computes_fills_the_tables(page, tiny_set, untrained_bundle, database_path, qtbot):
    card = bundles.read_card(untrained_bundle)
    plan = planning.make(card, tiny_set, [planning.choose("fgsm")], None, 0)
    done = threading.Event()

    def compute() -> None:
        system = systems.load(untrained_bundle, torch.device("cpu"))
        with Database(database_path) as database:
            runner.run(plan, system, tiny_set, database, Paused(), batch_size=3)
        done.set()

    class Paused(Job):
        def on_partial(self, result: object) -> None:
            time.sleep(0.4)

    thread = threading.Thread(target=compute)
    thread.start()
    qtbot.waitUntil(lambda: any(run.key == plan.key() for run in page._database.runs()), timeout=TIMEOUT)
    page.open_run(plan.key())
    seen = []
    qtbot.waitUntil(lambda: seen.append(len(page.model.rows)) or seen[-1] == 2 * COUNT, timeout=TIMEOUT)
    thread.join()
    assert len(set(seen)) > 3
    assert not page.results.bar.isVisibleTo(page)
    qtbot.waitUntil(lambda: page._news.run.finished and bool(page.results.tables.tables), timeout=TIMEOUT)
    assert page.results.state.text().startswith(f"{2 * COUNT} rows")


def test_a_database_that_another_program_has_locked_does_not_hold_the_window(engine, database_path, monkeypatch, qtbot):
    free = threading.Event()
    opened = page_module.Database

    def locked(path: Path, **more: object) -> Database:
        assert free.wait(30)
        return opened(path, **more)

    monkeypatch.setattr(page_module, "Database", locked)
    page = EvaluatePage(engine, "", database_path)
    assert page._state.why_not_start == NO_DATABASE
    assert page.panel.start.toolTip() == NO_DATABASE
    free.set()
    qtbot.waitUntil(lambda: page._state.database == "")
    close(page)


def test_a_locked_database_is_waited_for_until_somebody_cancels_and_tried_again_at_start(
    engine, database_path, monkeypatch, qtbot
):
    monkeypatch.setattr(page_module, "AGAIN", 20)
    database_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(database_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        page = EvaluatePage(engine, "", database_path)
        qtbot.waitUntil(lambda: "Waiting for it" in page.results.state.text())
        assert page.panel.cancel.isEnabled()
        page.cancel()
        assert "Start tries it again" in page.results.state.text()
        assert not page.panel.cancel.isEnabled()
        assert page._state.database
        page._change(has_data=True)
        page._open()  # as Start does
        qtbot.waitUntil(lambda: "Waiting for it" in page.results.state.text())
        other.execute("COMMIT")
    qtbot.waitUntil(lambda: page._database is not None)
    assert page._state.database == ""
    close(page)


def test_any_run_that_is_shown_can_be_removed(page, tiny_data, qtbot):
    database = evaluate(page, tiny_data, qtbot)
    qtbot.waitUntil(lambda: "takes" in page.results.runs.toolTip())
    assert page.results.remove.isEnabled()
    page.results.remove.click()
    assert page.results.bar.isVisibleTo(page)
    assert f"{2 * COUNT} rows" in page.results.bar.label.text()
    page.results.bar.go_on.click()  # Keep
    assert not page.results.bar.isVisibleTo(page)
    page.results.remove.click()
    page.results.bar.discard.click()  # Remove
    qtbot.waitUntil(lambda: page.results.runs.count() == 0)
    assert not page.results.remove.isEnabled()
    assert database.runs() == []


def test_a_damaged_run_stands_in_the_list_and_the_others_can_be_chosen(page, tiny_data, qtbot):
    database = evaluate(page, tiny_data, qtbot)
    key = page._state.run
    database.start("f" * 64, {"attacks": []}, {}, "CPU")
    database.start("e" * 64, {}, {}, "CPU")
    with database._connected() as connection, connection:
        connection.execute("UPDATE runs SET plan = '{' WHERE key = ?", ("e" * 64,))
    page._list_runs()
    qtbot.waitUntil(lambda: page.results.runs.count() == 3)
    texts = [page.results.runs.itemText(k) for k in range(3)]
    assert sum("cannot be read" in text for text in texts) == 1
    assert sum("is damaged" in text for text in texts) == 1
    page.open_run("f" * 64)
    qtbot.waitUntil(lambda: "not the plan" in page.results.state.text())
    page.open_run(key)
    qtbot.waitUntil(lambda: page._state.shown)

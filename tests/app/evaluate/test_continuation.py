"""Continue, where the images of the interrupted run have to be found first."""

from __future__ import annotations

import dataclasses

from ciad_engine import datasets
from ciad_engine.evaluation import planning
from ciad_engine.runs import Database

TIMEOUT = 30_000  # ms


def wait_for_images(page, run, qtbot):
    """Open a run and press Continue; its images are nowhere."""
    page.open_run(run.key)
    qtbot.waitUntil(page.results.bar.isVisible)
    page.results.bar.go_on.click()
    assert "choose their folder or file" in page.results.bar.label.text()


def load(page, path, qtbot):
    page.panel.data.choose(str(path))
    qtbot.waitUntil(lambda: not page.loader.busy, timeout=TIMEOUT)


def test_a_wrong_choice_or_other_images_do_not_end_the_wait(
    page, interrupted, tiny_data, tiny_set, tmp_path, monkeypatch, qtbot
):
    run = interrupted(page.engine.info.card)
    wait_for_images(page, run, qtbot)
    load(page, tmp_path / "nowhere", qtbot)
    assert "choose their folder or file" in page.results.bar.label.text()

    others, choose = tmp_path / "others.zip", datasets.choose
    other_set = dataclasses.replace(tiny_set, images=255 - tiny_set.images, checksum="")
    monkeypatch.setattr(datasets, "choose", lambda text, job: other_set if text == str(others) else choose(text, job))
    load(page, others, qtbot)
    assert page._task is None
    assert "are others" in page.results.bar.label.text()

    load(page, tiny_data, qtbot)
    qtbot.waitUntil(lambda: page._database.run(run.key).finished and page._task is None, timeout=TIMEOUT)
    assert len(page._database.runs()) == 1


def test_a_run_that_waits_is_forgotten_where_another_is_opened(page, interrupted, tiny_data, qtbot):
    card = page.engine.info.card
    asked, other = interrupted(card), interrupted(card, limit=3)
    wait_for_images(page, asked, qtbot)
    page.open_run(other.key)
    qtbot.waitUntil(lambda: page._news is not None and page._news.run.key == other.key)
    load(page, tiny_data, qtbot)
    assert page.loader.data is not None
    assert page._task is None
    assert not page._database.rows(asked.key)
    assert f"of {2 * 3} rows" in page.results.bar.label.text()


def test_a_plan_of_the_command_line_comes_back_from_the_panel_as_it_is(page, tiny_data, tiny_set, qtbot):
    load(page, tiny_data, qtbot)
    card = page.engine.info.card
    chosen = [
        planning.choose("jsma", gamma=0.145, target="given", target_class=7),
        planning.choose("fgsm", eps=1.23456789),
    ]
    plan = planning.make(card, tiny_set, chosen, 5, 2**32 - 1)
    page.panel.set_plan(plan)
    request = page.panel.request()
    again = [planning.choose(name, **settings) for name, settings in request.attacks]
    assert planning.make(card, tiny_set, again, request.limit, request.seed, request.attacked).key() == plan.key()


def test_the_newest_interrupted_run_is_told_of(page, interrupted, database_path, qtbot):
    run = interrupted(page.engine.info.card)
    page.hide()
    with qtbot.waitSignal(page.message, check_params_cb=lambda text: "interrupted" in text):
        page.offer_to_continue()
    page.show()
    qtbot.waitUntil(page.results.bar.isVisible)
    with Database(database_path) as database:
        assert [found.key for found in database.runs() if not found.finished] == [run.key]

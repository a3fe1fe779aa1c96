"""The page within the program's window, which was started on Inspect."""

from __future__ import annotations

import time

import pytest

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.window import MainWindow
from ciad_engine import bundles

TIMEOUT = 60_000  # ms


@pytest.fixture
def window(make_window, database_path) -> MainWindow:
    return make_window(database=database_path, remember=False)


def test_an_interrupted_evaluation_is_told_of_without_the_page_being_opened(
    window, untrained_bundle, interrupted, qtbot
):
    interrupted(bundles.read_card(untrained_bundle))
    said = []
    window.statusBar().messageChanged.connect(said.append)
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: "An evaluation was interrupted: see Evaluate." in said, timeout=TIMEOUT)
    window.show_page(EvaluatePage)
    qtbot.waitUntil(window.page(EvaluatePage).results.bar.isVisible)


def test_closing_ends_the_pages_thread_and_folders_are_remembered(window, tmp_path):
    page = window.page(EvaluatePage)
    page.folder_used.emit(str(tmp_path))
    assert window.settings.last_folder == str(tmp_path)
    page._list_runs()
    window.close()
    assert page._background._stopped
    assert not any(thread.is_alive() for thread in page._background._pool._threads)


def test_closing_before_the_page_was_built_is_no_reason_to_build_it(window, untrained_bundle, qtbot):
    window.engine.ready.connect(lambda _: window.close())
    with qtbot.waitSignal(window.closed, timeout=TIMEOUT):
        window.engine.start(str(untrained_bundle), "cpu")
    qtbot.wait(20)
    assert EvaluatePage not in window._built


def test_the_status_bar_shows_the_remaining_time_that_the_task_tells(window, untrained_bundle, qtbot):
    window.engine.start(str(untrained_bundle), "cpu")

    def work(session, job):
        job.progress(1, 10, "Evaluating")
        while True:
            job.checkpoint()
            time.sleep(0.01)

    task = window.engine.submit(work, lambda _: None, left=lambda done, total, text: f"{total - done} to do")
    qtbot.waitUntil(lambda: window.progress.label.text() == "Evaluating, 9 to do", timeout=TIMEOUT)
    task.cancel()

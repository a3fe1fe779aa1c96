"""The right end of the status bar: progress, time left, Cancel."""

from __future__ import annotations

from PySide6.QtCore import Qt

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from tests.app.steps import actions, busy_work, picture


def test_what_ran_last_leaves_the_status_bar_to_messages(window, qtbot):
    free = window.progress.sizeHint().width()
    window.engine.busy_changed.emit(True)
    window.engine.progress.emit(1, 2, "Carlini-Wagner on test/automobile/" + "0" * 300)
    assert window.progress.sizeHint().width() < free + 60 * window.fontMetrics().averageCharWidth()
    window.engine.busy_changed.emit(False)
    assert window.progress.sizeHint().width() == free


def test_progress_is_shown_and_escape_and_the_button_cancel(window, untrained_bundle, qtbot):
    window.engine.start(str(untrained_bundle), "cpu")
    window.show_page(EvaluatePage)
    for stop in (
        lambda: qtbot.keyClick(window, Qt.Key.Key_Escape),
        lambda: qtbot.mouseClick(window.progress.cancel, Qt.MouseButton.LeftButton),
        lambda: actions(window)["Cancel"].trigger(),
    ):
        ended = []
        window.engine.submit(busy_work, ended.append, cancelled=lambda ended=ended: ended.append("cancelled"))
        qtbot.waitUntil(lambda: "Attacking" in window.progress.label.text(), timeout=60_000)
        qtbot.waitUntil(window.progress.isVisible)
        stop()
        qtbot.waitUntil(lambda ended=ended: bool(ended))
        assert ended == ["cancelled"]
        assert not window.progress.isVisible()


def test_escape_on_inspect_stops_the_attack_that_waits_and_not_the_evaluation_before_it(
    window, untrained_bundle, tmp_path, qtbot
):
    picture().save(str(tmp_path / "red.png"))
    window.engine.start(str(untrained_bundle), "cpu")
    window.open_paths([tmp_path / "red.png"])
    qtbot.waitUntil(lambda: window.page(InspectPage).found is not None and not window.engine.busy, timeout=60_000)
    evaluation = window.engine.submit(busy_work, lambda _: None)
    window.page(InspectPage).attack_now()
    assert window.page(InspectPage).busy
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not window.page(InspectPage).busy)
    qtbot.keyClick(window, Qt.Key.Key_Escape)  # pressed once more, with nothing of this page to stop
    assert not evaluation.cancelling
    window.page(InspectPage).attack_now()
    window.show_page(EvaluatePage)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert evaluation.cancelling
    qtbot.waitUntil(lambda: not window.engine.busy, timeout=60_000)

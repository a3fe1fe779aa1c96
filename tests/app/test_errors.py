from __future__ import annotations

import logging
import sys
import threading

import pytest
from PySide6.QtCore import qWarning
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QPushButton

from ciad_app import errors
from ciad_app.errors import ReportDialog, Reporter
from ciad_app.worker import Failure


@pytest.fixture
def reporter(qapp):
    before = (sys.excepthook, threading.excepthook)
    made = Reporter()
    made.install()
    yield made
    made.uninstall()
    assert (sys.excepthook, threading.excepthook) == before
    for dialog in dialogs():
        dialog.close()
        dialog.deleteLater()


def dialogs():
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, ReportDialog) and w.isVisible()]


def raise_and_hook(message):
    try:
        raise ValueError(message)
    except ValueError:
        sys.excepthook(*sys.exc_info())


def test_an_uncaught_exception_is_shown_with_trace_and_versions_and_can_be_copied(reporter, qtbot, caplog):
    raise_and_hook("a very odd number")
    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    shown = dialogs()[0].findChild(QPlainTextEdit).toPlainText()
    for part in ("a very odd number", "raise_and_hook", "CIAD ", "PySide6", "torch", "Python "):
        assert part in shown
    assert "a very odd number" in caplog.text
    next(b for b in dialogs()[0].findChildren(QPushButton) if "Copy" in b.text()).click()
    assert QApplication.clipboard().text() == dialogs()[0].report


def test_an_exception_of_another_thread_is_shown_in_the_windows_thread(reporter, qtbot):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    assert "ZeroDivisionError" in dialogs()[0].report
    assert dialogs()[0].thread() is QApplication.instance().thread()


def test_a_storm_of_errors_opens_one_dialog_and_the_log_has_all(reporter, qtbot, caplog):
    for number in range(5):
        raise_and_hook(f"error {number}")
    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    qtbot.wait(20)
    assert len(dialogs()) == 1
    assert all(f"error {number}" in caplog.text for number in range(5))
    dialogs()[0].close()
    raise_and_hook("after it was closed")
    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    assert "after it was closed" in dialogs()[0].report


def test_a_failure_of_the_engine_is_shown(reporter, qtbot):
    reporter.report(Failure("Unexpected error while attacking: boom", "Traceback ..."))
    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    assert dialogs()[0].report.startswith("Unexpected error while attacking: boom")


def test_ctrl_c_is_no_error(reporter, qtbot):
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    qtbot.wait(20)
    assert not dialogs()


@pytest.fixture
def own_log(qapp):
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    errors.stop_log()
    root.setLevel(level)
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)


def test_the_log_file_has_our_lines_and_qts(own_log):
    assert errors.start_log() == ""
    logging.getLogger("ciad_app").warning("a line of ours")
    qWarning("a line of Qt")
    text = errors.log_path().read_text(encoding="utf-8")
    assert "a line of ours" in text
    assert "a line of Qt" in text
    assert "a line of ours" in ReportDialog("s", "t", "v").report


def test_a_log_folder_that_cannot_be_written_does_not_stop_the_start(own_log, own_folders):
    own_folders.mkdir()
    errors.log_path().parent.write_text("a file where the folder should be")
    assert errors.start_log() == ""
    logging.getLogger("ciad_app").warning("still remembered")
    assert "still remembered" in ReportDialog("s", "t", "v").report


def test_a_hard_crash_is_told_at_the_next_start(own_log):
    crash = errors.log_path().with_name("crash.txt")
    crash.parent.mkdir(parents=True)
    crash.write_text("Fatal Python error: Segmentation fault")
    assert "Segmentation fault" in errors.start_log()
    assert "Segmentation fault" in errors.log_path().read_text(encoding="utf-8")
    errors.stop_log()
    assert errors.start_log() == ""

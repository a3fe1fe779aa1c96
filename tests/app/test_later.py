"""A call that comes once, some time after it was asked for last."""

from __future__ import annotations

from PySide6.QtCore import QObject

from ciad_app.later import Later


def test_it_comes_once_after_the_last_wish(qapp, qtbot):
    parent, calls = QObject(), []
    later = Later(parent, 40, lambda: calls.append(1))
    for _ in range(5):
        later.start()
        qtbot.wait(10)
        assert not calls
    qtbot.waitUntil(lambda: bool(calls))
    qtbot.wait(100)
    assert calls == [1]


def test_it_can_be_stopped_and_asked_for_at_once(qapp, qtbot):
    parent, calls = QObject(), []
    later = Later(parent, 20, lambda: calls.append(1))
    later.start()
    later.stop()
    qtbot.wait(60)
    assert not calls
    later.start(0)
    qtbot.waitUntil(lambda: calls == [1])

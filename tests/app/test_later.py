"""A call that comes once, some time after it was asked for last."""

from __future__ import annotations

from PySide6.QtCore import QObject, Qt

from ciad_app.later import Later


def test_it_comes_once_after_the_last_wish(qapp, qtbot):
    parent, calls = QObject(), []
    later = Later(parent, 10_000, lambda: calls.append(1))
    later.setTimerType(Qt.TimerType.PreciseTimer)
    later.start()
    qtbot.wait(50)
    left = later.remainingTime()
    later.start()
    assert later.remainingTime() > left  # it begins anew
    later.start(0)
    qtbot.waitUntil(lambda: bool(calls))
    qtbot.wait(50)
    assert calls == [1]
    assert not later.isActive()


def test_it_can_be_stopped(qapp, qtbot):
    parent, calls = QObject(), []
    later = Later(parent, 0, lambda: calls.append(1))
    later.start()
    later.stop()
    qtbot.wait(50)
    assert not calls

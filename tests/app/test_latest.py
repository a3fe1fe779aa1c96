"""The one task for a purpose, which a newer one replaces."""

from __future__ import annotations

import threading

from ciad_app.latest import Latest
from ciad_engine.errors import ImageError
from tests.app.test_worker import Calls, until


def test_a_newer_task_replaces_the_former_whose_callbacks_stay_silent(engine, qtbot):
    latest, calls = Latest(engine), Calls()
    begun = threading.Event()

    def first(session, job):
        begun.set()
        until(threading.Event(), job)

    latest.submit(first, calls.on("first"), failed=calls.on("failed"), cancelled=calls.on("cancelled"))
    qtbot.waitUntil(begun.is_set)
    latest.submit(lambda session, job: "new", calls.on("second"), cancelled=calls.on("cancelled"))
    assert latest.busy
    qtbot.waitUntil(lambda: not engine.busy)
    assert calls == [("second", "new")]
    assert not latest.busy


def test_what_is_called_back_finds_the_purpose_free(engine, qtbot):
    latest, calls = Latest(engine), Calls()

    def fail(session, job):
        raise ImageError("a bad image")

    for work in (lambda session, job: "fine", fail, lambda session, job: until(threading.Event(), job)):
        latest.submit(
            work,
            lambda found: calls.append((found, latest.busy)),
            failed=lambda reason: calls.append((reason, latest.busy)),
            cancelled=lambda: calls.append(("cancelled", latest.busy)),
        )
        if len(calls) == 2:
            latest.cancel()
        qtbot.waitUntil(lambda: not engine.busy)
    assert calls == [("fine", False), ("a bad image", False), ("cancelled", False)]

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest

from ciad_app import worker
from ciad_app.worker import Engine
from ciad_engine import systems
from ciad_engine.errors import CiadError, ImageError
from ciad_engine.jobs import Cancelled
from tests.app.steps import busy_work

TIMEOUT = 60_000  # ms

MAIN = threading.main_thread()


class Calls(list):
    """Records which callbacks were called, with what, and that it was in the window's thread."""

    def on(self, name):
        def record(*arguments):
            assert threading.current_thread() is MAIN
            self.append((name, *arguments))

        return record

    def submit(self, engine, work, **more):
        names = {"failed": "failed", "partial": "partial", "cancelled": "cancelled"}
        return engine.submit(work, self.on("done"), **{k: self.on(v) for k, v in names.items()}, **more)

    @property
    def names(self):
        return [call[0] for call in self]


def test_ready_tells_what_the_window_needs(engine):
    info = engine.info
    assert info.device.startswith("CPU")
    assert info.domain.classes[0] == "airplane"
    assert info.card.name == "untrained"
    assert [a.name for a in info.attacks][:1] == ["fgsm"]
    fgsm = info.attacks[0]
    assert fgsm.title
    assert fgsm.summary()
    assert [(d.name, d.title, d.rules) for d in info.detectors] == [
        ("mask", "f2 on the mask", ("disagreement", "graded")),
        ("shuffled-mask", "f2 on the shuffled mask", ("disagreement", "graded")),
        ("constant-mask", "f2 on a constant mask", ("disagreement",)),
        ("confidence", "f1's confidence", ("graded",)),
    ]
    assert not info.has_samples


def test_work_runs_in_the_engine_thread_and_done_in_the_windows(engine, qtbot):
    calls = Calls()
    calls.submit(engine, lambda session, job: (threading.current_thread().name, session.system.device.type))
    qtbot.waitUntil(lambda: bool(calls))
    assert calls == [("done", ("ciad-engine", "cpu"))]


def test_jobs_run_one_at_a_time_in_order_even_when_submitted_before_the_start(idle_engine, untrained_bundle, qtbot):
    running, seen = [], []

    def work(number):
        def run(session, job):
            assert session.system.card.name == "untrained"
            running.append(number)
            assert len(running) == 1
            time.sleep(0.01)
            running.remove(number)
            return number

        return run

    for number in range(5):
        idle_engine.submit(work(number), seen.append)
    idle_engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: len(seen) == 5, timeout=60_000)
    assert seen == [0, 1, 2, 3, 4]


def test_partial_results_arrive_in_order_before_done(engine, qtbot):
    calls = Calls()

    def work(session, job):
        for i in range(20):
            job.partial(np.full(3, i))
        return "end"

    calls.submit(engine, work)
    qtbot.waitUntil(lambda: "done" in calls.names)
    assert calls.names == ["partial"] * 20 + ["done"]
    assert [int(call[1][0]) for call in calls[:-1]] == list(range(20))


def test_progress_is_thinned_out_but_the_end_arrives(engine, qtbot):
    seen = []
    engine.progress.connect(lambda *call: seen.append(call))

    def work(session, job):
        for i in range(5001):
            job.progress(i, 5000, "counting")

    with qtbot.waitSignal(engine.busy_changed, check_params_cb=lambda busy: not busy):
        engine.submit(work, lambda _: None)
    assert seen[-1] == (5000, 5000, "counting")
    assert len(seen) < 500


def test_progress_without_a_text_of_its_own_carries_the_tasks(engine, qtbot):
    seen = []
    engine.progress.connect(lambda *call: seen.append(call))
    engine.submit(lambda session, job: job.progress(1, 1), lambda _: None, text="Attacking")
    qtbot.waitUntil(lambda: bool(seen))
    assert seen == [(1, 1, "Attacking")]


def test_an_error_for_a_person_goes_to_failed_with_its_message(engine, qtbot):
    calls = Calls()

    def work(session, job):
        raise ImageError("cat.png is not an image.")

    calls.submit(engine, work)
    qtbot.waitUntil(lambda: bool(calls))
    assert calls == [("failed", "cat.png is not an image.")]


def test_without_a_failed_callback_the_message_is_a_note(engine, qtbot):
    def work(session, job):
        raise ImageError("cat.png is not an image.")

    with qtbot.waitSignal(engine.note) as caught:
        engine.submit(work, lambda _: None)
    assert caught.args == ["cat.png is not an image."]


def test_an_unexpected_error_is_reported_with_its_traceback_and_the_next_job_runs(engine, qtbot):
    calls = Calls()
    with qtbot.waitSignal(engine.failed) as caught:
        calls.submit(engine, lambda session, job: 1 / 0, text="dividing")
    failure = caught.args[0]
    assert "ZeroDivisionError" in failure.traceback
    assert "dividing" in failure.summary
    calls.submit(engine, lambda session, job: "fine")
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert calls.names == ["failed", "done"]


def test_a_full_memory_is_a_message_not_a_crash(engine, qtbot):
    calls = Calls()

    def work(session, job):
        raise MemoryError

    calls.submit(engine, work, text="Inspecting")
    qtbot.waitUntil(lambda: bool(calls))
    assert calls.names == ["failed"]
    assert "memory" in calls[0][1]


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class MuteCiadError(MuteError, CiadError):
    pass


class MuteTorchError(MuteError, RuntimeError):
    pass


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseException(), MuteError(), MuteCiadError(),
        MuteTorchError(), BaseExceptionGroup("several", [KeyboardInterrupt()]), Cancelled(), StopIteration(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("urgent", [False, True])
def test_whatever_is_raised_the_task_fails_once_and_the_next_one_runs(engine, qtbot, error, urgent):
    calls = Calls()

    def work(session, job):
        raise error

    calls.submit(engine, work, urgent=urgent)
    qtbot.waitUntil(lambda: bool(calls))
    assert calls.names == ["failed"]
    assert type(error).__name__ in calls[0][1] or isinstance(error, CiadError)
    calls.submit(engine, lambda session, job: "fine")
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert calls[1:] == [("done", "fine")]
    assert not engine.busy


def test_an_urgent_task_that_would_end_the_thread_leaves_the_long_one_alone(engine, qtbot):
    calls, urgent = Calls(), Calls()

    def work(session, job):
        urgent_is_there.wait(10)
        job.checkpoint()
        return "long"

    def leave(session, job):
        raise SystemExit

    urgent_is_there = threading.Event()
    calls.submit(engine, work)
    urgent.submit(engine, leave, urgent=True)
    urgent_is_there.set()
    qtbot.waitUntil(lambda: bool(calls))
    assert (urgent.names, calls) == (["failed"], [("done", "long")])


def test_a_bundle_whose_loading_would_end_the_thread_is_one_that_cannot_be_loaded(idle_engine, monkeypatch, qtbot):
    def load(name, device):
        raise SystemExit

    monkeypatch.setattr(systems, "load", load)
    with qtbot.waitSignal(idle_engine.unavailable) as caught:
        idle_engine.start("any", "cpu")
    assert "SystemExit" in caught.args[0]
    calls = Calls()
    calls.submit(idle_engine, lambda session, job: "fine")
    qtbot.waitUntil(lambda: bool(calls))
    assert calls.names == ["done"]


@pytest.mark.parametrize("text", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes", "gone"])
def test_a_full_memory_of_the_computer_is_no_bug_and_other_errors_of_torch_are(engine, qtbot, text):
    calls, bugs = Calls(), []
    engine.failed.connect(bugs.append)

    def work(session, job):
        raise RuntimeError(text)

    calls.submit(engine, work, text="Inspecting")
    qtbot.waitUntil(lambda: bool(calls))
    assert calls.names == ["failed"]
    assert (len(bugs) == 0) == ("Not enough memory for: Inspecting" in calls[0][1]) == ("memory" in text)


def test_cancel_ends_running_work_with_cancelled_only(engine, qtbot):
    calls = Calls()
    with qtbot.waitSignal(engine.progress):
        task = calls.submit(engine, busy_work)
    task.cancel()
    qtbot.waitUntil(lambda: bool(calls))
    assert calls == [("cancelled",)]
    assert task.finished
    assert not engine.busy


def test_results_of_work_that_ignores_cancel_do_not_arrive(engine, qtbot):
    calls = Calls()
    progress = []
    started, go_on = threading.Event(), threading.Event()

    def stubborn(session, job):
        started.set()
        go_on.wait(10)
        job.on_partial("late")  # past the check, as a result on its way is
        job.on_progress(1, 2, "late")
        return "late"

    task = calls.submit(engine, stubborn)
    assert started.wait(10)
    engine.progress.connect(lambda *call: progress.append(call))
    task.cancel()
    task.cancel()
    go_on.set()
    qtbot.waitUntil(lambda: bool(calls))
    qtbot.wait(20)
    assert calls == [("cancelled",)]
    assert progress == []


def test_cancel_of_waiting_work_answers_at_once_and_never_runs_it(engine, qtbot):
    calls, ran = Calls(), []
    first = engine.submit(busy_work, lambda _: None)
    second = calls.submit(engine, lambda session, job: ran.append(1))
    second.cancel()
    assert calls == []  # not within the call of cancel
    qtbot.waitUntil(lambda: bool(calls))
    assert calls == [("cancelled",)]
    assert not first.finished
    engine.cancel_current()
    qtbot.waitUntil(lambda: not engine.busy)
    assert ran == []


def test_cancel_current_takes_the_running_one_and_leaves_the_next(engine, qtbot):
    calls = Calls()
    first = engine.submit(busy_work, lambda _: None)
    calls.submit(engine, lambda session, job: "second")
    engine.cancel_current()
    qtbot.waitUntil(lambda: bool(calls))
    assert first.finished
    assert calls == [("done", "second")]


def test_busy_changes_once_for_a_row_of_jobs_and_work_may_submit_more_from_done(engine, qtbot):
    changes, results = [], []
    engine.busy_changed.connect(changes.append)

    def again(result):
        results.append(result)
        if len(results) < 3:
            engine.submit(lambda session, job: len(results), again)

    engine.submit(lambda session, job: 0, again)
    qtbot.waitUntil(lambda: len(results) == 3 and not engine.busy)
    assert results == [0, 1, 2]
    assert changes == [True, False] * 3  # `done` runs when its own task is already closed


def test_a_bundle_that_is_missing_is_told_and_work_without_models_still_runs(idle_engine, tmp_path, qtbot):
    calls = Calls()
    with qtbot.waitSignal(idle_engine.unavailable, timeout=60_000) as caught:
        idle_engine.start(str(tmp_path / "nothing"), "cpu")
    assert "nothing" in caught.args[0]
    calls.submit(idle_engine, lambda session, job: session.system)
    calls.submit(idle_engine, lambda session, job: "no models needed")
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert calls == [("failed", caught.args[0]), ("done", "no models needed")]


def test_a_bundle_can_be_chosen_after_one_that_could_not_be_loaded(idle_engine, untrained_bundle, tmp_path, qtbot):
    with qtbot.waitSignal(idle_engine.unavailable, timeout=TIMEOUT):
        idle_engine.start(str(tmp_path / "nothing"), "cpu")
    with qtbot.waitSignal(idle_engine.unavailable, timeout=TIMEOUT):
        idle_engine.choose(str(tmp_path / "nothing else"), "nothing else")
    with qtbot.waitSignal(idle_engine.ready, timeout=TIMEOUT):
        idle_engine.choose(str(untrained_bundle), "untrained")
    assert idle_engine.problem == ""


def test_a_bundle_that_cannot_be_loaded_at_the_start_is_replaced_and_named(idle_engine, untrained_bundle, qtbot):
    told = []
    idle_engine.note.connect(told.append)
    with qtbot.waitSignal(idle_engine.ready, timeout=TIMEOUT):
        idle_engine.start("gone", "cpu", str(untrained_bundle))
    qtbot.waitUntil(lambda: bool(told))
    assert told[0].startswith("No bundle called 'gone'")
    assert told[0].endswith(f"Bundle '{untrained_bundle}' is used instead.")


def name_of_the_bundle(engine, qtbot):
    """The bundle that work in the engine thread finds."""
    found = []
    engine.submit(lambda session, job: session.system.card.name, found.append)
    qtbot.waitUntil(lambda: bool(found), timeout=TIMEOUT)
    return found[0]


def test_a_chosen_bundle_waits_for_running_work_which_keeps_its_own(engine, keeping, qtbot):
    going, seen = threading.Event(), []

    def work(session, job):
        going.wait(30)
        return session.system.card.name

    engine.submit(work, seen.append)
    engine.choose(str(keeping), "keeping")
    assert (engine.loading, engine.loading_waits, engine.info.card.name) == ("keeping", True, "untrained")
    with qtbot.waitSignal(engine.ready, timeout=TIMEOUT):
        going.set()
    qtbot.waitUntil(lambda: not engine.busy)
    assert seen == ["untrained"]
    assert (engine.loading, engine.loading_waits, engine.info.card.name) == ("", False, "keeping")
    assert name_of_the_bundle(engine, qtbot) == "keeping"


def test_a_second_choice_replaces_one_that_waits(engine, keeping, signs, qtbot):
    ready, told = [], []
    engine.ready.connect(lambda info: ready.append(info.card.name))
    engine.note.connect(told.append)
    running = engine.submit(busy_work, lambda _: None)
    engine.choose(str(signs), "signs")
    engine.choose(str(keeping), "keeping")
    running.cancel()
    qtbot.waitUntil(lambda: not engine.busy, timeout=TIMEOUT)
    assert (ready, told, engine.loading) == (["keeping"], [], "")


def test_a_choice_that_waits_can_be_cancelled(engine, keeping, qtbot):
    told = []
    engine.note.connect(told.append)
    running = engine.submit(busy_work, lambda _: None)
    engine.choose(str(keeping), "keeping")
    running.cancel()
    engine.cancel_current()
    qtbot.waitUntil(lambda: not engine.busy, timeout=TIMEOUT)
    assert told == ["Bundle keeping was not loaded: cancelled."]
    assert engine.loading == ""
    assert name_of_the_bundle(engine, qtbot) == "untrained"


def test_a_choice_cancelled_while_it_is_loaded_changes_nothing(engine, keeping, monkeypatch, qtbot):
    ready, told, real = [], [], systems.load

    def load(name, device):
        found = real(name, device)
        engine._choice.task.job.cancel()
        return found

    monkeypatch.setattr(systems, "load", load)
    engine.ready.connect(ready.append)
    engine.note.connect(told.append)
    engine.choose(str(keeping), "keeping")
    qtbot.waitUntil(lambda: bool(told), timeout=TIMEOUT)
    assert (ready, told) == ([], ["Bundle keeping was not loaded: cancelled."])
    assert name_of_the_bundle(engine, qtbot) == "untrained"


def test_a_damaged_bundle_is_named_and_the_one_in_use_stays(engine, keeping, tmp_path, qtbot):
    damaged = tmp_path / "damaged"
    shutil.copytree(keeping, damaged)
    (damaged / "classifier.safetensors").write_bytes(b"something else")
    ready, told = [], []
    engine.ready.connect(ready.append)
    engine.note.connect(told.append)
    engine.choose(str(damaged), "keeping")
    qtbot.waitUntil(lambda: bool(told), timeout=TIMEOUT)
    assert str(damaged / "classifier.safetensors") in told[0]
    assert told[0].endswith("Install the bundle again. Bundle 'untrained' stays in use.")
    assert (ready, engine.loading) == ([], "")
    assert name_of_the_bundle(engine, qtbot) == "untrained"


def test_an_unknown_device_is_told(idle_engine, untrained_bundle, qtbot):
    with qtbot.waitSignal(idle_engine.unavailable, timeout=60_000) as caught:
        idle_engine.start(str(untrained_bundle), "abacus")
    assert "abacus" in caught.args[0]


def test_shutdown_during_work_ends_the_thread_and_nothing_arrives(qapp, untrained_bundle, qtbot):
    engine, calls = Engine(), Calls()
    engine.start(str(untrained_bundle), "cpu")
    with qtbot.waitSignal(engine.progress, timeout=60_000):
        calls.submit(engine, busy_work)
    calls.submit(engine, lambda session, job: "waiting")
    assert engine.shutdown(10)
    qtbot.wait(30)
    assert calls == []


def test_shutdown_gives_up_on_work_that_does_not_stop(qapp, untrained_bundle, qtbot):
    engine, calls, release = Engine(), Calls(), threading.Event()
    started = threading.Event()

    def stuck(session, job):
        started.set()
        release.wait(30)
        return "late"

    calls.submit(engine, stuck)
    engine.start(str(untrained_bundle), "cpu")
    assert started.wait(60)
    assert not engine.shutdown(0.05)
    release.set()
    qtbot.wait(30)
    assert calls == []


def test_a_second_shutdown_does_nothing(qapp, recwarn):
    engine = Engine()
    assert engine.shutdown(1)
    assert engine.shutdown(1)
    assert not [str(w.message) for w in recwarn]


def test_waiting_work_knows_that_other_work_goes_first_and_is_told_when_it_begins(engine, qtbot):
    calls = Calls()
    first = engine.submit(busy_work, lambda _: None)
    second = calls.submit(engine, lambda session, job: "second", begun=calls.on("begun"))
    assert not first.waits
    assert second.waits
    qtbot.wait(20)
    assert calls == []
    first.cancel()
    assert not second.waits  # what was cancelled is no reason to wait
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert calls == [("begun",), ("done", "second")]


def test_shutdown_before_start(qapp):
    assert Engine().shutdown(1)


def test_submit_from_another_thread_is_refused(engine):
    caught = []

    def elsewhere():
        try:
            engine.submit(lambda session, job: None, lambda _: None)
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert caught


def test_a_finished_task_cannot_be_cancelled(engine, qtbot):
    calls = Calls()
    task = calls.submit(engine, lambda session, job: "result")
    qtbot.waitUntil(lambda: bool(calls))
    task.cancel()
    qtbot.wait(10)
    assert calls == [("done", "result")]


def test_a_dropped_task_calls_nobody_back_whether_it_runs_or_waits_or_was_cancelled(engine, qtbot):
    calls = Calls()
    running, waiting, cancelled = (
        calls.submit(engine, busy_work, progress=calls.on("progress"), begun=calls.on("begun")) for _ in range(3)
    )
    qtbot.waitUntil(lambda: "progress" in calls.names)
    cancelled.cancel()
    for task in (running, waiting, cancelled):
        task.drop()
    before = list(calls)
    qtbot.waitUntil(lambda: not engine.busy)
    qtbot.wait(100)
    assert calls == before
    assert set(calls.names) == {"begun", "progress"}


def test_progress_comes_to_the_task_it_is_of_and_to_the_signal(engine, qtbot):
    def work(session, job):
        job.progress(1, 2)

    first, second, all_ = [], [], []
    engine.progress.connect(lambda *told: all_.append(told))
    engine.submit(work, lambda _: None, progress=lambda *told: first.append(told), text="First")
    engine.submit(work, lambda _: None, progress=lambda *told: second.append(told), text="Second")
    qtbot.waitUntil(lambda: not engine.busy)
    assert (first, second) == ([(1, 2, "First")], [(1, 2, "Second")])
    assert all_ == first + second


def test_work_has_started_when_its_first_checkpoint_lets_other_work_run(engine, qtbot, monkeypatch):
    """Else it would be told that it was cancelled, though it goes on."""
    seen, checkpoint = [], worker._EngineJob.checkpoint
    monkeypatch.setattr(worker._EngineJob, "checkpoint", lambda job: seen.append(job._task.started) or checkpoint(job))
    engine.submit(lambda session, job: None, lambda _: None)
    qtbot.waitUntil(lambda: not engine.busy)
    assert seen == [True]


# Urgent tasks


def until(flag, job, seconds=20.0):
    """Be a long task that comes to a checkpoint often, until the flag is set."""
    end = time.monotonic() + seconds
    while not flag.is_set():
        assert time.monotonic() < end
        time.sleep(0.002)
        job.checkpoint()


def test_an_urgent_task_runs_in_the_middle_of_a_long_one(engine, qtbot):
    calls, done = Calls(), threading.Event()

    def long(session, job):
        until(done, job.part(0, 1))
        return "long"

    calls.submit(engine, long)
    task = calls.submit(engine, lambda session, job: done.set() or "urgent", urgent=True)
    assert not task.waits
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert [call[1] for call in calls] == ["urgent", "long"]


def test_an_urgent_task_goes_before_long_ones_that_wait(engine, qtbot):
    calls, submitted, running = Calls(), threading.Event(), threading.Event()
    # It comes to no checkpoint.
    calls.submit(engine, lambda session, job: running.set() or (submitted.wait(20) and "running"))
    calls.submit(engine, lambda session, job: "waiting")
    qtbot.waitUntil(running.is_set)
    assert calls.submit(engine, lambda session, job: "urgent", urgent=True).waits is False
    submitted.set()
    qtbot.waitUntil(lambda: len(calls) == 3)
    assert [call[1] for call in calls] == ["running", "urgent", "waiting"]


def test_urgent_tasks_run_one_at_a_time_in_order(engine, qtbot):
    calls, seen = Calls(), []

    def urgent(number):
        def work(session, job):
            job.checkpoint()  # lets no other run inside
            seen.append(number)
            job.checkpoint()
            seen.append(number)

        return work

    last = threading.Event()
    calls.submit(engine, lambda session, job: until(last, job))
    for number in range(3):
        calls.submit(engine, urgent(number), urgent=True)
    calls.submit(engine, lambda session, job: last.set(), urgent=True)
    qtbot.waitUntil(lambda: len(calls) == 5)
    assert seen == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("error", [MemoryError("full"), RuntimeError("a bug"), ImageError("a bad image")])
def test_what_an_urgent_task_raises_does_not_reach_the_long_one(engine, qtbot, error):
    from ciad_engine import compute

    calls, raised, computing = Calls(), threading.Event(), threading.Event()

    def long(session, job):
        def piece(rows):
            computing.set()
            sizes.append(rows.stop - rows.start)
            time.sleep(0.002)
            job.checkpoint()

        sizes = []
        while not raised.is_set():
            list(compute.in_batches(piece, 8, 4))  # it would halve the batch if memory was full
        return sizes

    def urgent(session, job):
        raised.set()
        raise error

    calls.submit(engine, long)
    qtbot.waitUntil(computing.is_set)
    calls.submit(engine, urgent, urgent=True)
    qtbot.waitUntil(lambda: len(calls) == 2)
    assert calls.names[0] == "failed"
    assert set(calls[1][1]) == {4}


def test_a_long_task_draws_the_same_numbers_with_an_urgent_one_in_its_middle(engine, qtbot):
    import torch

    def long(session, job):
        torch.manual_seed(3)
        with torch.inference_mode():
            first = torch.rand(2)
            if wait.is_set():
                until(done, job)
            return [*first.tolist(), *torch.rand(2).tolist(), torch.is_inference_mode_enabled()]

    def urgent(session, job):
        torch.manual_seed(9)
        x = torch.rand(3, requires_grad=True)
        (x * x).sum().backward()
        done.set()

    results = []
    for interrupted in (False, True):
        wait, done = threading.Event(), threading.Event()
        if interrupted:
            wait.set()
        engine.submit(long, results.append)
        engine.submit(urgent, lambda _: None, urgent=True)
    qtbot.waitUntil(lambda: len(results) == 2)
    assert results[0] == results[1]


def test_many_urgent_tasks_leave_a_long_one_half_of_the_time(engine, qtbot):
    """Counted in turns, not in seconds: between two urgent tasks the long one computes for as long as one takes."""
    spent, calls, stop = {"long": 0.0, "urgent": 0.0}, Calls(), threading.Event()

    def long(session, job):
        while not stop.is_set():
            started = time.thread_time()
            while time.thread_time() - started < 0.005:
                pass
            spent["long"] += 0.005
            job.checkpoint()

    def urgent(session, job):
        started = time.thread_time()
        while time.thread_time() - started < 0.03:
            pass
        spent["urgent"] += 0.03

    calls.submit(engine, long)
    for _ in range(20):
        calls.submit(engine, urgent, urgent=True)
    qtbot.waitUntil(lambda: len(calls) == 20, timeout=TIMEOUT)
    stop.set()
    qtbot.waitUntil(lambda: len(calls) == 21, timeout=TIMEOUT)
    assert spent["long"] > 0.5 * spent["urgent"]


def test_the_status_shows_and_cancels_the_long_task(engine, qtbot):
    calls, shown, go = Calls(), [], threading.Event()
    engine.progress.connect(lambda *call: shown.append(call[2]))

    def urgent(session, job):
        job.progress(1, 2, "urgent")
        go.wait(20)

    def long(session, job):
        job.progress(1, 2, "long")
        running.set()
        until(threading.Event(), job)

    running = threading.Event()
    task = engine.submit(long, calls.on("done"), cancelled=calls.on("cancelled"), text="long")
    qtbot.waitUntil(running.is_set)
    other = engine.submit(urgent, calls.on("urgent"), progress=calls.on("progress"), urgent=True)
    assert engine.shown is task
    qtbot.waitUntil(lambda: ("progress", 1, 2, "urgent") in calls)
    engine.cancel_current()
    assert (task.cancelling, other.cancelling) == (True, False)
    go.set()
    qtbot.waitUntil(lambda: calls.names[-2:] == ["urgent", "cancelled"])
    assert set(shown) == {"long"}


def test_an_urgent_task_in_the_middle_of_a_long_one_can_be_cancelled(engine, qtbot):
    calls, begun, stop = Calls(), threading.Event(), threading.Event()

    def urgent(session, job):
        begun.set()
        until(threading.Event(), job)

    calls.submit(engine, lambda session, job: until(stop, job) or "long")
    task = calls.submit(engine, urgent, urgent=True)
    qtbot.waitUntil(begun.is_set)
    task.cancel()
    qtbot.waitUntil(lambda: calls.names == ["cancelled"])
    stop.set()
    qtbot.waitUntil(lambda: calls == [("cancelled",), ("done", "long")])


def test_the_clock_of_a_long_task_stands_while_an_urgent_one_runs(engine, qtbot):
    results, done = [], threading.Event()

    def long(session, job):
        computing.set()
        started, clock = time.perf_counter(), job.clock()
        until(done, job.part(0, 1))
        return time.perf_counter() - started, job.clock() - clock

    computing = threading.Event()
    engine.submit(long, results.append)
    qtbot.waitUntil(computing.is_set)
    engine.submit(lambda session, job: time.sleep(0.3) or done.set(), lambda _: None, urgent=True)
    qtbot.waitUntil(lambda: bool(results))
    whole, own = results[0]
    assert whole - own >= 0.3

"""Jobs carry progress outwards and cancellation inwards."""

import pytest

from ciad_engine.jobs import Cancelled, Job


class Recorder(Job):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_progress(self, done, total, text):
        self.seen.append((done, total, text))

    def on_partial(self, result):
        self.seen.append(result)

    def on_note(self, text):
        self.seen.append(text)


def test_reports_arrive_in_order():
    job = Recorder()
    job.progress(1, 4, "half way there")
    job.partial({"row": 1})
    job.note("memory was short")
    assert job.seen == [(1, 4, "half way there"), {"row": 1}, "memory was short"]


@pytest.mark.parametrize("call", [lambda j: j.checkpoint(), lambda j: j.progress(0, 1), lambda j: j.partial(None)])
def test_every_call_stops_after_cancel(call):
    job = Recorder()
    job.cancel()
    with pytest.raises(Cancelled):
        call(job)
    assert job.seen == []


def test_a_part_fills_its_stretch_of_the_whole():
    job = Recorder()
    part = job.part(0.5, 1.0)
    part.progress(1, 2, "second half")
    done, total, text = job.seen[0]
    assert done / total == pytest.approx(0.75)
    assert text == "second half"


@pytest.mark.parametrize("cancel_outer", [True, False])
def test_a_part_and_its_whole_are_cancelled_together(cancel_outer):
    job = Recorder()
    part = job.part(0.0, 1.0)
    (job if cancel_outer else part).cancel()
    for either in (job, part):
        with pytest.raises(Cancelled):
            either.checkpoint()


def test_urgent_work_runs_at_every_call_of_a_job_and_of_its_parts():
    ran = []

    class Long(Job):
        def on_checkpoint(self):
            ran.append(1)

    job = Long()
    for inner in (job, job.part(0, 0.5), job.part(0, 0.5).part(0, 0.5)):
        before = len(ran)
        inner.checkpoint()
        assert len(ran) == before + 1
        inner.progress(0, 1)
        inner.partial(None)
        assert len(ran) >= before + 3


def test_work_that_was_cancelled_during_other_work_stops_before_it_goes_on():
    class Long(Job):
        def on_checkpoint(self):
            self.cancel()

        def on_progress(self, done, total, text):
            raise AssertionError

    with pytest.raises(Cancelled):
        Long().progress(1, 2)


def test_work_that_was_cancelled_lets_nothing_run_before_it_stops():
    class Long(Job):
        def on_checkpoint(self):
            raise AssertionError

    job = Long()
    job.cancel()
    with pytest.raises(Cancelled):
        job.checkpoint()


def test_the_clock_of_a_part_is_that_of_the_whole():
    class Stopped(Job):
        def clock(self):
            return 7.0

    assert Stopped().part(0, 1).part(0, 1).clock() == 7.0
    job = Job()
    assert job.clock() <= job.part(0, 1).clock() <= job.clock()

"""The bar, the lines and Ctrl+C of `ConsoleJob`, on a clock that the test moves."""

from __future__ import annotations

import io
import signal

import pytest

from ciad_engine import process
from ciad_engine.cli import console
from ciad_engine.jobs import Cancelled


class Stream(io.StringIO):
    def __init__(self, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal, self._name = terminal, encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str:
        return self._name


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def work(job: console.ConsoleJob, clock: Clock, steps: int = 100, seconds: float = 1.0, first: int = 0) -> None:
    for done in range(first, steps):
        job.progress(done, steps, "Attacking")
        clock.now += seconds


def test_a_line_is_as_wide_as_the_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setattr("sys.stdout", Stream(terminal=True))
    assert console.width() == 72
    monkeypatch.setattr("sys.stdout", Stream(terminal=False))
    assert console.width() is None


def test_lines_come_every_few_seconds_without_a_terminal() -> None:
    stream, clock = Stream(terminal=False), Clock()
    work(console.ConsoleJob(stream=stream, clock=clock), clock)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 19  # 99 seconds, a line every 5
    assert lines[0] == "Attacking: 5 of 100 (5%), 1 min 35 s left"
    assert lines[-1] == "Attacking: 95 of 100 (95%), 5 s left"
    assert "\r" not in stream.getvalue()


def test_a_resumed_run_counts_its_own_pace() -> None:
    stream, clock = Stream(terminal=False), Clock()
    work(console.ConsoleJob(stream=stream, clock=clock), clock, first=90)
    assert stream.getvalue() == "Attacking: 95 of 100 (95%), 5 s left\n"


def test_another_piece_of_work_starts_a_new_estimate() -> None:
    stream, clock = Stream(terminal=False), Clock()
    job = console.ConsoleJob(stream=stream, clock=clock)
    work(job, clock, steps=10, seconds=100)
    work(job, clock, steps=60, seconds=1)
    assert stream.getvalue().splitlines()[-1] == "Attacking: 55 of 60 (91%), 5 s left"


def test_an_attack_slower_than_the_one_before_is_estimated_at_its_own_pace() -> None:
    stream, clock = Stream(terminal=False), Clock()
    job = console.ConsoleJob(stream=stream, clock=clock)
    for done in range(200):
        clock.now += 0.01 if done < 100 else 1
        job.progress(done, 200, f"{'FGSM' if done < 100 else 'C&W'}: {done} images")
    assert stream.getvalue().splitlines()[-1].endswith(" left")
    for line in stream.getvalue().splitlines():
        done = int(line.partition(" of ")[0].rpartition(" ")[2])
        assert line.endswith(f", {console.duration(200 - done)} left")


def test_the_bar_is_one_line_shorter_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (200, 80, 59, 30, 10):
        monkeypatch.setenv("COLUMNS", str(width))
        stream, clock = Stream(terminal=True), Clock()
        work(console.ConsoleJob(stream=stream, clock=clock), clock)
        drawn = stream.getvalue().split("\r")
        assert len(drawn) == 101
        assert max(len(text) for text in drawn) < width
        assert "\n" not in stream.getvalue()
    assert drawn[1].strip()


def test_a_bar_shows_share_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = Stream(terminal=True), Clock()
    work(console.ConsoleJob(stream=stream, clock=clock), clock)
    assert "Attacking " + "█" * 10 + "░" * 10 + "  50%  50 s left" in stream.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "unknown-encoding"])
def test_a_bar_fits_the_terminals_characters(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = Stream(terminal=True, encoding=encoding), Clock()
    work(console.ConsoleJob(stream=stream, clock=clock), clock)
    stream.getvalue().encode("ascii")
    assert "#####" in stream.getvalue()


def test_the_bar_is_not_redrawn_more_often_than_the_eye_sees() -> None:
    stream, clock = Stream(terminal=True), Clock()
    work(console.ConsoleJob(stream=stream, clock=clock), clock, steps=1000, seconds=0.001)
    assert stream.getvalue().count("\r") <= 11


def test_a_note_does_not_share_the_bars_line() -> None:
    stream, clock = Stream(terminal=True), Clock()
    job = console.ConsoleJob(stream=stream, clock=clock)
    job.progress(1, 2, "Attacking")
    job.note("out of memory: smaller batches")
    assert stream.getvalue().split("\r")[-1] == "out of memory: smaller batches\n"


def test_quiet_is_silent_but_still_cancels() -> None:
    stream, clock = Stream(terminal=True), Clock()
    job = console.ConsoleJob(quiet=True, stream=stream, clock=clock)
    work(job, clock)
    job.note("something")
    job.interrupt()
    assert stream.getvalue() == ""
    with pytest.raises(Cancelled):
        job.progress(0, 1)


def test_a_closed_stderr_does_not_end_the_work() -> None:
    stream, clock = Stream(terminal=True), Clock()
    job = console.ConsoleJob(stream=stream, clock=clock)
    stream.close()
    work(job, clock, steps=3)


def test_interrupt_stops_cleanly_first_and_at_once_the_second_time() -> None:
    job = console.ConsoleJob(stream=Stream(terminal=False))
    with pytest.raises(KeyboardInterrupt):
        job.interrupt()  # nothing runs that would notice
    job.progress(0, 2)
    job.interrupt()
    assert job.cancelled
    with pytest.raises(KeyboardInterrupt):
        job.interrupt()


def test_after_the_work_an_interrupt_is_immediate() -> None:
    job = console.ConsoleJob(stream=Stream(terminal=False))
    job.progress(0, 2)
    job.finished()
    with pytest.raises(KeyboardInterrupt):
        job.interrupt()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_job_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    job = console.ConsoleJob(stream=Stream(terminal=False))
    with process.Signals("test") as signals:
        signals.ask = job.interrupt
        job.progress(0, 2)
        signal.raise_signal(number)
        assert job.cancelled
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_columns_align() -> None:
    assert console.columns([("a", "1"), ("long", "2")], indent=" ") == " a     1\n long  2"

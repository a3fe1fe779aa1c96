"""Progress, partial results and cancellation of one piece of work: plain Python, no Qt.

An engine function that takes time takes a `Job` and talks to it. The command line draws a bar,
the window emits signals, tests collect a list; the function does not know which.
"""

from __future__ import annotations

import threading
import time


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised inside an engine function at its next call of the job after `Job.cancel`."""


class Job:
    """What a running engine function reports to. This base class only carries cancellation.

    `progress`, `partial` and `checkpoint` are called by the working thread and raise `Cancelled`
    once `cancel` was called, from any thread. Subclasses override `on_progress` and `on_partial`.
    """

    def __init__(self) -> None:
        self._cancel = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next call of this job. Safe from any thread."""
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def checkpoint(self) -> None:
        """Stop here if asked to; else let other work run that is more urgent, if the subclass has any.

        Long work calls it (or `progress`, or `partial`) at least every 200 ms, outside transactions.

        Raises:
            Cancelled: `cancel` was called.
        """
        if not self._cancel.is_set():
            self.on_checkpoint()
        if self._cancel.is_set():
            raise Cancelled

    def progress(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total` units are finished; `text` says which work this is.

        Raises:
            Cancelled: `cancel` was called.
        """
        self.checkpoint()
        self.on_progress(done, total, text)

    def partial(self, result: object) -> None:
        """Hand over a part of the result early (a row, a batch of rows, a training metric).

        Raises:
            Cancelled: `cancel` was called.
        """
        self.checkpoint()
        self.on_partial(result)

    def note(self, text: str) -> None:
        """Say something once that a person should know ("out of memory: batch halved to 128")."""
        self.on_note(text)

    def clock(self) -> float:
        """Return seconds that pass only while this work computes, not while more urgent work does."""
        return time.perf_counter()

    def part(self, start: float, stop: float) -> Job:
        """A job whose progress fills only the stretch [`start`, `stop`] (fractions) of this one."""
        return _Part(self, start, stop)

    def on_checkpoint(self) -> None:
        """Hook of subclasses."""

    def on_progress(self, done: int, total: int, text: str) -> None:
        """Hook of subclasses."""

    def on_partial(self, result: object) -> None:
        """Hook of subclasses."""

    def on_note(self, text: str) -> None:
        """Hook of subclasses."""


class Inner(Job):
    """A job that passes everything on to an outer one. Subclasses decide what its progress is of the outer's."""

    def __init__(self, outer: Job) -> None:
        super().__init__()
        self._cancel = outer._cancel  # one flag for both: cancelling either cancels the work
        self._outer = outer

    def clock(self) -> float:
        return self._outer.clock()

    def on_checkpoint(self) -> None:
        self._outer.on_checkpoint()

    def on_partial(self, result: object) -> None:
        self._outer.partial(result)

    def on_note(self, text: str) -> None:
        self._outer.note(text)


class _Part(Inner):
    _UNITS = 10_000  # the outer job counts in these

    def __init__(self, outer: Job, start: float, stop: float) -> None:
        super().__init__(outer)
        self._start, self._stop = start, stop

    def on_progress(self, done: int, total: int, text: str) -> None:
        fraction = self._start + (self._stop - self._start) * done / max(total, 1)
        self._outer.progress(round(fraction * self._UNITS), self._UNITS, text)

"""One engine thread, and one long-lived object in the window's thread that speaks for it.

The engine thread is a plain Python thread: it owns no Qt object, so nothing of Qt can be destroyed
under it. All it does towards the window is to emit `Engine._posted` with a function; Qt carries
that to the window's thread and runs it there.

One task computes at a time, so torch is never entered twice. Urgent tasks (look at an image, attack one image) go
first, and they also run in the middle of a long one, when that reaches a checkpoint of its job.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QThread, Signal, Slot

from ciad_app.durations import Pace
from ciad_app.latest import Latest
from ciad_engine import attacks, datasets, memory
from ciad_engine.attacks.base import Attack
from ciad_engine.bundles import DEFAULT, Card
from ciad_engine.domain import CIFAR10, Domain
from ciad_engine.errors import BundleError, CiadError, said
from ciad_engine.jobs import Cancelled, Job

if TYPE_CHECKING:
    from ciad_engine.systems import System

log = logging.getLogger(__name__)

PROGRESS_INTERVAL = 0.05  # seconds; a progress bar needs no more than 20 steps a second
# After an urgent task a long one computes for a little longer than that took, but not longer than this (seconds): so
# many small ones, as of a slider, leave it half of its speed, and nobody waits for a second.
SHARE, LONGEST_TURN = 1.2, 0.4


@dataclasses.dataclass(frozen=True)
class DetectorInfo:
    """A detector of the loaded bundle."""

    name: str
    title: str
    rules: tuple[str, ...]  # by which it can decide, the usual one first
    evadable: bool  # an attack can evade it


@dataclasses.dataclass(frozen=True)
class EngineInfo:
    """What the window is told once the models are loaded."""

    device: str  # for people, e.g. "CPU, 4 threads"
    card: Card
    attacks: tuple[type[Attack], ...]  # in the order they are shown
    detectors: tuple[DetectorInfo, ...]  # those that can decide, in the order they are shown
    has_samples: bool  # the sample images are installed and are of the bundle's domain

    @property
    def domain(self) -> Domain:
        return self.card.domain


@dataclasses.dataclass(frozen=True)
class Failure:
    """An unexpected exception of the engine thread, as text: a crash report needs no live frames."""

    summary: str
    traceback: str


class Session:
    """What work in the engine thread may use. It never leaves that thread."""

    def __init__(self) -> None:
        self._system: System | None = None
        self._reason = "The models are not loaded yet."

    @property
    def system(self) -> System:
        """The loaded bundle. Raises BundleError if it could not be loaded; says why."""
        if self._system is None:
            raise BundleError(self._reason)
        return self._system

    @property
    def domain(self) -> Domain:
        """Classes and image size of the loaded bundle; CIFAR-10's without one, so that pictures can still be seen."""
        return CIFAR10 if self._system is None else self._system.domain

    def replace(self, system: System | None, reason: str = "") -> None:
        self._system, self._reason = system, reason


Work = Callable[[Session, Job], Any]


@dataclasses.dataclass(eq=False)
class Task:
    """A piece of work that was submitted. Its callbacks run in the window's thread.

    Exactly one of `done`, `failed` and `cancelled` is called, and `begun` at most once before it. After `cancel` that
    is `cancelled`, and neither progress nor partial results arrive any more, whatever the work still does.
    """

    engine: Engine
    work: Work
    done: Callable[[Any], object]
    failed: Callable[[str], object] | None
    partial: Callable[[Any], object] | None
    progress: Callable[[int, int, str], object] | None
    cancelled: Callable[[], object] | None
    begun: Callable[[], object] | None
    text: str
    urgent: bool
    left: Callable[[int, int, str], str]
    finished: bool = False  # one of the final callbacks was called; set in the window's thread
    started: bool = False  # set in the engine thread

    def __post_init__(self) -> None:
        self.job = _EngineJob(self)

    @property
    def cancelling(self) -> bool:
        return self.job.cancelled

    @property
    def waits(self) -> bool:
        """Return whether other work, which nobody has cancelled, goes first."""
        return self.engine._goes_before(self)

    def cancel(self) -> None:
        """Ask the work to stop; `cancelled` is called when it has. Does nothing to a finished task."""
        self.engine._cancel(self)

    def drop(self) -> None:
        """Cancel, and call nobody back: something newer has replaced the task."""
        self.cancelled = None
        self.cancel()


class _EngineJob(Job):
    """What the work of one task reports to: passes everything on to the window's thread."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task, self._engine = task, task.engine
        self._last = 0.0
        self._last_text = ""
        self.run_urgent: Callable[[], None] = lambda: None  # set while a long task runs
        self._paused = 0.0  # seconds

    def clock(self) -> float:
        return super().clock() - self._paused

    def on_checkpoint(self) -> None:
        started = super().clock()
        self.run_urgent()
        self._paused += super().clock() - started

    def on_progress(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last < PROGRESS_INTERVAL and done < total and text == self._last_text:
            return
        self._last, self._last_text = now, text
        self._engine._post(self._engine._progressed, self._task, done, total, text or self._task.text)

    def on_partial(self, result: object) -> None:
        self._engine._post(self._engine._tell, self._task, self._task.partial, result)

    def on_note(self, text: str) -> None:
        self._engine._post(self._engine.note.emit, text)


class Engine(QObject):
    """The hub between window and engine thread; lives in the window's thread as long as the program."""

    ready = Signal(object)  # EngineInfo: the models are loaded, these or others; work that was waiting starts
    unavailable = Signal(str)  # the models could not be loaded, and why; work that needs none still runs
    loading_changed = Signal()  # `loading` is another, or it waits no longer
    busy_changed = Signal(bool)  # whether any submitted task is unfinished
    progress = Signal(int, int, str)  # done, total, text with the remaining time of the `shown` task; 20 a second
    note = Signal(str)  # something a person should know once
    failed = Signal(object)  # Failure: an unexpected exception of the engine thread, a bug to report
    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.info: EngineInfo | None = None
        self.problem = ""  # why the models could not be loaded, for whom was not there to hear it
        self.loading = ""  # the name of a bundle that was chosen and is not in use yet
        self._choice = Latest(self)  # the task that loads it
        self._device = "auto"
        self._open: list[Task] = []  # unfinished tasks in the order of `submit`
        self._queue: collections.deque[Callable[[Session], None]] = collections.deque()
        self._urgent: collections.deque[Callable[[Session], None]] = collections.deque()
        self._turn = 0.0  # until when the long task computes before the next urgent one; engine thread
        self._wake = threading.Condition()
        self._stop = False
        self._thread: threading.Thread | None = None
        # Queued even from this thread, so that nobody is ever called back within `submit` or `cancel`.
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    @property
    def busy(self) -> bool:
        return bool(self._open)

    @property
    def loading_waits(self) -> bool:
        """Return whether other work goes before the bundle that was chosen."""
        return self._choice.task is not None and self._choice.task.waits

    @property
    def shown(self) -> Task | None:
        """The task whose progress the status bar shows, and which `cancel_current` cancels: a long one, if one runs."""
        wanted = [task for task in self._open if not task.cancelling] or self._open
        long = [task for task in wanted if task.started and not task.urgent]
        return next(iter([*long, *wanted]), None)

    @property
    def stopped(self) -> bool:
        """Whether `shutdown` was called; a timer that fires afterwards must not submit any more."""
        return self._stop

    def start(self, bundle: str = DEFAULT, device: str = "auto", otherwise: str = "") -> None:
        """Start the engine thread, which imports torch and loads `bundle` on `device`; returns at once.

        If it cannot be loaded, `note` says why and the bundle `otherwise` is loaded, if one is given.
        """
        self._device = device
        names = [name for name in dict.fromkeys((bundle, otherwise)) if name]
        # A daemon: if a driver hangs, `shutdown` gives up after its time-out and the program still ends.
        self._thread = threading.Thread(target=self._run, args=(names,), name="ciad-engine", daemon=True)
        self._thread.start()

    def choose(self, bundle: str, name: str) -> None:
        """Load another bundle after the work that was submitted before, in the place of one chosen but not loaded yet.

        If it cannot be loaded, `note` says why, and the bundle in use stays. `name` is for people.
        """
        self.loading = name
        self._choice.submit(
            lambda session, job: self._load(session, bundle, job),
            lambda _: self._end_choice(),
            failed=self._refuse,
            cancelled=lambda: self._end_choice(f"Bundle {name} was not loaded: cancelled."),
            begun=self.loading_changed.emit,
            text=f"Loading bundle {name}",
        )
        self.loading_changed.emit()

    def submit(
        self,
        work: Work,
        done: Callable[[Any], object],
        *,
        failed: Callable[[str], object] | None = None,
        partial: Callable[[Any], object] | None = None,
        progress: Callable[[int, int, str], object] | None = None,
        cancelled: Callable[[], object] | None = None,
        begun: Callable[[], object] | None = None,
        text: str = "",
        urgent: bool = False,
        left: Callable[[int, int, str], str] | None = None,
    ) -> Task:
        """Run `work(session, job)` in the engine thread after what was submitted before.

        With `urgent` it runs before what is not urgent and, when that reaches a checkpoint, in the middle of it: for
        work that a person is waiting for and that takes no longer than a person would wait.

        Call it from the window's thread, in which all callbacks run, too. `text` names the work in the status bar; its
        remaining time there is what `left(done, total, text)` returns, by default a linear estimate. What `work`
        returns or hands to `job.partial` must hold no tensors. Without `failed`, an error's message goes to the signal
        `note`.
        """
        if QThread.currentThread() is not self.thread():
            raise RuntimeError("Engine.submit is for the window's thread.")
        if self._stop:
            raise RuntimeError("Engine.submit after shutdown.")
        task = Task(self, work, done, failed, partial, progress, cancelled, begun, text, urgent, left or Pace().left)
        self._open.append(task)
        self._enqueue(lambda session: self._perform(task, session), urgent=urgent)
        if len(self._open) == 1:
            self.busy_changed.emit(True)
        return task

    def cancel_current(self) -> None:
        """Cancel the task that is `shown`."""
        if self.shown is not None:
            self.shown.cancel()

    def shutdown(self, timeout: float = 10.0) -> bool:
        """Cancel all work, wait for the thread and let nothing arrive any more.

        Returns False if the thread did not end within `timeout` seconds (a hanging driver).
        """
        if not self._stop:
            for task in self._open:
                task.job.cancel()
            with self._wake:
                self._stop = True
                self._queue.clear()
                self._urgent.clear()
                self._wake.notify()
            if self._thread is not None:
                self._thread.join(timeout)
            self._posted.disconnect(self._deliver)
            self._open.clear()
        return self._thread is None or not self._thread.is_alive()

    # In the window's thread.

    @Slot(object)
    def _deliver(self, function: Callable[[], None]) -> None:
        function()

    def _cancel(self, task: Task) -> None:
        if task.finished or task.cancelling:
            return
        task.job.cancel()
        if not task.started:
            # It waits, and `_perform` will pass over it. Posted, so that nobody is called back within `cancel`.
            self._post(self._finish, task)

    def _goes_before(self, task: Task) -> bool:
        if task not in self._open:
            return False
        before = self._open[: self._open.index(task)]
        return any(not other.cancelling and (other.urgent or not task.urgent) for other in before)

    def _tell(self, task: Task, function: Callable[..., object] | None, *arguments: object) -> None:
        """Call back during the work, unless it was cancelled in the meantime."""
        if function is not None and not task.finished and not task.cancelling:
            function(*arguments)

    def _progressed(self, task: Task, done: int, total: int, text: str) -> None:
        self._tell(task, task.progress, done, total, text)
        if task is self.shown and not task.cancelling:
            self.progress.emit(done, total, ", ".join(filter(None, (text, task.left(done, total, text)))))

    def _finish(self, task: Task, last: Callable[..., object] | None = None, *arguments: object) -> None:
        """Close a task, then call `last`, or `cancelled` if that was asked for in the meantime."""
        if task.finished or task not in self._open:
            return
        task.finished = True
        self._open.remove(task)
        if not self._open:
            self.busy_changed.emit(False)
        if task.cancelling:
            last, arguments = task.cancelled, ()
        if last is not None:
            last(*arguments)

    def _announce(self, info: EngineInfo) -> None:
        self.info, self.problem = info, ""
        self.ready.emit(info)

    def _end_choice(self, note: str = "") -> None:
        self.loading = ""
        self.loading_changed.emit()
        if note:
            self.note.emit(note)

    def _refuse(self, reason: str) -> None:
        if self.info is None:
            self._end_choice()
            self._announce_problem(reason)
        else:
            self._end_choice(f"{reason} Bundle '{self.info.card.name}' stays in use.")

    def _announce_problem(self, reason: str) -> None:
        self.problem = reason
        self.unavailable.emit(reason)

    # In the engine thread.

    def _enqueue(self, step: Callable[[Session], None], urgent: bool) -> None:
        with self._wake:
            (self._urgent if urgent else self._queue).append(step)
            self._wake.notify()

    def _post(self, function: Callable[..., object], *arguments: object) -> None:
        if not self._stop:  # afterwards the hub may be gone, and nobody wants to know
            self._posted.emit(functools.partial(function, *arguments))

    def _run(self, names: Sequence[str]) -> None:
        session = Session()
        self._load_first(session, names)  # before work that was submitted earlier: that needs the models
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stop or self._urgent or self._queue)
                if self._stop:
                    return
                urgent = bool(self._urgent) and not (self._queue and time.monotonic() < self._turn)
                step = (self._urgent if urgent else self._queue).popleft()
            if urgent:
                self._take_turn(step, session)
            else:
                step(session)
            del step  # a waiting thread must not keep the last job's arrays alive

    def _load_first(self, session: Session, names: Sequence[str]) -> None:
        """Load the first of these bundles that can be loaded."""
        problems: list[str] = []
        for name in names:
            try:
                self._load(session, name, Job())
            except BaseException as error:  # as in `_perform`
                problems.append(self._explain(error, "loading the models"))
            else:
                for problem in problems:
                    self._post(self.note.emit, f"{problem} Bundle '{name}' is used instead.")
                return
        session.replace(None, problems[-1])
        self._post(self._announce_problem, problems[-1])

    def _load(self, session: Session, bundle: str, job: Job) -> None:
        """Load a bundle and announce it. Raises CiadError if it cannot be loaded, and Cancelled through `job`."""
        # Here and not above: torch takes seconds, and the first window must not wait for it.
        from ciad_engine import compute, systems

        chosen = compute.choose_device(self._device)
        system = systems.load(bundle, chosen)
        info = EngineInfo(
            device=compute.describe_device(chosen),
            card=system.card,
            attacks=tuple(attacks.usable().values()),  # those of other packages may import torch
            detectors=tuple(
                DetectorInfo(name, detector.title, tuple(detector.rules), detector.grades)
                for name, detector in system.detectors.items()
                if detector.rules
            ),
            has_samples=datasets.samples_path().is_file() and _holds(system.domain, CIFAR10),
        )
        job.checkpoint()
        session.replace(system)
        self._post(self._announce, info)  # even if the task is cancelled from now on: the bundle is in use

    def _run_urgent(self, session: Session) -> None:
        """Run one urgent task in the middle of a long one, unless it is that one's turn."""
        if not self._urgent or time.monotonic() < self._turn:
            return
        from ciad_engine import compute

        with self._wake:
            if not self._urgent:  # the window is closing
                return
            step = self._urgent.popleft()
        with compute.fresh_state():
            self._take_turn(step, session)

    def _take_turn(self, step: Callable[[Session], None], session: Session) -> None:
        """Run an urgent step; then it is the turn of a long one."""
        started = time.monotonic()
        step(session)
        now = time.monotonic()
        self._turn = now + min(SHARE * (now - started), LONGEST_TURN)

    def _perform(self, task: Task, session: Session) -> None:
        # In this order: `_cancel` sets the flag of the job first and then looks at `started`.
        task.started = True
        if not task.urgent:
            task.job.run_urgent = functools.partial(self._run_urgent, session)
        try:
            task.job.checkpoint()
            self._post(self._tell, task, task.begun)
            result = task.work(session, task.job)
        # Everything, KeyboardInterrupt and SystemExit too: nothing may end this thread, and no task may stay open.
        except BaseException as error:
            if isinstance(error, Cancelled) and task.cancelling:
                self._post(self._finish, task)
            else:
                message = self._explain(error, task.text or "working")
                self._post(self._finish, task, task.failed or self.note.emit, message)
        else:
            self._post(self._finish, task, task.done, result)

    def _explain(self, error: BaseException, doing: str) -> str:
        """The message of an error; one that nobody expected is logged and reported, too."""
        if isinstance(error, CiadError):
            return said(error)
        text = traceback.format_exc()
        if memory.ran_out(error):
            log.warning("Out of memory while %s:\n%s", doing, text)
            return memory.shortage(doing)
        log.error("Unexpected error while %s:\n%s", doing, text)
        failure = Failure(f"Unexpected error while {doing}: {type(error).__name__}: {said(error)}", text)
        self._post(self.failed.emit, failure)
        return failure.summary


def _holds(domain: Domain, other: Domain) -> bool:
    """Whether images of the other domain can be labelled in this one, see `ImageSet.matched`."""
    return domain.size == other.size and set(other.classes) <= set(domain.classes)

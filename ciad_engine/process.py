"""A process of ours from its first moment to its last: its standard streams, and what Ctrl+C and SIGTERM do.

It imports next to nothing, because it has to be at work before anything else is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from ciad_engine.plain_text import plain_lines

if TYPE_CHECKING:
    from typing import TextIO

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def open_streams() -> None:
    """Open the null device for every standard stream that the process was started without.

    Otherwise the next file that is opened, a database perhaps, would get the number of a stream and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for good


@contextlib.contextmanager
def fenced() -> Iterator[None]:
    """Let nothing but plain text and line ends get to stdout and stderr while the block runs."""
    if sys.stdout is None or sys.stderr is None:  # a program without a console, on Windows
        yield
        return
    with contextlib.redirect_stdout(_Fence(sys.stdout)), contextlib.redirect_stderr(_Fence(sys.stderr)):
        yield


class _Fence:
    """A text stream before another one; everything but what is written goes straight to that one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(plain_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Signals:
    """Ctrl+C and SIGTERM while a `with` block runs in the main thread; one that is ignored stays ignored.

    Attributes:
        number: the signal that came last, 0 if none did.
        ask: asks the work to stop. It returns if the work will notice, and raises KeyboardInterrupt, as it does to
            begin with, if what is running has to be interrupted.
    """

    def __init__(self, program: str, whole_process: bool = False) -> None:
        """Take the name of the `program`, which says that it was cancelled.

        `whole_process`: nothing comes after the block but the end.
        """
        self.number = 0
        self.ask: Callable[[], object] = _interrupt
        self._program, self._whole = program, whole_process
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self._ended = False

    @property
    def code(self) -> int:
        """Return the exit code of a process that was cancelled: 130 after Ctrl+C, 143 after SIGTERM."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # no other one may set handlers
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # None: another one than Python's, which could not be put back
                    self._before[number] = before
                    signal.signal(number, self._handle)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        if self._whole:
            return  # while the interpreter ends, a signal must not interrupt it somewhere
        sys.unraisablehook = self._hook
        for number, before in self._before.items():
            signal.signal(number, before)

    def say(self) -> None:
        """Say on stderr that the program was cancelled."""
        with contextlib.suppress(OSError):
            os.write(2, f"{self._program}: cancelled.\n".encode())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self._ended:
            os._exit(self.code)
        try:
            self.ask()
        except KeyboardInterrupt:
            # A half imported module would answer with any other error, if it is not C++ and ends in an abort.
            if _importing(frame):
                self._leave()
            raise

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        if self.number and issubclass(found.exc_type, KeyboardInterrupt):
            self._leave()  # it came where Python drops exceptions, such as in a destructor
        self._hook(found)

    def _leave(self) -> None:
        self.say()
        os._exit(self.code)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported in this frame or one that waits for it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

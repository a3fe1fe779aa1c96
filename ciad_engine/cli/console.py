"""What a command says while it works: a bar on a terminal, now and then a line in a log file.

Progress and notes go to stderr, results to stdout, so that `ciad ... --json > file` is clean.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from ciad_engine.jobs import Job
from ciad_engine.plain_text import plain, plain_lines

BAR_EVERY = 0.1  # seconds between two drawings of the bar
LINE_EVERY = 5.0  # seconds between two lines where stderr is no terminal


class ConsoleJob(Job):
    """A job that reports on stderr.

    Attributes:
        continuing: what to tell the person if the work is cancelled ("type the same command again
            to go on"); a command sets it as soon as it is true.
        quiet: say nothing but errors.
        on_result: called with every partial result; a command that shows them sets it.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self.continuing = ""
        self.on_result: Callable[[object], None] | None = None
        self.quiet = quiet
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._started = False  # the work has reported something, so it will notice a cancellation
        self._width = 0  # of what the bar's line holds now
        self._shown = clock() if not self._terminal else -BAR_EVERY
        self._work: tuple[int, str] = (0, "")  # total and kind of what is reported now
        self._samples: collections.deque[tuple[float, int]] = collections.deque(maxlen=120)

    def on_progress(self, done: int, total: int, text: str) -> None:
        self._started = True
        now = self._clock()
        work = (total, text.partition(":")[0])
        if work != self._work or (self._samples and done < self._samples[-1][1]):
            self._samples.clear()  # another piece of work: its pace is its own
            self._work = work
        if not self._samples or now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, done))
        every = BAR_EVERY if self._terminal else LINE_EVERY
        if self.quiet or now - self._shown < every:
            return
        self._shown = now
        left = self._remaining(now, done, total)
        if self._terminal:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._draw(_bar(plain(text), done, total, left, shutil.get_terminal_size().columns, encoding))
        else:
            share = f" ({100 * done // total}%)" if total else ""
            self.line(f"{text or 'Working'}: {done:,} of {total:,}{share}{', ' + left if left else ''}")

    def on_partial(self, result: object) -> None:
        if self.on_result is not None:
            self.on_result(result)

    def on_note(self, text: str) -> None:
        if not self.quiet:
            self.line(text)

    def line(self, text: str) -> None:
        """Write a line to stderr without leaving half a bar before it."""
        self.clear()
        self._write(f"{plain_lines(text)}\n")

    def clear(self) -> None:
        """Remove the bar."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def finished(self) -> None:
        """The work is done; what follows is quick and is simply interrupted by Ctrl+C."""
        self.clear()
        self._started = False
        self.continuing = ""

    def interrupt(self) -> None:
        """What Ctrl+C does: ask the work to stop cleanly; at once where nothing runs, or the second time.

        Raises:
            KeyboardInterrupt: stop at once.
        """
        if self.cancelled or not self._started:
            raise KeyboardInterrupt
        self.cancel()
        if not self.quiet:
            self.line("Stopping; press Ctrl+C again to stop at once.")

    def _remaining(self, now: float, done: int, total: int) -> str:
        start, first = self._samples[0]
        if done <= first or now - start < 1 or done >= total:
            return ""
        return f"{duration((total - done) * (now - start) / (done - first))} left"

    def _draw(self, text: str) -> None:
        self._write("\r" + text.ljust(self._width))
        self._width = len(text)

    def _write(self, text: str) -> None:
        # A closed or full stderr must not end the work: only the report is lost.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def forgive_encoding() -> None:
    """A terminal that lacks a character (cp1252, ASCII) shows "?" for it; nothing crashes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def flush_stdout() -> None:
    """Write what was printed, if it can be written: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        silence_stdout()


def silence_stdout() -> None:
    """After a broken pipe: nothing more is written, also not when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def duration(seconds: float) -> str:
    """ "8 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def width() -> int | None:
    """How many characters a line of stdout has; None where it is no terminal, so that files hold whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(rows: Sequence[tuple[str, ...]], indent: str = "") -> str:
    """Rows of texts as aligned columns, two blanks between them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    )


def _bar(text: str, done: int, total: int, left: str, columns: int, encoding: str) -> str:
    """One line, shorter than the terminal (a full line would wrap and scroll)."""
    full, empty = "█", "░"
    try:
        (full + empty).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        full, empty = "#", "."
    share = min(max(done / total, 0.0), 1.0) if total else 0.0
    tail = f" {100 * share:3.0f}%{'  ' + left if left else ''}"
    size = 20 if columns >= 60 else 0
    bar = full * round(share * size) + empty * (size - round(share * size))
    room = columns - 1 - len(tail) - size - 1
    head = text if len(text) <= room else text[: max(room - 1, 0)]
    return f"{head} {bar}{tail}"[: columns - 1]

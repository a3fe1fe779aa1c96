"""What was tried, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from ciad_engine.errors import CiadError

GROWTH = 64.0  # MiB that memory may grow by between half of the cases and the last
LONGEST = 4.0  # seconds that a case may take on a busy machine


@dataclasses.dataclass
class Tally:
    """Counts the cases of one kind."""

    kind: str
    total: int
    tried: int = 0
    refused: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0
    began: float = dataclasses.field(default_factory=time.monotonic)
    before: tuple[float, int] | None = None  # MiB and open files after half of the cases
    after: tuple[float, int] | None = None
    seconds: float = 0.0

    @contextlib.contextmanager
    def case(self, what: str, longest: float = LONGEST) -> Iterator[None]:
        """Count one case; what it raises is a refusal if it is a CiadError, else a failure."""
        self.tried += 1
        started = time.monotonic()
        try:
            yield
        except CiadError as error:
            self.refused += 1
            if not str(error).strip():
                self.fail(f"{what}: refused without a reason")
        except Exception:
            self.fail(f"{what}: {traceback.format_exc(limit=-3)}")
        seconds = time.monotonic() - started
        self.slowest = max(self.slowest, seconds)
        if seconds > longest:
            self.fail(f"{what}: took {seconds:.1f} s")
        if self.tried == max(1, self.total // 2):
            self.before = used()

    def fail(self, what: str) -> None:
        self.failures.append(what)
        print(f"FAILED {self.kind}: {what}", flush=True)

    def finish(self) -> None:
        """Compare memory and open files with those after half of the cases."""
        self.after, self.seconds = used(), time.monotonic() - self.began
        if self.before is None:
            return
        grown, opened = self.after[0] - self.before[0], self.after[1] - self.before[1]
        if grown > GROWTH:
            self.fail(f"memory grew by {grown:.0f} MiB")
        if opened > 2:
            self.fail(f"{opened} more files are open")

    def line(self) -> str:
        survived = self.tried - self.refused - len(self.failures)
        text = f"{self.kind:22} {self.tried:7,} {survived:9,} {self.refused:8,} {len(self.failures):7,}"
        text += f" {self.slowest:8.2f} {self.seconds:8.0f}"
        if self.before is not None and self.after is not None:
            text += f"   {self.before[0]:.0f} -> {self.after[0]:.0f} MiB, {self.before[1]} -> {self.after[1]} files"
        return text


HEADING = f"{'kind':22} {'tried':>7} {'survived':>9} {'refused':>8} {'failed':>7} {'slowest':>8} {'seconds':>8}"


def used() -> tuple[float, int]:
    """Return the resident memory of this process in MiB and its number of open files; zeros without /proc."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return 0.0, 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(list(Path("/proc/self/fd").iterdir()))

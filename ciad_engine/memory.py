"""How the C library hands out memory, a fifth of an attack's time on a CPU, and whether an error means it ran out.

Imports no torch: it has to be said before other threads ask for memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from ciad_engine.errors import said

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KEPT = 1 << 30  # bytes of freed memory at most that are kept
LARGEST = 1 << 25  # bytes; larger blocks still go back at once. glibc admits no more.

# What torch says in a plain RuntimeError if memory runs out: its allocator on a CPU (Linux and macOS, Windows), C++ and
# CUDA's libraries.
_SIGNS = ("DefaultCPUAllocator", "std::bad_alloc", "bad allocation", "out of memory", "STATUS_ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Return whether the error says that there was not enough memory, of the computer or of the device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # torch.OutOfMemoryError is one, too, with "out of memory" in its text or none at all.
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__ == "OutOfMemoryError" or any(sign in said(error) for sign in _SIGNS)


def shortage(doing: str) -> str:
    """Return what to tell a person if memory ran out while `doing` something."""
    return f"Not enough memory for: {doing}. Close other programs or choose fewer images."


def keep_freed() -> bool:
    """Keep the blocks that tensors free for the next ones; returns whether that could be arranged.

    glibc gives a freed block of some MB back to the system, and the next one comes empty, to be filled in page
    by page: hundreds of page faults for each step of an attack, more on a thread that is not the main one
    (`tests/benchmarks/memory.py` measures both). Elsewhere (macOS, Windows, musl) this does nothing, nor where the
    person has tuned the allocator already (MALLOC_..., GLIBC_TUNABLES, LD_PRELOAD).

    To be called once, at the program's start, from the main thread.
    """
    tuned = any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
    if tuned or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((_MMAP_THRESHOLD, LARGEST), (_TRIM_THRESHOLD, KEPT), (_ARENA_MAX, 1))
    return [mallopt(name, value) for name, value in wishes] == [1, 1, 1]

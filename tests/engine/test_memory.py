import os
import platform
import subprocess
import sys

import pytest

from ciad_engine import memory

# Frees twenty blocks of 4 MB and asks for them again on a second thread; counts the pages that were filled in anew.
FAULTS = """
import resource, threading
from ciad_engine import memory
if {kept}:
    assert memory.keep_freed()
import numpy as np
def faults():
    for turn in range(20):
        if turn == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [np.ones(1 << 19) for _ in range(20)]
        del blocks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=faults)
thread.start()
thread.join()
"""


@pytest.fixture
def untuned(monkeypatch):
    for name in list(os.environ):
        if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD"):
            monkeypatch.delenv(name)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed blocks back at once")
def test_a_block_is_filled_in_once(untuned):
    def count(kept):
        done = subprocess.run([sys.executable, "-c", FAULTS.format(kept=kept)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    plain = count(kept=False)
    assert plain > 300  # so the second count says something, also where pages are of 2 MB
    assert count(kept=True) < plain / 3


def test_the_persons_own_allocator_stays_as_it_is(untuned, monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("it was changed"))
    assert not memory.keep_freed()


def test_other_systems_are_left_alone(untuned, monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("it was changed"))
    assert not memory.keep_freed()

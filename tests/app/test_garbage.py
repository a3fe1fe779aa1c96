"""Garbage that holds Qt objects is collected by the window's thread and by no other."""

import gc
import threading
import weakref

from PySide6.QtCore import QObject


class Cycle(QObject):
    def __init__(self, died: list):
        super().__init__()
        self.itself = self
        weakref.finalize(self, lambda: died.append(threading.current_thread()))


def test_a_busy_thread_collects_nothing_of_qt(qtbot):
    died: list[threading.Thread] = []
    for _ in range(50):
        Cycle(died)

    def allocate():
        # Enough containers to set off the automatic collector many times.
        kept = [[i] for i in range(200_000)]
        assert len(kept) == 200_000

    worker = threading.Thread(target=allocate)
    worker.start()
    worker.join()
    assert died == []
    # The window's own allocations make a collection due; its timer then does it, in this thread.
    held: list[list] = []

    def allocated_enough():
        # Again each time: what other tests leave to be deleted later counts against it when it goes.
        held.extend([] for _ in range(2 * gc.get_threshold()[0]))
        return len(died) == 50

    qtbot.waitUntil(allocated_enough, timeout=10_000)
    assert set(died) == {threading.main_thread()}
    assert held


def test_the_automatic_collector_is_given_back(collector):
    assert not gc.isenabled()
    collector.stop()
    assert gc.isenabled()

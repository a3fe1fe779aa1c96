"""A second thread beside the engine's, for what reads and writes the database while the engine computes."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

from ciad_engine.errors import CiadError


class Background(QObject):
    """Runs functions one after the other in its own thread; their outcome arrives in the window's.

    An unexpected exception is raised again in the window's thread, where the program's hook reports it.
    """

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ciad-results")
        self._posted.connect(self._deliver)
        self._stopped = False

    def run(self, work: Callable[[], Any], done: Callable[[Any], object], failed: Callable[[str], object]) -> None:
        """Call `work` in the thread, then `done(result)` or `failed(message)` in the window's; nothing after `stop`."""
        if not self._stopped:
            self._pool.submit(self._perform, work, done, failed)

    def stop(self) -> None:
        """Drop what waits and let the thread end after what it does now; nothing arrives any more."""
        if not self._stopped:
            self._stopped = True
            self._posted.disconnect(self._deliver)
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _perform(self, work: Callable[[], Any], done: Callable[[Any], object], failed: Callable[[str], object]) -> None:
        try:
            result = work()
        except CiadError as error:
            self._posted.emit(functools.partial(failed, str(error)))
        except Exception as error:
            self._posted.emit(functools.partial(_raise, error))
        else:
            self._posted.emit(functools.partial(done, result))

    @Slot(object)
    def _deliver(self, function: Callable[[], object]) -> None:
        function()


def _raise(error: Exception) -> None:
    raise error

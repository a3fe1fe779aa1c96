"""How long the window stands still: gaps in its event loop while it follows an evaluation and opens a long run.

    python -m tests.benchmarks.gaps [--images 10000]

Offscreen, with the bundle `paper`: page Evaluate is shown while FGSM evaluates random images, then the same run is
opened again. A timer without an interval fires whenever the event loop is free; what lies between two of its events is
a gap, in which a click would wait. Prints the longest gap, the 99% quantile of the gaps, and the same weighted by their
length: what a click at a random moment meets.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from ciad_app import theme
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.garbage import Collector
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine
from ciad_engine.datasets import ImageSet


class Gaps:
    """Records the gaps between two moments at which the event loop is free."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer(interval=0)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.found.append(now - self._last)
        self._last = now
        time.sleep(0.0005)  # or the timer itself would keep the engine from computing

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Run the event loop until something is so; print the gaps on the way."""
        self.found.clear()
        self._last = time.perf_counter()
        began = self._last
        while not done():
            QApplication.processEvents()
        gaps = np.sort(np.array(self.found))
        met = gaps[min(int(np.searchsorted(np.cumsum(gaps), 0.99 * gaps.sum())), len(gaps) - 1)]
        print(
            f"{what}: {time.perf_counter() - began:.1f} s, longest gap {1000 * gaps[-1]:.0f} ms,"
            f" 99% of the gaps below {1000 * np.quantile(gaps, 0.99):.0f} ms,"
            f" 99% of the time in gaps below {1000 * met:.0f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    count = parser.parse_args().images
    app = QApplication(sys.argv[:1])
    theme.prepare(app)
    sys.setswitchinterval(0.001)
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector()
        engine = Engine()
        engine.ready.connect(lambda _: collector.spare_what_is_loaded())  # as the program does
        window = MainWindow(engine, Settings(), Path(folder) / "runs.sqlite", remember=False)
        window.show()
        window.show_page(EvaluatePage)
        page, gaps = window.page(EvaluatePage), Gaps()
        engine.start("paper", "cpu")
        gaps.wait("Loading", lambda: engine.info is not None and page._database is not None and not engine.busy)
        draw = np.random.default_rng(0)
        labels = draw.integers(0, 10, count)
        page.loader.data = ImageSet(draw.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), labels, "random images")
        page.loader.changed.emit()
        page.panel.attacks.choose([("fgsm", {})])
        page.panel.limit.setValue(count)
        page.start()
        gaps.wait(
            f"FGSM on {count:,} images",
            lambda: page._task is None and len(page.model.rows) == 2 * count and page._news is not None,
        )
        key = page._state.run
        page.model.set_rows([])
        page.open_run(key)
        gaps.wait(
            f"Opening a run of {2 * count:,} rows", lambda: page._state.shown and len(page.model.rows) == 2 * count
        )
        window.close()
        collector.stop()


if __name__ == "__main__":
    main()

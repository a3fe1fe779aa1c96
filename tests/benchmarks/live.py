"""How many updates a second the window shows while somebody moves the strength slider.

    python -m tests.benchmarks.live [--bundle NAME] [--attack fgsm] [--seconds 10]

Offscreen, the whole window: the slider of the budget moves by one stop every 20 ms, up and down between 1 and 16, on
the first bundled sample. Counts the attacks that were shown (image, masks, bars and verdict), and how long the window
stood still.
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

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from ciad_app import theme
from ciad_app.garbage import Collector
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine


def _wait(done: Callable[[], bool]) -> None:
    while not done():
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="paper")
    parser.add_argument("--attack", default="fgsm")
    parser.add_argument("--seconds", type=float, default=10.0)
    said = parser.parse_args()
    app = QApplication(sys.argv[:1])
    theme.prepare(app)
    sys.setswitchinterval(0.001)
    with tempfile.TemporaryDirectory() as folder:
        collector, engine = Collector(), Engine()
        engine.ready.connect(lambda _: collector.spare_what_is_loaded())  # as the program does
        window = MainWindow(engine, Settings(), Path(folder) / "runs.sqlite", remember=False)
        window.resize(1366, 768)
        window.show()
        page = window.page(InspectPage)
        engine.start(said.bundle, "cpu")
        _wait(lambda: page.found is not None and not engine.busy)
        page.panel.choose(said.attack, {})
        form = page.panel.form
        assert form is not None
        slider = form.slider("eps")
        assert slider is not None
        places = [*range(1, 17), *range(15, 1, -1)]
        shown: list[float] = []
        gaps: list[float] = []
        tried, last, moved = page._tried, time.perf_counter(), 0

        def count(entry, found):  # type: ignore[no-untyped-def]
            tried(entry, found)
            shown.append(time.perf_counter())

        page._tried = count  # type: ignore[method-assign]

        def move() -> None:
            nonlocal moved
            slider.setValue(places[moved % len(places)])
            moved += 1

        timer = QTimer(interval=20)
        timer.timeout.connect(move)
        timer.start()
        began = time.perf_counter()
        while time.perf_counter() < began + said.seconds:
            QApplication.processEvents()
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            time.sleep(0.001)
        timer.stop()
        rates = f"{len(shown) / said.seconds:.1f} updates a second of {moved / said.seconds:.0f} moves"
        print(f"{said.bundle}, {said.attack}: {rates}, longest gap {1000 * max(gaps):.0f} ms")
        window.close()
        collector.stop()


if __name__ == "__main__":
    main()

"""Cancels and closes in the window, at moments that nobody chooses."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication

from ciad_app import theme
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.garbage import Collector
from ciad_app.inspect.collection import of_set
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine
from ciad_engine.datasets import ImageSet
from tests import untrained
from tests.soak.tally import Tally

COUNT = 500
EACH = 10  # cancels before a window is closed
PATIENCE = 20.0  # seconds


def run(tally: Tally, draw: random.Random) -> None:
    app = QApplication.instance() or QApplication([])
    assert isinstance(app, QApplication)
    theme.prepare(app)
    collector = Collector()
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "random"
        untrained.write(bundle, "random")
        images = ImageSet(untrained.noise(40), np.arange(40) % 10, "noise")
        number = 0
        while number < tally.total:
            engine = Engine()
            window = MainWindow(engine, Settings(), Path(place) / f"{number}.sqlite", remember=False)
            window.show()
            engine.start(str(bundle), "cpu")
            _wait(tally, "the models", lambda engine=engine: engine.info is not None)
            inspect, evaluate = window.page(InspectPage), window.page(EvaluatePage)
            inspect.gallery.show_collection(of_set(images))
            evaluate.loader.data = images
            evaluate.loader.changed.emit()
            for _ in range(min(EACH, tally.total - number)):
                number += 1
                with tally.case(f"cancel {number}", PATIENCE):
                    _something(window, draw)
                    _pass(draw.uniform(0, 0.15))
                    draw.choice((engine.cancel_current, inspect.escape, evaluate.escape))()
                    _pass(draw.uniform(0, 0.03))
            with tally.case(f"close {number}", PATIENCE):
                _something(window, draw)
                _pass(draw.uniform(0, 0.05))
                window.close()
                assert window.ended, "the engine thread did not end"
                tally.tried -= 1  # it is counted with its cancels
            window.deleteLater()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    collector.stop()


def _something(window: MainWindow, draw: random.Random) -> None:
    inspect, evaluate = window.page(InspectPage), window.page(EvaluatePage)
    chosen = draw.randrange(5)
    if chosen == 0:
        inspect.gallery.step(draw.choice((-1, 1)))
    elif chosen < 3:
        inspect.panel.choose(draw.choice(("fgsm", "pgd", "jsma", "deepfool", "cw")), {})
        inspect.attack_now()
    else:
        window.show_page(draw.choice((InspectPage, EvaluatePage)))
        evaluate.panel.attacks.choose([(draw.choice(("fgsm", "deepfool", "jsma")), {})])
        evaluate.panel.limit.setValue(draw.randint(5, 40))
        evaluate.start()


def _pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)


def _wait(tally: Tally, what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done() and time.monotonic() < end:
        _pass(0.01)
    if not done():
        tally.fail(f"{what} did not come")

"""A small labelled image set that the untrained classifier gets right, so that attacks have something to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QApplication

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.worker import Engine
from ciad_engine import bundles, compute, systems
from ciad_engine import datasets as data_room
from ciad_engine.datasets import ImageSet
from ciad_engine.evaluation import planning
from ciad_engine.runs import Database, Run

COUNT = 12


@pytest.fixture(scope="module")
def engine(qapp: QApplication, untrained_bundle: Path) -> Iterator[Engine]:
    """One engine for all tests of a module: loading it anew takes longer than most of them."""
    made = Engine()
    made.start(str(untrained_bundle), "cpu")
    deadline = time.monotonic() + 60
    while made.info is None and time.monotonic() < deadline:
        qapp.processEvents()
        time.sleep(0.01)
    assert made.info is not None
    yield made
    assert made.shutdown(30)


@pytest.fixture(scope="session")
def tiny_set(untrained_bundle: Path) -> ImageSet:
    """Random images with the untrained classifier's own labels."""
    images = np.random.default_rng(5).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    system = systems.load(untrained_bundle, compute.choose_device("cpu"))
    labels = system.inspect(images).y1.astype(np.int64)
    return ImageSet(images, labels, "random pictures (not the official files)")


@pytest.fixture
def tiny_data(tiny_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path at which the page finds `tiny_set`; what reads real files is `datasets`, and tested there."""
    path = tmp_path / "tiny.zip"
    path.write_bytes(b"read by the patched loader")
    real = data_room.choose

    def choose(text: str, job=None) -> ImageSet:
        return tiny_set if Path(text) == path else real(text, job)

    monkeypatch.setattr(data_room, "choose", choose)
    return path


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "runs.sqlite"


@pytest.fixture
def interrupted(tiny_set: ImageSet, database_path: Path) -> Callable[..., Run]:
    """Puts a run of `tiny_set` that was interrupted before its first row into the database."""

    def make(card: bundles.Card, limit: int = COUNT) -> Run:
        plan = planning.make(card, tiny_set, [planning.choose("fgsm")], limit, 0)
        with Database(database_path) as database:
            return database.start(plan.key(), planning.to_json(plan), {}, "CPU")

    return make


@pytest.fixture
def page(engine: Engine, database_path: Path, qtbot) -> Iterator[EvaluatePage]:
    made = EvaluatePage(engine, "", database_path)
    made.resize(1200, 800)
    made.show()
    qtbot.waitUntil(lambda: made._database is not None)
    yield made
    close(made)


def close(made: EvaluatePage) -> None:
    """End a page's thread before its database goes, as the window does."""
    made.cancel()
    made.stop()
    made.hide()
    made.deleteLater()

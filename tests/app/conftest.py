"""The window's tests run offscreen and with their own engine; Qt must not be imported before this file."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QMessageBox

from ciad_app import theme
from ciad_app.copying import release_clipboard
from ciad_app.garbage import Collector
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine
from ciad_engine import bundles, resources
from ciad_engine.detectors.threshold import Threshold
from tests import untrained


@pytest.fixture(autouse=True)
def collector(qapp: QApplication) -> Iterator[Collector]:
    """Garbage is collected as in the program: never by the engine thread."""
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(autouse=True)
def released_clipboard(qapp: QApplication) -> Iterator[None]:
    """As at the program's end: what a test copied must not outlive Python."""
    yield
    release_clipboard()


@pytest.fixture(autouse=True)
def no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows begin empty: a test that wants the bundled samples brings its own."""
    real = resources.path
    monkeypatch.setattr(
        resources, "path", lambda *parts: tmp_path / "nothing" if parts[:1] == ("samples",) else real(*parts)
    )


@pytest.fixture(autouse=True)
def no_modal_dialogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A modal dialog nobody answers would stop the test run: it is an error, unless the test replaces it."""

    def refuse(self: object, *_: object) -> None:
        raise AssertionError("an unexpected modal dialog")

    for name in ("information", "warning", "critical", "question", "about"):
        monkeypatch.setattr(QMessageBox, name, refuse)
    monkeypatch.setattr(QMessageBox, "exec", refuse)
    monkeypatch.setattr("ciad_app.evaluate.page.ask_folder", refuse)


@pytest.fixture
def idle_engine(qapp: QApplication) -> Iterator[Engine]:
    """An engine that was not started."""
    engine = Engine()
    yield engine
    assert engine.shutdown(30), "the engine thread did not end"


@pytest.fixture
def engine(idle_engine: Engine, untrained_bundle: Path, qtbot) -> Engine:
    """An engine with the untrained bundle loaded on the CPU."""
    problems: list[str] = []
    idle_engine.unavailable.connect(problems.append)
    idle_engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: idle_engine.info is not None or bool(problems), timeout=60_000)
    assert not problems
    return idle_engine


@pytest.fixture(scope="session")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random bundle for 43 classes at 64x64 pixels."""
    made = {"classes": len(untrained.SIGNS.classes), "size": untrained.SIGNS.size}
    folder = tmp_path_factory.mktemp("signs") / "signs"
    roles = {
        bundles.CLASSIFIER: ("mlp", {**made, "widths": [16]}),
        bundles.MASK_GENERATOR: ("lan", {"size": made["size"], "widths": [8]}),
        bundles.MASK_CLASSIFIER: ("lenet", made),
    }
    domain = {"classes": list(untrained.SIGNS.classes), "size": untrained.SIGNS.size}
    untrained.write(folder, "signs", roles, seed=3, thresholds={0.05: Threshold(4.0, "for tests")}, domain=domain)
    return folder


@pytest.fixture(scope="session")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random bundle with other detectors: of what the mask keeps, and combined."""
    folder = tmp_path_factory.mktemp("keeping") / "keeping"
    networks = {"generator": bundles.MASK_GENERATOR, "classifier": bundles.CLASSIFIER}
    always = {0.05: Threshold(-1.0, "always")}
    listed = (
        bundles.DetectorEntry("combined", "combined", {}, always, {"of": ["evidence"], "fit": {"evidence": [-9, 1]}}),
        bundles.DetectorEntry("evidence", "evidence", networks, always, {"score": "margin"}),
    )
    roles = {role: untrained.ROLES[role] for role in networks.values()}
    untrained.write(folder, "keeping", roles, seed=9, detectors=bundles.detectors_json(listed))
    return folder


@pytest.fixture
def make_window(qapp, qtbot, tmp_path):
    """Makes windows with their own engine and database, and closes them."""
    theme.prepare(qapp)
    made = []

    def one(kept=Settings(), database=tmp_path / "runs.sqlite", **more):  # noqa: B008 - frozen
        window = MainWindow(Engine(), kept, database, **more)
        made.append(window)
        window.show()
        qtbot.waitExposed(window)
        return window

    yield one
    for window in made:
        if window.isVisible():
            window.close()
        window.deleteLater()
    theme.apply(qapp, Settings())


@pytest.fixture
def window(make_window):
    return make_window()


@pytest.fixture
def opened(window, monkeypatch):
    """What reached page Inspect."""
    calls = []
    monkeypatch.setattr(window.page(InspectPage), "open_paths", lambda paths: calls.append(paths))
    monkeypatch.setattr(window.page(InspectPage), "open_bytes", lambda raw, name: calls.append((raw, name)))
    return calls

"""Fixtures for all tests: own folders for settings and data, and an untrained bundle to compute with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the settings and data of the person who runs it."""
    import platformdirs

    root = tmp_path / "user"
    for kind in ("config", "data", "cache", "log", "state"):
        monkeypatch.setattr(platformdirs, f"user_{kind}_path", lambda *_, kind=kind, **__: root / kind)
    return root


@pytest.fixture(scope="session")
def untrained_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle whose networks have seeded random weights: it computes, but knows nothing."""
    from ciad_engine.detectors.threshold import Threshold
    from tests import untrained

    folder = tmp_path_factory.mktemp("bundles") / "untrained"
    threshold = {0.05: Threshold(3.0, "chosen for tests")}
    untrained.write(folder, "untrained", seed=7, thresholds=threshold, data={"title": "none (untrained)"})
    return folder

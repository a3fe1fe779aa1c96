"""Fixtures for all tests: own folders for settings and data, and an untrained bundle to compute with."""

from __future__ import annotations

from pathlib import Path

import pytest

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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
    import torch

    from ciad_engine import bundles, networks

    folder = tmp_path_factory.mktemp("bundles") / "untrained"
    used = {
        bundles.CLASSIFIER: ("alexnet", {}),
        bundles.MASK_GENERATOR: ("lan", {}),
        bundles.MASK_CLASSIFIER: ("lenet", {}),
    }
    entries = {}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for role, (name, arguments) in used.items():
            network = networks.create(name, **arguments)
            checksum = bundles.save_network(network, folder / f"{role}.safetensors")
            entries[role] = {
                "network": name,
                "arguments": arguments,
                "file": f"{role}.safetensors",
                "sha256": checksum,
            }
    bundles.save_card(
        folder,
        {
            "name": "untrained",
            "classes": CLASSES,
            "networks": entries,
            "thresholds": {"graded": {"value": 3.0, "source": "chosen for tests"}},
            "data": {"title": "none (untrained)"},
        },
    )
    return folder

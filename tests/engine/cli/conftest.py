"""A bundle of untrained networks and small pictures: enough for every command to do its real work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ciad_engine import bundles
from ciad_engine.cli import main
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10
from tests import untrained


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete bundle called "tiny"."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    roles = {
        **untrained.ROLES,
        bundles.MASK_GENERATOR: ("lan", {"widths": [16, 16]}),
        bundles.SECOND_CLASSIFIER: ("alexnet", {}),
    }
    untrained.write(
        folder,
        roles=roles,
        thresholds={0.05: Threshold(1.0, "invented for a test")},
        title="untrained networks",
        data={"name": "none", "official": False},
        measured={},
    )
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three PNG files of 32x32, different from one another."""
    generator = np.random.default_rng(5)
    paths = []
    for number in range(3):
        path = tmp_path / f"picture{number}.png"
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A data set of class-named folders: 30 training and 30 test images."""
    root = tmp_path / "folders"
    generator = np.random.default_rng(6)
    for part in ("train", "test"):
        for name in CIFAR10.classes:
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture
def ciad(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run

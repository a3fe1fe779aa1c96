"""The whole program where there is no display: what `python3 packaging/bootstrap.py run` starts there."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ciad_engine import datasets, imaging


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has sessions without a display")
def test_it_inspects_the_samples_and_writes_pictures_and_tables(tmp_path: Path) -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    for variable in ("CIAD_CONFIG_DIR", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        environment[variable] = str(tmp_path / "user")
    ran = subprocess.run(
        [sys.executable, "-m", "ciad_app"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "no display" in ran.stdout.splitlines()[0].lower()
    assert "Table 1" in ran.stdout
    folder = tmp_path / "ciad-demo"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"window.png", "evaluate.png", "adversarial.png", "table1.csv", "table2.csv", "rows.csv"}
    assert imaging.read(folder / "adversarial.png", 32).pixels.shape == (3, 32, 32)
    with (folder / "table1.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2  # FGSM and C&W
    assert {line["data"] for line in lines} == {datasets.samples().source}

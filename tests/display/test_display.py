"""Keys and places, as a person meets them: through the window system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def driven(what: str, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    environment = {**environment, "CIAD_CONFIG_DIR": str(folder), "XDG_DATA_HOME": str(folder)}
    command = [sys.executable, "-m", "tests.display.driven", what]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_advertised_key_works_once_without_a_click(on_display, tmp_path):
    pressed = driven("keys", on_display("1366x768"), tmp_path)
    assert {name: count for name, count in pressed.items() if count != 1} == {}
    assert len(pressed) > 25
    assert any("Ctrl+Return" in name for name in pressed)


@pytest.mark.parametrize(
    ("size", "scale"),
    [("1280x720", "1"), ("1366x768", "1"), ("1920x1080", "1"), ("1366x768", "1.5"), ("3840x2160", "2")],
)
def test_all_of_the_first_window_is_on_the_screen(on_display, tmp_path, size, scale):
    found = driven("place", {**on_display(size), "QT_SCALE_FACTOR": scale}, tmp_path)
    left, top, right, bottom = found["frame"]
    assert left >= found["screen"][0]
    assert top >= found["screen"][1]
    assert right <= found["screen"][2]
    assert bottom <= found["screen"][3]
    assert found["status bar"][0] <= right
    assert found["status bar"][1] <= bottom

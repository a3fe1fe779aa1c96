"""A display of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

NEEDED = ("Xvfb", "openbox", "xdotool")


@pytest.fixture
def on_display() -> Iterator[Callable[[str], dict[str, str]]]:
    """Start an X server and a window manager for a screen such as "1366x768"; return a program's environment on it."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: a display and keys cannot be simulated")
    started: list[subprocess.Popen[bytes]] = []

    def start(size: str) -> dict[str, str]:
        reading, writing = os.pipe()
        command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{size}x24", "-nolisten", "tcp"]
        started.append(subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL))
        os.close(writing)
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        assert number, "Xvfb did not start"
        environment = {**os.environ, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        environment.pop("WAYLAND_DISPLAY", None)
        started.append(subprocess.Popen(["openbox"], env=environment, stderr=subprocess.DEVNULL))
        time.sleep(0.5)  # until it manages windows
        return environment

    yield start
    for process in reversed(started):
        process.terminate()
        process.wait(10)

"""Kills of whole programs: nothing half-written under a final name, and the same command goes on with equal rows."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ciad_app import settings
from ciad_engine import imaging
from ciad_engine.runs import Database
from tests.soak.tally import Tally

COUNT = 60


def run(tally: Tally, draw: random.Random) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = {
            **os.environ,
            "CIAD_CONFIG_DIR": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_STATE_HOME": str(folder / "state"),
            "QT_QPA_PLATFORM": "offscreen",
        }
        _evaluations(tally, draw, folder, environment, tally.total // 2)
        _windows(tally, draw, folder, environment, tally.total // 4)
        _attacks(tally, draw, folder, environment, tally.total - tally.total // 2 - tally.total // 4)


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _killed(arguments: list[str], environment: dict[str, str], seconds: float) -> bool:
    """Start a program and kill it after some seconds; return whether it had not ended by then."""
    program = _start(arguments, environment)
    try:
        _, told = program.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        return True
    assert program.returncode == 0, told.decode(errors="replace")[-2000:]
    return False


def _evaluation(folder: Path, name: str) -> list[str]:
    where = ["--database", str(folder / f"{name}.sqlite"), "--csv", str(folder / name), "--device", "cpu"]
    what = ["--data", "samples", "--attacks", "fgsm,deepfool", "--limit", "60", "--seed", "1"]
    return ["ciad_engine", "evaluate", *what, *where]


def _rows(folder: Path, name: str) -> list[object]:
    with Database(folder / f"{name}.sqlite") as database:
        (run,) = database.runs()
        assert run.finished
        rows = database.rows(run.key, images=True)
    return sorted((row.attack, row.position, row.y1, row.success, row.scores, row.image) for row in rows)


def _evaluations(tally: Tally, draw: random.Random, folder: Path, environment: dict[str, str], count: int) -> None:
    began = time.monotonic()
    assert not _killed(_evaluation(folder, "whole"), environment, 300)
    seconds, whole = time.monotonic() - began, _rows(folder, "whole")
    number, name = 0, "killed-0"
    while number < count:
        with tally.case(f"kill of an evaluation {number}", 300):
            if _killed(_evaluation(folder, name), environment, draw.uniform(0.2, 1.0) * seconds):
                number += 1
                assert not list((folder / name).glob("*.csv")) or (folder / name / "run.json").exists()
            else:
                tally.tried -= 1
                assert _rows(folder, name) == whole
                for file in (folder / "whole").glob("*.csv"):
                    assert (folder / name / file.name).exists(), f"{file.name} is missing"
                name = f"killed-{number}"
    with tally.case("the last evaluation", 300):
        tally.tried -= 1
        assert not _killed(_evaluation(folder, name), environment, 300)
        assert _rows(folder, name) == whole


def _windows(tally: Tally, draw: random.Random, folder: Path, environment: dict[str, str], count: int) -> None:
    file = folder / "config" / "settings.json"
    for number in range(count):
        with tally.case(f"kill of a window {number}", 60):
            arguments = ["ciad_app", "--window", "--database", str(folder / "window.sqlite")]
            assert _killed(arguments, environment, draw.uniform(0.3, 6.0))
            if file.exists():
                settings.load()
            assert not list(file.parent.glob("*.bad*")) if file.parent.exists() else True
            with Database(folder / "window.sqlite") as database:
                database.runs()


def _attacks(tally: Tally, draw: random.Random, folder: Path, environment: dict[str, str], count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    pictures = []
    for k in range(12):
        pictures.append(folder / f"picture {k}.png")
        imaging.save_png(pictures[-1], pixels)
    for number in range(count):
        out = folder / f"made {number}"
        with tally.case(f"kill of an attack {number}", 60):
            arguments = ["ciad_engine", "attack", *map(str, pictures), "--attack", "pgd", "--out", str(out)]
            _killed(arguments, environment, draw.uniform(0.5, 6.0))
            for file in out.glob("*") if out.exists() else ():
                if file.suffix == ".png":
                    imaging.read(file, 32)

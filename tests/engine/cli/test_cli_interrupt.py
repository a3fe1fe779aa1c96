"""Ctrl+C as a person presses it: another process, a real signal, work in the middle of a batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ciad_engine import cli, runs

ROOT = Path(cli.__file__).parents[2]
PATIENCE = 60.0  # seconds; on a busy machine the import of torch alone takes many


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl+C to a whole console, not to a process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work_and_keeps_finished_rows(
    number: signal.Signals, bundle: Path, folders: Path, tmp_path: Path
) -> None:
    database = tmp_path / "runs.sqlite"
    words = ["evaluate", "--attacks", "cw", "--iterations", "100000", "--data", folders, "--bundle", bundle]
    running = subprocess.Popen(
        [sys.executable, "-m", "ciad_engine", *map(str, words), "--database", str(database)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        wait_for_benign_rows(running, database)
        time.sleep(0.5)  # into the attack, which would take hours
        running.send_signal(number)
        sent = time.monotonic()
        out, err = running.communicate(timeout=PATIENCE)
        took = time.monotonic() - sent
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 128 + number, err
    assert took < 10, "cancelling takes effect between two steps of the attack"
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "ciad: cancelled. Finished batches are kept; the same command goes on from there."
    with runs.Database(database) as stored:
        (run,) = stored.runs()
        assert stored.counts(run.key) == {"": 30}


def wait_for_benign_rows(running: subprocess.Popen[str], database: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and running.poll() is None:
        if database.exists():
            with runs.Database(database) as stored:
                if any(stored.counts(run.key).get("") == 30 for run in stored.runs()):
                    return
        time.sleep(0.05)
    running.kill()
    pytest.fail(f"no rows within {PATIENCE} s: {running.communicate()[1]}")

"""A command in a process of its own: without its streams, without a home, and when it is signalled early."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ciad_engine import cli, process

ROOT = Path(cli.__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="has other streams, signals and homes")
PATIENCE = 120
# Makes the user unknown to the system, as one in a container often is, then runs the program.
NOBODY = """
import pwd, sys
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
from ciad_engine.cli import main
sys.exit(main())
"""


def shell(words: str, redirections: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.quote(sys.executable)} -m ciad_engine {words} {redirections}"
    return subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@POSIX
@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_missing_stream_is_the_null_device(redirections: str) -> None:
    done = shell("bundles list", redirections)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("paper" in done.stdout) is (">&-" not in redirections.replace("2>&-", ""))
    assert shell("data check '~nosuch-user/x'", redirections).returncode == 1


@POSIX
def test_no_file_gets_the_number_of_a_missing_stream() -> None:
    code = "import os; os.close(0); os.close(1); os.close(2)\nfrom ciad_engine import process; process.open_streams()\n"
    code += "file = open(os.devnull); os._exit(0 if file.fileno() > 2 else 1)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="has a device that is always full")
def test_a_full_device_is_one_sentence() -> None:
    done = shell("bundles list", ">/dev/full")
    assert (done.returncode, done.stderr) == (1, "ciad: No space left on device\n")


def homeless(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key != "HOME" and not key.startswith("XDG_")}
    return subprocess.run(
        [sys.executable, "-c", NOBODY, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        check=False, env={**known, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@POSIX
def test_what_needs_no_home_works_without_one(bundle: Path, folders: Path, tmp_path: Path) -> None:
    database = tmp_path / "runs.sqlite"
    for words in (
        ["bundles", "list"],
        ["data", "check", folders],
        ["info"],
        ["evaluate", "--attacks", "fgsm", "--limit", 10, "--data", folders, "--bundle", bundle, "--database", database],
        ["runs", "list", "--database", database],
    ):
        done = homeless(*words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert not list(ROOT.glob("~*"))


@POSIX
@pytest.mark.parametrize(
    ("words", "option"),
    [(["evaluate", "--attacks", "fgsm"], "--database"), (["runs", "list"], "--database"), (["data", "fetch"], "--to")],
)
def test_what_needs_a_home_names_it_and_the_option(words: list[str], option: str) -> None:
    done = homeless(*words)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ciad: Your home folder is not known: set the variable HOME, or name a ")
    assert option in last
    assert "Traceback" not in done.stderr
    assert homeless("data", "check", "~/x").stderr.startswith("ciad: ~/x: nobody knows the folder that ~ stands for")


# Sends a signal to itself when the module that is named is imported, which stands for any moment.
STRUCK = """
import os, sys
where, number = sys.argv[1], int(sys.argv[2])
class Striking:
    def find_spec(self, name, path=None, target=None):
        if name == where:
            os.kill(os.getpid(), number)
        return None
sys.meta_path.insert(0, Striking())
sys.argv[1:] = sys.argv[3:]
from ciad_engine.cli import main
sys.exit(main())
"""


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    ["argparse", "ciad_engine.cli.console", "ciad_engine.cli.inspect", "torch", "torch.nn", "safetensors.torch"],
)
def test_a_signal_while_something_is_imported_ends_without_a_traceback(
    module: str, number: signal.Signals, pictures: list[Path]
) -> None:
    words = ["inspect", str(pictures[0])]
    done = subprocess.run(
        [sys.executable, "-c", STRUCK, module, str(int(number)), *words], cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (128 + number, ["ciad: cancelled."])
    assert "Traceback" not in done.stderr


@POSIX
def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with process.Signals("test") as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.number == 0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert signals.code == 143


@POSIX
def test_a_signal_after_the_end_of_the_work_ends_the_process() -> None:
    code = "import os, signal, time\nfrom ciad_engine import process\n"
    code += "with process.Signals('test', whole_process=True): pass\n"
    code += "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (143, b"")
    assert time.monotonic() - started < PATIENCE


@POSIX
def test_an_interrupt_that_python_would_drop_ends_the_process() -> None:
    code = """
import os, signal
from ciad_engine import process
class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(100))
with process.Signals("test", whole_process=True):
    thing = Dropping()
    del thing
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (130, b"test: cancelled.\n")

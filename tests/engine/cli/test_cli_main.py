"""`ciad` itself: help, version, exit codes, errors, encodings, pipes. No command that computes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ciad_engine import __version__, cli
from ciad_engine.cli import bundles as bundles_command
from ciad_engine.errors import CiadError, DataError
from ciad_engine.jobs import Cancelled

Ciad = Callable[..., tuple[int, str, str]]
ROOT = Path(cli.__file__).parents[2]


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ciad_engine", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], [], ["info", "--version"], ["runs", "--help"], ["nothing"]]
)
def test_no_torch_is_imported_before_it_is_needed(words: list[str]) -> None:
    program = (
        "import sys\nfrom ciad_engine.cli import main\n"
        f"code = main({words!r})\nassert 'torch' not in sys.modules, 'torch was imported'\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert b"torch was imported" not in done.stderr
    assert done.returncode in (0, 2)


def test_no_help_imports_torch() -> None:
    """Of no command and of none of its actions; in one process, since each would take a second."""
    program = """
import argparse, contextlib, io, sys
from ciad_engine import cli

def actions(parser):
    return list(parser._subparsers._group_actions[0].choices) if parser._subparsers else []

asked = [[]]
for name in cli._COMMANDS:
    (group,) = cli._parser([name])._subparsers._group_actions
    asked += [[name], *([name, action] for action in actions(group.choices[name]))]
for words in asked:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = cli.main([*words, "--help"])
    assert (code, out.getvalue().startswith("usage: ciad")) == (0, True), words
    assert "torch" not in sys.modules, f"torch was imported by: ciad {' '.join(words)} --help"
print(len(asked))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1 + len(cli._COMMANDS) + 9  # actions of data, runs and bundles


def test_version(ciad: Ciad) -> None:
    assert ciad("--version") == (0, f"ciad {__version__}\n", "")


def test_help_names_every_command(ciad: Ciad) -> None:
    code, out, err = ciad("--help")
    assert (code, err) == (0, "")
    for command in ("info", "data", "train", "attack", "inspect", "evaluate", "figures", "runs", "bundles"):
        assert f"\n    {command} " in out


def test_without_a_command_it_prints_help_and_is_wrong_use(ciad: Ciad) -> None:
    code, out, err = ciad()
    assert (code, out) == (2, "")
    assert "usage: ciad" in err


COMMANDS = "info, data, data fetch, data check, train, attack, inspect, evaluate, runs, runs list, runs show, "
COMMANDS += "runs export, runs delete, figures, bundles, bundles list, bundles show, bundles record"


@pytest.mark.parametrize("command", COMMANDS.split(", "))
def test_every_command_explains_itself(command: str, ciad: Ciad) -> None:
    code, out, err = ciad(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ciad {command}")
    assert "--debug" in out


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["data"], ["runs", "nonsense"], ["attack"], ["--bundle"], ["info", "--bundle"], ["info", "more"]],
)
def test_wrong_use_is_2_with_usage(words: list[str], ciad: Ciad) -> None:
    code, out, err = ciad(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ciad")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["evaluate", "--attack", "fgsm"],
            "ciad evaluate: error: unrecognized arguments: --attack fgsm (did you mean --attacks?)",
        ),
        (
            ["inspect", "a.png", "--atack=fgsm"],
            "ciad inspect: error: unrecognized arguments: --atack=fgsm (did you mean --attack?)",
        ),
        (["runs", "list", "more"], "ciad runs list: error: unrecognized arguments: more"),
    ],
)
def test_a_misspelt_flag_is_answered_by_its_command(words: list[str], expected: str, ciad: Ciad) -> None:
    code, out, err = ciad(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"usage: ciad {words[0]}")
    assert err.splitlines()[-1] == expected


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `ciad bundles list` end in an error."""

    def fail(arguments: argparse.Namespace, job: object) -> int:
        raise error

    monkeypatch.setattr(bundles_command, "list_all", fail)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("the archive is\ntorn"), 1, "ciad: the archive is torn\n"),
        (PermissionError(13, "Permission denied", "out.csv"), 1, "ciad: Permission denied: out.csv\n"),
        (Cancelled(), 130, "ciad: cancelled.\n"),
        (KeyboardInterrupt(), 130, "ciad: cancelled.\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException, code: int, text: str, ciad: Ciad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.console, "silence_stdout", lambda: None)  # it would close pytest's own stdout
    raising(monkeypatch, error)
    assert ciad("bundles", "list") == (code, "", text)


def test_a_bug_is_one_line_and_a_traceback_only_with_debug(ciad: Ciad, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("division\nby zero"))
    code, _, err = ciad("bundles", "list")
    assert code == 1
    assert err.startswith("ciad: unexpected ZeroDivisionError: division by zero (")
    assert "--debug" in err
    assert err.count("\n") == 1
    for words in (("--debug", "bundles", "list"), ("bundles", "--debug", "list"), ("bundles", "list", "--debug")):
        code, _, err = ciad(*words)
        assert code == 1
        assert "Traceback" in err
        assert err.splitlines()[-1] == "ciad: unexpected ZeroDivisionError: division by zero"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")])
def test_a_lack_of_memory_is_no_bug(ciad: Ciad, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raising(monkeypatch, error)
    text = "ciad: Not enough memory for: this command. Close other programs or choose fewer images.\n"
    assert ciad("bundles", "list") == (1, "", text)


def test_debug_shows_where_an_expected_error_arose(ciad: Ciad, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, CiadError("no"))
    assert "Traceback" in ciad("bundles", "list", "--debug")[2]
    raising(monkeypatch, Cancelled())
    assert "Traceback" not in ciad("bundles", "list", "--debug")[2]


def test_a_cp1252_terminal_does_not_crash_it(monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path) -> None:
    named = tmp_path / "模型"
    named.symlink_to(bundle, target_is_directory=True)
    done = process("bundles", "show", str(named), PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    missing = process("data", "check", str(tmp_path / "数据"), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert missing.returncode == 1
    assert missing.stderr.startswith(b"ciad: ")
    assert b"??" in missing.stderr


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
def test_a_reader_that_goes_away_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ciad_engine", "bundles", "list"],
            cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")

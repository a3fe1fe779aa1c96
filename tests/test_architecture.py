"""Rules of ARCHITECTURE.md that no linter checks: what may be imported before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LIGHT = (
    "ciad_engine",
    "ciad_engine.cli",
    "ciad_engine.attacks",
    "ciad_engine.attacks.catalogue",
    "ciad_engine.inspection",
    "ciad_engine.datasets",
    "ciad_engine.runs",
    "ciad_app.window",  # what the first window is made of
    "ciad_app.main",
)


def loaded_after(code: str, *names: str) -> list[str]:
    """Which of the packages `names` a fresh Python has imported after `code`."""
    code = f"{code}\nimport sys; print('loaded:', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("module", LIGHT)
def test_import_brings_no_torch(module: str) -> None:
    # On Windows the program imports torch before Qt on purpose, but in `main()`, not by being imported.
    assert loaded_after(f"import {module}", "torch", "torchvision") == []


def test_version_and_help_of_every_command_bring_no_torch() -> None:
    """Of the program, each command and each of its subcommands; `add` of a command may read whatever it shows."""
    code = """
import argparse
from ciad_engine.cli import _COMMANDS, _parser, main
asked = [["--version"], ["--help"]]
for name in _COMMANDS:
    asked.append([name, "--help"])
    groups = [a for a in _parser([name])._actions if isinstance(a, argparse._SubParsersAction)]
    inner = [a for a in groups[0].choices[name]._actions if isinstance(a, argparse._SubParsersAction)]
    asked += [[name, one, "--help"] for group in inner for one in group.choices]
assert len(asked) > 2 + len(_COMMANDS)
assert [main(words) for words in asked] == [0] * len(asked)
"""
    assert loaded_after(code, "torch", "PySide6") == []


def test_no_module_of_the_engine_brings_qt() -> None:
    """`lint-imports` reads the source; this sees what is really loaded, through other packages too."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "ciad_engine").rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]
    assert len(modules) > 20
    assert loaded_after("\n".join(f"import {name}" for name in modules), "PySide6", "pyqtgraph") == []

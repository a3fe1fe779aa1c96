"""Where an evaluation is exported to, and the work that does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ciad_engine import bundles
from ciad_engine.evaluation import export
from ciad_engine.runs import Database


def new_folder(parent: Path, name: str) -> Path:
    """A path in `parent` at which there is nothing yet: `name`, or `name-2` and so on."""
    path, number = parent / name, 1
    while os.path.lexists(path):
        number += 1
        path = parent / f"{name}-{number}"
    return path


def writer(folder: Path, database: Database, run: str, card: bundles.Card | None) -> Callable[[], list[Path]]:
    """What writes tables and rows of a run into `folder` and returns the paths."""
    return lambda: export.write_csv(folder, database, run, card)

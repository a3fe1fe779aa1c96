"""Damaged bundles and databases: each is read or refused with a reason."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from ciad_engine import bundles, systems
from ciad_engine.datasets import ImageSet
from ciad_engine.evaluation import planning, runner
from ciad_engine.evaluation.records import Records
from ciad_engine.evaluation.tables import tables_of
from ciad_engine.jobs import Job
from ciad_engine.runs import Database
from tests import untrained
from tests.soak.mutations import mutated
from tests.soak.tally import Tally

COUNT = 500
_VALUES = (None, True, -1, 0, 1e308, float("nan"), float("inf"), "", "\ud800", "x" * 5000, [], {}, [[[]]], 2**70)


def run(tally: Tally, draw: random.Random) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        good = folder / "good"
        untrained.write(good, "good", {**untrained.ROLES, bundles.CLASSIFIER: ("mlp", {"widths": [8]})})
        images = ImageSet(untrained.noise(6), np.arange(6) % 10, "noise")
        system = systems.load(good, torch.device("cpu"))
        plan = planning.make(system.card, images, [planning.choose("fgsm")], 6, 0)
        with Database(folder / "good.sqlite") as database:
            runner.run(plan, system, images, database, Job())
        for number in range(tally.total):
            if number % 2:
                _bundle(tally, draw, number, good, folder / "bundle", images)
            else:
                _database(tally, draw, number, folder / "good.sqlite", folder / "runs" / "runs.sqlite", system.card)


def _bundle(tally: Tally, draw: random.Random, number: int, good: Path, folder: Path, images: ImageSet) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    file = draw.choice(sorted(folder.iterdir()))
    if file.name == bundles.CARD and draw.random() < 0.7:
        content = json.loads(file.read_text())
        changed(content, draw)
        file.write_text(json.dumps(content))
    else:
        file.write_bytes(mutated(file.read_bytes(), draw))
    with tally.case(f"bundle {number}, {file.name}"):
        system = systems.load(folder, torch.device("cpu"))
        found = system.inspect(images.images[:2])
        assert np.isfinite(found.p1).all()


def _database(tally: Tally, draw: random.Random, number: int, good: Path, copy: Path, card: bundles.Card) -> None:
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    copy.write_bytes(mutated(good.read_bytes(), draw))
    with tally.case(f"database {number}"), Database(copy) as database:
        for run in database.runs():
            plan = planning.from_json(run.plan)
            tables_of(Records(run, plan, database.rows(run.key, images=True), database.notes(run.key)), card)


def changed(content: object, draw: random.Random) -> None:
    """Put another value somewhere into what JSON holds, or take something away."""
    while isinstance(content, dict | list) and content:
        key = draw.choice(list(content)) if isinstance(content, dict) else draw.randrange(len(content))
        if isinstance(content[key], dict | list) and content[key] and draw.random() < 0.7:
            content = content[key]
        elif draw.random() < 0.3:
            del content[key]
            return
        else:
            content[key] = draw.choice(_VALUES)
            return

"""The same bundle, plan and seed give the same rows; another device the same rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ciad_engine import datasets, systems
from ciad_engine.evaluation import planning, runner
from ciad_engine.runs import Database, Row
from tests.engine.evaluation import tiny

QUICK = (
    planning.choose("fgsm", eps=8),
    planning.choose("jsma"),
    planning.choose("cw", initial_c=1.0, search_steps=2, iterations=20),
)


def evaluated(
    path: Path, device: str, limit: int, attacks: tuple[planning.AttackChoice, ...]
) -> tuple[list[Row], list]:
    system = systems.load("paper", torch.device(device))
    data = datasets.choose(datasets.SAMPLES)
    plan = planning.make(system.card, data, attacks, limit, 7)
    with Database(path) as database:
        key = runner.run(plan, system, data, database)
        rows = [dataclasses.replace(row, seconds=0) for row in database.rows(key, images=True)]
        return rows, [list(row) for row in tiny.all_tables(database, key, system.card)[1].cells]


def test_the_same_plan_gives_the_same_rows(tmp_path: Path) -> None:
    once, again = (evaluated(tmp_path / name, "cpu", 24, QUICK)[0] for name in ("a.sqlite", "b.sqlite"))
    assert len(once) == 24 * 4
    assert once == again


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cpu_and_cuda_agree_within_their_intervals(tmp_path: Path) -> None:
    (_, here), (_, there) = (evaluated(tmp_path / name, name, 200, QUICK) for name in ("cpu", "cuda"))
    for ours, theirs in zip(here, there, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            if one.rate and one.n:
                assert one.low <= other.value <= one.high
                assert other.low <= one.value <= other.high

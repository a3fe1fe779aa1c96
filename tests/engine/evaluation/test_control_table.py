"""The controls' table against rows written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ciad_engine.evaluation import control_table, records
from ciad_engine.evaluation import plan as plans
from ciad_engine.evaluation.records import Records
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import NO_SHARE, Cell
from ciad_engine.runs import Database, Opinion, Row
from tests.engine.evaluation.tiny import row


def said(found: Row, y: int, score: float) -> Row:
    return dataclasses.replace(found, opinions=(Opinion("mlp", y, score), Opinion("constant-mask", 3, 2.0)))


def filled(database: Database) -> Records:
    """Four images of class 0, all right beforehand, three of them fooled."""
    plan = plans.Plan("tiny", "ab" * 32, "data", "cd" * 32, False, (plans.AttackChoice("fgsm", ()),), 4, 0)
    key = plan.key()
    database.start(key, plans.to_json(plan), {}, "CPU")
    benign = [row(0, score=0.1), row(1, y2=3, score=3.0), row(2, score=0.2), row(3, score=0.3)]
    opinions = [(0, 0.5), (0, 0.1), (5, 4.0), (3, 2.0)]
    database.append(key, [said(r, *o) for r, o in zip(benign, opinions, strict=True)])
    attacked = [
        said(dataclasses.replace(row(0, "fgsm", y1=1, y2=0, score=2.0, success=True), p1_y1=0.5), 0, 6.0),
        said(dataclasses.replace(row(1, "fgsm", y1=3, y2=3, score=0.2, success=True), p1_y1=0.9), 3, 0.3),
        said(dataclasses.replace(row(2, "fgsm", y1=4, y2=7, score=5.0, success=True), p1_y1=0.6), 0, 5.0),
        said(row(3, "fgsm", reason="no adversarial image found"), 0, 1.0),
    ]
    database.append(key, attacked)
    return records.load(database, key)


def share(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), share=True)


@pytest.fixture
def lines(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as database:
        table = control_table.control_table(filled(database))
    return {str(line[1].value): dict(zip(table.columns, line, strict=True)) for line in table.rows}


def test_the_first_line_is_the_masks(lines) -> None:
    ours = lines["f2 on the mask (CIAD)"]
    assert ours["Adversarial images"] == Cell(3)
    assert ours["Right on benign images"] == share(3, 4)
    assert ours["True positive"] == share(2, 3)
    assert ours["True negative"] == share(2, 3)
    assert ours["True negative, all benign"] == share(3, 4)
    assert ours["Class kept"] == share(2, 3)
    assert ours["Recovery"] == share(1, 3)
    # 2.0, 0.2, 5.0 against 0.1, 3.0, 0.2: 2 + 1.5 + 3 of 9 pairs
    assert ours["AUROC"].value == pytest.approx(6.5 / 9)
    assert ours["AUROC"].low <= 6.5 / 9 <= ours["AUROC"].high
    assert ours["TPR at 5 % FPR"] == ours["TPR at 1 % FPR"] == share(1, 3)


def test_a_control_takes_the_place_of_f2(lines) -> None:
    mlp = lines["a plain MLP on the image"]
    assert mlp["Right on benign images"] == share(2, 4)
    assert mlp["True positive"] == share(2, 3)
    assert mlp["True negative"] == share(2, 3)
    assert mlp["True negative, all benign"] == share(2, 4)
    assert mlp["Class kept"] == share(1, 3)
    assert mlp["Recovery"] == share(2, 3)
    # 6.0, 0.3, 5.0 against 0.5, 0.1, 4.0
    assert mlp["AUROC"].value == pytest.approx((3 + 1 + 3) / 9)
    constant = lines["f2 on a constant mask"]
    assert constant["Class kept"] == share(3, 3)
    assert constant["AUROC"].value == 0.5
    assert "f2 on the shuffled mask" not in lines  # these rows have no such opinion


def test_confidence_is_a_score_alone(lines) -> None:
    doubt = lines["f1's own confidence"]
    assert doubt["True positive"] == doubt["Recovery"] == NO_SHARE
    # p 0.5, 0.9, 0.6 against 0.75 each: two of three are less sure
    assert doubt["AUROC"].value == pytest.approx(2 / 3)

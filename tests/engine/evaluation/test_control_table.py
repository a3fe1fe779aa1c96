"""The controls' table against rows written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.evaluation import control_table, planning, records
from ciad_engine.evaluation.records import Records
from ciad_engine.evaluation.statistics import wilson
from ciad_engine.evaluation.table import Cell, Table
from ciad_engine.runs import Database, Opinion, Row
from tests.engine.evaluation.tiny import row


def said(found: Row, y: int, score: float) -> Row:
    return dataclasses.replace(found, opinions=(Opinion("mlp", y, score), Opinion("constant-mask", 3, 2.0)))


def filled(database: Database) -> Records:
    """Four images of class 0, all right beforehand, three of them fooled."""
    plan = planning.Plan("tiny", "ab" * 32, "data", "cd" * 32, False, (planning.AttackChoice("fgsm", ()),), 4, 0)
    key = plan.key()
    database.start(key, planning.to_json(plan), {}, "CPU")
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
    database.finish(key)
    return records.load(database, key)


def share(k: int, n: int) -> Cell:
    return Cell(k / n, n, *wilson(k, n), share=True)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    with Database(tmp_path / "runs.sqlite") as database:
        return control_table.control_table(filled(database))


@pytest.fixture
def fgsm(table: Table) -> dict[str, Cell]:
    (line,) = table.rows
    return dict(zip(table.columns, line, strict=True))


def test_the_masks_own_line(fgsm: dict[str, Cell], table: Table) -> None:
    ours = "f2 on the mask (CIAD)"
    assert fgsm["Adversarial images"] == Cell(3)
    assert fgsm[f"True positive: {ours}"] == share(2, 3)
    assert fgsm[f"True negative: {ours}"] == share(2, 3)
    assert fgsm[f"Class kept: {ours}"] == share(2, 3)
    assert fgsm[f"Recovery: {ours}"] == share(1, 3)
    # 2.0, 0.2, 5.0 against 0.1, 3.0, 0.2: 2 + 1.5 + 3 of 9 pairs
    assert fgsm[f"AUROC: {ours}"].value == pytest.approx(6.5 / 9)
    assert any(note.startswith("Right on the 4 benign images: f2 on the mask (CIAD) 0.750") for note in table.notes)


def test_a_control_takes_the_place_of_f2(fgsm: dict[str, Cell], table: Table) -> None:
    mlp = "a plain MLP on the image"
    assert fgsm[f"True positive: {mlp}"] == share(2, 3)
    assert fgsm[f"True negative: {mlp}"] == share(2, 3)
    assert fgsm[f"Class kept: {mlp}"] == share(1, 3)
    assert fgsm[f"Recovery: {mlp}"] == share(2, 3)
    # f1 and the MLP agree on images 0 and 1 of all four before, which f1 all names right
    assert fgsm[f"True negative, all benign: {mlp}"] == share(2, 4)
    assert fgsm[f"True negative, all f1 got right: {mlp}"] == share(2, 4)
    # 6.0, 0.3, 5.0 against 0.5, 0.1, 4.0
    assert fgsm[f"AUROC: {mlp}"].value == pytest.approx((3 + 1 + 3) / 9)
    assert fgsm["Class kept: f2 on a constant mask"] == share(3, 3)
    assert fgsm["AUROC: f2 on a constant mask"].value == 0.5
    assert not any("shuffled" in column for column in table.columns)  # these rows have no such opinion
    assert any("a plain MLP on the image 0.500" in note for note in table.notes)


def test_a_control_that_did_not_always_speak_is_left_out(tmp_path: Path) -> None:
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        table = control_table.control_table(dataclasses.replace(found, benign=[*found.benign, row(9)]))
    assert not any("MLP" in column or "constant" in column for column in table.columns)


def test_every_opinion_has_its_own_threshold_from_the_card(tmp_path: Path) -> None:
    def at(value: float) -> dict[str, object]:
        return {"value": value, "source": "a test"}

    content = {
        "thresholds": {"graded": at(1.0), "graded, 1 %": at(4.0)},
        "thresholds of controls": {"mlp": {"graded": at(4.0)}, "confidence": {"graded": at(0.6)}},
    }
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        card = bundles.Card("tiny", tmp_path, (), content, found.plan.bundle_checksum)
        table = control_table.control_table(found, card)
        without = control_table.control_table(found, dataclasses.replace(card, checksum="ef" * 32))
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    mask, mlp, doubt = "f2 on the mask (CIAD)", "a plain MLP on the image", "f1's own confidence"
    assert cells[f"Graded, 5 %: true positive: {mask}"] == share(2, 3)  # 2.0, 0.2, 5.0
    assert cells[f"Graded, 5 %: true negative: {mask}"] == share(2, 3)  # 0.1, 3.0, 0.2
    assert cells[f"Graded, 1 %: true positive: {mask}"] == share(1, 3)
    assert cells[f"Graded, 5 %: true positive: {mlp}"] == share(2, 3)  # 6.0, 0.3, 5.0
    assert cells[f"Graded, 5 %: true negative: {mlp}"] == share(3, 3)  # 0.5, 0.1, 4.0, which is not above it
    assert cells[f"Graded, 1 %: true positive: {mlp}"].value is None
    assert cells[f"Graded, 5 %: true positive: {doubt}"] == share(1, 3)  # -log 0.5 alone
    assert not any("Graded" in column and "constant" in column for column in table.columns)
    assert not any("No thresholds" in note for note in table.notes)
    assert any(note.endswith(f"at hand for: {mask}, {mlp}, {doubt}.") for note in without.notes)
    assert all(cell.value is None for name, cell in zip(without.columns, without.rows[0], strict=True) if "5 %" in name)


def test_confidence_is_a_score_alone(fgsm: dict[str, Cell]) -> None:
    # p 0.5, 0.9, 0.6 against 0.75 each: two of three are less sure
    assert fgsm["AUROC: f1's own confidence"].value == pytest.approx(2 / 3)
    assert "True positive: f1's own confidence" not in fgsm

"""Table 2's rows about detectors other than f2 on the mask, against rows written by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from ciad_engine import bundles
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.domain import CIFAR10
from ciad_engine.evaluation import planning, records, tables
from ciad_engine.evaluation.records import Records
from ciad_engine.evaluation.table import Cell, Table
from ciad_engine.runs import Database, Row, Score
from tests.engine.evaluation.test_tables import cells, rate
from tests.engine.evaluation.tiny import row


def scored(found: Row, y: int, score: float) -> Row:
    """The row with an MLP's class and score, a constant mask's, and f1's confidence."""
    own = {
        "mlp": Score(y, 0.5, score),
        "constant-mask": Score(3, 0.5, 2.0),
        "confidence": Score(None, None, -math.log(found.p1_y1)),
    }
    return dataclasses.replace(found, scores={**found.scores, **own})


def filled(database: Database) -> Records:
    """Four images of class 0, all right beforehand, three of them fooled."""
    plan = planning.Plan("tiny", "ab" * 32, "data", "cd" * 32, False, (planning.AttackChoice("fgsm", ()),), 4, 0)
    key = plan.key()
    database.start(key, planning.to_json(plan), {}, "CPU")
    benign = [row(0, score=0.1), row(1, y2=3, score=3.0), row(2, score=0.2), row(3, score=0.3)]
    by_mlp = [(0, 0.5), (0, 0.1), (5, 4.0), (3, 2.0)]
    database.append(key, [scored(r, *o) for r, o in zip(benign, by_mlp, strict=True)])
    attacked = [
        scored(dataclasses.replace(row(0, "fgsm", y1=1, y2=0, score=2.0, fooled=True), p1_y1=0.5), 0, 6.0),
        scored(dataclasses.replace(row(1, "fgsm", y1=3, y2=3, score=0.2, fooled=True), p1_y1=0.9), 3, 0.3),
        scored(dataclasses.replace(row(2, "fgsm", y1=4, y2=7, score=5.0, fooled=True), p1_y1=0.6), 0, 5.0),
        scored(row(3, "fgsm", reason="no adversarial image found"), 0, 1.0),
    ]
    database.append(key, attacked)
    database.finish(key)
    return records.load(database, key)


def table_2(found: Records, card: bundles.Card | None = None) -> Table:
    return next(table for table in tables.tables_of(found, card) if table.name == "table2")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    with Database(tmp_path / "runs.sqlite") as database:
        return table_2(filled(database))


def test_the_masks_own_row(table: Table) -> None:
    fgsm = cells(table, "fgsm")
    assert fgsm["adversarial_images"] == Cell(3)
    assert fgsm["true_positive_rate"] == rate(2, 3)
    assert fgsm["true_negative_rate_paired"] == rate(2, 3)
    assert fgsm["class_retention_rate"] == rate(2, 3)
    assert fgsm["recovery_rate"] == rate(1, 3)
    # 2.0, 0.2, 5.0 against 0.1, 3.0, 0.2: 2 + 1.5 + 3 of 9 pairs
    assert fgsm["auroc"].value == pytest.approx(6.5 / 9)
    assert fgsm["accuracy"] == rate(3, 4)


def test_a_detector_without_a_mask_takes_the_place_of_f2(table: Table) -> None:
    mlp, constant = cells(table, "fgsm", "mlp"), cells(table, "fgsm", "constant-mask")
    assert mlp["adversarial_images"] == Cell(3)
    assert mlp["true_positive_rate"] == rate(2, 3)
    assert mlp["true_negative_rate_paired"] == rate(2, 3)
    assert mlp["class_retention_rate"] == rate(1, 3)
    assert mlp["recovery_rate"] == rate(2, 3)
    # f1 and the MLP agree on images 0 and 1 of all four before, which f1 all classifies correctly
    assert mlp["true_negative_rate_all"] == rate(2, 4)
    assert mlp["true_negative_rate"] == rate(2, 4)
    # 6.0, 0.3, 5.0 against 0.5, 0.1, 4.0
    assert mlp["auroc"].value == pytest.approx((3 + 1 + 3) / 9)
    assert constant["class_retention_rate"] == rate(3, 3)
    assert constant["auroc"].value == 0.5
    assert [subject.detector for subject in table.subjects] == ["mask", "mlp", "constant-mask", "confidence"]
    assert mlp["accuracy"] == rate(2, 4)


def test_the_papers_figures_are_about_the_mask_alone(table: Table) -> None:
    assert cells(table, "fgsm")["paper_true_positive_rate"] == Cell(0.878)
    assert cells(table, "fgsm", "mlp")["paper_true_positive_rate"] == Cell(None)


def test_a_detector_that_did_not_score_every_row_is_left_out(tmp_path: Path) -> None:
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        table = table_2(dataclasses.replace(found, rows=[*found.rows, row(9)]))
    assert [subject.detector for subject in table.subjects] == ["mask", "confidence"]


def with_thresholds(card_folder: Path, checksum: str, **thresholds: dict[float, float]) -> bundles.Card:
    entries = [
        bundles.DetectorEntry(name, name, {}, {fpr: Threshold(value, "a test") for fpr, value in known.items()})
        for name, known in thresholds.items()
    ]
    return bundles.Card("tiny", card_folder, CIFAR10, tuple(entries), {}, checksum)


def test_every_detector_has_its_own_threshold_from_the_card(tmp_path: Path) -> None:
    known = {"mask": {0.05: 1.0, 0.01: 4.0}, "mlp": {0.05: 4.0}, "confidence": {0.05: 0.6}}
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        card = with_thresholds(tmp_path, found.plan.bundle_checksum, **known)
        table = table_2(found, card)
        without = table_2(found, dataclasses.replace(card, checksum="ef" * 32))
        earlier = table_2(
            found, dataclasses.replace(card, checksum="ef" * 32, earlier=("00" * 32, found.plan.bundle_checksum))
        )
    mask, mlp, doubt = (cells(table, "fgsm", name) for name in known)
    assert mask["graded_5_true_positive_rate"] == rate(2, 3)  # 2.0, 0.2, 5.0
    assert mask["graded_5_true_negative_rate_paired"] == rate(2, 3)  # 0.1, 3.0, 0.2
    assert mask["graded_1_true_positive_rate"] == rate(1, 3)
    assert mlp["graded_5_true_positive_rate"] == rate(2, 3)  # 6.0, 0.3, 5.0
    assert mlp["graded_5_true_negative_rate_paired"] == rate(3, 3)  # 0.5, 0.1, 4.0, which is not above it
    assert mlp["graded_5_true_negative_rate"] == rate(4, 4)  # 0.5, 0.1, 4.0, 2.0
    assert mlp["graded_5_true_negative_rate_all"] == rate(4, 4)
    assert mlp["graded_1_true_positive_rate"].value is None
    assert doubt["graded_5_true_positive_rate"] == rate(1, 3)  # -log 0.5 alone
    assert not any("Graded" in heading and "constant" in heading for _, heading, _ in table.turned()[1])
    assert not any("no threshold" in note for note in table.notes)
    assert any("no threshold applied, because bundle 'tiny' has changed" in note for note in without.notes)
    for name in known:
        assert all(cell.value is None for key, cell in cells(without, "fgsm", name).items() if key.startswith("graded"))
    assert earlier == table  # the same networks under another identity


def test_without_a_mask_the_thresholds_of_the_others_are_described(tmp_path: Path) -> None:
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)

    def maskless(one: Row) -> Row:
        return dataclasses.replace(one, scores={name: s for name, s in one.scores.items() if name != "mask"})

    found = dataclasses.replace(found, rows=[maskless(one) for one in found.rows])
    known = {"mlp": {0.05: 4.0, 0.01: 5.0}, "confidence": {0.05: 0.6}}
    table = table_2(found, with_thresholds(tmp_path, found.plan.bundle_checksum, **known))
    assert cells(table, "fgsm", "mlp")["graded_5_true_positive_rate"] == rate(2, 3)
    words = "flagged if -log of the probability of f1's class is above a threshold"
    assert [note for note in table.notes if "Graded" in note] == [
        f"Graded rule of MLP on the image: {words}: at 5% 4 (a test); at 1% 5 (a test).",
        f"Graded rule of f1's confidence: {words}: at 5% 0.6 (a test); at 1% none on the card.",
    ]


def test_an_image_at_a_detectors_threshold_is_not_flagged(tmp_path: Path) -> None:
    """Scores 6.0, 0.3 and 5.0 after the attack, 0.5, 0.1, 4.0 and 2.0 before."""
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        at = [
            cells(
                table_2(found, with_thresholds(tmp_path, found.plan.bundle_checksum, mlp={0.05: value})), "fgsm", "mlp"
            )
            for value in (5.0, 4.0)
        ]
    assert at[0]["graded_5_true_positive_rate"] == rate(1, 3)
    for which, count in (("", 4), ("_all", 4), ("_paired", 3)):
        assert at[1][f"graded_5_true_negative_rate{which}"] == rate(count, count)


def test_confidence_is_a_score_alone(table: Table) -> None:
    confidence = cells(table, "fgsm", "confidence")
    # p 0.5, 0.9, 0.6 against 0.75 each: two of three are less sure
    assert confidence["auroc"].value == pytest.approx(2 / 3)
    assert confidence["true_positive_rate"] == Cell(None)


def test_the_evasion_rate_is_of_images_that_f1_classifies_correctly_and_the_detector_does_not_flag(
    tmp_path: Path,
) -> None:
    with Database(tmp_path / "runs.sqlite") as database:
        found = filled(database)
        both, only_fooled, neither, wrong = (
            dataclasses.replace(row(k, "fgsm", y1=1, label_before=0), fooled=fooled, evaded=evaded)
            for k, (fooled, evaded) in enumerate([(True, True), (True, False), (False, False), (False, False)])
        )
        wrong = dataclasses.replace(wrong, label_before=2)
        known = dataclasses.replace(found.plan, evade=(bundles.Evaded("mask", "disagreement", 0.5, ""),))
        evading = dataclasses.replace(found, plan=known, rows=[*found.benign, both, only_fooled, neither, wrong])
        table = table_2(evading)
        by_name = {table.name: table for table in tables.tables_of(evading)}
    assert cells(table, "fgsm")["evasion_rate"] == rate(1, 2)  # the second is flagged before the attack
    assert any("whether or not it evades" in note for note in table.notes)
    assert cells(table, "fgsm")["adversarial_images"] == Cell(2)  # flagged or not, it fools f1
    attack = cells(by_name["attacks"], "fgsm", "")
    assert attack["success_rate"] == rate(1, 3)
    assert attack["l2_mean"].n == 2
    assert "evasion_rate" not in [column.key for column in table_2(found).columns]


def test_people_see_the_masks_rows_and_then_the_detectors_compared(tmp_path: Path) -> None:
    with Database(tmp_path / "runs.sqlite") as database:
        found = tables.tables_of(filled(database))
    shown = tables.for_screen(found)
    assert [table.name for table in shown] == ["table1", "table2", "detectors", "table4", "attacks"]
    assert {subject.detector for subject in shown[1].subjects} == {"mask"}
    attacks, lines = shown[2].turned()
    assert attacks == ["FGSM (L∞)"]
    headings = [heading for _, heading, _ in lines]
    assert headings[:4] == [f"Adversarial images: {name}" for name in (
        "f2 on the mask", "MLP on the image", "f2 on a constant mask", "f1's confidence",
    )]  # fmt: skip
    assert "True positive rate: MLP on the image" in headings
    assert "True positive rate: f1's confidence" not in headings
    assert not any("paper" in heading for heading in headings)
    assert "does the mask do the work" in shown[2].title
    for note in found[0].notes[1:]:
        assert note in shown[2].notes  # on what it was computed

"""The model of the rows: sorting, filtering, and that it keeps Qt's rules."""

from __future__ import annotations

import time

import pytest
from PySide6.QtCore import QPersistentModelIndex, Qt
from PySide6.QtTest import QAbstractItemModelTester

from ciad_app.evaluate import model as m
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.runs import BENIGN, Row, Score

NAMES = ("cat", "dog")
UP, DOWN = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder


def row(position: int, attack: str = BENIGN, y1: int = 0, y2: int = 0, score: float = 0.7, **more) -> Row:
    base = {"image_index": position, "name": f"image {position}", "label": 0, "p1_y1": 0.5}
    scores = {"mask": Score(y2, 0.5, score), "confidence": Score(None, None, 10 * score)}
    return Row(attack=attack, position=position, y1=y1, **{"scores": scores, **base, **more})


def positions(model: m.RowsModel) -> list[int]:
    return [model.row_at(line).position for line in range(model.rowCount())]


@pytest.fixture
def model(qapp) -> m.RowsModel:
    made = m.RowsModel()
    made.tester = QAbstractItemModelTester(made, QAbstractItemModelTester.FailureReportingMode.Fatal)
    return made


def test_keeps_the_rules_of_qt_while_it_is_filled_sorted_and_filtered(model):
    model.set_rows([row(0), row(1)])
    model.sort(m.COL_SCORE, DOWN)
    model.append([row(0, "fgsm", y1=1, fooled=True), row(1, "fgsm", reason="no")])
    for choice in m.Filter:
        model.set_filter(choice)
    model.append([row(2, "fgsm", y1=1, fooled=True)])
    model.set_filter(m.Filter.ALL)
    model.sort(-1)
    assert model.rowCount() == 5


def test_an_attacks_target_class_has_its_name(model):
    model.set_rows([row(0, "fgsm target_class = 1")], NAMES)
    assert model.index(0, m.COL_ATTACK).data() == "FGSM (L∞), target_class = dog"


def test_numbers_sort_as_numbers(model):
    model.set_rows([row(p, "fgsm", linf=linf) for p, linf in enumerate((10, 9, 100, 2**40, 1))])
    model.sort(m.COL_LINF, UP)
    assert positions(model) == [4, 1, 0, 2, 3]
    model.sort(m.COL_LINF, DOWN)
    assert positions(model) == [3, 2, 0, 1, 4]
    model.sort(-1)
    assert positions(model) == [0, 1, 2, 3, 4]


def test_rows_that_arrive_take_their_sorted_place_and_the_selection_stays_on_its_row(model):
    model.set_rows([row(p, score=score) for p, score in enumerate((3.0, 1.0))])
    model.sort(m.COL_SCORE, UP)
    selected = QPersistentModelIndex(model.index(1, m.COL_SCORE))
    model.append([row(2, score=2.0), row(3, score=0.5)])
    assert positions(model) == [3, 1, 2, 0]
    assert selected.row() == 3
    assert model.row_at(selected.row()).position == 0


def test_a_row_is_held_once_and_without_its_image(model):
    model.set_rows([row(0, image=b"x" * 3072)])
    model.append([row(0), row(0, "fgsm")])
    model.append([])
    assert [r.image for r in model.rows] == [None, None]


ROWS = [
    row(0),  # benign, right
    row(1, y2=1),  # false alarm
    row(0, "fgsm", y1=1, y2=0, fooled=True),  # caught
    row(1, "fgsm", y1=1, y2=1, fooled=True),  # missed
    row(2, "fgsm", reason="no adversarial image found"),
]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (m.Filter.ALL, [0, 1, 2, 3, 4]),
        (m.Filter.SUCCESSFUL, [2, 3]),
        (m.Filter.MISSED, [3]),
        (m.Filter.FALSE_ALARM, [1]),
        (m.Filter.FAILED, [4]),
        (m.Filter.BENIGN, [0, 1]),
    ],
)
def test_filter(model, choice, expected):
    model.set_rows(ROWS)
    model.set_filter(choice)
    assert [model.row_at(line) for line in range(model.rowCount())] == [ROWS[i] for i in expected]


def test_decisions_are_told_in_words_and_signs(model):
    model.set_rows(ROWS, NAMES)
    told = [model.index(line, m.COL_DECISION).data() for line in range(5)]
    assert told == [
        "○ benign – right", "▲ adversarial – false alarm", "▲ adversarial – caught", "○ benign – missed", "○ benign",
    ]  # fmt: skip
    bold = [model.index(line, m.COL_DECISION).data(Qt.ItemDataRole.FontRole) is not None for line in range(5)]
    assert bold == [False, True, False, True, False]
    assert model.index(2, m.COL_Y1).data() == "dog 50%"
    assert model.index(2, m.COL_ATTACK).data() == "FGSM (L∞)"
    assert model.index(4, m.COL_RESULT).data() == "– no adversarial image found"


def test_an_image_that_fooled_the_attacked_network_alone_is_neither_missed_nor_caught(model):
    transferred = [row(p, "fgsm", y2=y2, fooled=True, label_before=0, label_after=1) for p, y2 in enumerate((0, 1))]
    model.set_rows(transferred, NAMES)
    assert [model.index(line, m.COL_DECISION).data() for line in (0, 1)] == ["○ benign", "▲ adversarial"]
    assert model.index(0, m.COL_DECISION).data(Qt.ItemDataRole.FontRole) is None
    assert model.index(0, m.COL_RESULT).data() == "✓ fooled"
    model.set_filter(m.Filter.MISSED)
    assert model.rowCount() == 0


def test_the_columns_are_those_of_the_chosen_detector(model):
    model.set_rows(ROWS, NAMES)
    assert model.detectors == ("mask", "confidence")
    header = model.headerData(m.COL_Y2, Qt.Orientation.Horizontal)
    assert (header, model.index(1, m.COL_Y2).data(), model.index(1, m.COL_SCORE).data()) == (
        "f2 on the mask", "dog 50%", "0.70",
    )  # fmt: skip
    assert model.index(1, m.COL_RECOVERS).data() == "– no"
    model.choose_detector("confidence")
    assert model.headerData(m.COL_Y2, Qt.Orientation.Horizontal) == "f1's confidence"
    assert (model.index(1, m.COL_Y2).data(), model.index(1, m.COL_SCORE).data()) == ("", "7.00")
    assert model.index(1, m.COL_DECISION).data() == ""  # no class, and no threshold known
    model.set_filter(m.Filter.MISSED)
    assert model.rowCount() == 0
    model.set_rows(ROWS, NAMES, {"confidence": {0.05: Threshold(8.0, "chosen for tests")}})
    assert [model.row_at(line) for line in range(model.rowCount())] == [ROWS[2], ROWS[3]]
    model.set_rows(ROWS, NAMES, {"confidence": {0.05: Threshold(6.0, "chosen for tests")}})
    assert model.rowCount() == 0
    model.set_rows([row(0, scores={"mask": Score(0, None, 1.0)})], NAMES)  # of a run that knew no other
    assert model.detector == "mask"
    model.set_filter(m.Filter.ALL)
    assert model.index(0, m.COL_Y2).data() == "cat"


def test_an_image_that_fooled_but_was_flagged_is_a_failed_attack_that_says_so(model):
    evading = [
        row(0, "pgd", y1=1, fooled=True, evaded=True),
        row(1, "pgd", y1=1, y2=1, fooled=True, evaded=False, reason="flagged by a detector"),
    ]
    model.set_rows(evading)
    assert [model.index(line, m.COL_RESULT).data() for line in (0, 1)] == [
        "✓ fooled, not flagged", "– fooled, but flagged by a detector",
    ]  # fmt: skip
    model.set_filter(m.Filter.FAILED)
    assert model.row_at(0) == evading[1]
    model.set_filter(m.Filter.SUCCESSFUL)
    assert model.row_at(0) == evading[0]


def test_thirty_thousand_rows_sort_within_a_blink(qapp):
    model = m.RowsModel()
    model.set_rows([row(p, attack, score=(p * 7919) % 10_007) for attack in ("", "a", "b") for p in range(10_000)])
    started = time.process_time()
    model.sort(m.COL_SCORE, DOWN)
    model.append([row(10_000, "b", score=5.0)])
    assert time.process_time() - started < 1.0  # 0.1 s; a Python comparison a pair takes seconds
    assert model.score(model.row_at(0)) == max(model.score(row) for row in model.rows)

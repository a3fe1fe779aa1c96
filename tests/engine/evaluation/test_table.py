"""Tables as data: one row per subject, one cell per column."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ciad_engine.evaluation.table import Cell, Column, Subject, Table, from_json, mean, render_markdown, to_json

RATE, COUNT = Column("rate", "A rate of images", "Rate"), Column("count", "Count")


def subject(title: str, detector: str) -> Subject:
    return Subject("fgsm", title, "linf", {"eps": 8.0}, detector)


TABLE = Table(
    "t",
    "Title",
    (RATE, COUNT),
    (subject("A", "mask"), subject("B", "mask"), subject("A", "confidence"), subject("B", "confidence")),
    (
        (Cell(0.5, 4, 0.1, 0.9, rate=True), Cell(1)),
        (Cell(None, 0, rate=True), Cell(2)),
        (Cell(None), Cell(3)),
        (Cell(None), Cell(4)),
    ),
    ("note",),
)


def test_turned_has_a_line_for_each_measure_and_detector_that_has_it() -> None:
    attacks, lines = TABLE.turned()
    assert attacks == ["A", "B"]
    assert [(column, heading, [cell.value for cell in cells]) for column, heading, cells in lines] == [
        (RATE, "Rate: f2 on the mask", [0.5, None]),  # nothing to compute it from, but the detector has the measure
        (COUNT, "Count: f2 on the mask", [1, 2]),
        (COUNT, "Count: f1's confidence", [3, 4]),
    ]


def test_turned_with_one_detector_does_not_repeat_its_name() -> None:
    _, lines = TABLE.only(["confidence"]).turned()
    assert [heading for _, heading, _ in lines] == ["Rate", "Count"]


def test_an_attack_that_a_detector_has_no_row_for_is_empty() -> None:
    holes = Table("t", "T", TABLE.columns, TABLE.subjects[:3], TABLE.cells[:3], ())
    count = next(cells for _, heading, cells in holes.turned()[1] if heading == "Count: f1's confidence")
    assert count == [Cell(3), Cell(None)]


def test_only_keeps_rows_of_detectors_and_columns_of_keys() -> None:
    found = TABLE.only(["mask"])
    assert (found.subjects, found.cells, found.columns) == (TABLE.subjects[:2], TABLE.cells[:2], TABLE.columns)
    found = TABLE.only(["confidence", "mask"], {"count"})
    assert (found.columns, found.cells) == ((COUNT,), tuple((Cell(k),) for k in (1, 2, 3, 4)))
    assert (found.name, found.title, found.notes) == ("t", "Title", ("note",))
    assert TABLE.only([]).subjects == ()


def test_cell_is_found_by_title_key_and_detector() -> None:
    assert TABLE.cell("A", "rate", "mask") == TABLE.cells[0][0]
    assert TABLE.cell("B", "count", "confidence") == Cell(4)
    for missing in (("C", "rate", "mask"), ("A", "rates", "mask"), ("A", "rate", "")):
        with pytest.raises(KeyError):
            TABLE.cell(*missing)


def test_plain_data_and_back() -> None:
    assert from_json(json.loads(json.dumps(to_json(TABLE), allow_nan=False))) == TABLE
    assert to_json(TABLE)["cells"][0] == [
        {"value": 0.5, "n": 4, "low": 0.1, "high": 0.9, "rate": True},
        {"value": 1},
    ]


@pytest.mark.parametrize(
    "change", [{"cells": TABLE.cells[1:]}, {"cells": ((Cell(1),),) * 4}, {"columns": (RATE,)}, {"subjects": ()}]
)
def test_rows_and_columns_have_to_match(change: dict[str, object]) -> None:
    fields = {name: getattr(TABLE, name) for name in ("name", "title", "columns", "subjects", "cells", "notes")}
    with pytest.raises(ValueError, match="one row per subject and one cell per column"):
        Table(**{**fields, **change})


def test_markdown_has_a_line_for_each_measure() -> None:
    cells = ((Cell(0.5, 40, 0.4, 0.6), Cell(3)), (Cell(None), Cell("a|b")))
    subjects = (Subject("fgsm", "FGSM", "linf", {}), Subject("cw", "C&W", "l2", {}))
    columns = (Column("share", "Share"), Column("count", "Number of all", "Number"))
    assert render_markdown(Table("t", "A table", columns, subjects, cells, ("A note.",))) == (
        "# A table\n\n|  | FGSM | C&W |\n| --- | --- | --- |\n"
        "| Share | 0.500 [0.400, 0.600], n 40 | – |\n| Number | 3 | a\\|b |\n\n- A note.\n"
    )


def test_a_mean_counts_what_there_is() -> None:
    assert mean(np.array([1.0, np.nan, 2.0])) == Cell(1.5, 2)
    assert mean(np.array([np.nan])) == Cell(None, 0)
    cell = mean(np.arange(100.0))
    assert (cell.value, cell.n) == (49.5, 100)
    assert 40 < cell.low < 49.5 < cell.high < 59

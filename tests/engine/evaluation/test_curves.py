"""Curves of rows written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ciad_engine.evaluation import curves, records
from ciad_engine.evaluation.records import POOLED
from ciad_engine.evaluation.table import Cell, Subject
from ciad_engine.runs import Database
from tests.engine.evaluation import test_other_detectors, test_tables, tiny


@pytest.fixture
def database(tmp_path: Path):
    with Database(tmp_path / "runs.sqlite") as opened:
        yield opened


def test_a_curve_for_each_attack_with_adversarials_and_each_detector(database: Database) -> None:
    found = curves.curves(test_other_detectors.filled(database))
    assert [(curve.detector, curve.label) for curve in found] == [
        ("mask", "fgsm"),
        ("mlp", "fgsm"),
        ("constant-mask", "fgsm"),
        ("confidence", "fgsm"),
    ]
    mask = found[0]
    assert (mask.title, mask.positive.tolist(), mask.negative.tolist()) == (
        "FGSM (L∞)",
        [2.0, 0.2, 5.0],
        [0.1, 3.0, 0.2],
    )
    assert (mask.false[0], mask.true[0], mask.false[-1], mask.true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(mask.true, mask.false) == pytest.approx(mask.auroc.value)
    constant = found[2]
    assert (constant.false.tolist(), constant.true.tolist()) == ([0, 1], [0, 1])  # all scores alike: the diagonal


def test_attacks_without_adversarials_have_no_curve(database: Database) -> None:
    found = curves.curves(records.load(database, test_tables.filled(database)))
    assert {curve.label for curve in found} == {"fgsm", POOLED}


def test_charts_show_each_detector_and_each_attack(database: Database) -> None:
    found = records.load(database, test_tables.filled(database))
    roc, scores = curves.charts(found, curves.curves(found), tiny.system(threshold=1.5).card)
    assert (roc.name, scores.name) == ("roc", "scores")
    assert [plot.title for plot in roc.plots] == ["f2 on the mask: AUROC", "f1's confidence: AUROC"]
    assert [line.label for line in roc.plots[0].series] == [
        "guessing",
        "FGSM (L∞): 0.562",
        "All attacks together: 0.562",
    ]
    assert len({line.colour for line in roc.plots[0].series}) == 3
    fgsm, pooled = scores.plots
    assert (fgsm.title, pooled.title) == ("FGSM (L∞)", "All attacks together")
    assert fgsm.marks == ((1.5, "5%"), (2.5, "1%"))
    for line in fgsm.series:
        widths, heights = np.diff(line.x)[1::2], line.y[1:-1:2]
        assert widths.sum() == pytest.approx(fgsm.x_range[1])
        assert heights.sum() == pytest.approx(1)  # shares of the images
    for chart in (roc, scores):
        said = " ".join(chart.notes)
        assert all(
            words in said
            for words in ("n = 6 images", "All attacks together: an image", "Not computed on the official")
        )
    assert "Vertical lines" in scores.notes[0]


def test_charts_say_that_a_run_is_not_finished(database: Database) -> None:
    found = records.load(database, test_tables.filled(database, finished=False))
    for chart in curves.charts(found, curves.curves(found)):
        assert chart.notes[-1].startswith("The run is not finished")
        assert "Vertical lines" not in chart.notes[0]


def test_many_lines_are_told_apart_with_and_without_colours() -> None:
    styles = [curves.line_style(place) for place in range(20)]
    assert len(set(styles)) == 20
    assert len({dashes for _, dashes in styles[:8]}) == 8


def test_the_last_bin_holds_what_lies_beyond() -> None:
    scores = np.concatenate([np.linspace(0, 1, 1000), [50.0]])
    curve = curves.Curve(Subject("a", "A", "", {}, "mask"), "a", *[scores] * 4, Cell(None))
    bins = curves.edges([curve])
    assert bins[-1] < 1.1
    assert curves.histogram(scores, bins).sum() == pytest.approx(1)


def test_a_run_without_adversarials_has_no_charts(database: Database) -> None:
    found = records.load(database, test_tables.filled(database))
    nothing = dataclasses.replace(found, rows=found.benign)
    assert curves.charts(nothing, curves.curves(nothing)) == ()

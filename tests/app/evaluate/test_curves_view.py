"""ROC and histogram beside the tables: they follow the run, the choices and the theme."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette

from ciad_app.evaluate.curves_view import CurvesView
from ciad_engine.detectors import MASK
from ciad_engine.detectors.threshold import Threshold
from ciad_engine.evaluation.curves import Curve
from ciad_engine.evaluation.records import POOLED
from ciad_engine.evaluation.statistics import roc
from ciad_engine.evaluation.table import Cell, Subject
from tests.app.evaluate.test_page import evaluate, finish

CONFIDENCE = "confidence"
THRESHOLDS = {
    MASK: {0.05: Threshold(1.5, "test"), 0.01: Threshold(3.0, "test")},
    CONFIDENCE: {0.05: Threshold(2.5, "test")},
}


def curve(detector: str, attack: str, shift: float) -> Curve:
    random = np.random.default_rng(3)
    negative = random.exponential(1.0, 200)
    positive = random.exponential(1.0, 200) + shift
    area = Cell(0.5 + shift / 10, 200, 0.4, 0.9, area=True)
    subject = Subject(attack, f"Title of {attack}", "", {}, detector)
    return Curve(subject, attack, positive, negative, *roc(positive, negative), area)


CURVES = [
    curve(name, attack, 1.0 + k) for k, name in enumerate((MASK, CONFIDENCE)) for attack in ("fgsm", "cw", POOLED)
]


@pytest.fixture
def view(qtbot) -> CurvesView:
    made = CurvesView()
    qtbot.addWidget(made)
    made.resize(900, 400)
    made.show()
    return made


def names(plot: pg.PlotWidget) -> list[str]:
    return [item.name() for item in plot.listDataItems() if item.name()]


def marks(plot: pg.PlotWidget) -> list[float]:
    return [item.value() for item in plot.getPlotItem().items if isinstance(item, pg.InfiniteLine)]


def test_nothing_is_said_before_there_is_something(view):
    assert view.empty.isVisible()
    view.show_curves(CURVES, {})
    assert not view.empty.isVisible()
    assert view.roc.isVisible()
    view.show_curves((), {})
    assert view.empty.isVisible()
    assert not view.roc.isVisible()


def test_every_attack_has_its_curve_with_the_area_below_it(view):
    view.show_curves(CURVES, THRESHOLDS)
    assert names(view.roc) == [f"Title of {a}: AUROC 0.600 [0.400, 0.900]" for a in ("fgsm", "cw", POOLED)]
    x, y = next(item for item in view.roc.listDataItems() if item.name()).getData()
    np.testing.assert_array_equal(x, CURVES[0].false)
    np.testing.assert_array_equal(y, CURVES[0].true)


def test_many_curves_are_named_below_the_plots_and_chosen_there(view, qtbot):
    view.show_curves(CURVES, {})
    assert not view.names.isVisible()
    assert view._legends[0].isVisible()
    many = [curve(MASK, f"fgsm eps = {eps}, target = random", eps / 10) for eps in range(12)]
    view.show_curves(many, {})
    assert view.names.isVisible()
    assert not view._legends[0].isVisible()
    assert [view.names.item(k).toolTip() for k in range(12)] == names(view.roc)
    assert view.names.item(3).text() == "Title of fgsm eps = 3, target = random: AUROC 0.530"
    assert not view.names.item(3).icon().isNull()
    places = [view.names.visualItemRect(view.names.item(k)) for k in range(12)]
    assert all(view.names.viewport().rect().contains(place) for place in places)
    assert len({place.left() for place in places}) > 1
    assert view.roc.height() > 150
    heights = view.names.height()
    view.resize(500, 700)
    assert view.names.height() > heights  # fewer columns
    place = view.names.visualItemRect(view.names.item(3)).center()
    qtbot.mouseClick(view.names.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert view.attack.currentData() == many[3].label
    assert view.names.currentRow() == 3


def test_the_histogram_is_of_the_chosen_attack_and_shows_the_thresholds_of_the_detector(view):
    view.show_curves(CURVES, THRESHOLDS)
    assert view.attack.currentData() == POOLED
    assert names(view.scores) == ["benign", "adversarial"]
    assert marks(view.scores) == [1.5, 3.0]
    view.attack.setCurrentIndex(view.attack.findData("cw"))
    heights = {item.name(): item.getData()[1][1:-1:2] for item in view.scores.listDataItems()}
    assert all(sum(shares) == pytest.approx(1) for shares in heights.values())
    view.detector.setCurrentIndex(view.detector.findData(CONFIDENCE))
    assert marks(view.scores) == [2.5]
    assert view.detector.currentText() == "f1's confidence"
    assert "0.700" in names(view.roc)[0]


def test_what_is_chosen_stays_while_a_run_fills_its_rows(view):
    view.show_curves(CURVES[:1], {})
    assert view.attack.currentData() == "fgsm"
    view.show_curves(CURVES, {})
    assert view.attack.currentData() == "fgsm"
    view.detector.setCurrentIndex(view.detector.findData(CONFIDENCE))
    view.show_curves(CURVES, {})
    assert view.detector.currentData() == CONFIDENCE
    view.show_curves(CURVES[:2], {})
    assert view.detector.currentData() == MASK


def test_the_plots_follow_the_theme(view):
    view.show_curves(CURVES, THRESHOLDS)
    palette = QPalette(view.palette())
    palette.setColor(QPalette.ColorRole.Base, QColor("#101214"))
    palette.setColor(QPalette.ColorRole.Text, QColor("#f0f0f0"))
    view.setPalette(palette)
    assert view.roc.backgroundBrush().color().name() == "#101214"
    assert view.roc.getAxis("left").textPen().color().name() == "#f0f0f0"
    pooled = next(item for item in view.roc.listDataItems() if item.name() and POOLED in item.name())
    assert pooled.opts["pen"].color().name() == "#f0f0f0"


def test_a_run_in_the_window_has_curves(page, tiny_data, qtbot):
    evaluate(page, tiny_data, qtbot)
    finish(page, qtbot)
    page.results.views.setCurrentWidget(page.results.curves)
    qtbot.waitUntil(lambda: names(page.results.curves.roc) != [], timeout=30_000)
    assert names(page.results.curves.roc)[0].startswith("FGSM (L∞): AUROC")
    page._clear_results(computing=True)
    assert page.results.curves.empty.isVisibleTo(page)
    assert "being computed" in page.results.curves.empty.text()
    assert "being computed" in page.results.tables.empty.text()
    page._clear_results(computing=False)
    assert "as soon as" in page.results.tables.empty.text()

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPalette

from ciad_app.widgets.colour_bar import ColourBar
from ciad_app.widgets.image_pane import ImagePane
from ciad_app.widgets.probability_bars import MOST, ProbabilityBars, percent, telling


def colour_at(pane, row, column):
    """The colour on the screen in the middle of a pixel of the image."""
    where = pane.mapFromScene(pane.view.mapViewToScene(QPointF(column + 0.5, row + 0.5)))
    return pane.grab().toImage().pixelColor(where)


@pytest.fixture
def pane(qtbot):
    made = ImagePane("Test", "Press Attack", (0.0, 255.0))
    qtbot.addWidget(made)
    made.resize(330, 250)
    made.show()
    return made


def test_an_image_is_neither_transposed_nor_flipped_nor_stretched_in_value(pane):
    image = np.full((32, 32, 3), 100, np.uint8)
    image[3, 20] = (200, 10, 30)
    pane.set_image(image)
    assert colour_at(pane, 3, 20).getRgb()[:3] == (200, 10, 30)
    assert colour_at(pane, 20, 3).getRgb()[:3] == (100, 100, 100)
    corner = pane.view.mapViewToScene(QPointF(0, 0))
    assert corner.y() < pane.view.mapViewToScene(QPointF(0, 32)).y()


def test_pixels_are_hard(pane):
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 255
    pane.set_image(image)
    shown = pane.grab().toImage()
    y = shown.height() // 2
    whole = pane.view.mapRectFromScene(pane.view.sceneBoundingRect())
    assert whole.isValid()
    left, right = (pane.mapFromScene(pane.view.mapViewToScene(QPointF(x, 16))).x() for x in (1, 31))
    greys = {shown.pixelColor(x, y).red() for x in range(left, right)}
    assert greys == {0, 255}


def test_masks_have_fixed_levels(qtbot):
    pane = ImagePane("Mask", "", (0.0, 1.0), "cividis")
    qtbot.addWidget(pane)
    pane.resize(250, 250)
    pane.show()
    pane.set_image(np.full((32, 32), 0.5, np.float32))
    middle = colour_at(pane, 5, 5)
    pane.set_image(np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32))
    assert colour_at(pane, 16, 0).getRgb() == pytest.approx(middle.getRgb(), abs=4)


def test_hint_while_empty_and_items_are_kept(pane):
    assert pane.hint == "Press Attack"
    assert pane._hint.isVisible()
    items = set(map(id, pane.scene().items()))
    for _ in range(3):
        pane.set_image(np.zeros((32, 32, 3), np.uint8))
        assert not pane._hint.isVisible()
        pane.set_image(None)
    assert pane._hint.isVisible()
    assert set(map(id, pane.scene().items())) == items


def test_keyboard_moves_the_pixel_zooms_and_resets(pane, qtbot):
    pixels = []
    pane.pixel_changed.connect(pixels.append)
    pane.pixel_changed.connect(pane.mark)
    qtbot.keyClick(pane, Qt.Key.Key_Right)
    qtbot.keyClick(pane, Qt.Key.Key_Down)
    assert pixels == [(16, 17), (17, 17)]
    for _ in range(40):
        qtbot.keyClick(pane, Qt.Key.Key_Down)
    assert pixels[-1] == (31, 17)
    before = pane.view.targetRect().width()
    with qtbot.waitSignal(pane.view_changed):
        qtbot.keyClick(pane, "+")
    assert pane.view.targetRect().width() < before
    with qtbot.waitSignal(pane.reset_asked):
        qtbot.keyClick(pane, "0")


def test_double_click_asks_for_the_whole_image(pane, qtbot):
    with qtbot.waitSignal(pane.reset_asked, timeout=2000):
        centre = pane.viewport().rect().center()
        qtbot.mouseDClick(pane.viewport(), Qt.MouseButton.LeftButton, pos=centre)


def test_mouse_tells_the_pixel(pane):
    pixels = []
    pane.pixel_changed.connect(pixels.append)
    for row, column in ((0, 0), (31, 31), (7, 20)):
        pane._mouse_moved(pane.view.mapViewToScene(QPointF(column + 0.5, row + 0.5)))
    pane._mouse_moved(pane.view.mapViewToScene(QPointF(-0.5, 4)))
    assert pixels == [(0, 0), (31, 31), (7, 20), None]


def test_a_pane_keeps_what_it_shows_when_it_is_resized(pane):
    part = QRectF(4, 4, 8, 8)
    pane.show_part(part)
    pane.resize(500, 300)
    assert pane.view.targetRect() == part


def test_panes_follow_the_palette(pane):
    dark = QPalette(QColor(40, 40, 40))
    pane.setPalette(dark)
    assert pane.backgroundBrush().color().lightness() < 60


def test_bars_show_what_they_are_given(qtbot):
    bars = ProbabilityBars("Bars", "Press Attack")
    qtbot.addWidget(bars)
    bars.resize(300, 200)
    empty = bars.grab().toImage()
    p1, p2 = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    bars.show_values(("cat", "dog", "frog"), p1, p2)
    assert bars.grab().toImage() != empty
    assert sum(bars.columns[0]) == pytest.approx(1)
    assert sum(bars.columns[1]) == pytest.approx(1)
    assert "f1: the image: cat 70%" in bars.accessibleDescription()
    assert "f2: the mask: frog 60%" in bars.accessibleDescription()
    bars.clear()
    assert bars.columns == ()
    assert bars.grab().toImage() == empty


def test_the_length_of_a_bar_is_its_probability(qtbot):
    bars = ProbabilityBars("Bars", "")
    qtbot.addWidget(bars)
    bars.resize(600, 240)

    def blue(p):
        bars.show_values(("a", "b"), np.array([p, 1 - p]), np.array([0.0, 0.0]))
        image = bars.grab().toImage()
        row = round(bars.height() / 3 * 1.16)  # just inside the first bar, above its number
        return sum(image.pixelColor(x, row).getRgb()[:3] == (0, 114, 178) for x in range(image.width()))

    assert blue(0.8) / blue(1.0) == pytest.approx(0.8, abs=0.03)


def test_images_of_another_size_fill_the_pane_and_the_keyboard_reaches_their_edge(pane, qtbot):
    pane.set_image(np.zeros((64, 64, 3), np.uint8))
    assert pane.view.targetRect() == QRectF(0, 0, 64, 64)
    pane.show_part(QRectF(40, 40, 20, 20))
    pane.set_image(np.ones((64, 64, 3), np.uint8))
    assert pane.view.targetRect() == QRectF(40, 40, 20, 20)  # another image of that size moves nothing
    pixels = []
    pane.pixel_changed.connect(pixels.append)
    pane.mark((63, 62))
    qtbot.keyClick(pane, Qt.Key.Key_Right)
    assert pixels == [(63, 63)]
    pane.set_image(np.zeros((32, 32)))
    assert pane.view.targetRect() == QRectF(0, 0, 32, 32)


def test_of_many_classes_those_that_matter_are_shown():
    random = np.random.default_rng(0)
    columns = [random.dirichlet(np.full(43, 0.1)) for _ in range(4)]
    shown = telling(columns, (17,))
    assert len(shown) == MOST
    assert list(shown) == sorted(shown)
    assert {17, *(int(p.argmax()) for p in columns)} <= set(shown.tolist())
    highest = np.max(columns, axis=0)
    free = [k for k in shown if k not in {17, *(int(p.argmax()) for p in columns)}]
    assert min(highest[free]) >= max(highest[[k for k in range(43) if k not in shown]])
    assert telling([np.full(10, 0.1)], ()).tolist() == list(range(10))


def test_classes_without_a_row_are_summed_up_in_the_tool_tip(qtbot):
    bars = ProbabilityBars("Bars", "")
    qtbot.addWidget(bars)
    bars.resize(300, 200)
    p1, p2 = np.full(43, 0.01), np.full(43, 0.02)
    p1[40], p2[41] = 0.58, 0.16
    bars.show_values([f"a sign with the number {k}" for k in range(43)], p1, p2)
    assert len(bars.shown) == MOST
    assert {"a sign with the number 40", "a sign with the number 41"} <= set(bars.shown)
    assert "33 classes without a row, together: f1 33%, f2 66%" in bars.toolTip()
    few = ProbabilityBars("Bars", "")
    qtbot.addWidget(few)
    few.show_values(("cat", "dog"), p1[:2], p2[:2])
    assert "without a row" not in few.toolTip()


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.0, False, "<1%"),
        (0.993, False, ">99%"),
        (0.001, False, "<1%"),
        (0.555, False, "56%"),
        (0.999, False, ">99%"),
        (1.0, False, "100%"),
        (0.25, True, "+25"),
        (-0.25, True, "-25"),
        (0.0001, True, "≈0"),
        (0.0, True, "0"),
    ],
)
def test_percent(value, signed, text):
    assert percent(value, signed) == text


def test_colour_bar_runs_from_its_low_to_its_high_colour(qtbot):
    bar = ColourBar("cividis", "0", "1")
    qtbot.addWidget(bar)
    bar.resize(300, 24)
    image = bar.grab().toImage()
    left, right = image.pixelColor(40, 12), image.pixelColor(260, 12)
    assert left.blue() > left.red()  # cividis starts blue
    assert right.red() > right.blue()  # and ends yellow
    assert "from 0 to 1" in bar.accessibleName()


def test_the_pane_with_the_focus_is_framed(pane, qtbot):
    pane.activateWindow()
    pane.clearFocus()
    qtbot.waitUntil(lambda: not pane.hasFocus())
    before = pane.grab().toImage()
    pane.setFocus()
    qtbot.waitUntil(pane.hasFocus)
    framed = pane.grab().toImage()
    colour = pane.palette().color(QPalette.ColorRole.Highlight)
    for x, y in ((1, 100), (100, 1), (pane.width() - 2, 100), (100, pane.height() - 2)):
        assert framed.pixelColor(x, y) == colour
        assert before.pixelColor(x, y) != colour
    assert framed.pixelColor(160, 120) == before.pixelColor(160, 120)
    pane.clearFocus()
    assert pane.grab().toImage() == before


def test_the_same_part_is_shown_after_the_pane_was_small_for_a_while(qtbot):
    pane = ImagePane("A picture", "", (0.0, 255.0))
    qtbot.addWidget(pane)
    pane.resize(300, 300)
    pane.show()
    pane.set_image(np.zeros((32, 32, 3), np.uint8))
    for part in (None, QRectF(4, 5, 10, 10)):
        pane.show_part(part)
        for size in ((300, 90), (90, 300), (300, 300)):
            pane.resize(*size)
            qtbot.wait(20)
        shown = pane.view.viewRect()
        assert shown.width() == pytest.approx(32 if part is None else 10, rel=0.02)
        assert shown.center().x() == pytest.approx(16 if part is None else 9, abs=0.2)

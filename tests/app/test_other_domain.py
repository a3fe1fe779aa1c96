"""The whole window with a bundle for 43 classes at 64x64 pixels: nothing in it knows "airplane" or 32."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QRectF

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from tests import untrained

TIMEOUT = 60_000  # ms
CLASSES, SIZE = untrained.SIGNS.classes, untrained.SIGNS.size


@pytest.fixture
def pictures(tmp_path):
    """A data set of two of the classes, and a picture beside it."""
    random = np.random.default_rng(2)
    for name in (CLASSES[7], CLASSES[40]):
        (tmp_path / "set" / "test" / name).mkdir(parents=True)
        for k in range(3):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "test" / name / f"{k}.png")
    Image.fromarray(random.integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(tmp_path / "mine.png")
    return tmp_path


@pytest.fixture
def window(make_window, signs, qtbot):
    made = make_window(remember=False)
    made.resize(1280, 720)
    made.engine.start(str(signs), "cpu")
    qtbot.waitUntil(lambda: made.engine.info is not None, timeout=TIMEOUT)
    return made


def looked_at(page, qtbot):
    qtbot.waitUntil(lambda: page.found is not None and not page.busy, timeout=TIMEOUT)
    return page.found


def test_one_image_is_opened_attacked_and_saved(window, pictures, tmp_path, qtbot):
    page = window.page(InspectPage)
    assert window.engine.info.domain.size == SIZE
    page.open_paths([pictures / "set"])
    qtbot.waitUntil(lambda: page.gallery.model.rowCount() == 6, timeout=TIMEOUT)
    assert looked_at(page, qtbot).label == 40
    assert page.grid.headings[0].caption.text() == f"true class: {CLASSES[40]}"
    page.open_paths([pictures / "mine.png"])
    qtbot.waitUntil(lambda: page.found is not None and page.found.name == "mine.png", timeout=TIMEOUT)
    assert page.found.image.shape == (3, SIZE, SIZE)
    page.panel.choose("fgsm", {"eps": 64.0})
    page.attack_now()
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    found = page.found
    assert found.attacked_image is not None
    assert {pane.view.targetRect().getRect() for pane in page.grid.panes} == {QRectF(0, 0, SIZE, SIZE).getRect()}
    assert [pane.array.shape[:2] for pane in page.grid.panes] == [(SIZE, SIZE)] * 6
    assert "row 63, column 60" in page.grid.values_at((63, 60))
    bars = (page.grid.benign_bars, page.grid.adversarial_bars, page.grid.change_bars)
    assert len({chart.shown for chart in bars}) == 1
    shown = set(bars[0].shown)
    assert len(shown) == 10
    assert {CLASSES[int(v.y1[0])] for v in (found.benign, found.adversarial)} <= shown
    assert {CLASSES[int(v.y2[0])] for v in (found.benign, found.adversarial)} <= shown
    assert all("33 classes without a row" in chart.toolTip() for chart in bars)
    assert page.saves.save_image(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (SIZE, SIZE)


def test_long_class_names_neither_widen_the_window_nor_hide_the_bars(window, pictures, qtbot):
    page = window.page(InspectPage)
    page.open_paths([pictures / "set"])
    looked_at(page, qtbot)
    assert window.width() == 1280
    assert page.gallery.model.cell.width() < 150
    for box in (page.gallery.classes, page.panel.form.editor("target_class")):
        assert box.count() >= 43
        assert box.maxVisibleItems() < 43
    bars = page.grid.benign_bars
    sure = np.full(43, 0.002)
    sure[12] = 0.9
    bars.show_values(CLASSES, sure, sure)
    image = bars.grab().toImage()
    half = range(round(image.width() * 0.45), image.width())
    blue = [x for x in half for y in range(image.height()) if image.pixelColor(x, y).getRgb()[:3] == (0, 114, 178)]
    assert blue  # the bar of f1's class begins right of the names


def test_many_images_are_evaluated(window, pictures, qtbot):
    window.show_page(EvaluatePage)
    page = window.page(EvaluatePage)
    assert not page.panel.data.samples.isEnabled()  # they are of other classes and another size
    page.panel.data.choose(str(pictures / "set"))
    qtbot.waitUntil(lambda: page.loader.data is not None, timeout=TIMEOUT)
    page.panel.attacks.choose([("fgsm", {"eps": 64.0})])
    page.start()
    qtbot.waitUntil(lambda: page._task is None and len(page.model.rows) == 12, timeout=TIMEOUT)
    assert page.model.index(0, 2).data() in CLASSES
    qtbot.waitUntil(lambda: bool(page.results.tables.tables), timeout=TIMEOUT)
    assert not page.results.banner.isVisibleTo(page)  # nothing of the paper's is there to be compared with
    with qtbot.waitSignal(page.handed_on) as caught:
        page._open_row(page.model.rows[-1])
    assert caught.args[0].image.shape == (3, SIZE, SIZE)


def test_images_of_other_classes_are_refused_in_words(window, tmp_path, qtbot):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "test" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "pets" / "test" / name / "0.png")
    window.show_page(EvaluatePage)
    page = window.page(EvaluatePage)
    page.panel.data.choose(str(tmp_path / "pets"))
    qtbot.waitUntil(lambda: not page.loader.busy, timeout=TIMEOUT)
    assert "classes that the bundle does not know: cat, dog" in page.panel.data.state.text()

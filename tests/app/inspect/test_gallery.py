from __future__ import annotations

import time

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QAbstractItemModelTester

from ciad_app.inspect.collection import UNKNOWN, Collection, Entry, of_entries
from ciad_app.inspect.gallery import _CACHED, ENTRY_ROLE, Gallery, GalleryModel

CLASSES = ("cat", "dog", "frog")


def collection(count, title="Set"):
    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return Collection(title, images, np.arange(count) % 3, [f"test/{i:05d}.png" for i in range(count)])


@pytest.fixture
def gallery(qtbot):
    made = Gallery()
    qtbot.addWidget(made)
    made.set_classes(CLASSES)
    made.resize(220, 600)
    made.show()
    return made


def test_the_model_and_its_filter_are_sound(gallery, qtmodeltester):
    fatal = QAbstractItemModelTester.FailureReportingMode.Fatal
    tester = QAbstractItemModelTester(gallery.filter, fatal, gallery)
    gallery.show_collection(collection(30))
    gallery.text.setText("dog")
    gallery.text.setText("nothing like that")
    gallery.show_collection(collection(7))
    gallery.model.set_classes(("a", "b", "c"))
    qtmodeltester.check(gallery.model)
    qtmodeltester.check(gallery.filter)
    assert tester.model() is gallery.filter


def test_thumbnails_show_the_pixels(gallery):
    images = np.zeros((1, 3, 32, 32), np.uint8)
    images[0, :, 2, 30] = (250, 20, 90)
    gallery.show_collection(Collection("One", images, np.array([0]), ["x"]))
    pixmap = gallery.model.index(0).data(Qt.ItemDataRole.DecorationRole)
    image = pixmap.toImage()
    scale = image.width() // 32
    assert image.pixelColor(30 * scale + 1, 2 * scale + 1).getRgb()[:3] == (250, 20, 90)
    assert image.pixelColor(2 * scale + 1, 30 * scale + 1).getRgb()[:3] == (0, 0, 0)


def test_thumbnails_are_made_when_seen_and_the_cache_has_a_limit():
    model = GalleryModel(CLASSES)
    model.show_collection(collection(_CACHED + 50))
    assert model._thumbnail.cache_info().currsize == 0
    for row in range(_CACHED + 50):
        model.index(row).data(Qt.ItemDataRole.DecorationRole)
    assert model._thumbnail.cache_info().currsize == _CACHED


def test_ten_thousand_images_show_filter_and_scroll_quickly(gallery, qtbot):
    many = collection(10_000)
    started = time.perf_counter()
    gallery.show_collection(many)
    qtbot.waitExposed(gallery)
    gallery.grab()
    assert time.perf_counter() - started < 2
    bar = gallery.list.verticalScrollBar()
    longest = 0.0
    for part in range(1, 21):
        started = time.perf_counter()
        bar.setValue(bar.maximum() * part // 20)
        gallery.list.grab()
        longest = max(longest, time.perf_counter() - started)
    assert bar.maximum() > 10_000
    assert longest < 0.2, f"a step of scrolling took {longest:.3f} s"
    assert gallery.model._thumbnail.cache_info().currsize < 1000
    started = time.perf_counter()
    gallery.text.setText("frog")
    assert time.perf_counter() - started < 1
    assert gallery.filter.rowCount() == 3333


def test_filters_by_class_and_by_name(gallery):
    gallery.show_collection(collection(30))
    gallery.classes.setCurrentText("dog")
    assert gallery.filter.rowCount() == 10
    assert "10 of 30 images" in gallery.count.text()
    gallery.text.setText("00004")
    assert gallery.filter.rowCount() == 1
    assert gallery.filter.index(0, 0).data(ENTRY_ROLE).name == "test/00004.png"
    gallery.classes.setCurrentIndex(0)
    gallery.text.setText("FROG")
    assert {gallery.filter.index(i, 0).data(ENTRY_ROLE).label for i in range(gallery.filter.rowCount())} == {2}


def test_arrow_keys_and_steps_select(gallery, qtbot):
    chosen = []
    gallery.selected.connect(lambda entry: chosen.append(entry.name))
    gallery.show_collection(collection(9))
    qtbot.keyClick(gallery.list, Qt.Key.Key_Right)
    gallery.step(1)
    gallery.step(-1)
    assert chosen == [f"test/{i:05d}.png" for i in (0, 1, 2, 1)]
    for _ in range(20):
        gallery.step(1)
    assert gallery.current().name == "test/00008.png"


def test_sets_are_switched_and_replaced(gallery):
    gallery.show_collection(collection(5, "A"))
    gallery.show_collection(collection(6, "B"))
    gallery.add_collection(collection(7, "C"))
    assert gallery.model.rowCount() == 6
    gallery.sets.setCurrentText("A")
    assert gallery.model.rowCount() == 5
    gallery.show_collection(collection(8, "A"))
    assert gallery.sets.count() == 3
    assert gallery.model.rowCount() == 8


def test_an_old_filter_does_not_hide_what_was_just_loaded(gallery):
    gallery.show_collection(collection(9))
    gallery.text.setText("frog")
    gallery.show_collection(of_entries("Yours", [Entry(np.zeros((3, 32, 32), np.uint8), None, "mine.png")]))
    assert gallery.current().name == "mine.png"
    assert gallery.model.collection.labels[0] == UNKNOWN
    assert gallery.model.index(0).data() == "mine.png"


def test_a_filter_selects_nothing_and_what_was_selected_comes_back(gallery, qtbot):
    gallery.show_collection(collection(9))
    gallery.step(1)  # 00001, a dog
    chosen = []
    gallery.selected.connect(lambda entry: chosen.append(entry.name))
    gallery.text.setText("frog")
    gallery.classes.setCurrentText("frog")
    assert gallery.current() is None
    gallery.text.clear()
    gallery.classes.setCurrentIndex(0)
    assert gallery.current().name == "test/00001.png"
    assert chosen == []
    gallery.text.setText("frog")
    gallery.step(1)
    assert chosen == ["test/00002.png"]


def test_a_click_on_the_selected_image_is_told_as_such(gallery, qtbot):
    gallery.show_collection(collection(9))
    chosen, again = [], []
    gallery.selected.connect(lambda entry: chosen.append(entry.name))
    gallery.again.connect(lambda entry: again.append(entry.name))
    place = gallery.list.visualRect(gallery.list.currentIndex()).center()
    qtbot.mouseClick(gallery.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert chosen == []
    assert again == ["test/00000.png"]

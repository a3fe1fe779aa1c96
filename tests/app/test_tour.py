"""The tour."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QRect

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import load
from ciad_app.tour import Tour
from tests.app.steps import actions, picture

TIMEOUT = 60_000


@pytest.fixture
def touring(window, untrained_bundle, tmp_path, qtbot):
    """A window in whose tour the first step is shown; an image was looked at."""
    picture().save(str(tmp_path / "red.png"))
    window.engine.start(str(untrained_bundle), "cpu")
    window.open_paths([tmp_path / "red.png"])
    qtbot.waitUntil(lambda: window.page(InspectPage).found is not None and not window.engine.busy, timeout=TIMEOUT)
    actions(window)["Tour"].trigger()
    return window


def test_five_steps_stand_beside_what_they_are_about_inside_the_window(touring, qtbot):
    tour, titles = touring._tour, []
    for size in ((1180, 760), (1000, 620)):
        touring.resize(*size)
        qtbot.wait(20)
        tour.go(0)
        titles = []
        for _ in range(5):
            titles.append(tour.title.text())
            target = tour._steps[tour.place].target
            place = QRect(target.mapTo(touring, QPoint(0, 0)), target.size())
            assert touring.rect().contains(tour.geometry())
            assert not tour.geometry().intersects(place.adjusted(2, 2, -2, -2)), tour.title.text()
            assert tour._ring.geometry().intersects(place)
            needed = tour.text.heightForWidth(tour.text.width())
            assert tour.text.height() >= needed
            if tour.place < 4:
                tour.next.click()
    assert [f"{k} of 5" in title for k, title in enumerate(titles, 1)] == [True] * 5
    tour.next.click()
    assert touring._tour is None
    assert load().toured


def test_a_step_says_what_is_missing_until_it_is_there(touring, qtbot):
    tour, page = touring._tour, touring.page(InspectPage)
    tour.go(2)
    assert tour.missing.text() == "Press Attack first (Ctrl+Return)."
    page.panel.choose("fgsm", {"eps": 64.0})
    page.attack_now()
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    fooled = page.found.adversarial is not None
    assert tour.missing.text() == ("" if fooled else "The attack failed: raise the budget and press Attack again.")
    tour.go(4)
    tour.back.click()
    assert "4 of 5" in tour.title.text()


def test_it_can_be_ended_at_any_step_and_ends_with_the_page(touring):
    touring._tour.skip.click()
    assert touring._tour is None
    actions(touring)["Tour"].trigger()
    assert "1 of 5" in touring._tour.title.text()
    touring.show_page(EvaluatePage)
    assert touring._tour is None
    actions(touring)["Tour"].trigger()  # it leads back to the page it is about
    assert type(touring.shown) is InspectPage
    assert [tour.isVisible() for tour in touring.findChildren(Tour) if tour is touring._tour] == [True]


def test_before_anything_is_loaded_the_steps_say_so(window):
    actions(window)["Tour"].trigger()
    assert window._tour.missing.text() == "Select a picture in the list first."
    window._tour.go(1)
    assert "loading" in window._tour.missing.text()

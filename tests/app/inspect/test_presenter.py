"""The presenter view, through the window."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QWidget

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_app.inspect.presenter import LETTERS
from ciad_app.settings import load
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set
from tests.app.steps import actions, picture

Key = Qt.Key


def pixels(image):
    return image.transpose(1, 2, 0)


def test_it_shows_what_the_page_shows(page, known, qtbot):
    view = page.presenter
    page.present(True)
    assert view.isVisible()
    assert not page.gallery.isVisible()
    show_set(page, known)
    settle(page, qtbot)
    assert np.array_equal(view.panes[0].array, pixels(page.found.image))
    assert view.panes[1].array is None
    assert [caption.text() for caption in view.captions] == ["Original", "", "Where f1 looks", ""]
    attack(page, qtbot)
    found = page.found
    assert np.array_equal(view.panes[1].array, pixels(found.attacked_image))
    assert np.array_equal(view.panes[3].array, 1 - found.adversarial.masks[0])
    assert view.sentence.text() == page.verdict.sentence.text()
    assert view.word.text() == view.sign.kind == page.verdict.word.text()
    y1 = int(found.adversarial.y1[0])
    assert view.bars[0].text == f"The classifier: {found.classes[y1]}"
    assert view.bars[0].value == pytest.approx(found.adversarial.p1[0, y1])
    assert view.bars[1].text.startswith("f2 on the mask: ")
    page.panel.decide_by("confidence", "graded")
    assert view.bars[1].text == ""  # it has no class
    qtbot.keyPress(view, Key.Key_Space)
    assert np.array_equal(view.panes[0].array, pixels(found.attacked_image))
    qtbot.keyRelease(view, Key.Key_Space)
    assert np.array_equal(view.panes[0].array, pixels(found.image))
    page.present(False)
    assert page.gallery.isVisible()
    assert not view.isVisible()


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1366, 768), (1920, 1080)])
def test_no_letters_are_smaller_than_a_thirtieth_of_its_height_and_nothing_is_cut(page, known, qtbot, width, height):
    page.present(True)
    page.resize(width, height)
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    qtbot.wait(30)
    view = page.presenter
    assert (view.width(), view.height()) == (width, height)
    for widget in (*view.findChildren(QLabel), *view.bars):
        if widget.isVisible() and getattr(widget, "text", "") not in ("", None):
            assert widget.fontInfo().pixelSize() >= height / LETTERS, widget
    for text in (*view.captions, view.word, view.sentence, view.keys):
        needed = text.fontMetrics().boundingRect(text.rect(), int(Qt.TextFlag.TextWordWrap), text.text())
        assert needed.height() <= text.height(), text.text()
        assert needed.width() <= text.width(), text.text()


def test_f11_fills_the_screen_and_escape_leaves(window, untrained_bundle, tmp_path, qtbot):
    picture().save(str(tmp_path / "red.png"))
    window.engine.start(str(untrained_bundle), "cpu")
    window.open_paths([tmp_path / "red.png"])
    page = window.page(InspectPage)
    qtbot.waitUntil(lambda: page.found is not None and not window.engine.busy, timeout=TIMEOUT)
    actions(window)["Presenter view"].trigger()
    assert window.isFullScreen()
    hidden: list[QWidget] = [window.menuBar(), window.pages.tabBar(), window.state, window.statusBar()]
    assert [widget.isVisible() for widget in hidden] == [False] * 4
    actions(window)["Attack"].trigger()  # the keys of the page go on working
    qtbot.waitUntil(lambda: page.found.attack is not None, timeout=TIMEOUT)
    if page.found.adversarial is not None:
        qtbot.keyClick(window, Key.Key_Escape)  # the first goes back to the original
        assert window.presenting
    qtbot.keyClick(window, Key.Key_Escape)
    assert not window.presenting
    assert not window.isFullScreen()
    assert [widget.isVisible() for widget in hidden] == [True] * 4


def test_another_tab_ends_it_and_leaves_the_page_as_usual(window):
    inspect = window.page(InspectPage)
    window.present(True)
    window.pages.setCurrentIndex(1)  # as Ctrl+Tab does, although the tabs are hidden
    assert not window.presenting
    window.show_page(InspectPage)
    assert inspect.gallery.isVisible()
    assert not inspect.presenter.isVisible()


def test_messages_are_seen_without_the_status_bar(window):
    window.present(True)
    window.say("f1 is fooled")
    assert window.page(InspectPage).presenter.keys.text() == "f1 is fooled"


def test_the_next_start_and_another_page_are_as_usual(make_window):
    window = make_window()
    window.present(True)
    actions(window)["Evaluate"].trigger()
    assert type(window.shown) is EvaluatePage
    assert not window.presenting
    window.present(True)
    assert window.isFullScreen()
    window.close()
    again = make_window(load())
    assert not again.isFullScreen()
    assert not again.presenting

"""Blinking, comparing two attacks, going back to the original, removing from the history."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QItemSelectionModel, QRectF, Qt
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QApplication, QMenu

from ciad_app.actions import fill
from ciad_app.inspect.page import BLINK
from tests.app.inspect.steps import attack, settle, show_set

Key = Qt.Key


@pytest.fixture
def attacked(page, known, qtbot):
    """The page with an attacked image."""
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    return page


def pixels(image):
    return image.transpose(1, 2, 0)


def test_the_original_gives_way_while_space_is_held(attacked, qtbot):
    page, found = attacked, attacked.found
    for widget in (page.gallery.list, page.panel.history, page.grid.benign):
        widget.setFocus()
        qtbot.keyPress(widget, Key.Key_Space)
        assert np.array_equal(page.grid.benign.array, pixels(found.attacked_image))
        assert np.array_equal(page.grid.benign_mask.array, 1 - found.adversarial.masks[0])
        assert "Adversarial" in page.grid.headings[0].title.text()
        qtbot.keyRelease(widget, Key.Key_Space)
        assert np.array_equal(page.grid.benign.array, pixels(found.image))
        assert np.array_equal(page.grid.benign_mask.array, 1 - found.benign.masks[0])
        assert "Original" in page.grid.headings[0].title.text()


def test_the_original_comes_back_if_the_focus_goes_while_space_is_held(attacked, qtbot):
    qtbot.keyPress(attacked.gallery.list, Key.Key_Space)
    QApplication.sendEvent(attacked.gallery.list, QFocusEvent(QEvent.Type.FocusOut))
    assert np.array_equal(attacked.grid.benign.array, pixels(attacked.found.image))


def test_the_menu_blinks_once(attacked, qtbot):
    menu = QMenu(attacked)
    fill(attacked, menu, attacked.menu_rows())
    next(one for one in menu.actions() if "Blink" in one.text()).trigger()
    assert np.array_equal(attacked.grid.benign.array, pixels(attacked.found.attacked_image))
    qtbot.waitUntil(lambda: np.array_equal(attacked.grid.benign.array, pixels(attacked.found.image)), timeout=3 * BLINK)


def test_space_does_nothing_to_an_image_that_was_not_attacked(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    qtbot.keyPress(page.gallery.list, Key.Key_Space)
    assert np.array_equal(page.grid.benign.array, pixels(page.found.image))
    assert "Original" in page.grid.headings[0].title.text()


def test_escape_goes_back_to_the_original_and_the_history_to_the_attack(attacked, qtbot):
    page, found = attacked, attacked.found
    page.escape()
    assert page.found.attack is None
    assert page.grid.adversarial.array is None
    assert page.panel.history.selectedIndexes() == []
    page.panel.history.setCurrentRow(0)
    assert np.array_equal(page.found.attacked_image, found.attacked_image)


def test_two_attacks_are_compared_side_by_side(attacked, qtbot):
    page, first = attacked, attacked.found
    attack(page, qtbot, eps=16.0)
    qtbot.waitUntil(lambda: page.panel.history.count() == 2)
    settle(page, qtbot)
    second = page.found
    history = page.panel.history
    history.setCurrentRow(0)
    history.setCurrentRow(1, QItemSelectionModel.SelectionFlag.Select)
    assert np.array_equal(page.grid.benign.array, pixels(first.attacked_image))
    assert np.array_equal(page.grid.adversarial.array, pixels(second.attacked_image))
    titles = [heading.title.text() for heading in page.grid.headings]
    assert "FGSM 32" in titles[0]
    assert "FGSM 16" in titles[1]
    history.setCurrentRow(0)
    assert np.array_equal(page.grid.benign.array, pixels(second.image))
    assert "Original" in page.grid.headings[0].title.text()


def test_an_attack_is_removed_from_the_history(attacked, qtbot):
    attack(attacked, qtbot, eps=16.0)
    history = attacked.panel.history
    qtbot.waitUntil(lambda: history.count() == 2)
    history.setFocus()
    history.setCurrentRow(0)
    qtbot.keyClick(history, Key.Key_Delete)
    assert [history.item(row).text()[:9] for row in range(history.count())] == ["✔ FGSM 16"]


def test_the_attack_that_is_shown_leaves_with_its_line(attacked, qtbot):
    history = attacked.panel.history
    history.setCurrentRow(0)
    attacked._remove(0)
    assert history.count() == 0
    assert attacked.found.attack is None
    assert attacked.grid.adversarial.array is None


def test_after_a_click_on_attack_space_blinks(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.activateWindow()
    page.panel.choose("fgsm", {"eps": 32.0})
    page.panel.button.setFocus()
    page.panel.button.click()
    assert not page.panel.reset.hasFocus()


def test_lines_between_pixels_are_seen_at_high_zoom_alone(page, known, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    pane = page.grid.benign
    pane.setFixedSize(500, 500)  # also whole, each pixel has 15 of the screen

    def greys(part):
        """Colours of the picture that are no image's."""
        page.grid.show_part(part)
        qtbot.wait(30)
        image = pane.grab().toImage()
        return {image.pixelColor(x, 250).name() for x in range(500)}

    whole, part = greys(QRectF(0, 0, 32, 32)), greys(QRectF(8, 8, 4, 4))
    own = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in pane.array.reshape(-1, 3)}
    assert not whole - own - {pane.backgroundBrush().color().name()}
    assert part - own


def test_the_factor_stands_in_the_picture_of_the_difference(attacked):
    assert attacked.grid.difference._note.isVisible()
    assert attacked.grid.difference._note.text() == f"×{attacked.grid.gain.currentData()}"
    attacked.escape()
    assert not attacked.grid.difference._note.isVisible()

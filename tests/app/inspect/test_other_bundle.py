"""Another bundle is chosen while the page is in use."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests import untrained
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set


def change(page, folder, qtbot):
    """Choose the bundle and wait until the page has looked at its image again, if there is one."""
    engine = page.engine
    engine.choose(str(folder), folder.name)
    qtbot.waitUntil(lambda: not engine.loading and not engine.busy, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: page._state.entry is None or page.found is not None, timeout=TIMEOUT)


def test_the_image_is_looked_at_again_by_other_detectors_and_old_attacks_are_forgotten(page, known, keeping, qtbot):
    show_set(page, known)
    page.gallery.step(1)
    settle(page, qtbot)
    page.panel.detector.setCurrentIndex(page.panel.detector.findData("confidence"))
    attack(page, qtbot, eps=24.0)
    page.grid.opacity.setValue(40)
    assert page.panel.history.count() == 1
    change(page, keeping, qtbot)
    found = page.found
    assert list(found.benign.findings) == ["combined", "evidence"]
    assert (found.name, found.attack) == (known.names[1], None)
    assert page.panel.deciding == (found.benign.detector, found.benign.rule) == ("combined", "graded")
    assert page.verdict.word.text() == "FALSE ALARM"
    assert "What the mask keeps" in page.verdict.sentence.text()
    assert page.panel.history.count() == 0
    assert page.grid.adversarial.array is None
    assert page.panel.request()[1]["eps"] == 24.0  # what was set for the next attack stays
    assert page.grid.opacity.value() == 40
    assert len(page.gallery.model.collection) == len(known)


def test_no_attack_begins_while_another_bundle_waits(page, known, keeping, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    page.engine.choose(str(keeping), "keeping")
    assert not page.panel.button.isEnabled()
    assert page.panel.button.toolTip() == "Wait until bundle keeping is loaded."
    page.attack_now()
    assert not page.busy
    qtbot.waitUntil(lambda: page.panel.button.isEnabled(), timeout=TIMEOUT)


def test_a_bundle_that_cannot_be_loaded_costs_nothing(page, known, tmp_path, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    found = page.found
    change(page, tmp_path / "nothing", qtbot)
    assert page.found is found
    assert page.panel.history.count() == 1
    assert page.panel.button.isEnabled()


def test_images_of_other_classes_and_size_are_put_away_in_words(page, known, signs, tmp_path, qtbot):
    show_set(page, known)
    settle(page, qtbot)
    attack(page, qtbot)
    change(page, signs, qtbot)
    assert len(page.gallery.model.collection) == page.gallery.sets.count() == page.panel.history.count() == 0
    assert page.gallery.count.text() == "0 images"
    assert page.found is page.grid.benign.array is None
    assert "Select an image" in page.verdict.sentence.text()
    assert page.messages[-1].startswith("Bundle signs is for images of 64x64 pixels and 43 classes of its own.")
    assert page.panel.button.toolTip() == "Select an image first."
    path = tmp_path / "mine.png"
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(path)
    page.open_paths([path])
    settle(page, qtbot)
    assert page.found.image.shape == untrained.SIGNS.shape

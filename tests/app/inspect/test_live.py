"""The strength slider at work: what it moves is made anew while it moves."""

from __future__ import annotations

import numpy as np
import pytest

from ciad_app.inspect import page as page_module
from ciad_app.inspect import work
from tests.app.inspect.steps import TIMEOUT, attack, settle, show_set


@pytest.fixture
def shown(page, known, qtbot):
    """The page with an image that was looked at; FGSM is chosen."""
    page.panel.choose("fgsm", {"eps": 8.0})
    show_set(page, known)
    settle(page, qtbot)
    return page


def strength(page):
    attack = None if page.found is None else page.found.attack
    return None if attack is None else attack.settings["eps"]


def test_moving_the_slider_makes_the_attack_anew_and_the_last_place_counts(shown, qtbot):
    page, slider = shown, shown.panel.form.slider("eps")
    seen = []
    for place in range(2, 15):
        slider.setValue(place)
        qtbot.wait(50)
        seen.append(strength(page))
    qtbot.waitUntil(lambda: strength(page) == 14 and not page.busy, timeout=TIMEOUT)
    assert len({each for each in seen if each is not None}) > 1  # it was shown on the way
    assert np.abs(page.found.attacked_image.astype(int) - page.found.image).max() == 14
    assert page.panel.results.values["linf"].text() == "14 /255"
    assert not page.grid.adversarial._dimmed


def test_requests_that_come_while_one_is_computed_become_one(shown, qtbot, monkeypatch):
    made, real = [], work.attack
    monkeypatch.setattr(work, "attack", lambda *given: made.append(given[3]["eps"]) or real(*given))
    for place in range(2, 15):
        shown.panel.form.slider("eps").setValue(place)
    qtbot.waitUntil(lambda: strength(shown) == 14 and not shown.busy, timeout=TIMEOUT)
    assert made == [2, 14]


def test_only_where_the_slider_rests_joins_the_history(shown, qtbot):
    shown._settled.setInterval(2000)  # also on a busy machine each place is seen before
    for place in (3, 5, 7):
        shown.panel.form.slider("eps").setValue(place)
        qtbot.waitUntil(lambda place=place: strength(shown) == place, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: shown.panel.history.count() == 1, timeout=TIMEOUT)
    assert " FGSM 7" in shown.panel.history.item(0).text()
    qtbot.wait(2 * page_module.SETTLED)
    assert shown.panel.history.count() == 1


def test_what_other_settings_made_is_dimmed_until_it_is_made_anew(shown, qtbot):
    page = shown
    page.panel.choose("jsma", {})
    page.attack_now()
    qtbot.waitUntil(lambda: page.found is not None and page.found.attack is not None, timeout=TIMEOUT)
    assert not page.grid.adversarial._dimmed
    page.panel.form.set_values({"gamma": 0.05})  # JSMA is not live
    assert page.grid.adversarial._dimmed
    assert not page.grid.adversarial_bars.isEnabled()
    assert not page.grid.benign._dimmed
    page.panel.form.set_values({"gamma": 0.1})
    assert not page.grid.adversarial._dimmed
    page.panel.choose("deepfool", {})
    assert page.grid.adversarial._dimmed


def test_going_back_in_the_history_makes_nothing_anew(shown, qtbot, monkeypatch):
    page = shown
    attack(page, qtbot, eps=32.0)
    settle(page, qtbot)
    attack(page, qtbot, eps=16.0)
    qtbot.waitUntil(lambda: page.panel.history.count() == 2)
    settle(page, qtbot)
    before = page.panel.history.count()
    monkeypatch.setattr(work, "attack", None)
    page.panel.history.setCurrentRow(0)
    assert strength(page) == 32
    assert not page.busy
    assert not page.grid.adversarial._dimmed
    assert page.panel.history.count() == before


def test_another_image_ends_it(shown, qtbot):
    shown.panel.form.slider("eps").setValue(5)
    shown.gallery.step(1)
    settle(shown, qtbot)
    qtbot.wait(2 * page_module.SETTLED)
    assert shown.found.attack is None
    assert shown.panel.history.count() == 0


def test_the_smallest_change_is_found_shown_and_remembered(shown, qtbot):
    said = []
    shown.message.connect(said.append)
    shown.find_smallest()
    qtbot.waitUntil(lambda: any("f1 is fooled at strength" in text for text in said), timeout=TIMEOUT)
    assert not shown.busy
    assert shown.found.attacked_image is not None
    assert f"at strength {strength(shown):g} of 255" in said[-1]
    assert shown.panel.request()[1]["eps"] == strength(shown)
    assert shown.panel.history.count() in (1, 2)


def test_a_search_that_finds_nothing_ends_with_the_image_looked_at(page, known, qtbot, monkeypatch):
    monkeypatch.setattr("ciad_engine.smallest.STRENGTHS", (0,))
    said = []
    page.message.connect(said.append)
    show_set(page, known)
    qtbot.waitUntil(lambda: not page._state.why_not_attack, timeout=TIMEOUT)
    page.find_smallest()  # before it was looked at
    qtbot.waitUntil(lambda: page.found is not None and not page.busy, timeout=TIMEOUT)
    assert page.verdict.word.text()


def test_that_the_attacker_knows_the_detector_is_a_setting_too(shown, qtbot):
    attack(shown, qtbot, eps=8.0)
    settle(shown, qtbot)
    shown.panel.knows.setChecked(True)
    qtbot.waitUntil(lambda: shown.found.evade != () and not shown.busy, timeout=TIMEOUT)
    assert not shown.grid.adversarial._dimmed


def test_an_attack_that_is_not_quick_is_not_made_because_a_slider_moved_before(shown, qtbot, monkeypatch):
    made, real = [], work.attack
    monkeypatch.setattr(work, "attack", lambda *given: made.append(given[2]) or real(*given))
    for place in (3, 5):
        shown.panel.form.slider("eps").setValue(place)
    shown.panel.choose("ddn", {})
    qtbot.waitUntil(lambda: not shown.busy, timeout=TIMEOUT)
    qtbot.wait(50)
    assert set(made) == {"fgsm"}


def test_of_an_attack_without_a_budget_it_says_so(shown, qtbot):
    said = []
    shown.message.connect(said.append)
    shown.panel.choose("jsma", {})
    shown.find_smallest()
    qtbot.waitUntil(lambda: any("has no budget" in text for text in said), timeout=TIMEOUT)
    assert not shown.busy

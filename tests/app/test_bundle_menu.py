"""The bundle is chosen in the window: what is listed, what is shown, what is remembered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QFileDialog, QMessageBox

from ciad_app import settings
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.page import InspectPage
from ciad_app.settings import Settings
from ciad_engine import bundles
from tests.app.steps import busy_work

TIMEOUT = 60_000  # ms


@pytest.fixture
def installed(keeping, monkeypatch, tmp_path):
    """The folder of bundle "keeping" where the user's bundles are."""
    monkeypatch.setattr(bundles, "user_folder", lambda: tmp_path / "models")
    return Path(shutil.copytree(keeping, tmp_path / "models" / "keeping"))


@pytest.fixture
def started(window, untrained_bundle, qtbot):
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=TIMEOUT)
    return window


def entries(window):
    window.bundles.aboutToShow.emit()
    return {action.text(): action for action in window.bundles.actions() if action.text()}


def in_use(window, name, qtbot):
    qtbot.waitUntil(lambda: window.engine.info.card.name == name and not window.engine.busy, timeout=TIMEOUT)


def test_the_menu_lists_what_is_installed_and_marks_what_is_in_use(window, installed, untrained_bundle, qtbot):
    assert [text for text, action in entries(window).items() if action.isChecked()] == []
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=TIMEOUT)
    found = entries(window)
    assert {"paper", "keeping", "untrained", "&Open another folder …"} == set(found)
    assert [text for text, action in found.items() if action.isChecked()] == ["untrained"]
    assert str(installed) in found["keeping"].toolTip()
    assert window.bundles.menuAction() in window.menuBar().actions()[0].menu().actions()


def test_two_bundles_of_one_name_are_told_apart_by_their_folders(started, installed, tmp_path):
    other = shutil.copytree(installed, tmp_path / "models" / "copy")
    assert {f"keeping in {installed}", f"keeping in {other}"} <= set(entries(started))


def test_the_button_shows_the_bundle_and_opens_the_menu_by_key(started, qtbot):
    assert started.state.menu() is started.bundles
    assert started.state.text().startswith("Bundle untrained · CPU")
    started.state.setFocus()
    qtbot.keyClick(started.state, Qt.Key.Key_Space)
    qtbot.waitUntil(started.bundles.isVisible)
    started.bundles.close()


def test_a_chosen_bundle_is_used_and_remembered_by_name(started, installed, qtbot):
    entries(started)["keeping"].trigger()
    in_use(started, "keeping", qtbot)
    assert started.state.text().startswith("Bundle keeping · CPU")
    assert settings.load().bundle == "keeping"
    assert [text for text, action in entries(started).items() if action.isChecked()] == ["keeping"]
    started.choose_bundle("keeping")
    assert started.statusBar().currentMessage() == "Bundle keeping is in use already."
    assert not started.engine.busy


def test_a_bundle_elsewhere_is_remembered_by_its_folder(started, signs, monkeypatch, qtbot):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(signs))
    entries(started)["&Open another folder …"].trigger()
    in_use(started, "signs", qtbot)
    assert settings.load().bundle == str(signs)
    assert settings.load().last_folder == str(signs.parent)


def test_the_bundle_of_the_command_line_is_not_remembered(started):
    started.close()
    assert settings.load().bundle == ""


def test_a_folder_that_holds_no_bundle_is_said_and_changes_nothing(started, tmp_path):
    started.choose_bundle(str(tmp_path))
    (box,) = started.findChildren(QMessageBox)
    assert str(tmp_path) in box.text()
    assert not box.isModal()
    assert started.engine.loading == ""
    assert started.engine.info.card.name == "untrained"


def test_a_damaged_bundle_is_said_and_not_remembered(make_window, untrained_bundle, installed, qtbot):
    window = make_window(Settings(bundle="paper"))
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=TIMEOUT)
    (installed / "classifier.safetensors").unlink()
    window.choose_bundle("keeping")
    qtbot.waitUntil(lambda: bool(window.findChildren(QMessageBox)), timeout=TIMEOUT)
    (box,) = window.findChildren(QMessageBox)
    assert str(installed / "classifier.safetensors") in box.text()
    assert "Install the bundle again. Bundle 'untrained' stays in use." in box.text()
    assert window.state.text().startswith("Bundle untrained · CPU")
    assert window.settings.bundle == "paper"


def test_while_other_work_runs_the_choice_waits_and_that_is_said(started, installed, qtbot):
    running = started.engine.submit(busy_work, lambda _: None)
    started.choose_bundle("keeping")
    assert started.state.text() == "Bundle keeping waits …"
    assert "when the running work is finished or cancelled" in started.statusBar().currentMessage()
    reason = "Wait until bundle keeping is loaded."
    assert started.page(InspectPage).panel.button.toolTip() == reason
    assert started.page(EvaluatePage).panel.start.toolTip() == reason
    running.cancel()
    in_use(started, "keeping", qtbot)
    assert started.page(InspectPage).panel.button.toolTip() != reason
    assert started.page(EvaluatePage).panel.start.toolTip() != reason


def test_a_menu_that_opens_often_keeps_no_old_actions(started, qtbot):
    counts = []
    for _ in range(4):
        started.bundles.aboutToShow.emit()
        qtbot.wait(20)
        counts.append((len(started.bundles.findChildren(QAction)), len(started.bundles.findChildren(QActionGroup))))
    assert len(set(counts[1:])) == 1
    assert counts[-1][1] == 1

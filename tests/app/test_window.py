"""The window around the pages: actions, messages, what it remembers, how it fits a screen."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QLabel,
    QMessageBox,
    QTabWidget,
)

from ciad_app import settings, theme
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.incoming import Incoming, OpenedRow
from ciad_app.inspect.page import InspectPage
from ciad_app.model_card import ModelCardDialog
from ciad_app.page import Page
from ciad_app.pages import PAGES
from ciad_app.settings import Settings
from tests.app.steps import actions, busy_work, urls


def test_title_icon_and_the_state_of_the_models(window, untrained_bundle, qtbot):
    assert window.windowTitle() == "CIAD"
    assert not window.windowIcon().pixmap(64, 64).isNull()
    window.loading()
    assert "Loading models" in window.state.text()
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    assert window.state.text().startswith("Bundle untrained · CPU")
    assert str(untrained_bundle) in window.state.toolTip()


def test_models_that_cannot_be_loaded_are_explained_without_blocking(window, tmp_path, qtbot):
    window.engine.start(str(tmp_path / "missing"), "cpu")
    qtbot.waitUntil(lambda: window.state.text().strip() == "No models", timeout=60_000)
    assert "missing" in window.state.toolTip()
    (box,) = window.findChildren(QMessageBox)
    assert not box.isModal()
    assert "missing" in box.text()


def test_every_action_has_a_tip_and_no_two_have_the_same_shortcut(window):
    found = actions(window)
    assert {"Open …", "Open folder …", "Paste", "Save image …", "Copy", "Export …", "Quit", "Larger text"} <= set(found)
    assert {"About CIAD", "Copy debug info", "Show log file", "Cancel", "Dark"} <= set(found)
    for name, action in found.items():
        assert action.statusTip(), name
    keys = [key.toString() for action in found.values() for key in action.shortcuts()]
    assert len(keys) == len(set(keys))


class Notes(Page):
    """A page that the window does not know."""

    title, tip, menu = "Notes", "Text about a picture", "&Notes"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.taken, self.done = [], []

    def menu_rows(self):
        return (("&Write", lambda: self.done.append("written"), "Write a note", ("Ctrl+Return",)),)

    def take(self, thing):
        self.taken.append(thing)
        return isinstance(thing, Incoming) and thing.paths[0].suffix == ".txt"

    def copy(self):
        self.done.append("copied")

    def export(self):
        self.done.append("exported")

    def stop(self):
        self.done.append("stopped")


def test_a_page_that_the_window_does_not_know_brings_its_own_menu_and_drops(make_window, tmp_path, qtbot):
    window = make_window(Settings(page="Notes"), kinds=(InspectPage, Notes))
    notes = window.page(Notes)
    assert window.shown is notes
    assert "Text about a picture (Ctrl+2)" in window.pages.tabToolTip(1)
    menus = {made.text(): made.isVisible() for made in window.menuBar().actions()}
    assert menus["&Notes"]
    assert not menus["&Image"]
    for name in ("Write", "Copy", "Export …"):
        actions(window)[name].trigger()
    assert notes.done == ["written", "copied", "exported"]
    actions(window)["Inspect"].trigger()
    assert "Write" not in actions(window)
    assert "Attack" in actions(window)
    (tmp_path / "a.txt").write_text("text")
    window.take(urls(tmp_path / "a.txt"), "")  # Inspect is asked first, but takes every path
    assert notes.taken == []
    window.show_page(Notes)
    window.take(urls(tmp_path / "a.txt"), "")
    assert window.shown is notes
    window.take(urls(tmp_path / "a.png"), "")
    assert len(notes.taken) == 2
    assert type(window.shown) is InspectPage
    window.close()
    assert settings.load().page == "Inspect"
    assert notes.done[-1] == "stopped"


class Plain(Page):
    title, tip, menu = "Plain", "Brings nothing", "&Plain"


def test_a_page_that_brings_nothing_of_its_own_says_so(make_window, tmp_path):
    window = make_window(Settings(page="Plain"), kinds=(InspectPage, Plain))
    for name, verb in (("Copy", "copy"), ("Export …", "export")):
        actions(window)[name].trigger()
        assert window.statusBar().currentMessage() == f"There is nothing to {verb} on page Plain."
    window.take(urls(tmp_path / "a.png"), "")
    assert type(window.shown) is InspectPage


def test_pages_change_by_their_actions_and_evaluate_is_built_on_first_use(window, qtbot):
    assert EvaluatePage not in window._built
    actions(window)["Evaluate"].trigger()
    assert window.pages.currentIndex() == 1
    qtbot.waitUntil(window.page(EvaluatePage).isVisible)
    assert window.shown is window.page(EvaluatePage) is window._built[EvaluatePage]
    actions(window)["Inspect"].trigger()
    assert window.page(InspectPage).isVisible()


def test_font_size_and_colours_are_changed_kept_and_taken_back(make_window, own_folders):
    window = make_window()
    usual = theme.system_font_size(QApplication.instance())
    found = actions(window)
    found["Larger text"].trigger()
    found["Larger text"].trigger()
    found["Dark"].trigger()
    assert QApplication.font().pointSize() == usual + 2
    assert theme.is_dark(QApplication.instance())
    assert settings.load() == window.settings
    assert settings.load().scheme == "dark"
    found["Smaller text"].trigger()
    assert QApplication.font().pointSize() == usual + 1
    found["Normal text"].trigger()
    assert QApplication.font().pointSize() == usual
    assert settings.load().font_size == 0


def test_place_and_page_are_remembered(make_window):
    window = make_window()
    window.resize(780, 560)
    window.show_page(EvaluatePage)
    window.close()
    again = make_window(settings.load())
    assert again.pages.currentIndex() == 1
    assert (again.width(), again.height()) == (780, 560)


def test_the_demonstration_remembers_nothing(make_window):
    window = make_window(remember=False)
    window.close()
    assert not settings.path().exists()


def test_a_window_that_was_on_a_projector_comes_back_to_the_screen(make_window):
    window = make_window()
    window.move(9000, 7000)
    kept = Settings(geometry=window.saveGeometry().toBase64().data().decode())
    again = make_window(kept)
    assert QApplication.primaryScreen().availableGeometry().contains(again.frameGeometry())


def test_the_first_window_fits_the_screen(make_window):
    assert QApplication.primaryScreen().availableGeometry().contains(make_window().frameGeometry())


def test_no_action_has_a_key_twice_nor_two_actions_the_same(window):
    keys = [key.toString() for made in actions(window).values() for key in made.shortcuts()]
    assert len(keys) == len(set(keys)) > 10
    assert "Ctrl+Q" in keys


def test_broken_geometry_does_no_harm(make_window):
    assert make_window(Settings(geometry="not base 64 at all")).width() > 600


def test_a_message_of_several_lines_is_a_box_that_blocks_nothing(window):
    window.say("2 of 3 were not opened:\n<b>a.txt</b> is no picture.\nb.txt is no picture.")
    assert window.statusBar().currentMessage() == "2 of 3 were not opened:"
    (box,) = window.findChildren(QMessageBox)
    assert not box.isModal()
    assert box.textFormat() is Qt.TextFormat.PlainText
    assert "b.txt" in box.text()


def test_a_message_too_long_for_the_status_bar_is_a_box_too(window):
    window.say("Saved to a short place")
    assert window.findChildren(QMessageBox) == []
    window.say("Saved " + "/a/long/path" * 30)
    (box,) = window.findChildren(QMessageBox)
    assert box.text().startswith("Saved /a/long")
    assert not box.isModal()


def test_the_folder_of_the_last_file_is_kept_as_a_whole_path(make_window, tmp_path, monkeypatch, opened):
    window = make_window()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.png").write_bytes(b"")
    window.open_paths([Path("cat.png")])
    assert window.settings.last_folder == str(tmp_path)
    for place, page in (("exports", window.page(InspectPage)), ("tables", window.page(EvaluatePage))):
        page.folder_used.emit(str(tmp_path / place))
        assert window.settings.last_folder == str(tmp_path / place)
    window.close()
    assert settings.load().last_folder == str(tmp_path / "tables")


def lines_of(label):
    """The height of a label's text at the width it has."""
    return label.fontMetrics().boundingRect(label.rect(), int(Qt.TextFlag.TextWordWrap), label.text()).height()


@pytest.mark.parametrize(("width", "height", "points"), [(1024, 768, 9), (1280, 720, 14), (1920, 1080, 20)])
def test_the_page_fits_a_projector(make_window, untrained_bundle, qtbot, width, height, points):
    window = make_window(Settings(font_size=points))
    theme.apply(QApplication.instance(), window.settings)
    window.resize(width, height)
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    qtbot.wait(50)
    page = window.page(InspectPage)
    least = page.minimumSizeHint()
    place = window.pages.currentWidget().size()
    assert (window.width(), window.height()) == (width, height)
    assert least.width() <= place.width()
    assert least.height() <= place.height()
    assert page.size() == place  # neither squeezed nor scrolled
    values = page.panel.results.values
    # Waited for: the last round of layouts after a change of the font may still be on its way.
    qtbot.waitUntil(lambda: [title for title, label in values.items() if label.height() < lines_of(label)] == [])
    bar = page.verdict
    bar.show_verdict("FALSE ALARM", "the classifier says automobile (>99 %), the mask says airplane (55 %). " * 2, "")
    assert bar.sentence.height() >= lines_of(bar.sentence)


def test_larger_text_grows_the_lines_of_the_result(window, qtbot):
    label = window.page(InspectPage).panel.results.values["cost"]
    before = label.minimumHeight()
    for _ in range(6):
        actions(window)["Larger text"].trigger()
    qtbot.wait(20)
    assert label.minimumHeight() >= 2 * label.fontMetrics().lineSpacing() > before


def test_a_smaller_window_scrolls_instead_of_squeezing(window, qtbot):
    window.resize(500, 300)
    qtbot.wait(20)
    assert window.page(InspectPage).width() >= window.page(InspectPage).minimumSizeHint().width() > window.pages.width()
    assert window.page(InspectPage).height() >= window.page(InspectPage).minimumSizeHint().height()


def test_no_two_menu_letters_are_the_same(window, untrained_bundle, qtbot):
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    for kind in PAGES:
        window.show_page(kind)
        page, menus = window.shown, [action.text() for action in window.menuBar().actions() if action.isVisible()]
        labels = [label.text() for label in page.findChildren(QLabel) if label.buddy() is not None]
        buttons = [button.text() for button in page.findChildren(QAbstractButton)]
        tabs = [tab.tabText(k) for tab in page.findChildren(QTabWidget) for k in range(tab.count())]
        letters = [
            m.lower()
            for text in (*menus, *labels, *buttons, *tabs)
            for m in re.findall(r"&([^&\s])", text.replace("&&", ""))
        ]
        assert sorted(letters) == sorted(set(letters)), kind


def test_debug_info_names_versions(window):
    actions(window)["Copy debug info"].trigger()
    text = QApplication.clipboard().text()
    assert text.startswith("CIAD ")
    assert "torch" in text


def test_the_model_card_is_a_menu_away(window, untrained_bundle, qtbot):
    actions(window)["Model card"].trigger()
    assert "still being loaded" in window.statusBar().currentMessage()
    window.engine.start(str(untrained_bundle), "cpu")
    qtbot.waitUntil(lambda: window.engine.info is not None, timeout=60_000)
    actions(window)["Model card"].trigger()
    (dialog,) = window.findChildren(ModelCardDialog)
    assert dialog.isVisible()
    assert window.engine.info.card.checksum[:12] in dialog.text.toPlainText()
    dialog.reject()


def test_about_shows_versions(window, monkeypatch):
    shown = []
    monkeypatch.setattr(QMessageBox, "about", lambda *arguments: shown.append(arguments[2]))
    actions(window)["About CIAD"].trigger()
    assert "MIT licence" in shown[0]
    assert "PySide6" in shown[0]


def test_closing_while_work_runs_cancels_it_and_nothing_arrives(make_window, untrained_bundle, qtbot):
    window, arrived, stopped = make_window(), [], threading.Event()

    def work(session, job):
        try:
            busy_work(session, job)
        finally:
            stopped.set()

    window.engine.start(str(untrained_bundle), "cpu")
    window.engine.submit(work, arrived.append, cancelled=lambda: arrived.append("cancelled"))
    qtbot.waitUntil(lambda: "Attacking" in window.progress.label.text(), timeout=60_000)
    with qtbot.waitSignal(window.closed):
        window.close()
    assert window.ended
    assert stopped.is_set()
    qtbot.wait(30)
    assert arrived == []


def test_a_row_of_an_evaluation_is_shown_on_inspect(window, monkeypatch):
    import numpy as np

    image = np.zeros((3, 32, 32), np.uint8)
    window.show_page(EvaluatePage)
    window.page(EvaluatePage).handed_on.emit(OpenedRow(image, 3, image + 1, "test/cat/0001.png"))
    assert window.pages.tabText(window.pages.currentIndex()) == InspectPage.title
    entry = window.page(InspectPage).gallery.current()
    assert entry.name == "test/cat/0001.png"
    assert entry.label == 3
    assert (entry.adversarial == 1).all()


def test_icon_file_is_installed_with_the_resources():
    from ciad_engine import resources

    assert Path(resources.path("icons", "ciad.svg")).is_file()

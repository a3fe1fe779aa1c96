from __future__ import annotations

import pyqtgraph
import pytest
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QLabel

from ciad_app import theme
from ciad_app.settings import Settings


@pytest.fixture
def app(qapp):
    theme.prepare(qapp)
    yield qapp
    theme.apply(qapp, Settings())


def test_images_are_row_major(app):
    assert pyqtgraph.getConfigOption("imageAxisOrder") == "row-major"


def test_dark_and_light_are_told_to_widgets_and_taken_back(app, qtbot):
    label = QLabel("text")
    qtbot.addWidget(label)
    label.show()
    theme.apply(app, Settings(scheme="dark"))
    qtbot.wait(1)  # Qt tells the widgets by an event
    assert theme.is_dark(app)
    assert label.palette().color(QPalette.ColorRole.WindowText).lightness() > 150
    theme.apply(app, Settings(scheme="light"))
    qtbot.wait(1)
    assert not theme.is_dark(app)
    assert label.palette().color(QPalette.ColorRole.WindowText).lightness() < 100


def test_texts_can_be_read_in_both(app):
    for scheme in ("light", "dark"):
        theme.apply(app, Settings(scheme=scheme))
        palette = app.palette()
        for text, ground in (
            (QPalette.ColorRole.WindowText, QPalette.ColorRole.Window),
            (QPalette.ColorRole.Text, QPalette.ColorRole.Base),
            (QPalette.ColorRole.ButtonText, QPalette.ColorRole.Button),
            (QPalette.ColorRole.ToolTipText, QPalette.ColorRole.ToolTipBase),
        ):
            assert abs(palette.color(text).lightness() - palette.color(ground).lightness()) > 100, (scheme, text)


def test_the_font_size_reaches_widgets_and_goes_back(app, qtbot):
    label = QLabel("text")
    qtbot.addWidget(label)
    label.show()
    usual = theme.system_font_size(app)
    theme.apply(app, Settings(font_size=23))
    qtbot.wait(1)
    assert label.font().pointSize() == 23
    theme.apply(app, Settings())
    qtbot.wait(1)
    assert label.font().pointSize() == usual


def test_steps_of_the_font_size_stay_within_what_is_allowed(app):
    assert theme.font_size(app, Settings(font_size=12), 1) == 13
    assert theme.font_size(app, Settings(), 1) == theme.system_font_size(app) + 1
    assert theme.font_size(app, Settings(font_size=40), 1) == 40
    assert theme.font_size(app, Settings(font_size=6), -1) == 6

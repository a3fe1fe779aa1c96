"""Boxes for numbers beyond the forms of attacks: how many images, and the seed."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt

from ciad_app.evaluate.setup_panel import SetupPanel
from ciad_engine.evaluation.planning import HIGHEST_SEED


@pytest.mark.parametrize("name", ["limit", "seed"])
@pytest.mark.parametrize(("text", "value"), [("1e3", 1000), ("+7", 7), ("12.0", 12), ("1 000", 1000), ("2_0", 20)])
def test_every_notation_is_understood(qtbot, name, text, value):
    panel = SetupPanel()
    qtbot.addWidget(panel)
    box = getattr(panel, name)
    box.setEnabled(True)
    box.setMaximum(5000)
    box.setSuffix(" of 5,000" if name == "limit" else "")
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == value
    box.interpretText()  # what is shown, with its unit, means the same
    assert box.value() == value


@pytest.mark.parametrize("text", ["1.5", "-3", "1,000", "1.000", "1e40", "nan", "seven"])
def test_what_is_none_leaves_the_number_from_before(qtbot, text):
    panel = SetupPanel()
    qtbot.addWidget(panel)
    panel.seed.setValue(HIGHEST_SEED)
    assert panel.seed.value() == HIGHEST_SEED
    panel.seed.selectAll()
    qtbot.keyClicks(panel.seed, text)
    qtbot.keyClick(panel.seed, Qt.Key.Key_Return)
    assert panel.seed.value() == HIGHEST_SEED


def test_the_number_from_before_is_the_one_that_was_accepted_last(qtbot):
    panel = SetupPanel()
    qtbot.addWidget(panel)
    box = panel.seed
    for text, value in (("16", 16), ("abc", 16)):
        box.selectAll()
        qtbot.keyClicks(box, text)
        qtbot.keyClick(box, Qt.Key.Key_Return)
        assert box.value() == value
    qtbot.keyClick(box, Qt.Key.Key_Up)
    box.selectAll()
    qtbot.keyClicks(box, "abc")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == 17

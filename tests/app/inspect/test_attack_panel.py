"""The order in which the keyboard goes through the panel."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget

from ciad_app.inspect.attack_panel import AttackPanel
from ciad_engine import attacks


def order(panel: AttackPanel) -> list[QWidget]:
    """Return what Tab reaches from the choice of the attack on, inside the panel."""
    panel.attack.setFocus()
    found: list[QWidget] = []
    while (widget := QApplication.focusWidget()) not in found and widget is not None:
        found.append(widget)
        panel.focusNextChild()
    return found


@pytest.mark.parametrize("name", ["fgsm", "cw"])
def test_tab_goes_from_the_attack_through_its_form_to_the_buttons(name, qtbot):
    panel = AttackPanel()
    qtbot.addWidget(panel)
    panel.set_attacks(tuple(attacks.usable().values()), ("cat", "dog"))
    panel.choose(name, {})
    panel.set_ready("", "")
    panel.show()
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow)
    found = order(panel)
    editors = [widget for widget in panel.form.in_order() if widget.isEnabled()]
    assert len(editors) >= 3
    start = found.index(panel.attack)
    assert found[start + 1 : start + 1 + len(editors)] == editors
    assert found[start + 1 + len(editors) :][:3] == [panel.knows, panel.button, panel.stop]


def test_the_button_shows_that_it_has_the_focus(qtbot):
    panel = AttackPanel()
    qtbot.addWidget(panel)
    panel.set_ready("", "")
    panel.resize(330, 640)
    panel.show()
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow)
    panel.attack.setFocus()
    before = panel.grab(panel.button.geometry()).toImage()
    panel.knows.setFocus()
    qtbot.keyClick(panel.knows, Qt.Key.Key_Tab)
    assert panel.button.hasFocus()
    assert panel.grab(panel.button.geometry()).toImage() != before

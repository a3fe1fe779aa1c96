"""F1."""

from ciad_app.evaluate.page import EvaluatePage
from ciad_app.keys import KeysDialog, lines
from tests.app.steps import actions


def test_f1_lists_every_action_of_every_page_with_its_keys(window):
    actions(window)["Keys and actions"].trigger()  # no page but the first was opened
    window.findChildren(KeysDialog)[0].reject()
    assert EvaluatePage in window._built
    listed = [row for _, rows in lines(window.menuBar()) for row in rows]
    for kind in window._kinds:
        window.show_page(kind)
        for name, action in actions(window).items():
            keys = ", ".join(key.toString() for key in action.shortcuts())
            assert (keys, name, action.statusTip()) in listed, name
    actions(window)["Keys and actions"].trigger()
    dialog = next(one for one in window.findChildren(KeysDialog) if one.isVisible())
    shown = dialog.text.toPlainText()
    assert "Ctrl+Return" in shown
    assert "Evaluate with these settings" in shown
    assert "Space, held" in shown
    dialog.reject()

"""The card in a window."""

from PySide6.QtWidgets import QApplication

from ciad_app.model_card import ModelCardDialog, card_html
from ciad_engine import bundles
from ciad_engine.evaluation import model_card


def test_the_card_is_shown_whole_and_can_be_copied(qtbot, untrained_bundle):
    card = bundles.read_card(untrained_bundle)
    dialog = ModelCardDialog(card)
    qtbot.addWidget(dialog)
    shown = dialog.text.toPlainText()
    for section in model_card.sections(card):
        assert section.title in shown
        assert all(name in shown and value in shown for name, value in section.figures)
    dialog.copy.click()
    assert QApplication.clipboard().text() == shown
    assert QApplication.clipboard().mimeData().hasHtml()


def test_what_a_card_says_is_text_not_markup(untrained_bundle):
    card = bundles.read_card(untrained_bundle)
    card.content.update(title="<b>a</b>", limits=["<img src=x>"])
    written = card_html(card)
    assert "&lt;b&gt;" in written
    assert "<img" not in written

"""The card of the loaded bundle in a window of its own: what it is, how it was made, how well it does."""

from __future__ import annotations

import html

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QWidget

from ciad_app.copying import to_clipboard
from ciad_app.widgets.build import button, in_column
from ciad_engine import bundles
from ciad_engine.evaluation.model_card import Section, sections
from ciad_engine.evaluation.table import render_html

_SIZE = QSize(900, 700)


class ModelCardDialog(QDialog):
    """Shows a card; it can be copied as a whole. Raises BundleError where the card cannot be read."""

    def __init__(self, card: bundles.Card, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Model card of {card.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser()
        self.text.setAccessibleName("Model card")
        self.text.setHtml(card_html(card))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.copy = button("Copy", "Copy the whole card, for a text or a word processor")
        buttons.addButton(self.copy, QDialogButtonBox.ButtonRole.ActionRole)
        in_column(self.text, buttons, parent=self)
        buttons.rejected.connect(self.reject)
        self.copy.clicked.connect(lambda: to_clipboard(self.text.toPlainText(), card_html(card)))
        self.resize(_SIZE)


def card_html(card: bundles.Card) -> str:
    """The card as HTML. Raises BundleError."""
    text = ""
    for section in sections(card):
        level = 3 if text else 2
        text += f"<h{level}>{html.escape(section.title)}</h{level}>{_body(section)}"
    return text


def _body(section: Section) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(name)}&nbsp;&nbsp;</td><td>{html.escape(value)}</td></tr>"
        for name, value in section.figures
    )
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in section.sentences)
    text = (f"<table>{lines}</table>" if lines else "") + (f"<ul>{sentences}</ul>" if sentences else "")
    return text + "".join(render_html(table) for table in section.tables)

"""Every action with its keys, as a page (F1)."""

from __future__ import annotations

import html

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QMenu, QMenuBar, QTextBrowser, QWidget

from ciad_app.widgets.build import in_column

_SIZE = QSize(760, 620)
# Keys that are no action of a menu.
_OTHERS = (
    ("Space, held", "See the adversarial image in the original's place (Inspect)"),
    ("Esc", "Stop the attack, go back to the original image, leave the presenter view"),
    ("Arrows, +, −, 0", "In a picture: move the marked pixel, zoom, show the whole image"),
    ("Delete", "In the history: forget the attack"),
)


def lines(bar: QMenuBar) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return for each menu its title and its actions: keys, text, tip; those of other pages, too."""
    found = []
    for entry in bar.actions():
        menu = entry.menu()
        if isinstance(menu, QMenu):
            found.append((_plain(menu.title()), _of(menu)))
    return found


def _of(menu: QMenu) -> list[tuple[str, str, str]]:
    rows = []
    for action in menu.actions():
        inner = action.menu()
        if isinstance(inner, QMenu):
            rows += _of(inner)
        elif not action.isSeparator():
            keys = [key.toString(QKeySequence.SequenceFormat.NativeText) for key in action.shortcuts()]
            rows.append((", ".join(keys), _plain(action.text()), action.statusTip()))
    return rows


def _plain(text: str) -> str:
    return text.replace("&&", "\0").replace("&", "").replace("\0", "&")


class KeysDialog(QDialog):
    """Lists the actions of a menu bar."""

    def __init__(self, bar: QMenuBar, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys and actions")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser()
        self.text.setAccessibleName("Keys and actions")
        parts = [f"<h3>{html.escape(title)}</h3>{_table(rows)}" for title, rows in lines(bar)]
        others = [(keys, "", tip) for keys, tip in _OTHERS]
        self.text.setHtml("".join([*parts, f"<h3>Without a menu</h3>{_table(others)}"]))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        in_column(self.text, buttons, parent=self)
        self.resize(_SIZE)


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><b>{html.escape(keys)}</b>&nbsp;&nbsp;</td><td>{html.escape(text)}&nbsp;&nbsp;</td>"
        f"<td>{html.escape(tip)}</td></tr>"
        for keys, text, tip in rows
    )
    return f"<table>{cells}</table>"

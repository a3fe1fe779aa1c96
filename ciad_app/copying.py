"""What Ctrl+C means where the keyboard is: a selected text or selected rows go before the page's own picture."""

from __future__ import annotations

from PySide6.QtCore import QMimeData
from PySide6.QtWidgets import QApplication, QLabel, QTableView, QWidget

_OURS = "application/x-ciad"  # marks what this program put into the clipboard; not every platform knows the owner


def to_clipboard(text: str, html: str) -> None:
    """Copy something that is text to some programs and formatted to others."""
    data = QMimeData()
    data.setText(text)
    data.setHtml(html)
    data.setData(_OURS, b"1")
    QApplication.clipboard().setMimeData(data)


def release_clipboard() -> None:
    """Leave plain text of what `to_clipboard` put there; to be called at the program's end.

    Qt destroys what is in its clipboard after Python has ended, and what was made in Python crashes then.
    """
    clipboard = QApplication.clipboard()
    data: QMimeData | None = clipboard.mimeData()  # None where it is empty, whatever the stub says
    if data is not None and data.hasFormat(_OURS):
        clipboard.setText(clipboard.text())


def selected_text(focus: QWidget | None) -> str:
    """The selection of the widget with the focus as text, "" where it has none; cells are parted by tabs."""
    if isinstance(focus, QLabel):
        return focus.selectedText()
    if isinstance(focus, QTableView):
        rows: dict[int, list[str]] = {}
        for index in sorted(focus.selectedIndexes(), key=lambda i: (i.row(), i.column())):
            rows.setdefault(index.row(), []).append(str(index.data() or ""))
        return "\n".join("\t".join(cells) for cells in rows.values())
    return ""

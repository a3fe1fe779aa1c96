"""What Ctrl+C means where the keyboard is: a selected text or selected rows go before the page's own picture."""

from __future__ import annotations

from PySide6.QtWidgets import QLabel, QTableView, QWidget


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

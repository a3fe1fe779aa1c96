"""The pages for users in `resources/docs`, shown under Help."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QWidget

from ciad_app.widgets.build import in_column
from ciad_engine import resources

_SIZE = QSize(900, 700)


def pages() -> dict[str, Path]:
    """Return the files by their titles, which are their first lines; the lesson comes first."""
    files = sorted(resources.path("docs").glob("*.md"), key=lambda file: (file.stem != "lesson", file.stem))
    return {_title(file): file for file in files}


def _title(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return lines.readline().strip("# \n")


class DocumentDialog(QDialog):
    """Shows a page; links to other pages work."""

    def __init__(self, title: str, file: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser()
        self.text.setAccessibleName(title)
        self.text.setOpenExternalLinks(True)
        self.text.setSource(QUrl.fromLocalFile(str(file)), QTextDocument.ResourceType.MarkdownResource)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        in_column(self.text, buttons, parent=self)
        self.resize(_SIZE)

"""Asking for a folder that files are to be written to: one that is there, or a new one by its name."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtWidgets import QDialog, QFileDialog, QWidget


class FolderDialog(QFileDialog):
    """A dialog for a folder which also takes the name of one that is not there yet; nothing is made."""

    def __init__(self, parent: QWidget | None, title: str, folder: str) -> None:
        super().__init__(parent, title, folder)
        self.setFileMode(QFileDialog.FileMode.Directory)
        self.setOption(QFileDialog.Option.ShowDirsOnly)

    def accept(self) -> None:
        chosen = self.selectedFiles()
        if len(chosen) == 1 and chosen[0] and not os.path.lexists(chosen[0]):
            QDialog.accept(self)  # QFileDialog's own says "Directory not found" and stays open
        else:
            super().accept()


def ask_folder(parent: QWidget, title: str, folder: str) -> Path | None:
    """Return the folder that a person chooses, which may not exist yet; None if it was cancelled."""
    dialog = FolderDialog(parent, title, folder)
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    dialog.deleteLater()
    return Path(dialog.selectedFiles()[0]) if accepted and dialog.selectedFiles() else None

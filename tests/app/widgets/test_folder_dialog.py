"""Asking for a folder to write to, with Qt's own dialog and what a person types in it."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit, QMessageBox, QWidget

from ciad_app.widgets import folder_dialog


@pytest.fixture(autouse=True)
def qts_own_dialog(monkeypatch):
    real = folder_dialog.FolderDialog.__init__

    def init(self, *arguments):
        real(self, *arguments)
        self.setOption(QFileDialog.Option.DontUseNativeDialog)

    monkeypatch.setattr(folder_dialog.FolderDialog, "__init__", init)


@pytest.mark.parametrize("typed", ["new", "new/deeper", "there", "."])
def test_a_folder_that_is_there_or_not_is_taken(typed, tmp_path, qtbot):
    (tmp_path / "there").mkdir()
    parent = QWidget()
    qtbot.addWidget(parent)
    boxes = []

    def type_it():
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, QMessageBox):
            boxes.append(dialog.text())
            dialog.reject()
            return
        dialog.findChild(QLineEdit, "fileNameEdit").setText(str(tmp_path / typed))
        QTimer.singleShot(200, give_up)
        dialog.accept()

    def give_up():
        while (dialog := QApplication.activeModalWidget()) is not None:
            boxes.append(dialog.windowTitle())
            dialog.reject()
            QApplication.processEvents()

    QTimer.singleShot(0, type_it)
    assert folder_dialog.ask_folder(parent, "Where", str(tmp_path)) == tmp_path / typed
    assert not boxes
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

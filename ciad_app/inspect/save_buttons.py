"""Save, copy and export what page Inspect shows: the buttons, and what they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication, QPixmap
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ciad_app.inspect import saving
from ciad_app.worker import Engine
from ciad_engine import imaging
from ciad_engine.errors import CiadError
from ciad_engine.figures import svg
from ciad_engine.figures.inspected import of_inspection
from ciad_engine.figures.layout import place
from ciad_engine.inspection import Inspection


class SaveButtons(QWidget):
    """The three buttons, each usable where there is something to write.

    Args:
        engine: its bundle and device go into the exported record.
        rows: the widgets that make up the picture of the view, row by row.

    Attributes:
        folder: where dialogs start.

    Signals:
        message: what a person should read once.
        folder_used: the folder in which something was written.
    """

    message = Signal(str)
    folder_used = Signal(str)

    def __init__(self, engine: Engine, rows: Sequence[Sequence[QWidget]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._engine, self._rows = engine, rows
        self._found: Inspection | None = None
        self._attacked: Sequence[tuple[str, Inspection]] = ()
        self.folder = ""
        self.save = button("Save image …", "", lambda: self.save_image())
        self.copy = button("Copy", "", self.copy_view)
        self.export = button("Export …", "", lambda: self.export_view())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for each in (self.save, self.copy, self.export):
            layout.addWidget(each)
        self.follow(None)

    def follow(self, found: Inspection | None, attacked: Sequence[tuple[str, Inspection]] = ()) -> None:
        """Write this record from now on; None where there is nothing yet.

        `attacked` are the attacks on its image that fooled f1, with their names, for the figure.
        """
        self._found, self._attacked = found, attacked
        changed = found is not None and found.attacked_image is not None
        for each, usable, help, why in (
            (self.save, changed, "Save the adversarial image as a PNG of its own size.", "Press Attack first."),
            (self.copy, found is not None, "Copy the view to the clipboard.", "Select an image first."),
            (
                self.export,
                found is not None,
                "Write the view (PNG), the record, and a figure (SVG) with every attack on this image that fooled f1.",
                "Select an image first.",
            ),
        ):
            each.setEnabled(usable)
            each.setToolTip(help if usable else why)

    def save_image(self, path: Path | None = None, overwrite: bool = False) -> bool:
        """Write the adversarial image as a PNG of its own size, asking for a path if none is given.

        Without `overwrite` an existing file at a given path is left as it is, with a message.
        """
        changed = None if self._found is None else self._found.attacked_image
        if self._found is None or changed is None:
            self.message.emit("There is no adversarial image to save yet: press Attack first.")
            return False
        name = f"{saving.stem(self._found)}.png"
        return self._write("Save the adversarial image", name, path, overwrite, {".png": imaging.png_bytes(changed)})

    def export_view(self, path: Path | None = None, overwrite: bool = False) -> bool:
        """Write the view as PNG, record (JSON) and figure (SVG) beside it, asking for a path if none is given.

        The figure is the paper's Figure 3 for this image: the original and what each attack on it made that fooled f1.
        """
        found, info = self._found, self._engine.info
        if found is None or info is None:
            self.message.emit("There is nothing to export yet: select an image first.")
            return False
        attacked = list(self._attacked)
        changed, known = found.attacked_image, [each.attacked_image for _, each in attacked]
        if changed is not None and not any(np.array_equal(changed, each) for each in known if each is not None):
            attacked.append(("adversarial", found))  # it was made on page Evaluate
        contents = {
            ".png": saving.png(self.composed()),
            ".json": saving.record(found, info),
            ".svg": svg.draw(place(of_inspection(found, attacked))),
        }
        return self._write("Export view and record", f"{saving.stem(found)}-view.png", path, overwrite, contents)

    def copy_view(self) -> None:
        """Put the view on the clipboard."""
        QGuiApplication.clipboard().setPixmap(self.composed())
        self.message.emit("The view is on the clipboard.")

    def composed(self) -> QPixmap:
        """The view as one picture, at twice the size of the screen."""
        return saving.compose(self._rows)

    def _write(self, title: str, name: str, path: Path | None, overwrite: bool, contents: Mapping[str, bytes]) -> bool:
        """Ask for a path if none is given, write, and say so."""
        chosen = path or saving.ask(self, title, self.folder, name)
        if chosen is None:
            return False
        try:
            # The dialog has asked before it gave an existing file; that answer counts for what lies beside it, too.
            saving.write(chosen, contents, overwrite or (path is None and chosen.exists()))
        except CiadError as error:
            self.message.emit(str(error))
            return False
        self.folder = str(chosen.parent)
        self.folder_used.emit(self.folder)
        self.message.emit(f"Saved {chosen}")
        return True


def button(text: str, help: str, slot: Callable[[], object]) -> QPushButton:
    """A button with its tool tip; `slot` is called without arguments."""
    made = QPushButton(text)
    made.setToolTip(help)
    made.clicked.connect(lambda: slot())
    return made

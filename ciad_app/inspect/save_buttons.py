"""Save, copy and export what page Inspect shows: the buttons, and what they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from ciad_app.incoming import SESSION
from ciad_app.inspect import saving, session_file
from ciad_app.inspect.session_file import View
from ciad_app.widgets.build import button, in_column
from ciad_app.worker import Engine
from ciad_engine import imaging
from ciad_engine.errors import CiadError
from ciad_engine.figures import svg
from ciad_engine.figures.inspected import of_inspection
from ciad_engine.figures.layout import place
from ciad_engine.inspection import Inspection


class SaveButtons(QWidget):
    """The three buttons, each usable if there is something to write."""

    message = Signal(str)  # what a person should read once
    folder_used = Signal(str)  # something was written in it

    def __init__(self, engine: Engine, rows: Sequence[Sequence[QWidget]]) -> None:
        """Bundle and device of `engine` go into the record; the widgets in `rows` make up the picture of the view."""
        super().__init__()
        self._engine, self._rows = engine, rows
        self._found: Inspection | None = None
        self._attacked: Sequence[tuple[str, Inspection]] = ()
        self.folder = ""  # in which dialogs start
        self.inputs: set[Path] = set()  # the files that were opened, which are never written over
        self.save = button("Save image …", slot=self.save_image)
        self.copy = button("Copy", slot=self.copy_view)
        self.export = button("Export …", slot=self.export_view)
        in_column(self.save, self.copy, self.export, parent=self, margins=0, spacing=2)
        self.follow(None)

    def follow(self, found: Inspection | None, attacked: Sequence[tuple[str, Inspection]] = ()) -> None:
        """Write this record from now on; None if there is nothing yet.

        `attacked` are the attacks on its image that fooled f1, with their names, for the figure.
        """
        self._found, self._attacked = found, attacked
        changed = found is not None and found.attacked_image is not None
        of_export = (
            "Write the view (PNG), the record, and a figure (SVG) with every attack on this image that fooled f1."
        )
        for each, usable, help, why in (
            (self.save, changed, "Save the adversarial image as a PNG of its own size.", "Press Attack first."),
            (self.copy, found is not None, "Copy the view to the clipboard.", "Select an image first."),
            (self.export, found is not None, of_export, "Select an image first."),
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
            ".png": saving.png(saving.compose(self._rows)),
            ".json": saving.record(found, info),
            ".svg": svg.draw(place(of_inspection(found, attacked))),
        }
        return self._write("Export view and record", f"{saving.stem(found)}-view.png", path, overwrite, contents)

    def save_session(
        self, view: View, form: tuple[str, dict[str, Any]], path: Path | None = None, overwrite: bool = False
    ) -> bool:
        """Write a session file, asking for a path if none is given."""
        found, info = self._found, self._engine.info
        if found is None or info is None:
            self.message.emit("There is nothing to save yet: select an image first.")
            return False
        raw, name = session_file.write(found, info.card, view, form), f"{saving.stem(found)}{SESSION}"
        return self._write("Save session", name, path, overwrite, {SESSION: raw})

    def copy_view(self) -> None:
        QGuiApplication.clipboard().setPixmap(saving.compose(self._rows))
        self.message.emit("The view is on the clipboard.")

    def _write(self, title: str, name: str, path: Path | None, overwrite: bool, contents: Mapping[str, bytes]) -> bool:
        """Ask for a path if none is given, write, and say so."""
        chosen = path or saving.ask(self, title, self.folder, name, next(iter(contents)))
        if chosen is None:
            return False
        try:
            # The dialog has asked before it gave an existing file; that answer counts for what lies beside it, too.
            saving.write(chosen, contents, overwrite or (path is None and chosen.exists()), self.inputs)
        except CiadError as error:
            self.message.emit(str(error))
            return False
        self.folder = str(chosen.parent)
        self.folder_used.emit(self.folder)
        self.message.emit(f"Saved {chosen}")
        return True

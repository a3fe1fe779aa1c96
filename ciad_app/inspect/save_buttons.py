"""Save, copy and export what page Inspect shows: the buttons, and what they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication, QPixmap
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ciad_app.inspect import saving
from ciad_app.worker import Engine
from ciad_engine import attacks
from ciad_engine.errors import CiadError
from ciad_engine.figures.inspected import of_inspection
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

        `attacked` are the attacks on its image that succeeded, with their names, for the figure.
        """
        self._found, self._attacked = found, attacked
        changed = found is not None and found.attacked_image is not None
        for each, usable, help, why in (
            (self.save, changed, "Save the adversarial image as a 32x32 PNG.", "Press Attack first."),
            (self.copy, found is not None, "Copy the view to the clipboard.", "Select an image first."),
            (
                self.export,
                found is not None,
                "Write view (PNG), record, and a figure (SVG) with every attack on this image that succeeded.",
                "Select an image first.",
            ),
        ):
            each.setEnabled(usable)
            each.setToolTip(help if usable else why)

    def save_image(self, path: Path | None = None, overwrite: bool = False) -> bool:
        """Write the adversarial image as a 32x32 PNG, asking for a path where none is given.

        Without `overwrite` an existing file at a given path is left as it is, with a message.
        """
        changed = None if self._found is None else self._found.attacked_image
        if self._found is None or changed is None:
            self.message.emit("There is no adversarial image to save yet: press Attack first.")
            return False

        def write(chosen: Path, _: bool) -> None:
            saving.image(chosen, changed)

        return self._write("Save the adversarial image", f"{saving.stem(self._found)}.png", path, overwrite, write)

    def export_view(self, path: Path | None = None, overwrite: bool = False) -> bool:
        """Write the view as PNG, record (JSON) and figure (SVG) beside it, asking for a path where none is given.

        The figure is the paper's Figure 3 for this image: the original and what each attack on it that succeeded made.
        """
        found, info = self._found, self._engine.info
        if found is None or info is None:
            self.message.emit("There is nothing to export yet: select an image first.")
            return False
        picture, content = self.composed(), saving.record(found, info)
        attacked = list(self._attacked)
        made = {each.attack.images[0].tobytes() for _, each in attacked if each.attack is not None}
        if found.attack is not None and found.attack.images[0].tobytes() not in made:
            attacked.append((attacks.title(found.attack.attack), found))  # it was made on page Evaluate
        figure = of_inspection(found, attacked)

        def write(chosen: Path, replace: bool) -> None:
            saving.view(chosen, picture, content, figure, replace)

        return self._write("Export view and record", f"{saving.stem(found)}-view.png", path, overwrite, write)

    def copy_view(self) -> None:
        """Put the view on the clipboard."""
        QGuiApplication.clipboard().setPixmap(self.composed())
        self.message.emit("The view is on the clipboard.")

    def composed(self) -> QPixmap:
        """The view as one picture, at twice the size of the screen."""
        return saving.compose(self._rows)

    def _write(
        self, title: str, name: str, path: Path | None, overwrite: bool, write: Callable[[Path, bool], object]
    ) -> bool:
        """Ask for a path where none is given, write, and say so; `write` is told whether it may replace files."""
        chosen = path or saving.ask(self, title, self.folder, name)
        if chosen is None:
            return False
        # The dialog has asked before it gave an existing file; that answer counts for what lies beside it, too.
        replace = overwrite or (path is None and chosen.exists())
        try:
            if chosen.exists() and not replace:
                raise CiadError(f"{chosen} exists already and was not overwritten: choose another name.")
            write(chosen, replace)
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

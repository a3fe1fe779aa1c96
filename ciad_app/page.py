"""What the window knows of a page: its title, its menu, what it takes, and what every page can be asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from ciad_app.actions import MenuRow
from ciad_app.incoming import Thing
from ciad_app.tour import Step
from ciad_app.worker import Engine


class Page(QWidget):
    """One page of the window; `pages.PAGES` lists them."""

    title: ClassVar[str]  # of its tab
    tip: ClassVar[str]  # what it is for
    menu: ClassVar[str]  # title of its own menu, which is in the menu bar while the page is shown

    message = Signal(str)  # what a person should read once; the window shows it
    failed = Signal(str)  # something did not work, and why; the page shows it, too
    folder_used = Signal(str)  # a dialog chose this folder, or a file in it
    open_asked = Signal()  # a button of the page asks for the dialog of File > Open
    updated = Signal()  # what the page knows, or waits for, has changed
    handed_on = Signal(object)  # a Thing that another page shows

    def __init__(self, engine: Engine, folder: str = "", database: Path | None = None) -> None:
        """File dialogs begin in `folder`; without a path the results database is the user's own."""
        super().__init__()
        self.engine, self.folder, self.database_path = engine, folder, database

    def menu_rows(self) -> Sequence[MenuRow]:
        """Return the rows of its menu (see `actions.fill`); their shortcuts work while the page is shown."""
        return ()

    def take(self, thing: Thing) -> bool:
        """Show what was dropped, pasted, opened or handed on by another page; return whether it is for this page."""
        return False

    def copy(self) -> None:
        """Put what the page shows into the clipboard."""
        self.message.emit(f"There is nothing to copy on page {self.title}.")

    def export(self) -> None:
        """Write what the page shows into files that a person chooses."""
        self.message.emit(f"There is nothing to export on page {self.title}.")

    def escape(self) -> bool:
        """Stop what Escape stops on this page, by default the running work; return whether there was anything."""
        running = self.engine.shown is not None
        self.engine.cancel_current()
        return running

    def tell(self, text: str) -> None:
        """Show a message while the status bar is hidden, if the page has a place for it."""

    def present(self, on: bool) -> None:
        """Show the page as a class needs it, if that is different, or again as usual."""

    def tour(self) -> Sequence[Step]:
        """Return the steps of a tour through the page; none if it has no tour."""
        return ()

    def stop(self) -> None:
        """End what goes on beside the engine; the window calls it when it is closed."""

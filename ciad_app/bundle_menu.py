"""The menu of the bundles: those that are installed, listed anew whenever it opens, and any other folder."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMenu, QWidget

from ciad_app.actions import action, choice
from ciad_app.worker import Engine
from ciad_engine import bundles


class BundleMenu(QMenu):
    """Lists the bundles by name; the one in use is marked."""

    chosen = Signal(str)  # the folder of a bundle
    folder_asked = Signal()  # a bundle elsewhere is wanted

    def __init__(self, engine: Engine, parent: QWidget) -> None:
        super().__init__("&Bundle", parent)
        self._engine = engine
        self.setToolTipsVisible(True)
        self.aboutToShow.connect(self._list)
        self._list()

    def _list(self) -> None:
        for old in (*self.actions(), *self.findChildren(QActionGroup)):
            old.deleteLater()
        self.clear()
        used = self._engine.info.card if self._engine.info else None
        cards = {str(card.folder.absolute()): card for card in (*bundles.available(), *([used] if used else ()))}
        names = [card.name for card in cards.values()]
        options = {}
        for folder, card in cards.items():
            name = card.name if names.count(card.name) == 1 else f"{card.name} in {folder}"
            options[folder] = (name.replace("&", "&&"), " – ".join(filter(None, (card.content.get("title"), folder))))
        choice(self, self, str(used.folder.absolute()) if used else "", options, self.chosen.emit)
        self.addSeparator()
        tip = "Load a bundle that lies elsewhere: a folder with card.json and the networks"
        self.addAction(action(self, "&Open another folder …", self.folder_asked.emit, tip))

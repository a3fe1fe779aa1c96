"""The one window: its pages, its menu bar, its status, and what is dropped on it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

from PySide6.QtCore import QByteArray, QMargins, QMimeData, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices, QDragEnterEvent, QDropEvent, QIcon, QKeyEvent
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QMainWindow,
    QMenu,
    QMessageBox,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ciad_app import copying, errors, incoming, settings, theme
from ciad_app.actions import Key, MenuRow, Role, choice, fill
from ciad_app.bundle_menu import BundleMenu
from ciad_app.documents import DocumentDialog, pages
from ciad_app.incoming import Incoming, Thing
from ciad_app.keys import KeysDialog
from ciad_app.model_card import ModelCardDialog
from ciad_app.page import Page
from ciad_app.pages import PAGES
from ciad_app.placement import placed
from ciad_app.settings import Settings
from ciad_app.status import ProgressLine
from ciad_app.tour import Tour
from ciad_app.widgets.build import in_column
from ciad_app.widgets.scrolled import Scrolled
from ciad_app.worker import Engine, EngineInfo
from ciad_engine import __version__, bundles, resources
from ciad_engine.errors import BundleError, CiadError, ImageError

P = TypeVar("P", bound=Page)

NOTE_SECONDS = 10
_FRAME = QMargins(6, 36, 6, 8)  # pixels that a window manager may add around the window
SHUTDOWN_SECONDS = 10.0


class MainWindow(QMainWindow):
    """The window; it ends the engine when it is closed."""

    closed = Signal()

    def __init__(
        self,
        engine: Engine,
        kept: Settings,
        database: Path | None = None,
        remember: bool = True,
        kinds: Sequence[type[Page]] = PAGES,
    ) -> None:
        """`kept`: the settings to begin with; saved unless `remember` is false. No `database` is the user's own."""
        super().__init__()
        self.engine, self.settings, self.database_path, self._remember = engine, kept, database, remember
        self.presenting = False
        self._tour: Tour | None = None
        self.ended = True  # whether the engine thread ended when the window was closed
        self.setWindowTitle("CIAD")
        self.setWindowIcon(icon())
        self.setAcceptDrops(True)

        self._kinds = tuple(kinds)
        self._built: dict[type[Page], Page] = {}
        self._places: dict[type[Page], QVBoxLayout] = {}
        self.pages = QTabWidget(documentMode=True)
        for number, kind in enumerate(self._kinds):
            place = QWidget()
            self._places[kind] = in_column(parent=place, margins=0)
            self.pages.addTab(Scrolled(place), kind.title)
            self.pages.setTabToolTip(number, f"{kind.tip} (Ctrl+{number + 1})")
        self.bundles = BundleMenu(engine, self)
        self.bundles.chosen.connect(self.choose_bundle)
        self.bundles.folder_asked.connect(self._ask_bundle)
        self._wanted: Path | None = None  # the folder of the bundle that was chosen last in this window
        self.state = QPushButton("Starting …")
        self.state.setMenu(self.bundles)
        self.state.setAccessibleName("Bundle in use")
        self.pages.setCornerWidget(self.state, Qt.Corner.TopRightCorner)
        self.setCentralWidget(self.pages)
        self.progress = ProgressLine(engine)
        self.statusBar().addPermanentWidget(self.progress)
        self._make_menus()

        engine.ready.connect(self._ready)
        engine.unavailable.connect(self._unavailable)
        engine.loading_changed.connect(self._show_state)
        engine.note.connect(self.say)
        self._restore_geometry()
        titles = [kind.title for kind in self._kinds]
        self.pages.setCurrentIndex(titles.index(kept.page) if kept.page in titles else 0)
        self._page_changed()
        self.pages.currentChanged.connect(self._page_changed)

    def page(self, kind: type[P]) -> P:
        """Return the page of this kind; it is built when it is first needed: the first window has less to do."""
        if kind not in self._built:
            self._built[kind] = made = kind(self.engine, self.settings.last_folder, self.database_path)
            made.message.connect(self.say)
            made.folder_used.connect(self._remember_folder)
            made.open_asked.connect(self._open_files)
            made.handed_on.connect(self._offer)
            fill(made, self._menus[kind], made.menu_rows())
            self._places[kind].addWidget(made)
            self._leave_drops_to_the_window()
        return cast("P", self._built[kind])

    @property
    def shown(self) -> Page:
        return self.page(self._kinds[self.pages.currentIndex()])

    def show_page(self, kind: type[Page]) -> None:
        self.pages.setCurrentIndex(self._kinds.index(kind))

    def present(self, on: bool) -> None:
        """Fill the screen with what a class needs of the page that is shown; off: everything as before."""
        if on == self.presenting:
            return
        self.presenting = on
        if on:
            self._presented = self.shown
            if self._tour is not None:
                self._tour.end()
        for bar in (self.menuBar(), self.pages.tabBar(), self.state, self.statusBar()):
            bar.setVisible(not on)
        self._presented.present(on)
        if on:
            self._before = self.windowState()
        self.setWindowState(self._before | Qt.WindowState.WindowFullScreen if on else self._before)

    def say(self, text: str) -> None:
        """Show a message in the status bar for a while; one too long for that also in a box that blocks nothing."""
        first, _, rest = text.partition("\n")
        bar = self.statusBar()
        if self.presenting:
            self.shown.tell(first)
        bar.showMessage(first, NOTE_SECONDS * 1000)
        taken = self.progress.sizeHint().width() + 6 * bar.fontMetrics().averageCharWidth()
        if rest or bar.fontMetrics().horizontalAdvance(first) > self.width() - taken:
            self._box(QMessageBox.Icon.Information, first, rest)

    def _box(self, kind: QMessageBox.Icon, title: str, text: str) -> None:
        box = QMessageBox(kind, "CIAD", f"{title}\n\n{text}".strip(), QMessageBox.StandardButton.Close, self)
        box.setTextFormat(Qt.TextFormat.PlainText)  # file names come from outside
        box.setModal(False)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.show()

    def loading(self) -> None:
        """Say that the models are being loaded; `ready` or `unavailable` of the engine ends it."""
        self.state.setText("Loading models …")

    def choose_bundle(self, bundle: str) -> None:
        """Use another bundle, given by name or folder, when the running work is done; it is remembered once loaded."""
        try:
            card = bundles.read_card(bundles.find(bundle).absolute())
        except BundleError as error:
            self._box(QMessageBox.Icon.Warning, "The bundle is not loaded.", str(error))
            return
        if self.engine.info is not None and card == self.engine.info.card and not self.engine.loading:
            self.say(f"Bundle {card.name} is in use already.")
            self._remember_bundle(card)
            return
        self._wanted = card.folder
        self.engine.choose(str(card.folder), card.name)
        if self.engine.loading_waits:
            self.say(f"Bundle {card.name} is loaded when the running work is finished or cancelled.")

    def _remember_bundle(self, card: bundles.Card) -> None:
        self.settings = dataclasses.replace(self.settings, bundle=bundles.reference(card))
        self._save()

    def _ask_bundle(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a bundle's folder", self.settings.last_folder)
        if chosen:
            self._remember_folder(str(Path(chosen).parent))
            self.choose_bundle(chosen)

    def open_paths(self, paths: list[Path]) -> None:
        """Load pictures, data-set folders and archives, or a bundle's folder, and show them."""
        if not paths:
            return
        last = paths[-1]
        # Not Path.is_dir, which raises where a folder above may not be entered.
        is_folder = os.path.isdir(last)  # noqa: PTH112
        if len(paths) == 1 and is_folder and os.path.exists(last / bundles.CARD):  # noqa: PTH110
            self.choose_bundle(str(last))
            return
        self._remember_folder(str(last if is_folder else last.parent))
        self._offer(Incoming(tuple(paths)))

    def _offer(self, thing: Thing) -> None:
        """Show something on the first page that takes it; the page that is shown is asked first."""
        shown = type(self.shown)
        for kind in sorted(self._kinds, key=lambda kind: kind is not shown):
            if self.page(kind).take(thing):
                self.show_page(kind)
                return

    def _remember_folder(self, folder: str) -> None:
        """Let the next dialog start there, also after the next start from another folder."""
        self.settings = dataclasses.replace(self.settings, last_folder=os.path.abspath(folder))  # noqa: PTH100

    def take(self, data: QMimeData, name: str) -> None:
        """Load what was dropped or pasted; `name` is what a picture without a file is called."""
        try:
            found = incoming.read(data, name)
        except ImageError as error:
            self.say(str(error))
            return
        if found.problems:
            self.say("\n".join(["Not everything was opened:", *found.problems]))
        if found.paths:
            self.open_paths(list(found.paths))
        else:
            self._offer(found)

    # Menus.

    def _make_menus(self) -> None:
        def add(title: str, *rows: MenuRow) -> QMenu:
            menu = self.menuBar().addMenu(title)
            fill(self, menu, rows)
            return menu

        self._file = add(
            "&File",
            ("&Open …", self._open_files, "Open pictures or archives of a data set", (Key.Open,)),
            ("Open &folder …", self._ask_folder, "Open a data set's folder", ("Ctrl+Shift+O",)),
            None,
            ("&Export …", lambda: self.shown.export(), "Export what this page shows: view or tables", ("Ctrl+E",)),
            None,
            ("&Quit", self.close, "End the program", (Key.Quit, "Ctrl+Q"), Role.QuitRole),
        )
        add(
            "&Edit",
            ("&Copy", self._copy, "Copy the selected text, or else the view or the tables of this page", (Key.Copy,)),
            ("&Paste", self._paste, "Load the picture or the files in the clipboard", (Key.Paste,)),
            None,
            ("C&ancel", self.engine.cancel_current, "Stop the running work (Esc)", ("Ctrl+.",)),
        )
        self._file.insertMenu(self._file.actions()[2], self.bundles)
        view = add(
            "&View",
            *(
                (f"&{kind.title}", functools.partial(self.show_page, kind), kind.tip, (f"Ctrl+{number + 1}",))
                for number, kind in enumerate(self._kinds)
            ),
            None,
            ("&Presenter view", lambda: self.present(not self.presenting), "Fill the screen, for a class", ("F11",)),
            ("&Larger text", lambda: self._resize_font(1), "For a projector", (Key.ZoomIn, "Ctrl+=")),
            ("&Smaller text", lambda: self._resize_font(-1), "Room for more", (Key.ZoomOut,)),
            ("&Normal text", lambda: self._resize_font(0), "The size the system uses", ("Ctrl+0",)),
            None,
        )
        schemes = {
            "system": ("&As the system", "Light or dark as the system is"),
            "light": ("&Light", "Dark text on light ground"),
            "dark": ("&Dark", "Light text on dark ground"),
        }
        colours = view.addMenu("&Colours")
        choice(self, colours, self.settings.scheme, schemes, lambda scheme: self._change(scheme=scheme))
        self._menus = {kind: add(kind.menu) for kind in self._kinds}  # filled when their pages are built
        documents = [
            (title.replace("&", "&&"), functools.partial(self._show_document, title, file), f"Read {file.name}")
            for title, file in pages().items()
        ]
        add(
            "&Help",
            ("&Keys and actions", self._show_keys, "Every action with its keys", ("F1",)),
            ("&Tour", self.show_tour, "Five steps through page Inspect"),
            *documents,
            None,
            ("&Model card", self._show_card, "What the loaded models are, how they were trained and how well they do"),
            None,
            ("Copy &debug info", self._copy_versions, "Versions and device, to be pasted into a question"),
            ("Show &log file", self._show_log, "Open the folder of the log file"),
            None,
            ("&About CIAD", self._about, "What this is, and its versions", (), Role.AboutRole),
        )

    def _open_files(self) -> None:
        kinds = f"Pictures and data sets ({' '.join(f'*{ending}' for ending in incoming.ENDINGS)});;All files (*)"
        files, _ = QFileDialog.getOpenFileNames(self, "Open images", self.settings.last_folder, kinds)
        self.open_paths([Path(f) for f in files])

    def show_first_tour(self) -> None:
        """Lead a person through who has never seen the tour."""
        if not self.settings.toured:
            self.show_tour()

    def show_tour(self) -> None:
        """Lead through the page that is shown, or else through the first one that has a tour."""
        if self._tour is not None:
            return
        self.present(False)
        kind = next(kind for kind in (type(self.shown), *self._kinds) if self.page(kind).tour())
        self.show_page(kind)
        self._tour = Tour(self, self.shown.tour())
        self.shown.updated.connect(self._tour.update_missing)
        self._tour.ended.connect(self._tour_ended)
        self.settings = dataclasses.replace(self.settings, toured=True)
        self._save()

    def _tour_ended(self) -> None:
        self._tour = None

    def _show_keys(self) -> None:
        self._build_the_others()  # their menus are listed, too
        KeysDialog(self.menuBar(), self).show()

    def _show_document(self, title: str, file: Path) -> None:
        DocumentDialog(title, file, self).show()

    def _show_card(self) -> None:
        if self.engine.info is None:
            self.say(self.engine.problem or "The models are still being loaded: try again in a moment.")
            return
        try:
            ModelCardDialog(self.engine.info.card, self).show()
        except CiadError as error:
            self.say(str(error))

    def _copy(self) -> None:
        text = copying.selected_text(QApplication.focusWidget())
        if text:
            QApplication.clipboard().setText(text)
        else:
            self.shown.copy()

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a data set's folder", self.settings.last_folder)
        if chosen:
            self.open_paths([Path(chosen)])

    def _paste(self) -> None:
        self.take(QApplication.clipboard().mimeData(), "pasted picture")

    def _resize_font(self, step: int) -> None:
        """`step` points larger or smaller; 0 is back to the system's size."""
        size = theme.font_size(_app(), self.settings, step) if step else 0
        self._change(font_size=size)
        self.say(f"Text size {size or theme.system_font_size(_app())} points")

    def _change(self, **values: object) -> None:
        self.settings = dataclasses.replace(self.settings, **values)  # type: ignore[arg-type]
        theme.apply(_app(), self.settings)
        self._save()

    def _copy_versions(self) -> None:
        QApplication.clipboard().setText(errors.versions(self.engine.info))
        self.say("Versions and device are in the clipboard.")

    def _show_log(self) -> None:
        try:
            file = errors.log_path()
        except CiadError as error:
            self.say(f"There is no log file. {error}")
            return
        if not file.exists():
            self.say(f"There is no log file: {file} could not be written.")
        elif not QDesktopServices.openUrl(QUrl.fromLocalFile(str(file.parent))):
            self.say(f"The log file is {file}")

    def _about(self) -> None:
        text = (
            f"<h3>CIAD {__version__}</h3><p>See adversarial images: where the classification of an image and the "
            f"classification of its interpretation disagree, the image is adversarial (Nguyen et al. 2017, "
            f"arXiv 1712.00558).</p><p>MIT licence.</p><pre>{errors.versions(self.engine.info)}</pre>"
        )
        QMessageBox.about(self, "About CIAD", text)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Not the shortcut of an action: dialogs have their own use for Escape first.
        if event.key() != Qt.Key.Key_Escape:
            super().keyPressEvent(event)
        elif self._tour is not None:
            self._tour.end()
        elif not self.shown.escape() and self.presenting:
            self.present(False)

    # What the engine and the pages say.

    def _ready(self, info: EngineInfo) -> None:
        self._show_state()
        if info.card.folder == self._wanted:
            self._remember_bundle(info.card)
        # The forms of the attacks were just made.
        QTimer.singleShot(0, self, self._leave_drops_to_the_window)
        QTimer.singleShot(0, self, self._build_the_others)

    def _show_state(self) -> None:
        """Show which bundle is in use, or is to be loaded."""
        engine, info = self.engine, self.engine.info
        tip = f"From {info.card.folder}" if info else engine.problem
        if engine.loading:
            text = f"Bundle {engine.loading} waits …" if engine.loading_waits else f"Loading bundle {engine.loading} …"
        else:
            text = f"Bundle {info.card.name} · {info.device}" if info else "No models"
        self.state.setText(text.replace("&", "&&"))
        self.state.setToolTip(f"{tip}\nClick to choose another bundle.")

    def _build_the_others(self) -> None:
        """Build the pages that nobody has opened: one may have something to tell, such as an evaluation to continue."""
        for kind in self._kinds if not self.engine.stopped else ():
            self.page(kind)

    def _unavailable(self, reason: str) -> None:
        self._show_state()
        self._box(QMessageBox.Icon.Warning, "The models could not be loaded.", reason)

    def _page_changed(self) -> None:
        shown = self.shown
        if self.presenting and shown is not self._presented:
            self.present(False)
        if self._tour is not None:
            self._tour.end()
        for kind, menu in self._menus.items():
            menu.menuAction().setVisible(isinstance(shown, kind))
        shown.setFocus()

    # Dropping.

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if incoming.welcome(event.mimeData()):
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()

    def dropEvent(self, event: QDropEvent) -> None:
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()
        self.take(event.mimeData(), "dropped picture")

    def _leave_drops_to_the_window(self) -> None:
        """Text fields and scroll areas would take a drop that is meant for the window."""
        for widget in self.pages.findChildren(QWidget):
            widget.setAcceptDrops(False)

    # Place, size and end.

    def _restore_geometry(self) -> None:
        kept = self.settings.geometry
        self.resize(1180, 760)
        primary = QApplication.primaryScreen()
        if not kept or not self.restoreGeometry(QByteArray.fromBase64(kept.encode())):
            self.move(primary.availableGeometry().center() - self.rect().center())
        if self.isMaximized() or self.isFullScreen():
            return
        # The projector that it was on may be gone. Before it is shown its frame is not known.
        wanted = self.geometry().marginsAdded(_FRAME)
        others = [screen for screen in QApplication.screens() if screen is not primary]
        found = placed(wanted, [screen.availableGeometry() for screen in (primary, *others)])
        self.setGeometry(found.marginsRemoved(_FRAME))

    def _save(self) -> None:
        if self._remember:
            settings.save(self.settings)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Cancel the work, wait for it, let nothing arrive any more, then close."""
        self.present(False)  # the next start begins as usual
        self.settings = dataclasses.replace(
            self.settings,
            geometry=bytes(self.saveGeometry().toBase64().data()).decode(),
            page=self.shown.title,
        )
        self._save()
        self.hide()  # the work stops within a second; nobody need look at a dead window meanwhile
        self.ended = self.engine.shutdown(SHUTDOWN_SECONDS)
        for page in self._built.values():
            page.stop()
        event.accept()
        self.closed.emit()


def icon() -> QIcon:
    """The program's icon; empty where its file is missing."""
    return QIcon(str(resources.path("icons", "ciad.svg")))


def _app() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app

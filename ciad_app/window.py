"""The one window: its pages, its menu bar, its status, and what is dropped on it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

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
    QWidget,
)

from ciad_app import copying, errors, incoming, settings, theme
from ciad_app.actions import Key, Role, Row, choice, fill
from ciad_app.bundle_menu import BundleMenu
from ciad_app.evaluate.model import OpenedRow
from ciad_app.evaluate.page import EvaluatePage
from ciad_app.inspect.collection import Entry
from ciad_app.inspect.page import InspectPage
from ciad_app.model_card import ModelCardDialog
from ciad_app.placement import placed
from ciad_app.settings import Settings
from ciad_app.status import ProgressLine
from ciad_app.widgets.build import in_column
from ciad_app.widgets.scrolled import Scrolled
from ciad_app.worker import Engine, EngineInfo
from ciad_engine import __version__, bundles, resources
from ciad_engine.errors import BundleError, CiadError, ImageError

INSPECT, EVALUATE = "Inspect", "Evaluate"
NOTE_SECONDS = 10
_FRAME = QMargins(6, 36, 6, 8)  # pixels that a window manager may add around the window
SHUTDOWN_SECONDS = 10.0


class MainWindow(QMainWindow):
    """The window; it ends the engine when it is closed."""

    closed = Signal()

    def __init__(self, engine: Engine, kept: Settings, database: Path | None = None, remember: bool = True) -> None:
        """`kept`: the settings to begin with; saved unless `remember` is false. No `database` is the user's own."""
        super().__init__()
        self.engine, self.settings, self.database_path, self._remember = engine, kept, database, remember
        self.ended = True  # whether the engine thread ended when the window was closed
        self.setWindowTitle("CIAD")
        self.setWindowIcon(icon())
        self.setAcceptDrops(True)

        self.inspect = InspectPage(engine, kept.last_folder)
        self.inspect.message.connect(self.say)
        self.inspect.folder_used.connect(self._remember_folder)
        self._evaluate: EvaluatePage | None = None
        self.pages = QTabWidget(documentMode=True)
        self.pages.addTab(Scrolled(self.inspect), INSPECT)
        place = QWidget()  # the page is built when it is first shown: the first window has less to do
        self._evaluate_place = in_column(parent=place, margins=0)
        self.pages.addTab(Scrolled(place), EVALUATE)
        self.pages.setTabToolTip(0, "One image: attack it, see the masks, read the verdict (Ctrl+1)")
        self.pages.setTabToolTip(1, "Many images: tables of attacks and detection (Ctrl+2)")
        self.pages.currentChanged.connect(self._page_changed)
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
        self._leave_drops_to_the_window()
        if kept.page == EVALUATE:
            self.pages.setCurrentIndex(1)

    @property
    def evaluate(self) -> EvaluatePage:
        """Page Evaluate, built on first use, or when the models are there."""
        if self._evaluate is None:
            self._evaluate = EvaluatePage(self.engine, self.settings.last_folder, self.database_path)
            self._evaluate.row_opened.connect(self._open_row)
            self._evaluate.folder_used.connect(self._remember_folder)
            self._evaluate.interrupted.connect(self._tell_interrupted)
            self._evaluate_place.addWidget(self._evaluate)
            self._leave_drops_to_the_window()
        return self._evaluate

    def say(self, text: str) -> None:
        """Show a message in the status bar for a while; one too long for that also in a box that blocks nothing."""
        first, _, rest = text.partition("\n")
        bar = self.statusBar()
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

    def show_page(self, title: str) -> None:
        self.pages.setCurrentIndex((INSPECT, EVALUATE).index(title))

    def open_paths(self, paths: list[Path]) -> None:
        """Load pictures, data-set folders and archives, and show them."""
        self.show_page(INSPECT)
        if paths:
            last = paths[-1]
            # Not Path.is_dir, which raises where a folder above may not be entered.
            self._remember_folder(str(last if os.path.isdir(last) else last.parent))  # noqa: PTH112
        self.inspect.open_paths(paths)

    def _remember_folder(self, folder: str) -> None:
        """Where the next dialog starts, also after the next start from another folder."""
        self.settings = dataclasses.replace(self.settings, last_folder=os.path.abspath(folder))  # noqa: PTH100

    def take(self, data: QMimeData, name: str) -> None:
        """Load what was dropped or pasted; `name` is what a picture without a file is called."""
        try:
            found = incoming.read(data)
        except ImageError as error:
            self.say(str(error))
            return
        if found.problems:
            self.say("\n".join(["Not everything was opened:", *found.problems]))
        if not found.paths:
            self.show_page(INSPECT)
            self.inspect.open_bytes(found.picture, name)
        elif not (self._on_evaluate() and self.evaluate.take(found.paths)):
            self.open_paths(list(found.paths))

    # Menus.

    def _make_menus(self) -> None:
        def add(title: str, *rows: Row) -> QMenu:
            menu = self.menuBar().addMenu(title)
            fill(self, menu, rows)
            return menu

        self._file = add(
            "&File",
            ("&Open …", self._open_files, "Open pictures or archives of a data set", (Key.Open,)),
            ("Open &folder …", self._ask_folder, "Open a data set's folder", ("Ctrl+Shift+O",)),
            None,
            ("&Save image …", self._save_image, "Save the adversarial image of page Inspect", (Key.Save,)),
            ("&Export …", self._export, "Export what this page shows: view or tables", ("Ctrl+E",)),
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
            ("&Inspect", lambda: self.show_page(INSPECT), "One image: attack it, read the verdict", ("Ctrl+1",)),
            ("&Evaluate", lambda: self.show_page(EVALUATE), "Many images: tables", ("Ctrl+2",)),
            None,
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
        add(
            "&Help",
            ("&Model card", self._show_card, "What the loaded models are, how they were trained and how well they do"),
            None,
            ("Copy &debug info", self._copy_versions, "Versions and device, to be pasted into a question"),
            ("Show &log file", self._show_log, "Open the folder of the log file"),
            None,
            ("&About CIAD", self._about, "What this is, and its versions", (), Role.AboutRole),
        )

    def _open_files(self) -> None:
        self.show_page(INSPECT)
        self.inspect.open_dialog()

    def _show_card(self) -> None:
        if self.engine.info is None:
            self.say(self.engine.problem or "The models are still being loaded: try again in a moment.")
            return
        try:
            ModelCardDialog(self.engine.info.card, self).show()
        except CiadError as error:
            self.say(str(error))

    def _export(self) -> None:
        (self.evaluate if self._on_evaluate() else self.inspect).export()

    def _on_evaluate(self) -> bool:
        return self.pages.currentIndex() == 1

    def _copy(self) -> None:
        text = copying.selected_text(QApplication.focusWidget())
        if text:
            QApplication.clipboard().setText(text)
        elif not self._on_evaluate():
            self.inspect.copy()
        elif self.evaluate.results.tables.tables:
            self.evaluate.copy_tables()
        else:
            self.say("There are no tables to copy yet: start an evaluation or choose a past one.")

    def _save_image(self) -> None:
        if self._on_evaluate():
            self.say("Images are saved on page Inspect (Ctrl+1); Export (Ctrl+E) writes the tables.")
        else:
            self.inspect.save_image()

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
        file = errors.log_path()
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
        elif self._on_evaluate():
            self.engine.cancel_current()
        else:
            self.inspect.cancel()  # an evaluation of hours behind this page goes on

    # What the engine and the pages say.

    def _ready(self, info: EngineInfo) -> None:
        self._show_state()
        if info.card.folder == self._wanted:
            self._remember_bundle(info.card)
        # The forms of the attacks were just made.
        QTimer.singleShot(0, self, self._leave_drops_to_the_window)
        QTimer.singleShot(0, self, self._look_for_interrupted)

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

    def _look_for_interrupted(self) -> None:
        """Page Evaluate looks for an evaluation to continue, also where nobody opens it."""
        if not self.engine.stopped:
            self.evaluate  # noqa: B018 - built by being asked for

    def _tell_interrupted(self) -> None:
        if not self._on_evaluate():
            self.say("An evaluation was interrupted: see Evaluate.")

    def _unavailable(self, reason: str) -> None:
        self._show_state()
        self._box(QMessageBox.Icon.Warning, "The models could not be loaded.", reason)

    def _open_row(self, opened: OpenedRow) -> None:
        self.show_page(INSPECT)
        image, label, adversarial, name, attack, evade, bundle = opened
        self.inspect.show_record(Entry(image, label, name, "", adversarial, attack, evade, bundle))

    def _page_changed(self, index: int) -> None:
        if index == 1:
            self.evaluate.setFocus()

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
        self.settings = dataclasses.replace(
            self.settings,
            geometry=bytes(self.saveGeometry().toBase64().data()).decode(),
            page=EVALUATE if self._on_evaluate() else INSPECT,
        )
        self._save()
        self.hide()  # the work stops within a second; nobody need look at a dead window meanwhile
        self.ended = self.engine.shutdown(SHUTDOWN_SECONDS)
        if self._evaluate is not None:
            self._evaluate.stop()
        event.accept()
        self.closed.emit()


def icon() -> QIcon:
    """The program's icon; empty where its file is missing."""
    return QIcon(str(resources.path("icons", "ciad.svg")))


def _app() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app

"""What happens to an exception nobody caught: the log, and a dialog with a report one can copy.

`install` puts the hooks in place. A hook may be called in any thread; the dialog opens in the
window's thread. A second error while the dialog is open only goes to the log.
"""

from __future__ import annotations

import collections
import faulthandler
import importlib.metadata
import logging
import logging.handlers
import os
import platform
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import IO

from PySide6.QtCore import QMessageLogContext, QObject, Qt, QtMsgType, Signal, qInstallMessageHandler
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QApplication, QDialog, QDialogButtonBox, QPlainTextEdit, QWidget

from ciad_app import INSTALL_QT
from ciad_app.widgets.build import in_column, label
from ciad_app.worker import EngineInfo, Failure
from ciad_engine import __version__, folders
from ciad_engine.errors import CiadError

log = logging.getLogger(__name__)

LOG_BYTES = 500_000
REMEMBERED_LINES = 200  # of the log, in a report

_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}


class _Memory(logging.Handler):
    """The last lines of the log, for the report."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: collections.deque[str] = collections.deque(maxlen=REMEMBERED_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


_memory = _Memory()
_crash_file: IO[str] | None = None  # kept open: faulthandler writes to its descriptor


def log_path() -> Path:
    """Return the log file; it may not exist. Raises CiadError if nobody knows the user's home."""
    return folders.of_user("log", "do without a log") / "ciad.log"


def start_log(debug: bool = False) -> str:
    """Log to memory, to standard error and, if it can be written, to a file.

    Returns what a hard crash of the last start left behind, "" if there was none.
    """
    global _crash_file
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handlers: list[logging.Handler] = [_memory]
    if sys.stderr is not None:  # None in a program without a console
        console = logging.StreamHandler()
        console.setLevel(logging.DEBUG if debug else logging.WARNING)
        handlers.append(console)
    last_crash = ""
    try:
        file = log_path()
        crash = file.with_name("crash.txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                file, maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8", errors="replace"
            )
        )
        last_crash = crash.read_text(encoding="utf-8", errors="replace") if crash.exists() else ""
        _crash_file = crash.open("w", encoding="utf-8")
        faulthandler.enable(_crash_file)
    except (CiadError, OSError) as error:
        if sys.stderr is not None:
            faulthandler.enable()
        log.warning("No log file: %s", error)
    for handler in handlers:
        handler.setFormatter(form)
        root.addHandler(handler)
    qInstallMessageHandler(_qt_message)
    if last_crash:
        log.error("The last start ended with a crash:\n%s", last_crash)
    log.info("CIAD %s starts, Python %s, %s", __version__, platform.python_version(), platform.platform())
    return last_crash


def stop_log() -> None:
    """Give everything back that `start_log` took; a second `main` in one process starts afresh."""
    global _crash_file
    qInstallMessageHandler(None)
    if _crash_file is not None:
        faulthandler.disable()
        # An orderly end: on Windows exceptions that ended nothing (of a file dialog, say) are written, too.
        _crash_file.seek(0)
        _crash_file.truncate()
        _crash_file.close()
        _crash_file = None
    root = logging.getLogger()
    for handler in list(root.handlers):
        if handler is _memory or type(handler) in (logging.StreamHandler, logging.handlers.RotatingFileHandler):
            root.removeHandler(handler)
            handler.close()


def versions(info: EngineInfo | None = None) -> str:
    """What a report or a question should name, one line each; torch only where it is loaded."""
    python = f"Python {platform.python_version()} on {platform.platform()} ({platform.machine()})"
    lines = [f"CIAD {__version__}", python]
    for package in ("PySide6-Essentials", "pyqtgraph", "numpy", "torch"):
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package} (version unknown)")
    app = QApplication.instance()
    if isinstance(app, QApplication):
        lines.append(f"Qt platform {app.platformName()}")
    if info is None:
        lines.append("Models not loaded")
    else:
        lines += [f"Device {info.device}", f"Bundle {info.card.name} ({info.card.checksum[:12]})"]
    return "\n".join(lines)


class Reporter(QObject):
    """Catches what nobody caught, from `install` to `uninstall`; lives in the window's thread."""

    _caught = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.info: EngineInfo | None = None
        self._dialog: QDialog | None = None
        self._hooks = (sys.excepthook, threading.excepthook)
        self._caught.connect(self._show, Qt.ConnectionType.QueuedConnection)

    def install(self) -> None:
        self._hooks = (sys.excepthook, threading.excepthook)
        sys.excepthook = self._from_main
        threading.excepthook = self._from_thread

    def uninstall(self) -> None:
        sys.excepthook, threading.excepthook = self._hooks

    def report(self, failure: Failure) -> None:
        """Show an error that the engine thread has already logged."""
        self._caught.emit(failure.summary, failure.traceback)

    def _from_main(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            QApplication.closeAllWindows()
            return
        text = "".join(traceback.format_exception(kind, error, trace))
        log.critical("Unexpected error:\n%s", text)
        self._caught.emit(f"Unexpected error: {kind.__name__}: {error}", text)

    def _from_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit and args.exc_value is not None:
            self._from_main(args.exc_type, args.exc_value, args.exc_traceback)

    def _show(self, summary: str, text: str) -> None:
        if self._dialog is not None:
            return  # it is in the log; a storm of dialogs would lock the person out
        self._dialog = ReportDialog(summary, text, versions(self.info), QApplication.activeWindow())
        self._dialog.finished.connect(self._closed)
        self._dialog.show()

    def _closed(self) -> None:
        if self._dialog is not None:
            self._dialog.deleteLater()
            self._dialog = None


class ReportDialog(QDialog):
    """One sentence, and below it everything a report needs. It blocks nothing: work can be saved first."""

    def __init__(self, summary: str, text: str, about: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("CIAD met an unexpected error")
        self.report = f"{summary}\n\n{about}\n\n{text}\n\nLast lines of the log:\n" + "\n".join(_memory.lines)
        sentence = label(
            f"{summary}\n\nThis is a bug. The program goes on; if it behaves oddly, save your work and start it "
            f"again. The report below contains no image; file names may appear in it.",
            wrap=True,
        )
        view = QPlainTextEdit(self.report, readOnly=True, lineWrapMode=QPlainTextEdit.LineWrapMode.NoWrap)
        view.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        view.setAccessibleName("Error report")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        copy = buttons.addButton("&Copy report", QDialogButtonBox.ButtonRole.ActionRole)
        copy.clicked.connect(lambda: QApplication.clipboard().setText(self.report))
        buttons.rejected.connect(self.reject)
        in_column(sentence, view, buttons, parent=self)
        self.resize(760, 480)


_no_display: list[str] = []  # what Qt said of displays it could not connect to


def _qt_message(kind: QtMsgType, context: QMessageLogContext, text: str | None) -> None:
    text = text or ""
    if "could not connect to display" in text.lower() or "failed to create wl_display" in text.lower():
        _no_display.append(text.strip())
    if kind == QtMsgType.QtFatalMsg and "platform plugin" in text and _no_display:
        names = [os.environ[name] for name in ("WAYLAND_DISPLAY", "DISPLAY") if os.environ.get(name)]
        named = " or ".join(names) or "(none is named)"
        text = f"The display {named} could not be opened. `ciad-gui --demo` needs none."
    elif kind == QtMsgType.QtFatalMsg and "platform plugin" in text and sys.platform.startswith("linux"):
        # Qt ends the program after this, and nothing can be caught: say what helps.
        text += INSTALL_QT
    if "propagateSizeHints" in text:
        kind = QtMsgType.QtDebugMsg  # the offscreen platform says so of each window; nothing follows from it
    category = context.category or "default"
    logging.getLogger(f"qt.{category}").log(_LEVELS.get(kind, logging.WARNING), "%s", text)

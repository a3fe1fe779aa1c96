"""A window that presses its own keys through the window system and reports what they did, as JSON.

    python -m tests.display.driven keys|focus|place

Run by the tests beside it, in a process of its own: Qt's platform is chosen once per process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

from ciad_app import theme
from ciad_app.pages import PAGES
from ciad_app.settings import Settings
from ciad_app.window import MainWindow
from ciad_app.worker import Engine

_NAMES = {"+": "plus", "-": "minus", "=": "equal", ".": "period"}
_NAMES |= {"Return": "Return", "Enter": "KP_Enter", "Right": "Right", "Left": "Left", "Ins": "Insert", "Del": "Delete"}


def wait(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Handle events until something is so; return whether it is."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)
    return done()


def typed(keys: QKeySequence) -> str:
    """Return a key with its modifiers, as xdotool calls them; "" for one that few keyboards have, such as F16."""
    *modifiers, key = keys.toString(QKeySequence.SequenceFormat.PortableText).replace("++", "+plus").split("+")
    name = _NAMES.get(key, key if key in _NAMES.values() else key.lower() if len(key) == 1 else "")
    return "+".join([*(one.lower() for one in modifiers), name]) if name else ""


def press(keys: QKeySequence) -> None:
    """Press a key with its modifiers, wherever the focus is."""
    subprocess.run(["xdotool", "key", "--clearmodifiers", typed(keys)], check=True)


def advertised(window: MainWindow) -> dict[str, tuple[QKeySequence, Callable[[Callable[[], None]], object]]]:
    """Return every key of the actions that the menu bar offers now, with how to observe it."""
    found = {}
    for made in window.findChildren(QAction):
        parent = made.parent()
        everywhere = made.shortcutContext() == Qt.ShortcutContext.WindowShortcut
        if isinstance(parent, QWidget) and parent.isVisible() and everywhere:
            name = made.text().replace("&", "")
            found |= {
                f"{name} ({key.toString()})": (key, made.triggered.connect) for key in made.shortcuts() if typed(key)
            }
    return found


def keys(window: MainWindow) -> dict[str, object]:
    """Press every advertised key once on each page, without a click anywhere; Ctrl+Q comes last."""
    for kind in ("getOpenFileNames", "getExistingDirectory", "getSaveFileName"):
        setattr(QFileDialog, kind, lambda *_, kind=kind: ([], "") if kind == "getOpenFileNames" else ("", ""))
    QFileDialog.getExistingDirectory = lambda *_: ""  # type: ignore[method-assign]
    QMessageBox.about = lambda *_: None  # type: ignore[method-assign]
    results: dict[str, object] = {}
    closed: list[bool] = []
    window.closed.connect(lambda: closed.append(True))
    for page in PAGES:
        window.show_page(page)
        for name in advertised(window):
            window.show_page(page)
            wait(lambda: False, 0.05)
            now = advertised(window)
            if name not in now or name.startswith("Quit"):
                continue
            key, observe = now[name]
            pressed: list[bool] = []
            observe(lambda *_, pressed=pressed: pressed.append(True))
            press(key)
            wait(lambda pressed=pressed: bool(pressed), 2.0)
            wait(lambda: False, 0.05)
            results[f"{page.title}: {name}"] = len(pressed)
    press(QKeySequence("Ctrl+Q"))
    results["Ctrl+Q closes the window"] = int(wait(lambda: bool(closed)))
    return results


def place(window: MainWindow) -> dict[str, object]:
    """Report the frame of the first window and the screen, and what is cut off."""
    wait(lambda: False, 0.5)
    screen = window.screen().availableGeometry()
    frame = window.frameGeometry()

    def rect(of: QRect) -> list[int]:
        return [of.left(), of.top(), of.right(), of.bottom()]

    bar = window.statusBar()
    bottom = bar.mapToGlobal(bar.rect().bottomRight())
    return {"frame": rect(frame), "screen": rect(screen), "status bar": [bottom.x(), bottom.y()]}


def main() -> None:
    app = QApplication([])
    theme.prepare(app)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine()
        window = MainWindow(engine, Settings(), Path(folder) / "runs.sqlite", remember=False)
        window.show()
        assert wait(window.isActiveWindow), "the window manager did not give the window the focus"
        print(json.dumps({"keys": keys, "place": place}[sys.argv[1]](window)))
        engine.shutdown()
    sys.stdout.flush()


if __name__ == "__main__":
    main()

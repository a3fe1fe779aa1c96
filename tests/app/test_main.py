"""The start of the program, as a person or a script starts it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ciad_app import display
from ciad_app import main as program
from ciad_engine import __version__

ROOT = Path(__file__).parents[2]


def start(*arguments, code="from ciad_app.main import main; sys.exit(main())", **variables):
    """Run `code` in a fresh interpreter; a variable that is None is removed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen", **variables}
    return subprocess.run(
        [sys.executable, "-c", "import sys; " + code, *map(str, arguments)],
        env={k: v for k, v in environment.items() if v is not None},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_version_and_help_need_neither_qt_nor_torch():
    for flag, expected in (("--version", f"CIAD {__version__}"), ("--help", "--demo")):
        code = (
            "from ciad_app.main import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
            "assert not {'torch', 'PySide6'} & set(sys.modules)"
        )
        ran = start(flag, code=code)
        assert ran.returncode == 0, ran.stderr
        assert expected in ran.stdout


def test_wrong_use_ends_with_2():
    assert start("--colour").returncode == 2


def test_the_first_window_is_up_before_torch_is_imported(tmp_path, untrained_bundle):
    """The real start: the event loop runs, the window is painted, torch comes behind it; then it is closed."""
    code = f"""
from PySide6.QtCore import QTimer
from ciad_app import window, worker
seen = []
class Watched(window.MainWindow):
    def paintEvent(self, event):
        seen.append('torch' in sys.modules)
        super().paintEvent(event)
    def _ready(self, info):
        super()._ready(info)
        print('state:', self.state.text(), 'torch' in sys.modules)
        QTimer.singleShot(0, self.close)
window.MainWindow = Watched
from ciad_app.main import main
code = main(['--window', '--bundle', {str(untrained_bundle)!r}, '--device', 'cpu'])
assert seen and seen[0] is False, seen
sys.exit(code)
"""
    ran = start(code=code, CIAD_CONFIG_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"state: Bundle untrained · CPU, .* True", ran.stdout)
    assert (tmp_path / "settings.json").is_file()


def test_the_window_opens_the_database_it_is_told(tmp_path, untrained_bundle):
    code = f"""
from PySide6.QtCore import QTimer
from ciad_app import window
from ciad_app.evaluate.page import EvaluatePage
class Watched(window.MainWindow):
    def _ready(self, info):
        super()._ready(info)
        self.look()
    def look(self):
        if self.page(EvaluatePage)._database is None:
            QTimer.singleShot(20, self.look)
        else:
            print('database:', self.page(EvaluatePage)._database.path)
            self.close()
window.MainWindow = Watched
from ciad_app.main import main
sys.exit(main(['--window', '--bundle', {str(untrained_bundle)!r}, '--device', 'cpu', *sys.argv[1:]]))
"""
    own = {"CIAD_CONFIG_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    file = tmp_path / "other" / "runs.sqlite"
    ran = start("--database", file, code=code, **own)
    assert ran.returncode == 0, ran.stderr
    assert f"database: {file}\n" in ran.stdout
    assert [path.name for path in tmp_path.rglob("*.sqlite")] == ["runs.sqlite"]


@pytest.mark.parametrize(("chosen", "expected"), [("", "paper"), ("untrained", "untrained")])
def test_a_remembered_bundle_that_is_gone_is_replaced_unless_the_command_line_chooses(
    chosen, expected, tmp_path, untrained_bundle
):
    code = """
from ciad_app import window
class Watched(window.MainWindow):
    def _ready(self, info):
        super()._ready(info)
        print('state:', self.state.text())
        self.engine.submit(lambda session, job: None, lambda _: self.close())
    def say(self, text):
        print('said:', text)
window.MainWindow = Watched
from ciad_app.main import main
sys.exit(main(['--window', '--device', 'cpu', *sys.argv[1:]]))
"""
    gone = str(tmp_path / "gone")
    (tmp_path / "settings.json").write_text(json.dumps({"bundle": gone}))
    own = {"CIAD_CONFIG_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    ran = start(*(["--bundle", untrained_bundle] if chosen else []), code=code, **own)
    assert ran.returncode == 0, ran.stderr
    assert f"state: Bundle {expected} · CPU" in ran.stdout
    said = f"said: No bundle called '{gone}'" in ran.stdout and "Bundle 'paper' is used instead." in ran.stdout
    assert said is not bool(chosen)
    assert json.loads((tmp_path / "settings.json").read_text())["bundle"] == gone  # until another one is chosen


def test_closing_while_the_models_load_ends_in_order(tmp_path, untrained_bundle):
    code = f"""
from PySide6.QtCore import QTimer
from ciad_app import worker
real = worker.Engine.start
def start(self, *arguments):
    real(self, *arguments)
    from PySide6.QtWidgets import QApplication
    QTimer.singleShot(0, QApplication.closeAllWindows)
worker.Engine.start = start
from ciad_app.main import main
sys.exit(main(['--window', '--bundle', {str(untrained_bundle)!r}, '--device', 'cpu']))
"""
    ran = start(code=code, CIAD_CONFIG_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "did not end" not in ran.stderr  # else it left without its engine thread, with the same exit code


def test_info_and_reset_end_without_a_window(tmp_path):
    own = {"CIAD_CONFIG_DIR": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    ran = start("--info", **own)
    assert ran.returncode == 0, ran.stderr
    assert "bundles" in ran.stdout
    ran = start("--reset", **own)
    assert ran.returncode == 0, ran.stderr
    assert "the defaults are in use" in ran.stdout


def test_a_missing_system_library_is_named_with_the_line_that_installs_it(capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    text = program._explain_missing_library(ImportError("libEGL.so.1: cannot open shared object file"))
    assert "libEGL.so.1" in text
    assert "apt-get install" in text
    assert "libxcb-cursor0" in text


def test_qt_that_cannot_be_imported_ends_with_a_message():
    code = """
import importlib.abc
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'PySide6.QtWidgets':
            raise ImportError('libEGL.so.1: cannot open shared object file')
sys.meta_path.insert(0, Refuse())
from ciad_app.main import main
sys.exit(main(['--window']))
"""
    ran = start(code=code)
    assert ran.returncode == 1
    assert "libEGL.so.1" in ran.stderr
    assert "Traceback" not in ran.stderr


ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is a desktop without a display")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No display is named."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return monkeypatch


@ON_LINUX
def test_where_there_is_no_display(nowhere):
    assert display.problem() == "No display found"
    nowhere.setenv("QT_QPA_PLATFORM", "xcb")
    assert display.problem() == "No display found"
    nowhere.setenv("QT_QPA_PLATFORM", "eglfs")  # needs none
    assert display.problem() == ""
    nowhere.setenv("QT_QPA_PLATFORM", "offscreen")
    nowhere.setenv("DISPLAY", ":0")
    assert "offscreen" in display.problem()


@ON_LINUX
def test_a_display_that_does_not_answer_is_named(nowhere):
    nowhere.setattr(display, "_x11_answers", lambda name: name == ":7")
    nowhere.setenv("DISPLAY", ":99")
    assert display.problem() == "The display :99 could not be opened"
    nowhere.setenv("WAYLAND_DISPLAY", "wayland-5")
    assert display.problem() == "The display wayland-5 or :99 could not be opened"
    nowhere.setenv("DISPLAY", ":7")
    assert display.problem() == ""
    nowhere.setenv("QT_QPA_PLATFORM", "wayland")
    assert display.problem() == "The display wayland-5 could not be opened"


@ON_LINUX
def test_a_compositor_that_listens_is_a_display(nowhere, tmp_path):
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as compositor:
        compositor.bind(f"{short}/wayland-3")  # pytest's own folders may be too long for a socket
        compositor.listen()
        nowhere.setenv("XDG_RUNTIME_DIR", short)
        nowhere.setenv("WAYLAND_DISPLAY", "wayland-3")
        assert display.problem() == ""


@ON_LINUX
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DISPLAY": ":77", "QT_QPA_PLATFORM": None}, "The display :77 could not be opened"),
        ({"DISPLAY": None, "QT_QPA_PLATFORM": "offscreen"}, "QT_QPA_PLATFORM=offscreen"),
    ],
)
def test_without_a_usable_display_the_demo_runs_and_says_why(variables, expected, tmp_path):
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from ciad_app import display, main as program
display._x11_answers = lambda name: False
program._run_demo = lambda folder, *_: print('demo', folder, os.environ['QT_QPA_PLATFORM']) or 0
program._run_window = lambda *_: print('window') or 0
program.main(['cat.png'])
program.main(['--window'])
"""
    ran = start(code=code, WAYLAND_DISPLAY=None, XDG_STATE_HOME=str(tmp_path), **variables)
    assert ran.returncode == 0, ran.stderr
    assert expected in ran.stdout
    assert ran.stdout.splitlines()[1:] == [
        "Not shown: cat.png. `ciad inspect` looks at pictures without a display.",
        "demo ciad-demo offscreen",
        "window",
    ]


@ON_LINUX
def test_qt_that_cannot_connect_names_the_display_and_no_libraries(tmp_path):
    ran = start("--window", DISPLAY=":77", WAYLAND_DISPLAY=None, QT_QPA_PLATFORM="xcb", XDG_STATE_HOME=str(tmp_path))
    assert ran.returncode != 0
    if "could not connect to display" not in ran.stderr:
        pytest.skip("Qt's libraries for X11 are missing here")
    assert "The display :77 could not be opened" in ran.stderr
    assert "apt-get" not in ran.stderr


def test_copied_tables_do_not_crash_the_end_of_the_program(tmp_path):
    code = """
from ciad_app import copying, main
app = main.make_application()
copying.to_clipboard('a tab b', '<table><tr><td>a</td><td>b</td></tr></table>')
assert app.clipboard().mimeData().hasHtml()
copying.release_clipboard()
print(app.clipboard().text())
"""
    ran = start(code=code, XDG_STATE_HOME=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "a tab b"


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["import", "before the loop", "in the loop"])
def test_a_signal_ends_the_window_in_order(moment, number, tmp_path, untrained_bundle):
    """While Qt is imported, when the window is made, and in its event loop; a window keeps its settings."""
    code = f"""
import os, signal
moment, number = {moment!r}, {int(number)}
strike = lambda *_: os.kill(os.getpid(), number)
class Striking:
    def find_spec(self, name, path=None, target=None):
        if moment == "import" and name == "PySide6.QtWidgets":
            strike()
sys.meta_path.insert(0, Striking())
if moment != "import":
    from PySide6.QtCore import QTimer
    from ciad_app import window
    class Watched(window.MainWindow):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            if moment == "in the loop":
                QTimer.singleShot(100, strike)
            else:
                strike()
    window.MainWindow = Watched
from ciad_app.main import main
sys.exit(main(['--window', '--bundle', {str(untrained_bundle)!r}, '--device', 'cpu']))
"""
    ran = start(code=code, CIAD_CONFIG_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    assert ran.returncode == 128 + number, ran.stderr
    assert "Traceback" not in ran.stderr
    assert (tmp_path / "settings.json").is_file() is (moment != "import")


@pytest.mark.skipif(os.name == "nt", reason="Windows knows the home without variables")
def test_the_window_starts_without_a_home(untrained_bundle):
    code = f"""
import pwd
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
from PySide6.QtCore import QTimer
from ciad_app import window
class Watched(window.MainWindow):
    def _ready(self, info):
        super()._ready(info)
        print('state:', self.state.text())
        QTimer.singleShot(0, self.close)
window.MainWindow = Watched
from ciad_app.main import main
sys.exit(main(['--window', '--bundle', {str(untrained_bundle)!r}, '--device', 'cpu']))
"""
    homeless = {name: None for name in os.environ if name == "HOME" or name.startswith("XDG_")}
    ran = start(code=code, **homeless, CIAD_CONFIG_DIR=None)
    assert ran.returncode == 0, ran.stderr
    assert "state: Bundle untrained" in ran.stdout
    assert "Your home folder is not known: set the variable HOME" in ran.stderr
    assert "Traceback" not in ran.stderr

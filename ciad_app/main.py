"""`ciad-gui`: the start of the window.

The first window is up before torch is imported; the engine thread loads it behind the window.
"""

from __future__ import annotations

import os
import sys

try:
    import argparse
    import logging
    from pathlib import Path
    from typing import TYPE_CHECKING

    from ciad_app import INSTALL_QT, display
    from ciad_engine import __version__, memory, process
    from ciad_engine.errors import CiadError
except KeyboardInterrupt:  # nobody answers signals yet
    os._exit(130)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QApplication

DEMO_FOLDER = "ciad-demo"
APPLICATION_ID = "ciad"  # equals the name of the .desktop file: Wayland finds the icon by it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code.

    It is 0 done, 1 failed with a message, 2 wrong use, 130 ended with Ctrl+C, 143 with SIGTERM.
    """
    if sys.platform != "win32":  # there a program without a console has no streams, and shows a box
        process.open_streams()
    with process.Signals("ciad-gui", whole_process=argv is None) as signals, process.fenced():
        try:
            return _main(_parser().parse_args(sys.argv[1:] if argv is None else argv), signals)
        except KeyboardInterrupt:
            signals.say()
            return signals.code


def _main(options: argparse.Namespace, signals: process.Signals) -> int:
    if options.info:
        from ciad_engine import cli

        return cli.main(["info"])
    if options.reset:
        from ciad_app import settings

        try:
            print(settings.reset())
        except CiadError as error:
            return _tell_without_window(str(error))
        return 0
    demo: Path | None = options.demo
    problem = "" if options.window else display.problem()
    if demo is None and problem:
        demo = Path(DEMO_FOLDER)
        print(f"{problem}: inspecting the bundled samples without one, into {demo.resolve()}.", flush=True)
        if options.files:
            named = ", ".join(map(str, options.files))
            print(f"Not shown: {named}. `ciad inspect` looks at pictures without a display.")
    if demo is not None and problem:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    elif demo is not None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if sys.platform == "win32":
        # Imported after Qt, torch fails to load its DLLs there: the older runtime that Qt brings wins.
        try:
            import torch  # noqa: F401
        except (ImportError, OSError) as error:
            return _tell_without_window(f"PyTorch cannot be loaded: {error}. Install Microsoft's VC++ runtime (x64).")
    try:
        import PySide6.QtWidgets  # noqa: F401
    except ImportError as error:
        print(_explain_missing_library(error), file=sys.stderr)
        return 1
    from ciad_app import errors

    memory.keep_freed()  # before the engine's thread has its first block
    last_crash = errors.start_log(options.debug)
    signals.ask = lambda: None  # from now on Qt calls us, and would drop the exception: the event loop looks
    try:
        if demo is not None:
            return _run_demo(demo, options.bundle, options.device, signals)
        return _run_window(options.files, options.bundle, options.device, options.database, bool(last_crash), signals)
    finally:
        errors.stop_log()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ciad-gui", description="See adversarial images and how to detect them.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="pictures, data-set folders or archives")
    parser.add_argument("--version", action="version", version=f"CIAD {__version__}")
    parser.add_argument(
        "--demo",
        nargs="?",
        type=Path,
        const=Path(DEMO_FOLDER),
        metavar="DIR",
        help=f"inspect the bundled samples without a display and write screenshots and tables to DIR ({DEMO_FOLDER})",
    )
    # For tests of the start: the window, seen or not.
    parser.add_argument("--window", action="store_true", help=argparse.SUPPRESS)
    of_bundle = "name or folder of the trained networks, for this start (default: those chosen last in the window)"
    parser.add_argument("--bundle", metavar="NAME", default="", help=of_bundle)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto)")
    parser.add_argument("--database", type=Path, metavar="FILE", help="results database (default: the program's own)")
    parser.add_argument("--info", action="store_true", help="print versions, device, bundles and data, and exit")
    parser.add_argument("--reset", action="store_true", help="put the settings back to their defaults, and exit")
    parser.add_argument("--debug", action="store_true", help="log everything, also to the terminal")
    return parser


def _explain_missing_library(error: ImportError) -> str:
    text = f"The window cannot start, because Qt cannot be loaded: {error}."
    return text + INSTALL_QT if sys.platform.startswith("linux") else text


def _tell_without_window(text: str) -> int:
    """Say on Windows why nothing starts, also where there is no terminal (`pythonw`); returns the exit code."""
    if sys.platform == "win32" and sys.stderr is None:
        import ctypes

        ctypes.windll.user32.MessageBoxW(None, text, "CIAD", 0x10)  # MB_ICONERROR
    else:
        print(f"ciad-gui: {text}", file=sys.stderr)
    return 1


def _run_window(
    files: list[Path], bundle: str, device: str, database: Path | None, crashed: bool, signals: process.Signals
) -> int:
    from PySide6.QtCore import QTimer

    from ciad_app import copying, settings, theme
    from ciad_app.errors import Reporter
    from ciad_app.garbage import Collector
    from ciad_app.window import MainWindow
    from ciad_app.worker import Engine
    from ciad_engine.bundles import DEFAULT

    app = make_application()
    collector = Collector()
    kept = settings.load()
    theme.prepare(app)
    theme.apply(app, kept)
    reporter = Reporter()
    reporter.install()
    engine = Engine()
    engine.failed.connect(reporter.report)
    engine.ready.connect(lambda info: setattr(reporter, "info", info))
    engine.ready.connect(lambda _: collector.spare_what_is_loaded())
    window = MainWindow(engine, kept, database)
    window.closed.connect(app.quit)
    window.show()
    window.loading()
    # After the first paint: importing torch holds the interpreter again and again for some milliseconds.
    first, otherwise = (bundle, "") if bundle else (kept.bundle or DEFAULT, DEFAULT)
    QTimer.singleShot(50, lambda: engine.start(first, device, otherwise))
    if files:
        window.open_paths(files)
    elif not kept.toured:
        engine.ready.connect(lambda _: window.show_first_tour())
    if crashed:
        window.say("The last start of CIAD ended with a crash. Help > Show log file has the trace to report.")
    # Ctrl+C in the terminal and SIGTERM close the window; Python sees a signal only when it gets to run.
    beat = QTimer(interval=200)
    beat.timeout.connect(lambda: window.close() if signals.number else None)
    beat.start()
    code = app.exec()
    beat.stop()
    if signals.number:
        code = signals.code
    copying.release_clipboard()
    reporter.uninstall()
    collector.stop()
    if not window.ended:
        logging.getLogger(__name__).error("The engine thread did not end; leaving without it.")
        logging.shutdown()
        os._exit(code)  # a thread stuck in a driver would hold or crash an orderly end
    return code


def _run_demo(folder: Path, bundle: str, device: str, signals: process.Signals) -> int:
    from ciad_app import demo, theme
    from ciad_app.garbage import Collector
    from ciad_app.settings import Settings
    from ciad_engine.bundles import DEFAULT
    from ciad_engine.errors import CiadError
    from ciad_engine.jobs import Cancelled

    app = make_application()
    collector = Collector()
    theme.prepare(app)
    theme.apply(app, Settings(scheme="light"))
    try:
        demo.run(folder, bundle or DEFAULT, device, cancelled=lambda: bool(signals.number))
    except Cancelled:
        signals.say()
        return signals.code
    except (CiadError, OSError) as error:
        print(f"ciad-gui: {error}", file=sys.stderr)
        return 1
    finally:
        collector.stop()
    return 0


def make_application() -> QApplication:
    """The application with its names and icon, or the one there is."""
    from PySide6.QtGui import QGuiApplication
    from PySide6.QtWidgets import QApplication

    from ciad_app.window import icon

    if sys.platform == "win32":
        import ctypes

        # Without an id of its own the task bar shows the icon of Python.
        ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(APPLICATION_ID)
    found = QApplication.instance()
    app = found if isinstance(found, QApplication) else QApplication(["CIAD"])  # macOS: the menu's name
    app.setApplicationName(APPLICATION_ID)
    app.setApplicationVersion(__version__)
    QGuiApplication.setApplicationDisplayName("CIAD")
    QGuiApplication.setDesktopFileName(APPLICATION_ID)
    QGuiApplication.setWindowIcon(icon())
    return app

"""How long the first window takes beyond the libraries it is made of.

    python -m tests.benchmarks.start

Runs two processes in turn, each several times: one only imports PySide6.QtWidgets and pyqtgraph, the
other starts `ciad-gui` up to the first paint of its window. Prints the best of each and the difference;
the window may take one second more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

RUNS = 7
LIBRARIES = "import PySide6.QtWidgets, pyqtgraph"
WINDOW = """
import os
from ciad_app import window
class Watched(window.MainWindow):
    def paintEvent(self, event):
        super().paintEvent(event)
        os._exit(0)
window.MainWindow = Watched
from ciad_app.main import main
main(["--window"])
"""


def seconds(code: str, folder: str) -> float:
    environment = {**os.environ, "CIAD_CONFIG_DIR": folder, "XDG_STATE_HOME": folder, "XDG_DATA_HOME": folder}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(seconds(LIBRARIES, folder), seconds(WINDOW, folder)) for _ in range(RUNS)]
    libraries, window = (min(column) for column in zip(*pairs, strict=True))
    print(f"import PySide6.QtWidgets, pyqtgraph   {libraries:.2f} s (best of {RUNS})")
    print(f"ciad-gui to its first paint           {window:.2f} s, {window - libraries:.2f} s more")


if __name__ == "__main__":
    main()

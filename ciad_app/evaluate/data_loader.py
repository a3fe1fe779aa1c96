"""Loads and downloads the images that the setup panel asks for."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from ciad_app.evaluate.setup_panel import DataChoice
from ciad_app.latest import Latest
from ciad_app.worker import Engine, Session, Work
from ciad_engine import datasets, files
from ciad_engine.errors import DAMAGE
from ciad_engine.jobs import Job

log = logging.getLogger(__name__)

_PATHS = "data_paths.json"  # beside the database: a run knows its data by checksum only
_KEPT = 50  # data sets


class DataLoader(QObject):
    """Serves a `DataChoice`: loads what is chosen there and says how it went."""

    changed = Signal()  # `data` is another data set now, or None
    failed = Signal()  # what was chosen could not be loaded; the choice says why

    def __init__(
        self, engine: Engine, choice: DataChoice, folder: Callable[[], Path | None], parent: QObject | None = None
    ) -> None:
        """The paths of data sets are remembered in `folder()`, if it is one."""
        super().__init__(parent)
        self.data: datasets.ImageSet | None = None
        self._choice, self._folder = choice, folder
        self._task = Latest(engine)
        self._downloading = False
        choice.chosen.connect(self.load)
        choice.download_requested.connect(self.download)

    @property
    def busy(self) -> bool:
        return self._task.busy

    def load(self, text: str) -> None:
        """Load "samples" or the data at a path; "" only forgets what was loaded."""
        self.stop()
        self.data = None
        if text:
            self._submit(
                lambda session, job: datasets.choose(text, job).matched(session.domain),
                lambda data: self._loaded(text, data),
                "Loading images",
            )
        self.changed.emit()

    def stop(self) -> None:
        """Load nothing any more."""
        self._task.drop()
        self._set_downloading(False)

    def download(self) -> None:
        """Download CIFAR-10, then load it; while it is being downloaded: cancel."""
        if self._downloading:
            self._task.cancel()
            return
        self.stop()
        self.data = None
        self._choice.say("Connecting …")
        self._submit(_fetch, self._fetched, "Downloading CIFAR-10", "Cancelled; what has been downloaded is kept.")
        self._set_downloading(True)
        self.changed.emit()

    def place_of(self, checksum: str) -> str:
        """What to `choose` for the data of this checksum: "samples", an existing path, or "" if unknown."""
        folder = self._folder()
        place = known_places(folder / _PATHS).get(checksum, "") if folder else ""
        # `Path.exists` raises where a folder above may not be entered.
        there = place == datasets.SAMPLES or (place != "" and os.path.exists(place))  # noqa: PTH110
        return place if there else ""

    def _progress(self, done: int, total: int, text: str) -> None:
        self._choice.say(f"{text or 'Loading'}{f', {done / total:.0%}' if total else ''}")

    def _submit(self, inner: Work, done: Callable[[object], None], text: str, if_cancelled: str = "Cancelled.") -> None:
        self._task.submit(
            inner,
            done,
            failed=self._not_loaded,
            cancelled=lambda: self._not_loaded(if_cancelled),
            progress=self._progress,
            text=text,
        )

    def _fetched(self, path: object) -> None:
        self._set_downloading(False)
        self._choice.choose(str(path))

    def _loaded(self, text: str, data: object) -> None:
        assert isinstance(data, datasets.ImageSet)
        self.data = data
        self._choice.say(f"{len(data):,} images: {data.source}")  # under which name figures on them are quoted
        folder = self._folder()
        if folder is not None:
            place = text if text == datasets.SAMPLES else str(Path(text).absolute())
            remember_place(folder / _PATHS, data.checksum, place)
        self.changed.emit()

    def _not_loaded(self, message: str) -> None:
        self._set_downloading(False)
        self._choice.say(f"⚠ {message}")
        self.changed.emit()
        self.failed.emit()

    def _set_downloading(self, downloading: bool) -> None:
        self._downloading = downloading
        self._choice.download.setText("Stop" if downloading else "Download")


def _fetch(session: Session, job: Job) -> Path:
    from ciad_engine import download  # here, because HTTP takes long to import

    return download.fetch(download.default_folder(), job)


def known_places(file: Path) -> dict[str, str]:
    """Checksum -> path of data sets; empty if the file is missing or unusable (the person is asked then)."""
    try:
        content = json.loads(files.read_bounded(file, files.MOST_TEXT))
    except FileNotFoundError:
        return {}
    except (OSError, *DAMAGE) as error:
        log.warning("Cannot read %s (%s): data of earlier evaluations will be asked for.", file, error)
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)} if isinstance(content, dict) else {}


def remember_place(file: Path, checksum: str, path: str) -> None:
    """Note where a data set lies; if that cannot be written, the log says so."""
    known = known_places(file)
    if known.get(checksum) == path:
        return
    known.pop(checksum, None)
    known[checksum] = path
    try:
        files.write_whole(file, (json.dumps(dict(list(known.items())[-_KEPT:]), indent=1) + "\n").encode())
    except OSError as error:
        log.warning("Cannot write %s: %s.", file, error.strerror)

"""Files and pictures made of what the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice, QPoint, QSize
from PySide6.QtGui import QPainter, QPalette, QPixmap
from PySide6.QtWidgets import QFileDialog, QWidget

from ciad_app.incoming import SESSION
from ciad_app.worker import EngineInfo
from ciad_engine import __version__, files, inspection, outputs
from ciad_engine.errors import CiadError
from ciad_engine.inspection import Inspection

_SCALE = 2  # pictures of the view are made larger than the screen, for slides
_GAP = 8


def stem(found: Inspection) -> str:
    """A file name without suffix for what was made of an image."""
    name = re.sub(r"[^\w.-]+", "_", Path(found.name).stem).strip("._") or "image"
    return f"{name}-{found.attack.attack}" if found.attack is not None else name


def record(found: Inspection, info: EngineInfo) -> bytes:
    content = {
        "ciad": __version__,
        "bundle": {"name": info.card.name, "checksum": info.card.checksum},
        "device": info.device,
        **inspection.as_dict(found),
    }
    # A file name may hold bytes that are no text, which a UTF-8 file does not take.
    return json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def write(path: Path, contents: Mapping[str, bytes], overwrite: bool, inputs: Collection[Path] = ()) -> None:
    """Write a file at `path` and others beside it; `contents` by suffix, the first of them for `path` itself.

    Raises:
        CiadError: a file cannot be written, or exists and may not be overwritten, or is one of the `inputs`; then
            none was written.
    """
    first, *beside = contents
    paths = {first: path, **{suffix: path.with_suffix(suffix) for suffix in beside}}
    if len(set(paths.values())) < len(paths):
        raise CiadError(f"{path} is to be a picture: choose a name that ends in {first}.")
    for each in paths.values():
        if each.exists() and not overwrite:
            raise CiadError(f"{each} exists already and was not overwritten: choose another name.")
        outputs.check_file(each, inputs)
    for suffix, raw in contents.items():
        try:
            files.write_whole(paths[suffix], raw)
        except OSError as error:
            raise CiadError(f"{paths[suffix]} cannot be written: {error.strerror}. Choose another place.") from error


def png(picture: QPixmap) -> bytes:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    picture.save(buffer, "PNG")
    return bytes(buffer.data().data())


def compose(rows: Sequence[Sequence[QWidget]]) -> QPixmap:
    """Rows of widgets as one picture, at twice the size of the screen."""
    width = max(sum(w.width() + _GAP for w in row) for row in rows) + _GAP
    height = sum(max(w.height() for w in row) + _GAP for row in rows) + _GAP
    picture = QPixmap(QSize(width, height) * _SCALE)
    picture.setDevicePixelRatio(_SCALE)
    picture.fill(rows[0][0].palette().color(QPalette.ColorRole.Window))
    painter = QPainter(picture)
    y = _GAP
    for row in rows:
        x = _GAP
        for widget in row:
            widget.render(painter, QPoint(x, y))
            x += widget.width() + _GAP
        y += max(w.height() for w in row) + _GAP
    painter.end()
    return picture


def ask(parent: QWidget, title: str, folder: str, name: str, suffix: str = ".png") -> Path | None:
    """Ask where to save a file; the dialog itself asks before an existing one is overwritten."""
    kind = {".png": "PNG", SESSION: "CIAD session"}[suffix]
    dialog = QFileDialog(parent, title, folder, f"{kind} (*{suffix})")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(suffix[1:])  # before the question, so that the question is about the real name
    dialog.selectFile(name)
    if dialog.exec() != QFileDialog.DialogCode.Accepted:
        return None
    return Path(dialog.selectedFiles()[0])

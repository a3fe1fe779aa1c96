"""Words, files and pictures made of what the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPoint, QSize
from PySide6.QtGui import QPainter, QPalette, QPixmap
from PySide6.QtWidgets import QFileDialog, QWidget

from ciad_app.inspect import work
from ciad_app.worker import EngineInfo
from ciad_engine import __version__, files, imaging, inspection
from ciad_engine.errors import CiadError
from ciad_engine.figures import svg
from ciad_engine.figures.layout import Figure, place
from ciad_engine.inspection import Inspection

_SCALE = 2  # pictures of the view are made larger than the screen, for slides
_GAP = 8


def verdict_words(found: Inspection) -> tuple[str, str, str]:
    """The word of the sign, the sentence without that word, and the evidence."""
    verdict = found.adversarial or found.benign
    word = inspection.headline(verdict, inspection.is_adversarial(found))
    # Where an attack failed, that is said before the word, and the rest begins a sentence of its own.
    before, _, rest = inspection.sentence(found).partition(f"{word}: ")
    text = before + rest[:1].upper() + rest[1:]
    if found.attack is not None and found.adversarial is not None and not found.attack.success[0]:
        reason = str(found.attack.reason[0])
        text = f"{reason[:1].upper()}{reason[1:]}. {text}"
    score, threshold = float(verdict.score[0]), verdict.threshold
    compared = "above" if score > threshold.value else "not above"
    evidence = [f"Score {score:.3g} is {compared} the threshold {threshold.value:.3g} ({threshold.source})."]
    if verdict.recovers is not None:
        known = "the true class" if found.label is not None else "the class before the attack"
        name = found.classes[found.reference]
        evidence.append(
            f"The mask classifier {'recovers' if verdict.recovers[0] else 'does not recover'} {known} ({name})."
        )
    return word, text, " ".join(evidence)


def stem(found: Inspection) -> str:
    """A file name without suffix for what was made of an image."""
    name = re.sub(r"[^\w.-]+", "_", Path(found.name).stem).strip("._") or "image"
    return f"{name}-{found.attack.attack}" if found.attack is not None else name


def record(found: Inspection, info: EngineInfo) -> dict[str, Any]:
    """The record with what it was made by."""
    return {
        "ciad": __version__,
        "bundle": {"name": info.card.name, "checksum": info.card.checksum},
        "device": info.device,
        **work.record(found),
    }


def image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an image as PNG. Raises ImageError."""
    imaging.save_png(path, pixels)


def view(path: Path, picture: QPixmap, content: dict[str, Any], figure: Figure, overwrite: bool) -> None:
    """Write the picture as PNG, and beside it the record as JSON and the paper's arrangement as SVG.

    Raises:
        CiadError: a file cannot be written, or a file beside the PNG exists and may not be overwritten.
    """
    record_path, figure_path = path.with_suffix(".json"), path.with_suffix(".svg")
    if path in (record_path, figure_path):
        raise CiadError(f"{path} is to be a picture: choose a name that ends in .png.")
    for beside in (record_path, figure_path):
        if beside.exists() and not overwrite:
            raise CiadError(f"{beside} exists already and was not overwritten: choose another name.")
    # A file name may hold bytes that are no text, which a UTF-8 file does not take.
    text = json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    drawn = svg.draw(place(figure))
    if not picture.save(str(path), "PNG"):
        raise CiadError(f"{path} cannot be written: choose another place.")
    for beside, raw in ((record_path, text), (figure_path, drawn)):
        try:
            files.write_whole(beside, raw)
        except OSError as error:
            raise CiadError(f"{beside} cannot be written: {error.strerror}. Choose another place.") from error


def compose(rows: Sequence[Sequence[QWidget]]) -> QPixmap:
    """Rows of widgets as one picture."""
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


def ask(parent: QWidget, title: str, folder: str, name: str) -> Path | None:
    """Ask where to save a PNG; the dialog itself asks before an existing file is overwritten."""
    dialog = QFileDialog(parent, title, folder, "PNG (*.png)")
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix("png")  # before the question, so that the question is about the real name
    dialog.selectFile(name)
    if dialog.exec() != QFileDialog.DialogCode.Accepted:
        return None
    return Path(dialog.selectedFiles()[0])

"""What a page is offered: what was dropped, pasted or opened (local files, or a picture itself), or a row's images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QBuffer, QIODevice, QMimeData
from PySide6.QtGui import QImage

from ciad_engine import datasets, imaging
from ciad_engine.errors import ImageError

if TYPE_CHECKING:
    from ciad_engine.attacks.base import AttackResult

SESSION = ".ciad"
ENDINGS = (*sorted(imaging.EXTENSIONS), *datasets.ARCHIVES, SESSION)  # of the files that can be opened

# As they are before Qt decodes them: the engine's decoder is the one that checks.
_ENCODED = ("image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "image/jpeg")


@dataclasses.dataclass(frozen=True)
class Incoming:
    """Local paths (files, folders, archives) and a sentence about each that is none, or else one encoded picture."""

    paths: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    picture: bytes = b""
    name: str = ""  # what a picture without a file is called


class OpenedRow(NamedTuple):
    """A row of an evaluation with its images, which can be shown without attacking again."""

    image: npt.NDArray[np.uint8]  # (3, H, W), benign
    label: int | None  # the true class, among those of the loaded bundle; None if it has no such class
    adversarial: npt.NDArray[np.uint8] | None  # (3, H, W); None without an attack that fooled the attacked network
    name: str  # what the data set calls the image
    attack: AttackResult | None = None  # on f1; None of a benign row, and of an attack on another classifier
    evade: tuple[str, ...] = ()  # the detectors that it had to evade
    bundle: str = ""  # checksum of the bundle whose f1 and detectors these are


Thing = Incoming | OpenedRow


def welcome(data: QMimeData) -> bool:
    """Whether `read` may find something; asked while something hovers over the window."""
    return data.hasUrls() or data.hasImage() or any(data.hasFormat(kind) for kind in _ENCODED)


def read(data: QMimeData, name: str = "") -> Incoming:
    """Return what is in a drop or in the clipboard; `name` is what a picture without a file is called.

    A browser gives a remote address together with the picture: then the picture counts.

    Raises:
        ImageError: only remote addresses, or nothing of ours.
    """
    paths, problems = [], []
    for url in data.urls():
        try:
            paths.append(imaging.path_from_url(url.toString()))
        except ImageError as error:
            problems.append(str(error))
    if paths:
        return Incoming(tuple(paths), tuple(problems))
    for kind in _ENCODED:
        if data.hasFormat(kind):
            return Incoming(picture=bytes(data.data(kind).data()), name=name)
    if data.hasImage():
        image = data.imageData()
        if isinstance(image, QImage) and not image.isNull():
            buffer = QBuffer()
            buffer.open(QIODevice.OpenModeFlag.WriteOnly)
            image.save(buffer, "PNG")  # type: ignore[call-overload]  # the stub wants bytes, the call a str
            return Incoming(picture=bytes(buffer.data().data()), name=name)
    if problems:
        raise ImageError(problems[0])
    raise ImageError("There is no picture and no file in it. Copy a picture or files, then paste again.")

"""What was dropped on the window or pasted into it: local files, or a picture itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice, QMimeData
from PySide6.QtGui import QImage

from ciad_engine import imaging
from ciad_engine.errors import ImageError

# As they are before Qt decodes them: the engine's decoder is the one that checks.
_ENCODED = ("image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "image/jpeg")


@dataclasses.dataclass(frozen=True)
class Incoming:
    """Local paths (files, folders, archives) and a sentence about each that is none, or else one encoded picture."""

    paths: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    picture: bytes = b""


def welcome(data: QMimeData) -> bool:
    """Whether `read` may find something; asked while something hovers over the window."""
    return data.hasUrls() or data.hasImage() or any(data.hasFormat(kind) for kind in _ENCODED)


def read(data: QMimeData) -> Incoming:
    """What is in a drop or in the clipboard.

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
            return Incoming(picture=bytes(data.data(kind).data()))
    if data.hasImage():
        image = data.imageData()
        if isinstance(image, QImage) and not image.isNull():
            buffer = QBuffer()
            buffer.open(QIODevice.OpenModeFlag.WriteOnly)
            image.save(buffer, "PNG")  # type: ignore[call-overload]  # the stub wants bytes, the call a str
            return Incoming(picture=bytes(buffer.data().data()))
    if problems:
        raise ImageError(problems[0])
    raise ImageError("There is no picture and no file in it. Copy a picture or files, then paste again.")

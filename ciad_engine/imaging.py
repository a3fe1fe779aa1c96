"""Decode and check any image; uint8 <-> float in one place.

Everywhere between rooms an image is a uint8 array (3, size, size), channels red, green, blue; a batch
is (N, 3, size, size). The size is that of a domain. Floats in [0, 1] exist only inside attacks and networks.

How any picture becomes RGB of the bundle's size, in this order (`decoder` does it):

1. The file is recognised by its content, not by its name. Of an animation or a file with several
   pages the first is taken. The EXIF orientation is applied, colour profiles are ignored.
2. Transparency is laid on white. Palette, grey, 1-bit and CMYK become RGB as Pillow converts them.
   16-bit grey is divided by 257 and rounded, so that 65535 is white, 12-bit grey so that 4095 is; of 16-bit colour
   the upper 8 bits are kept. Whole numbers outside 0..65535 are stretched from their minimum to their
   maximum. Floats are taken as 0..1, else as 0..255 (in both cases a tenth more is clipped), else stretched; NaN and
   infinity are refused.
3. The centre square is cut out (of an odd rest, the smaller half is left and above).
4. It is scaled to the bundle's size with Pillow's Lanczos filter, which averages when it makes smaller and
   interpolates when it makes larger.

An RGB picture that has this size already, in a lossless format, therefore passes unchanged, bit for bit.

What the header promises to be small is decoded here, everything else in a child process with limits of time and
memory, which is killed if the job is cancelled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image

from ciad_engine import decoder
from ciad_engine.domain import MAX_SIZE, Pixels
from ciad_engine.errors import ImageError
from ciad_engine.files import write_whole
from ciad_engine.jobs import Job
from ciad_engine.plain_text import plain

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 256 * 2**20  # of a file
# Seconds until a child is killed that has not ended itself. Only Windows needs it: elsewhere a child counts its own.
_TIMEOUT = 10.0 if os.name == "nt" else 120.0
_POLL = 0.05  # seconds between two looks at the job

_SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".mpo"),  # what many phones write as .jpg
    "BMP": (".bmp", ".dib"),
    "DIB": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
EXTENSIONS: tuple[str, ...] = tuple(dict.fromkeys(suffix for group in _SUFFIXES.values() for suffix in group))


def to_unit(lattice: Tensor) -> Tensor:
    """uint8 tensor -> float32 tensor in [0, 1]."""
    return lattice.float().div(255)


def to_lattice(unit: Tensor) -> Tensor:
    """Float tensor in [0, 1] -> uint8 tensor, rounded to the nearest (never floored) and clamped."""
    return unit.detach().mul(255).round().clamp(0, 255).byte()


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture somebody opened, dropped or pasted.

    Attributes:
        pixels: uint8 (3, size, size), what the networks see.
        original: uint8 (H, W, 3) RGB, upright, for display; scaled down to at most 1024 a side.
        name: its file name as plain text, or what the clipboard is called.
        note: what was done to it, e.g. "640x480 cropped to its centre square, scaled to 32x32";
            empty if it already was RGB of the right size.
    """

    pixels: Pixels
    original: Pixels
    name: str
    note: str


def read(source: Path | str, size: int, job: Job | None = None) -> Picture:
    """Read a picture from a path or a `file:` URL by the rule on top of this module, as `size` x `size` pixels.

    Raises:
        ImageError: there is no such file, it may not be read, is a folder, a remote URL, empty,
            damaged, no picture, too large, too long a strip, or has pixels that are no numbers.
        Cancelled: through `job`.
    """
    path = path_from_url(source) if isinstance(source, str) else source
    where = plain(path)
    try:
        with _opened(path) as file:
            return _picture(file, plain(path.name), size, where, job or Job())
    except FileNotFoundError as error:
        raise ImageError(f"{where} does not exist.") from error
    except PermissionError as error:
        raise ImageError(f"{where} may not be read: permission denied.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_bytes(raw: bytes, name: str, size: int, job: Job | None = None) -> Picture:
    """The same as `read` for an encoded picture in memory, such as one from the clipboard.

    Raises:
        ImageError: as `read`, with `name` for the path.
        Cancelled: through `job`.
    """
    if len(raw) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES >> 20} MiB and was not opened.")
    return _picture(io.BytesIO(raw), name, size, name, job or Job())


def read_tile(raw: bytes, where: str, job: Job) -> tuple[Pixels | None, int, int]:
    """Decode a picture of a data set at its own size.

    Returns:
        uint8 (3, size, size), its width and its height; None instead of the pixels if it is not square or larger than
        the networks take. Then it was not decoded.

    Raises:
        ImageError: as `read`; `where` names the file in the message.
        Cancelled: through `job`.
    """
    found = _decoded(io.BytesIO(raw), 0, MAX_SIZE, where, job)
    return None if found.pixels is None else _planes(found.pixels), found.width, found.height


def _picture(file: IO[bytes], name: str, size: int, where: str, job: Job) -> Picture:
    found = _decoded(file, size, 0, where, job)
    assert found.pixels is not None and found.original is not None  # noqa: PT018 - no size was asked of it
    notes = [*_named_otherwise(where, found.form), *found.notes]
    return Picture(_planes(found.pixels), found.original, name, "; ".join(notes))


def _planes(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file of bounded size.

    Raises:
        ImageError: it is something else, or larger.
        OSError: it cannot be opened.
    """
    kind = path.stat().st_mode  # before it is opened: that waits at a pipe, and may move a device
    if stat.S_ISDIR(kind):
        raise ImageError(f"{plain(path)} is a folder: name the pictures in it, or use it as a data set.")
    if not stat.S_ISREG(kind):
        raise ImageError(f"{plain(path)} is not a regular file and was not opened.")
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise ImageError(f"{plain(path)} is larger than {MAX_BYTES >> 20} MiB and was not opened.")
        yield file


def _decoded(file: IO[bytes], size: int, largest: int, where: str, job: Job) -> decoder.Decoded:
    """Decode here or in a child; the arguments are those of `decoder.decode`.

    Raises:
        ImageError: as `read`.
        Cancelled: through `job`.
    """
    job.checkpoint()
    if not file.read(1):
        raise ImageError(f"{where} is empty (0 bytes).")
    file.seek(0)
    try:
        found = decoder.decode(file, size, largest, quick=True)
        return _from_child(file, size, largest, job) if found is None else found
    except decoder.Refused as refused:
        raise ImageError(f"{where} {refused}") from refused


def _from_child(file: IO[bytes], size: int, largest: int, job: Job) -> decoder.Decoded:
    """Decode in a child process.

    Raises:
        decoder.Refused: as `decoder.decode`; or it took too long, or the child ended early.
        Cancelled: through `job`; the child is killed.
    """
    file.seek(0)
    raw = file.getvalue() if isinstance(file, io.BytesIO) else None
    source = "file" if raw is None else "pipe"
    # By its path, and with -P: neither the working directory nor this folder is a place to import from.
    command = [sys.executable, "-P", "-W", "ignore", decoder.__file__, str(size), str(largest), source]
    try:
        child = subprocess.Popen(
            command,
            stdin=file if raw is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # threads cost address space
            start_new_session=True,  # Ctrl+C is the parent's; it then kills the child
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise decoder.Refused(
            f"cannot be decoded: no process could be started for it ({error.strerror or error}). Close other programs."
        ) from error
    # By a thread of its own: `communicate` forgets the rest of its input when it times out.
    stdin, child.stdin = child.stdin, None
    feeder = threading.Thread(target=_feed, args=(stdin, raw), daemon=True)
    feeder.start()
    try:
        out = _answer(child, job)
    finally:
        child.kill()
        child.wait()
        feeder.join()
        if child.stdout is not None:
            child.stdout.close()
    return _unpacked(out, child.returncode)


def _feed(pipe: IO[bytes] | None, raw: bytes | None) -> None:
    """Write to a child, which may end before it has read all."""
    if pipe is not None and raw is not None:
        with contextlib.suppress(OSError), pipe:
            pipe.write(raw)


def _answer(child: subprocess.Popen[bytes], job: Job) -> bytes:
    """Return what the child writes until it ends."""
    ends = time.monotonic() + _TIMEOUT
    while True:
        try:
            return child.communicate(timeout=_POLL)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() > ends:
                raise decoder.Refused(_TOO_LONG) from None
            job.checkpoint()


_TOO_LONG = "takes too long to decode on this computer. Save it with fewer pixels, or as a plain PNG."


def _unpacked(out: bytes, status: int) -> decoder.Decoded:
    """Read the answer of a child that ended with this status."""
    if status == -getattr(signal, "SIGPROF", status + 1):
        raise decoder.Refused(_TOO_LONG)
    try:
        line, _, rest = out.partition(b"\n")
        head = json.loads(line)
        if "refused" in head:
            raise decoder.Refused(head["refused"])
        arrays, start = [], 0
        for shape in head.pop("shapes"):
            arrays.append(np.frombuffer(rest, np.uint8, math.prod(shape), start).reshape(shape).copy())
            start += math.prod(shape)
        return decoder.Decoded(head["form"], head["width"], head["height"], head["notes"], *arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise decoder.Refused(f"cannot be decoded: its decoder ended early (status {status}).") from error


def png_bytes(pixels: Pixels) -> bytes:
    """A uint8 array (3, H, W) as a PNG, which is lossless."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"wanted uint8 (3, H, W), got {pixels.dtype} {pixels.shape}")
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(out, "PNG", optimize=True)
    return out.getvalue()


def save_png(path: Path, pixels: Pixels) -> None:
    """Write uint8 (3, H, W) as a PNG; `read` gives a square one back unchanged at its own size.

    The file appears whole or not at all. An existing one is replaced: whoever calls has asked.

    Raises:
        ImageError: the file cannot be written; what was there before is untouched.
    """
    raw = png_bytes(pixels)
    try:
        write_whole(path, raw)
    except OSError as error:
        raise ImageError(
            f"{plain(path)} cannot be written: {error.strerror or error}. Choose another place."
        ) from error


def path_from_url(url: str) -> Path:
    """Return the local path of a dropped or pasted URL; a plain path is taken as it is.

    Raises:
        ImageError: the URL is remote, broken, or carries data instead of naming a file.
    """
    if "://" not in url and not url.startswith(("file:", "data:")):
        return Path(url)
    shown = plain(url if len(url) <= 80 else url[:77] + "...")
    try:
        parts = urllib.parse.urlsplit(url)
        local = urllib.request.url2pathname(parts.path)
    except (OSError, ValueError) as error:  # Windows' drives raise OSError
        raise ImageError(f"{shown} is not a valid address ({error}): name the file by its path.") from error
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(local)
    if parts.scheme == "file" and os.name == "nt":
        return Path(f"//{parts.netloc}{local}")  # a share of the local network
    raise ImageError(f"{shown} is not a file on this machine: save the picture first, then open the file.")


def _named_otherwise(where: str, found: str) -> list[str]:
    suffix = Path(where).suffix.lower()
    if suffix not in EXTENSIONS or suffix in _SUFFIXES[found]:
        return []
    return [f"a {found} file despite its name ending in {suffix}"]

"""Decode and check any image; uint8 <-> float in one place.

Everywhere between rooms an image is a uint8 array (3, size, size), channels red, green, blue; a batch
is (N, 3, size, size). The size is that of a domain. Floats in [0, 1] exist only inside attacks and networks.

How any picture becomes RGB of the bundle's size, in this order:

1. The file is recognised by its content, not by its name. Of an animation or a file with several
   pages the first is taken. The EXIF orientation is applied, colour profiles are ignored.
2. Transparency is laid on white. Palette, grey, 1-bit and CMYK become RGB as Pillow converts them.
   16-bit grey is divided by 257 and rounded, so that 65535 is white; of 16-bit colour Pillow keeps
   the upper 8 bits. Whole numbers outside 0..65535 are stretched from their minimum to their
   maximum. Floats are taken as 0..1, else as 0..255, else stretched; NaN and infinity are refused.
3. The centre square is cut out (of an odd rest, the smaller half is left and above).
4. It is scaled to the bundle's size with Pillow's Lanczos filter, which averages when it makes smaller and
   interpolates when it makes larger.

An RGB picture that has this size already, in a lossless format, therefore passes unchanged, bit for bit.
"""

from __future__ import annotations

import dataclasses
import io
import os
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ciad_engine.domain import Pixels
from ciad_engine.errors import ImageError
from ciad_engine.files import write_whole
from ciad_engine.plain_text import plain

if TYPE_CHECKING:
    from torch import Tensor

DISPLAY_SIZE = 1024  # longest side of `Picture.original`
MAX_PIXELS = 89_478_485  # Pillow's own line between a picture and a decompression bomb: 256 MiB as RGB
MAX_BYTES = 256 * 2**20  # of a file
MAX_ASPECT = 20  # longer : shorter side; the centre square of a longer strip shows nothing of it

# Only these decoders are ever tried; among Pillow's others, EPS runs an external program.
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
_DECODERS = [form for form in _SUFFIXES if form != "MPO"]  # Pillow finds MPO through JPEG
_READABLE = "PNG, JPEG, BMP, WebP, GIF, TIFF"

# `_open` applies the same limit itself and answers with an ImageError.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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


def read(source: Path | str, size: int) -> Picture:
    """Read a picture from a path or a `file:` URL by the rule on top of this module, as `size` x `size` pixels.

    Raises:
        ImageError: there is no such file, it may not be read, is a folder, a remote URL, empty,
            damaged, no picture, too large, too long a strip, or has pixels that are no numbers.
    """
    path = path_from_url(source) if isinstance(source, str) else source
    where = plain(path)
    try:
        if path.is_dir():
            raise ImageError(f"{where} is a folder: name the pictures in it, or use it as a data set.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{where} is not a regular file and was not opened.")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{where} is larger than {MAX_BYTES >> 20} MiB and was not opened.")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{where} does not exist.") from error
    except PermissionError as error:
        raise ImageError(f"{where} may not be read: permission denied.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return read_bytes(raw, plain(path.name), size, where)


def read_bytes(raw: bytes, name: str, size: int, where: str = "") -> Picture:
    """The same as `read` for an encoded picture in memory, such as one from the clipboard.

    Raises:
        ImageError: empty, damaged, no picture, too large or too long a strip; `where` is what it calls the picture, if
            not by its `name`.
    """
    image, notes = decode(raw, where or name)
    original = image
    if max(image.size) > DISPLAY_SIZE:
        original = image.copy()
        original.thumbnail((DISPLAY_SIZE, DISPLAY_SIZE), Image.Resampling.LANCZOS)

    width, height = image.size
    done = []
    if width != height:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # Cropped before it is scaled: a filter given a box still reads the pixels around the box.
        image = image.crop((left, top, left + side, top + side))
        done.append("cropped to its centre square")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
        done.append(f"scaled to {size}x{size}")
    if done:
        notes.append(f"{width}x{height} {', '.join(done)}")
    pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    return Picture(pixels, np.array(original), name, "; ".join(notes))


def decode(raw: bytes, where: str) -> tuple[Image.Image, list[str]]:
    """Decode to an upright RGB image of its own size, with notes on what had to be converted.

    Raises:
        ImageError: as `read`; `where` names the file in the message.
    """
    if not raw:
        raise ImageError(f"{where} is empty (0 bytes).")
    try:
        with Image.open(io.BytesIO(raw), formats=_DECODERS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ImageError(
                    f"{where} is a strip of {image.width}x{image.height}: its centre square would show nothing of it. "
                    f"Crop it to at most {MAX_ASPECT}:1 first."
                )
            notes = _named_otherwise(where, image.format or "")
            if image.format != "MPO" and getattr(image, "is_animated", False):
                notes.append("its first frame")
            image.load()
            upright = _upright(image, notes)
            return _rgb(upright, where, notes), notes
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{where} is not a picture that can be read ({_READABLE}), or its start is damaged."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{where} would unfold to more than {MAX_PIXELS // 10**6} million pixels: refused as a decompression bomb. "
            "Scale it down first."
        ) from error
    except MemoryError as error:
        raise ImageError(f"{where} needs more memory than there is. Scale it down first.") from error
    except Exception as error:  # Pillow's decoders answer damage with almost any kind of exception
        raise ImageError(f"{where} is damaged or truncated ({error or type(error).__name__}).") from error


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


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Apply the EXIF orientation."""
    try:
        turned = ImageOps.exif_transpose(image)
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF says nothing about the pixels; Pillow raises many kinds
        notes.append("its damaged EXIF data ignored")
        return image
    if orientation in range(2, 9):
        notes.append("turned upright as its EXIF data says")
    return turned


def _rgb(image: Image.Image, where: str, notes: list[str]) -> Image.Image:
    """Step 2 of the rule: any mode to 8-bit RGB."""
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _from_numbers(np.asarray(image), where, notes).convert("RGB")
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        if mode in ("La", "RGBa"):
            image = image.convert(mode.replace("a", "A"))
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() != (255, 255):
            notes.append("transparency laid on white")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        return white
    if mode == "RGB":
        return image
    names = {"L": "grey", "1": "1 bit", "P": "its palette"}
    notes.append(f"converted from {names.get(mode, mode)}")
    return image.convert("RGB")


def _from_numbers(values: npt.NDArray[np.generic], where: str, notes: list[str]) -> Image.Image:
    """Grey of more than 8 bits, whole numbers or floats, to 8 bits."""
    whole = values.dtype.kind in "iu"
    grey = values.astype(np.float64)
    if not np.isfinite(grey).all():
        raise ImageError(f"{where} has pixels that are NaN or infinite: repair it where it was made.")
    low, high = float(grey.min()), float(grey.max())
    if whole and low >= 0 and high <= 65535:
        grey /= 257
        notes.append("16-bit grey scaled to 8 bits")
    elif not whole and low >= 0 and high <= 1:
        grey *= 255
        notes.append("float grey of 0 to 1 scaled to 8 bits")
    elif not whole and low >= 0 and high <= 255:
        notes.append("float grey of 0 to 255 rounded to 8 bits")
    else:
        grey = (grey - low) / max(high - low, np.finfo(float).tiny) * 255
        notes.append(f"grey of {low:g} to {high:g} stretched to 8 bits")
    return Image.fromarray(np.rint(grey).astype(np.uint8))

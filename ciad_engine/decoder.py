"""Decode one picture that may be hostile; as a program of its own, within limits of time and memory.

`imaging` decodes in its own process what the header promises to be cheap (`quick`), and runs this file as a child
process for everything else. It imports only Pillow and numpy, so that the child starts quickly. The child

- reads the picture from its standard input: a file it can seek in, or a pipe that it reads to the end;
- writes one line of JSON, `{"refused": reason}` or what `Decoded` says but for its arrays, then the bytes of those;
- limits its own computing time and memory if the system can do that.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

DISPLAY_SIZE = 1024  # longest side of `Decoded.original`
MAX_PIXELS = 89_478_485  # Pillow's own line between a picture and a decompression bomb: 256 MiB as RGB
MAX_ASPECT = 20  # longer : shorter side; the centre square of a longer strip shows nothing of it
MAX_MEMORY = 900 * 2**20  # bytes for the pixels of one picture, at the moment when most are needed
MAX_SECONDS = 1.9  # of computing, with the start of the child
_MAX_METADATA = 2**20  # bytes unpacked; what is larger is not looked at
_MAX_EXIF = 2**17  # bytes; a JPEG segment holds half of it

# What is decoded without a child: at worst half a second and 100 MB.
_QUICK_BYTES = 2**19
_QUICK_TIFF_BYTES = 2**16  # its tags may claim the same bytes again and again
_QUICK_PIXELS = 2**20
_QUICK_SCANNED = 2**24  # pixels times scans of a JPEG
_QUICK_TIFF = (1, 5, 8, 32773, 32946)  # uncompressed, LZW, Deflate, PackBits, Deflate

# Only these decoders are ever tried; among Pillow's others, EPS runs an external program. It finds MPO through JPEG.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF")
READABLE = "PNG, JPEG, BMP, WebP, GIF, TIFF"

_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 258, 259, 262, 274, 278, 322, 323
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OVER = 0.1  # how far floats may lie outside their range, as those of a sharpened picture do
_PNG = b"\x89PNG\r\n\x1a\n"
_BAND = 2**20  # pixels that are converted at a time

# Pillow knows white-is-zero for 16 bits only in this order of the bytes; `_from_numbers` inverts both.
for _order, _mode in ((b"II", "I;16"), (b"MM", "I;16B")):
    TiffImagePlugin.OPEN_INFO.setdefault((_order, 0, (1,), 1, (16,), ()), (_mode, _mode))


class Refused(Exception):  # noqa: N818 - an answer
    """The picture cannot be used; the text continues a sentence that begins with its name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, upright and in RGB.

    Attributes:
        form: the format as Pillow calls it.
        width, height: of the whole picture.
        notes: what had to be converted.
        pixels: uint8 (size, size, 3), its centre square; None if the picture is not of an asked size.
        original: uint8 (H, W, 3), scaled down to at most 1024 a side; None as well.
    """

    form: str
    width: int
    height: int
    notes: list[str]
    pixels: npt.NDArray[np.uint8] | None = None
    original: npt.NDArray[np.uint8] | None = None


def decode(file: IO[bytes], size: int, largest: int = 0, quick: bool = False) -> Decoded | None:
    """Decode the picture in a file that can be sought in.

    Args:
        size: side of `Decoded.pixels`; 0: the picture's own.
        largest: if not 0, only square pictures of at most this size are decoded; of others only the size is returned.
        quick: decode only what surely takes little time and memory; of other pictures nothing is returned.

    Raises:
        Refused: empty, damaged, no picture, too large, too long a strip, or has pixels that are no numbers.
    """
    try:
        if quick and not _may_be_opened(file):
            return None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # whatever -W or PYTHONWARNINGS say: a warning is no damage
            found = _decode(file, size, largest, quick)
        if found is not None:
            found.notes.extend(_said(caught))
        return found
    except Refused:
        raise
    except UnidentifiedImageError as error:
        raise Refused(f"is not a picture that can be read ({READABLE}), or its start is damaged.") from error
    except Image.DecompressionBombError as error:
        raise Refused(_BOMB) from error
    except MemoryError as error:
        raise Refused(_MEMORY) from error
    except Exception as error:  # Pillow's decoders answer damage with almost any kind of exception
        if "out of memory" in str(error):
            raise Refused(_MEMORY) from error
        raise Refused(f"is damaged or truncated ({_printable(str(error) or type(error).__name__)}).") from error


_BOMB = (
    f"would unfold to more than {MAX_PIXELS // 10**6} million pixels: refused as a decompression bomb. "
    "Scale it down first."
)
_MEMORY = f"needs more than {MAX_MEMORY >> 20} MiB of memory to decode. Scale it down first, or save it as a plain PNG."


def _may_be_opened(file: IO[bytes]) -> bool:
    """Return whether even the header takes little to read, whatever it holds."""
    raw = file.read(_QUICK_BYTES + 1)
    file.seek(0)
    most = _QUICK_TIFF_BYTES if raw[:2] in (b"II", b"MM") else _QUICK_BYTES
    return len(raw) <= most and raw.count(b"Exif\0\0") <= 1  # Pillow joins all of them


def _is_quick(image: Image.Image, file: IO[bytes]) -> bool:
    """Return whether the pixels take little to decode."""
    pixels = image.width * image.height
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if _TILE_WIDTH in tags or tags.get(_COMPRESSION, 1) not in _QUICK_TIFF:
            return False
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        if file.read().count(b"\xff\xda") * pixels > _QUICK_SCANNED:
            return False
    return pixels <= _QUICK_PIXELS


def _decode(file: IO[bytes], size: int, largest: int, quick: bool) -> Decoded | None:
    file = _without_unused(file)
    with Image.open(file, formats=FORMATS) as image:
        form, (width, height) = image.format or "", image.size
        if width * height > MAX_PIXELS:
            raise Refused(_BOMB)
        if largest and (width != height or width > largest):
            return Decoded(form, width, height, [])
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise Refused(
                f"is a strip of {width}x{height}: its centre square would show nothing of it. "
                f"Crop it to at most {MAX_ASPECT}:1 first."
            )
        if _memory(image) > MAX_MEMORY:
            raise Refused(_MEMORY)
        if quick and not _is_quick(image, file):
            return None
        notes = []
        if form != "MPO" and getattr(image, "is_animated", False):
            notes.append("its first frame")
        rgb = _rgb(image, file, notes)
    del image  # a large picture fits only twice
    return _fitted(form, rgb, size, notes)


def _fitted(form: str, image: Image.Image, size: int, notes: list[str]) -> Decoded:
    """Cut out the centre square and scale it, then scale the picture for display."""
    width, height = image.size
    square, done = image, []
    if width != height:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # Cropped before it is scaled: a filter given a box still reads the pixels around the box.
        square = image.crop((left, top, left + side, top + side))
        done.append("cropped to its centre square")
    if size and square.size != (size, size):
        square = square.resize((size, size), Image.Resampling.LANCZOS)
        done.append(f"scaled to {size}x{size}")
    if done:
        notes.append(f"{width}x{height} {', '.join(done)}")
    pixels = np.array(square)
    del square
    if max(image.size) > DISPLAY_SIZE:
        image.thumbnail((DISPLAY_SIZE, DISPLAY_SIZE), Image.Resampling.LANCZOS)
    return Decoded(form, width, height, notes, pixels, np.array(image))


def _memory(image: Image.Image) -> int:
    """Return about how many bytes the picture needs at the moment when it needs most.

    Pillow keeps 4 bytes of a pixel, less of grey. While it is decoded some decoders need buffers, later it is there
    twice: as what it was and as RGB, or as RGB and as its centre square.
    """
    pixels = image.width * image.height
    stored = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    buffers = 0
    if image.format == "WEBP":
        buffers = 12 * pixels  # two canvases of RGBA, and one as bytes
    elif image.format in ("JPEG", "MPO") and "progressive" in image.info:
        buffers = 2 * len(image.getbands()) * pixels  # the coefficients
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_COMPRESSION, 1) != 1:
        tags = image.tag_v2
        bits = sum(tags.get(_BITS, (1,)))
        strip = image.width * min(int(tags.get(_ROWS, image.height)), image.height)
        buffers = max(strip, int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0))) * bits // 8
    return max(stored * pixels + buffers, (stored + 4) * pixels, 8 * pixels)


def _without_unused(file: IO[bytes]) -> IO[bytes]:
    """Return the file as it is, but a PNG without profiles and texts, except those that may say how it is turned.

    Pillow unpacks all of them, and refuses a picture for one that is larger than 1 MiB.
    """
    file.seek(0)
    if file.read(8) != _PNG:
        file.seek(0)
        return file
    kept, seen, start, place = [], set(), 0, 8
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end = place + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            keyword = file.read(min(length, 80)).partition(b"\0")[0]
            file.seek(place + 8)
            if keyword in seen or kind == b"iCCP" or not _may_be_turned(keyword, kind, file, length):
                kept.append((start, place))
                start = end
            seen.add(keyword)
        if kind == b"IEND":
            break
        place = end
        file.seek(place)
    if not kept:
        file.seek(0)
        return file
    whole = io.BytesIO()
    for first, last in kept:
        file.seek(first)
        whole.write(file.read(last - first))
    file.seek(start)
    whole.write(file.read())
    whole.seek(0)
    return whole


def _may_be_turned(keyword: bytes, kind: bytes, file: IO[bytes], length: int) -> bool:
    """Return whether a text of a PNG is one that Pillow looks at for the orientation, and of a sane size."""
    if keyword not in (b"Raw profile type exif", b"XML:com.adobe.xmp") or length > _MAX_METADATA:
        return False
    text = file.read(length)[len(keyword) + 1 :]
    if kind == b"iTXt" and text[:1] == b"\1":
        text = text[2:].split(b"\0", 2)[-1]
    elif kind == b"zTXt":
        text = text[1:]
    else:
        return True
    try:
        return len(zlib.decompressobj().decompress(text, _MAX_METADATA)) < _MAX_METADATA
    except zlib.error:
        return False


def _rgb(image: Image.Image, file: IO[bytes], notes: list[str]) -> Image.Image:
    """Decode, turn upright and convert to 8-bit RGB."""
    form, mode, depth, inverted = image.format, image.mode, 8, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        depth = max(tags.get(_BITS, (1,)))
        inverted = tags.get(_PHOTOMETRIC) == 0 and (mode == "F" or mode.startswith("I"))
        if tags.get(_ORIENTATION) in _TURNS:  # Pillow turns it while it decodes
            notes.append("turned upright as its EXIF data says")
    elif form == "PNG":
        file.seek(24)
        depth = file.read(1)[0]
    image.load()
    transparent = image.info.get("transparency") if form == "PNG" and depth == 16 else None
    if isinstance(transparent, tuple):  # before the picture is turned
        image = _with_alpha(image, file, transparent)
    image = _upright(image, notes)
    if mode == "F" or mode.startswith("I"):
        return _from_numbers(image, depth, inverted, transparent, notes)
    if depth == 16:
        notes.append("16 bits a channel cut to the upper 8")
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or image.mode == "RGBA" or "transparency" in image.info:
        return _on_white(image, form in ("BMP", "DIB"), notes)
    if mode == "RGB":
        return image
    names = {"L": "grey", "1": "1 bit", "P": "its palette"}
    notes.append(f"converted from {names.get(mode, mode)}")
    return image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Return pieces of a picture that are full rows, each with its first row: converted one by one they need little."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _with_alpha(image: Image.Image, file: IO[bytes], transparent: tuple[int, ...]) -> Image.Image:
    """Make one colour of a PNG of 16-bit colour transparent; all 16 bits of a pixel have to be that colour's.

    Pillow keeps the upper 8 bits. Taken for numbers in the other order of bytes, it keeps the lower ones.
    """
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as lower:
        lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
        lower.load()
        alpha = Image.new("L", image.size, 255)
        for (top, high), (_, low) in zip(_bands(image), _bands(lower), strict=True):
            values = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
            opaque = (values != np.array(transparent, np.uint16)).any(2)
            alpha.paste(Image.fromarray(opaque.astype(np.uint8) * 255), (0, top))
    image.info.pop("transparency", None)
    image.putalpha(alpha)
    return image


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Apply the EXIF orientation."""
    if len(image.info.get("exif") or b"") > _MAX_EXIF:
        notes.append("its oversized EXIF data ignored")
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        turn = _TURNS.get(orientation)
    except Exception:  # damaged EXIF says nothing about the pixels; Pillow raises many kinds
        notes.append("its damaged EXIF data ignored")
        return image
    if turn is None:
        return image
    notes.append("turned upright as its EXIF data says")
    return image.transpose(turn)


def _on_white(image: Image.Image, may_be_unset: bool, notes: list[str]) -> Image.Image:
    """Lay transparency on white.

    `may_be_unset`: many programs write the fourth byte of a pixel as 0 and do not mean transparency.
    """
    if may_be_unset and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        notes.append("its alpha channel, which is empty, ignored")
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    opaque = True
    for top, band in _bands(image):
        if band.mode in ("La", "RGBa"):
            band = band.convert(band.mode.replace("a", "A"))
        band = band.convert("RGBA")
        alpha = band.getchannel("A")
        opaque = opaque and alpha.getextrema() == (255, 255)
        white.paste(band, (0, top), mask=alpha)
    if not opaque:
        notes.append("transparency laid on white")
    return white


def _from_numbers(
    image: Image.Image, depth: int, inverted: bool, transparent: int | None, notes: list[str]
) -> Image.Image:
    """Convert grey of more than 8 bits, whole numbers or floats, to 8 bits.

    `inverted`: 0 is white. `transparent`: the number that is laid on white.
    """
    low, high, seen = np.inf, -np.inf, False
    for _, band in _bands(image):
        values = np.asarray(band)
        if not np.isfinite(values).all():
            raise Refused("has pixels that are NaN or infinite: repair it where it was made.")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        seen = seen or (transparent is not None and bool((values == transparent).any()))
    whole = image.mode != "F"
    base, factor, divisor, clipped = 0.0, 1.0, 1.0, False
    if whole and low >= 0 and high <= 65535:
        bits = 12 if depth == 12 and high < 4096 else 16
        divisor = (2**bits - 1) / 255
        notes.append(f"{bits}-bit grey scaled to 8 bits")
    elif not whole and low >= -_OVER and high <= 1 + _OVER:
        factor, clipped = 255.0, low < 0 or high > 1
        notes.append("float grey of 0 to 1 scaled to 8 bits")
    elif not whole and low >= -_OVER * 255 and high <= (1 + _OVER) * 255:
        clipped = low < 0 or high > 255
        notes.append("float grey of 0 to 255 rounded to 8 bits")
    else:
        base, factor, divisor = low, 255.0, max(high - low, float(np.finfo(float).tiny))
        notes.append(f"grey of {low:g} to {high:g} stretched to 8 bits")
    if clipped:
        notes.append("what lies outside clipped")
    if inverted:
        notes.append("inverted, since its 0 is white")
    if seen:
        notes.append("transparency laid on white")
    rgb = Image.new("RGB", image.size)
    for top, band in _bands(image):
        values = np.asarray(band)
        grey = np.rint((values.astype(np.float64) - base) / divisor * factor).clip(0, 255).astype(np.uint8)
        if inverted:
            grey = 255 - grey
        if seen:
            grey[values == transparent] = 255
        rgb.paste(Image.fromarray(grey), (0, top))
    return rgb


def _said(caught: list[warnings.WarningMessage]) -> Iterator[str]:
    """Turn Pillow's warnings into notes, each once; those for programmers are none."""
    ours = (Image.DecompressionBombWarning, DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
    texts = [str(one.message) for one in caught if not issubclass(one.category, ours)]
    for text in list(dict.fromkeys(texts))[:3]:
        yield f"Pillow warns: {_printable(text)}"


def _printable(text: str) -> str:
    """Shorten what Pillow says, which may quote the file, to one printable line."""
    return re.sub(r"[^\x20-\x7e]+", " ", text).strip().rstrip(".")[:200]


def _limit() -> None:
    """Limit this process; it ends by a signal when it computes for too long. Does what the system can."""
    try:
        import resource
        import signal
    except ImportError:  # Windows: the parent's timeout has to do
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, max(MAX_SECONDS - used.ru_utime - used.ru_stime, 0.1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            there = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (there + MAX_MEMORY, there + MAX_MEMORY))
    except (OSError, ValueError):  # macOS
        pass


def _main(size: str, largest: str, source: str) -> None:
    _limit()
    out = sys.stdout.buffer
    try:
        piped = source == "pipe"
        file: IO[bytes] = io.BytesIO(sys.stdin.buffer.read()) if piped else sys.stdin.buffer
        found = decode(file, int(size), int(largest))
        assert found is not None
    except Refused as refused:
        out.write(json.dumps({"refused": str(refused)}).encode())
        return
    arrays = [array for array in (found.pixels, found.original) if array is not None]
    head: dict[str, Any] = {"form": found.form, "width": found.width, "height": found.height, "notes": found.notes}
    out.write(json.dumps({**head, "shapes": [array.shape for array in arrays]}).encode() + b"\n")
    for array in arrays:
        out.write(np.ascontiguousarray(array).data)


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""Pictures that people reported, and hostile ones: decoded or refused within limits, here or in a child process."""

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from ciad_engine import decoder, imaging
from ciad_engine.errors import ImageError
from ciad_engine.jobs import Cancelled, Job
from tests.engine.helpers_data import encoded, random_images

SQUARE = random_images(1)[0]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: np.ndarray, depth: int, colour: int, *extra: bytes) -> bytes:
    """A PNG of an array (H, W, channels) of whole numbers, with more chunks before its pixels."""
    height, width = rows.shape[:2]
    kind = ">u2" if depth == 16 else "u1"
    raw = b"".join(b"\0" + row.astype(kind).tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, photometric: int, order: str = "<", bits: int = 16) -> bytes:
    """An uncompressed TIFF of grey numbers (H, W)."""
    height, width = values.shape
    raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
    floats = values.dtype.kind == "f"
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, height)]
    tags += [(279, len(raw)), (339, 3 if floats else 1)]
    tags[5] = (273, 8 + 2 + 12 * len(tags) + 4)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(tags))
    return head + entries + bytes(4) + raw


def in_child(raw: bytes, monkeypatch: pytest.MonkeyPatch, job: Job | None = None) -> imaging.Picture:
    """Decode in a child what would be decoded here."""
    monkeypatch.setattr(decoder, "_QUICK_BYTES", 0)
    return imaging.read_bytes(raw, "picture", 32, job)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt", b"tEXt"])
def test_metadata_of_any_size_do_not_matter(kind):
    flags = {b"iTXt": b"\1\0\0\0", b"tEXt": b""}.get(kind, b"\0")
    large = bytes(2**21) if kind == b"tEXt" else zlib.compress(bytes(2**24))
    for name in (b"Comment", b"Raw profile type exif", b"XML:com.adobe.xmp"):
        raw = png(np.full((1, 1, 3), 9), 8, 2, chunk(kind, name + b"\0" + flags + large[: 2**18]))
        assert imaging.read_bytes(raw, "a", 32).note == "1x1 scaled to 32x32"


def test_texts_still_say_how_a_picture_is_turned():
    rows = np.zeros((32, 32, 3))
    rows[:4] = 255
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'
    picture = imaging.read_bytes(png(rows, 8, 2, chunk(b"iTXt", xmp), chunk(b"tEXt", b"Title\0a")), "a", 32)
    assert picture.pixels[:, -4:].min() == 255
    assert "turned upright" in picture.note


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_white_may_be_zero(order, dtype):
    levels = np.linspace(0, 65535, 32 * 32).reshape(32, 32)
    values = levels.astype(dtype) if dtype is np.uint16 else (levels / 65535).astype(dtype)
    bits = 8 * values.itemsize
    black, white = (imaging.read_bytes(tiff(values, kind, order, bits), "a", 32) for kind in (1, 0))
    np.testing.assert_array_equal(white.pixels, 255 - black.pixels)
    assert "0 is white" in white.note
    assert "0 is white" not in black.note


def test_16_bits_are_transparent_as_8_bits_are():
    grey = np.full((32, 32, 1), 1000)
    grey[:16] = 1001  # would be the same with 8 bits
    picture = imaging.read_bytes(png(grey, 16, 0, chunk(b"tRNS", struct.pack(">H", 1000))), "a", 32)
    assert picture.pixels[:, 16:].min() == 255
    assert picture.pixels[:, :16].max() == 4
    assert picture.note == "16-bit grey scaled to 8 bits; transparency laid on white"
    colour = np.full((32, 32, 3), (1000, 2000, 3000))
    colour[:16, :, 2] = 3001
    picture = imaging.read_bytes(png(colour, 16, 2, chunk(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))), "a", 32)
    assert picture.pixels[:, 16:].min() == 255
    assert picture.pixels[:, 0, 0].tolist() == [3, 7, 11]
    assert picture.note == "16 bits a channel cut to the upper 8; transparency laid on white"


def test_floats_a_little_outside_are_clipped():
    values = np.linspace(-0.01, 1.0001, 1024, dtype=np.float32).reshape(32, 32)
    picture = imaging.read_bytes(tiff(values, 1, bits=32), "a", 32)
    np.testing.assert_array_equal(picture.pixels[0], np.rint(values.clip(0, 1) * 255))
    assert picture.note == "float grey of 0 to 1 scaled to 8 bits; what lies outside clipped"


def test_an_alpha_channel_of_a_bmp_that_nobody_filled_is_none():
    pixels = np.dstack([SQUARE.transpose(1, 2, 0)[:, :, ::-1], np.zeros((32, 32), np.uint8)])[::-1]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    head = struct.pack("<IiiHHIIiiII", 108, 32, 32, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0) + masks
    raw = b"BM" + struct.pack("<IHHI", 14 + len(head) + pixels.nbytes, 0, 0, 14 + len(head)) + head + pixels.tobytes()
    picture = imaging.read_bytes(raw, "a", 32)
    np.testing.assert_array_equal(picture.pixels, SQUARE)
    assert picture.note == "its alpha channel, which is empty, ignored"


def test_warnings_are_notes_whatever_the_filters_say():
    exif = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x010E, 2, 5000, 26) + bytes(4)
    raw = io.BytesIO()
    Image.fromarray(SQUARE.transpose(1, 2, 0)).save(raw, "PNG", exif=exif)
    assert "Pillow warns" in imaging.read_bytes(raw.getvalue(), "a", 32).note
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "Pillow warns" in imaging.read_bytes(raw.getvalue(), "a", 32).note


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_child_decodes_the_same(form, monkeypatch, tmp_path):
    raw = encoded(random_images(1, size=200)[0][:, :150], form)  # more than a pipe holds
    monkeypatch.setattr(imaging, "_POLL", 0.001)
    here = imaging.read_bytes(raw, "picture", 32)
    there = in_child(raw, monkeypatch)
    (tmp_path / "picture").write_bytes(raw)
    for other in (there, imaging.read(tmp_path / "picture", 32)):  # through a pipe, from the file
        np.testing.assert_array_equal(other.pixels, here.pixels)
        np.testing.assert_array_equal(other.original, here.original)
        assert (other.note, other.name) == (here.note, here.name)


def test_a_child_imports_nothing_from_where_the_program_runs(monkeypatch, tmp_path):
    (tmp_path / "PIL.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert in_child(encoded(SQUARE), monkeypatch).note == ""


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG with scans that hold nothing."""
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "JPEG", progressive=True)
    raw = out.getvalue()
    last = raw[raw.rindex(b"\xff\xda") : -2]
    return raw[:-2] + last[:14] * count + b"\xff\xd9"


def test_what_may_take_long_is_decoded_in_a_child():
    def quick(raw: bytes) -> bool:
        return decoder.decode(io.BytesIO(raw), 32, quick=True) is not None

    assert all(quick(encoded(SQUARE, form)) for form in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"))
    assert not quick(scans(200, 2000))
    assert not quick(encoded(np.zeros((3, 1100, 1000), np.uint8)))
    assert not quick(encoded(SQUARE) + bytes(2**19))
    jpeg = encoded(SQUARE, "JPEG")
    assert not quick(jpeg[:2] + b"\xff\xe1\0\x08Exif\0\0" * 9 + jpeg[2:])
    assert not quick(encoded(SQUARE, "TIFF") + bytes(2**17))


@pytest.mark.skipif(os.name != "posix", reason="counts the time a child computes")
def test_a_picture_that_takes_too_long_is_refused():
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(
        ImageError, match=r"slow takes too long to decode on this computer\. Save it with fewer pixels, or as"
    ):
        imaging.read_bytes(scans(4000, 9000), "slow", 32)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5


def test_a_child_can_be_cancelled(monkeypatch):
    monkeypatch.setattr(decoder, "_QUICK_BYTES", 0)

    class Impatient(Job):
        calls = 0

        def on_checkpoint(self) -> None:
            self.calls += 1
            if self.calls == 2:  # the first is before the child
                self.cancel()

    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    monkeypatch.setattr(imaging, "_POLL", 0.001)
    with pytest.raises(Cancelled):
        in_child(scans(2000, 9000), monkeypatch, Impatient())
    assert started[0].returncode is not None


def test_a_child_that_never_answers_is_killed(monkeypatch):
    monkeypatch.setattr(imaging, "_TIMEOUT", 0)
    monkeypatch.setattr(imaging, "_POLL", 0.001)
    with pytest.raises(ImageError, match="takes too long"):
        in_child(encoded(SQUARE), monkeypatch)


@pytest.mark.parametrize(
    "answer", [b"", b"{}\n", b"[]", b'{"form":"PNG","width":1,"height":1,"notes":[],"shapes":[[9]]}\n']
)
def test_a_child_that_ends_early_is_no_bug(answer):
    with pytest.raises(decoder.Refused, match="ended early"):
        imaging._unpacked(answer, 1)


def test_no_process_for_a_child(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ImageError, match="no process could be started"):
        in_child(encoded(SQUARE), monkeypatch)


def test_memory_is_reckoned_before_it_is_taken():
    """Headers only: nothing is decoded."""
    image = Image.new("L", (1, 1))
    image._size = (9459, 9459)
    for form, mode, fits in (("PNG", "RGBA", True), ("PNG", "I;16", True), ("WEBP", "RGBA", False)):
        image.format, image._mode = form, mode
        assert (decoder._memory(image) <= decoder.MAX_MEMORY) == fits


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_child_does_not_get_more_memory(monkeypatch):
    code = "import sys; from ciad_engine import decoder; decoder._limit(); bytearray(2**30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


def test_only_regular_files_are_opened(tmp_path):
    start = time.monotonic()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match=r"pipe\.png is not a regular file"):
            imaging.read(tmp_path / "pipe.png", 32)
        with pytest.raises(ImageError, match="zero is not a regular file"):
            imaging.read("/dev/zero", 32)
    assert time.monotonic() - start < 10
    with pytest.raises(ImageError, match="larger than"):
        imaging.read_bytes(bytes(imaging.MAX_BYTES + 1), "clipboard", 32)


def test_pictures_of_a_data_set_are_measured_before_they_are_decoded(monkeypatch):
    def never(self):
        raise AssertionError

    raw = encoded(np.zeros((3, 65, 65), np.uint8))
    monkeypatch.setattr(Image.Image, "load", never)
    assert imaging.read_tile(raw, "a", Job()) == (None, 65, 65)


def seeds() -> list[bytes]:
    found = [encoded(SQUARE, form) for form in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")]
    found.append(tiff(np.arange(1024, dtype=np.uint16).reshape(32, 32), 0))
    found.append(png(np.full((32, 32, 3), 999), 16, 2, chunk(b"tRNS", bytes(6)), chunk(b"zTXt", b"a\0\0x")))
    out = io.BytesIO()
    Image.fromarray(SQUARE.transpose(1, 2, 0)).save(out, "TIFF", compression="tiff_lzw")
    return [*found, out.getvalue()]


SEEDS = seeds()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), st.data())
def test_every_mutation_is_a_picture_or_an_image_error(raw, data):
    """Cut, flipped, with a field changed, with a piece repeated. What would go to a child is decoded here as well."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(raw), 500)))
        what = data.draw(st.sampled_from(["cut", "flip", "field", "repeat"]))
        if what == "cut":
            raw = raw[: len(raw) - place]
        elif what == "flip":
            raw = raw[:place] + bytes([data.draw(st.integers(0, 255))]) + raw[place + 1 :]
        elif what == "field":
            raw = raw[:place] + struct.pack("<I", data.draw(st.integers(0, 2**32 - 1))) + raw[place + 4 :]
        else:
            raw = raw[:place] + raw[place : place + 12] * data.draw(st.integers(1, 50)) + raw[place + 12 :]
    if not raw:
        return
    try:
        found = decoder.decode(io.BytesIO(raw), 32, quick=True)
    except decoder.Refused as refused:
        assert str(refused).isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert found is None or found.pixels.shape == (32, 32, 3)


def test_pillow_still_has_what_is_added_to_it():
    assert TiffImagePlugin.OPEN_INFO[(b"MM", 0, (1,), 1, (16,), ())] == ("I;16B", "I;16B")

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ciad_engine import files, imaging
from ciad_engine.errors import ImageError
from tests.engine.helpers_data import encoded, random_images

SQUARE = random_images(1)[0]
RED, WHITE = (255, 0, 0), (255, 255, 255)


def save(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def colour(picture: imaging.Picture) -> tuple[int, ...]:
    """The one colour of a picture that has only one."""
    flat = picture.pixels.reshape(3, -1)
    assert (flat == flat[:, :1]).all(), "not of one colour"
    return tuple(int(value) for value in flat[:, 0])


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_32x32_rgb_passes_bit_for_bit(form, tmp_path):
    path = tmp_path / f"square.{form.lower()}"
    path.write_bytes(encoded(SQUARE, form, **({"lossless": True} if form == "WEBP" else {})))
    picture = imaging.read(path, 32)
    np.testing.assert_array_equal(picture.pixels, SQUARE)
    np.testing.assert_array_equal(picture.original, SQUARE.transpose(1, 2, 0))
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert (picture.name, picture.note) == (path.name, "")


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "adversarial ü.png"
    for picture in random_images(5, seed=3):
        imaging.save_png(path, picture)
        np.testing.assert_array_equal(imaging.read(path, 32).pixels, picture)
        np.testing.assert_array_equal(imaging.read_bytes(imaging.png_bytes(picture), "clipboard", 32).pixels, picture)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


def test_saving_fails_with_the_old_file_untouched(tmp_path, monkeypatch):
    path = tmp_path / "kept.png"
    path.write_bytes(b"old")

    def full(path, raw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(ImageError, match=r"kept\.png cannot be written: No space left"):
        imaging.save_png(path, SQUARE)
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    with pytest.raises(ImageError, match=r"a\.png cannot be written"):
        imaging.save_png(path / "a.png", SQUARE)  # a file where a folder should be
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("wrong", [SQUARE.astype(np.float32), SQUARE[0], SQUARE.transpose(1, 2, 0)])
def test_saving_takes_nothing_but_8_bit_images(wrong, tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        imaging.save_png(tmp_path / "a.png", wrong)


def test_centre_square_is_cut_out_before_scaling():
    wide = np.zeros((48, 100, 3), np.uint8)
    wide[:, 26:74] = RED  # exactly the centre square; everything else is black and must not bleed in
    picture = imaging.read_bytes(save(Image.fromarray(wide)), "wide.png", 32)
    assert colour(picture) == RED
    assert picture.note == "100x48 cropped to its centre square, scaled to 32x32"
    assert picture.original.shape == (48, 100, 3)
    tall = imaging.read_bytes(save(Image.fromarray(wide.transpose(1, 0, 2))), "tall.png", 32)
    assert colour(tall) == RED


def test_scaling_down_averages():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # without antialiasing it would come out black or white
    inner = imaging.read_bytes(save(Image.fromarray(stripes)), "stripes.png", 32).pixels[:, 2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() <= 3


def test_small_pictures_are_scaled_up():
    picture = imaging.read_bytes(save(Image.new("RGB", (1, 1), RED)), "dot.png", 32)
    assert colour(picture) == RED
    assert picture.note == "1x1 scaled to 32x32"


def test_pictures_take_the_asked_size():
    large = random_images(1, size=64)[0]
    picture = imaging.read_bytes(encoded(large), "large.png", 64)
    np.testing.assert_array_equal(picture.pixels, large)
    assert picture.note == ""
    picture = imaging.read_bytes(encoded(SQUARE), "small.png", 48)
    assert picture.pixels.shape == (3, 48, 48)
    assert picture.note == "32x32 scaled to 48x48"


def test_large_pictures_are_kept_small_for_display():
    picture = imaging.read_bytes(save(Image.new("RGB", (3000, 1500), RED)), "large.png", 32)
    assert picture.original.shape == (512, 1024, 3)
    assert colour(picture) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:8, :20] = 255  # no rotation or reflection of it equals another
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(
            {
                2: Image.Transpose.FLIP_LEFT_RIGHT,
                3: Image.Transpose.ROTATE_180,
                4: Image.Transpose.FLIP_TOP_BOTTOM,
                5: Image.Transpose.TRANSPOSE,
                6: Image.Transpose.ROTATE_90,
                7: Image.Transpose.TRANSVERSE,
                8: Image.Transpose.ROTATE_270,
            }[orientation]
        )
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = imaging.read_bytes(save(stored, exif=exif), "turned.png", 32)
    np.testing.assert_array_equal(picture.pixels, upright.transpose(2, 0, 1))
    assert ("turned upright" in picture.note) == (orientation > 1)


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    return save(image, **({"transparency": 1} if transparent else {}))


@pytest.mark.parametrize(
    ("raw", "expected", "note"),
    [
        (save(Image.new("RGBA", (32, 32), (255, 0, 0, 0))), WHITE, "transparency laid on white"),
        (save(Image.new("RGBA", (32, 32), (0, 0, 0, 51))), (204, 204, 204), "transparency laid on white"),
        (save(Image.new("RGBA", (32, 32), (1, 2, 3, 255))), (1, 2, 3), ""),
        (save(Image.new("LA", (32, 32), (10, 255))), (10, 10, 10), ""),
        (save(Image.new("LA", (32, 32), (10, 0))), WHITE, "transparency laid on white"),
        (save(Image.new("RGB", (32, 32), RED), transparency=RED), WHITE, "transparency laid on white"),
        (palette(transparent=False), RED, "converted from its palette"),
        (palette(transparent=True), WHITE, "transparency laid on white"),
        (save(Image.new("L", (32, 32), 77)), (77, 77, 77), "converted from grey"),
        (save(Image.new("1", (32, 32), 1)), WHITE, "converted from 1 bit"),
        (save(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "TIFF"), RED, "converted from CMYK"),
        (save(Image.new("I;16", (32, 32), 257 * 100)), (100,) * 3, "16-bit grey scaled to 8 bits"),
        (save(Image.new("I;16", (32, 32), 65535)), WHITE, "16-bit grey scaled to 8 bits"),
        (save(Image.new("I;16", (32, 32), 257 * 100), "TIFF"), (100,) * 3, "16-bit grey scaled to 8 bits"),
        (save(Image.new("I;16B", (32, 32), 257 * 100), "TIFF"), (100,) * 3, "16-bit grey scaled to 8 bits"),
        (save(Image.new("I", (32, 32), 257 * 9), "TIFF"), (9,) * 3, "16-bit grey scaled to 8 bits"),
        (save(Image.new("F", (32, 32), 0.2), "TIFF"), (51,) * 3, "float grey of 0 to 1 scaled to 8 bits"),
        (save(Image.new("F", (32, 32), 51.4), "TIFF"), (51,) * 3, "float grey of 0 to 255 rounded to 8 bits"),
    ],
)
def test_every_mode_becomes_rgb(raw, expected, note):
    picture = imaging.read_bytes(raw, "picture", 32)
    assert colour(picture) == expected
    assert picture.note == note
    assert tuple(picture.original[0, 0]) == expected


@pytest.mark.parametrize("values", [np.array([[-5.0, 995.0]], np.float32), np.array([[-5, 99995]], np.int32)])
def test_numbers_of_no_known_range_are_stretched(values):
    wide = np.repeat(np.repeat(values, 32, 0), 16, 1)
    picture = imaging.read_bytes(save(Image.fromarray(wide), "TIFF"), "depth.tif", 32)
    assert (picture.pixels[:, :, :16] == 0).all()
    assert (picture.pixels[:, :, 16:] == 255).all()
    assert "stretched" in picture.note


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad):
    values = np.full((32, 32), 0.5, np.float32)
    values[3, 4] = bad
    with pytest.raises(ImageError, match=r"depth\.tif has pixels that are NaN or infinite"):
        imaging.read_bytes(save(Image.fromarray(values), "TIFF"), "depth.tif", 32)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_of_several_frames_is_taken(form):
    frames = [Image.new("RGB", (32, 32), c) for c in (RED, (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if form == "WEBP" else {}
    picture = imaging.read_bytes(
        save(frames[0], form, save_all=True, append_images=frames[1:], **options), "moving", 32
    )
    assert colour(picture) == RED
    assert picture.note.startswith("its first frame")


def test_phone_pictures_with_a_preview_are_jpegs():
    second = Image.new("RGB", (32, 32), (0, 255, 0))
    raw = save(Image.new("RGB", (32, 32), WHITE), "MPO", save_all=True, append_images=[second])
    picture = imaging.read_bytes(raw, "phone.jpg", 32)
    assert colour(picture) == WHITE
    assert picture.note == ""


def test_content_counts_and_not_the_name():
    picture = imaging.read_bytes(encoded(SQUARE, "PNG"), "photo.jpg", 32)
    np.testing.assert_array_equal(picture.pixels, SQUARE)
    assert picture.note == "a PNG file despite its name ending in .jpg"


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello world, I am no picture", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (png_of_size(9_500, 9_500), "decompression bomb"),  # Pillow only warns
        (png_of_size(100_000, 100_000), "decompression bomb"),  # Pillow raises
        (png_of_size(32, 32), "damaged or truncated"),
        (save(Image.new("RGB", (1, 3000))), "strip of 1x3000"),
    ],
)
def test_unusable_files_are_named_with_the_reason(raw, reason, tmp_path):
    path = tmp_path / "it.png"
    path.write_bytes(raw)
    with pytest.raises(ImageError, match=rf"it\.png .*{reason}"):
        imaging.read(path, 32)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
def test_truncated_files_are_refused(form):
    raw = encoded(random_images(1)[0].repeat(4, 1).repeat(4, 2), form)
    for keep in (0.05, 0.3, 0.7):
        with pytest.raises(ImageError, match="cut"):
            imaging.read_bytes(raw[: int(len(raw) * keep)], "cut", 32)


SEEDS = [
    encoded(SQUARE, "PNG"),
    encoded(SQUARE, "JPEG"),
    encoded(SQUARE, "GIF"),
    encoded(SQUARE, "TIFF"),
    encoded(SQUARE, "BMP"),
    encoded(SQUARE, "WEBP"),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_never_raises_anything_else(raw, damage):
    broken = bytearray(raw)
    for place, value in damage:
        broken[place % len(broken)] = value
    try:
        picture = imaging.read_bytes(bytes(broken), "broken", 32)
    except ImageError as error:
        assert str(error).startswith("broken ")  # noqa: PT017 - either outcome is right
    else:
        assert picture.pixels.shape == (3, 32, 32)


def test_places_that_are_no_picture(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="does not exist"):
        imaging.read(tmp_path / "missing.png", 32)
    with pytest.raises(ImageError, match="is a folder"):
        imaging.read(tmp_path, 32)
    with pytest.raises(ImageError, match="null byte"):
        imaging.read(tmp_path / "a\0b.png", 32)
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(SQUARE))

    def forbidden(self, mode):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)  # tests may run as root, whom no mode keeps out
        with pytest.raises(ImageError, match=r"secret\.png may not be read"):
            imaging.read(path, 32)
    monkeypatch.setattr(imaging, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match=r"secret\.png is larger"):
        imaging.read(path, 32)


@pytest.mark.parametrize("url", ["https://example.org/cat.png", "data:image/png;base64,AAAA", "ftp://host/a.png"])
def test_remote_urls_are_refused(url):
    with pytest.raises(ImageError, match="not a file on this machine"):
        imaging.path_from_url(url)
    with pytest.raises(ImageError, match="not a file on this machine"):
        imaging.read(url, 32)


def test_local_urls_and_plain_paths_are_taken(tmp_path):
    path = tmp_path / "a cat & 100% ü#1.png"
    path.write_bytes(encoded(SQUARE))
    assert [imaging.path_from_url(url) for url in (path.as_uri(), str(path))] == [path, path]
    np.testing.assert_array_equal(imaging.read(path.as_uri(), 32).pixels, SQUARE)
    assert imaging.path_from_url(r"C:\pictures\12:30.png") == Path(r"C:\pictures\12:30.png")


def test_extensions_are_what_a_file_dialog_needs():
    assert {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"} <= set(imaging.EXTENSIONS)
    assert len(set(imaging.EXTENSIONS)) == len(imaging.EXTENSIONS)

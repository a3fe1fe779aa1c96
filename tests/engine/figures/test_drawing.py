"""Both drawings of a figure hold what the layout placed: every picture, every word."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from ciad_engine.figures import png, svg
from ciad_engine.figures.layout import IMAGE, Figure, Panel, place

SVG = "{http://www.w3.org/2000/svg}"


def figure(**changes) -> Figure:
    random = np.random.default_rng(0)
    one, two, three = (random.integers(0, 256, (3, 32, 32), dtype=np.uint8) for _ in range(3))
    rows = ((Panel(one, ("cat, 93 %",)), Panel(two, ("<dog> & co", "second line"))), (Panel(three), None))
    return Figure(
        **{"name": "f", "title": "A title", "rows": rows, "heads": ("left", "right"), "sides": ("first", "second"),
           "notes": ("A long note. " * 30,), **changes}
    )  # fmt: skip


def test_nothing_overlaps_and_all_lies_on_the_page():
    page = place(figure())
    assert len(page.pictures) == 3
    boxes = [(p.x, p.y) for p in page.pictures]
    for k, (x, y) in enumerate(boxes):
        assert 0 <= x <= page.width - IMAGE
        assert 0 <= y <= page.height - IMAGE
        for other in boxes[:k]:
            assert abs(x - other[0]) >= IMAGE or abs(y - other[1]) >= IMAGE
        for words in page.words:  # the baseline of no line runs through a picture
            beside = words.x < x - 1 or words.x > x + IMAGE
            assert beside or not y < words.y < y + IMAGE
    assert all(0 < words.y < page.height for words in page.words)
    heads = {words.text: words.y for words in page.words}
    assert heads["left"] < boxes[0][1]
    assert place(figure(heads=(), sides=())).height < page.height


def test_a_title_of_any_length_and_letters_stays_on_the_page():
    wanted = figure(title="a long name " * 12 + "\udcff\x01.png")
    page = place(wanted)
    titles = [words for words in page.words if words.size == 15 and words.bold]
    assert len(titles) > 1
    assert all(words.x + len(words.text) * 7 < page.width for words in titles)
    assert page.pictures[0].y > max(words.y for words in titles)
    root = ElementTree.fromstring(svg.draw(place(wanted)))
    assert "\ufffd\ufffd.png" in root.find(f"{SVG}title").text
    assert png.draw(place(wanted)).startswith(b"\x89PNG")


def test_the_svg_holds_text_and_lossless_pictures():
    wanted = figure()
    root = ElementTree.fromstring(svg.draw(place(wanted)))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for text in ("A title", "left", "second", "cat, 93 %", "<dog> & co", "second line"):
        assert text in texts
    assert " ".join(texts[-3:]).count("A long note.") > 5
    pictures = [element.attrib["href"] for element in root.iter(f"{SVG}image")]
    panels = [panel for row in wanted.rows for panel in row if panel is not None]
    assert len(pictures) == len(panels) == 3
    for href, panel in zip(pictures, panels, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2])))
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), panel.pixels)


def test_the_png_shows_each_pixel_as_a_square_and_writes_below_it():
    wanted = figure()
    page = place(wanted)
    image = np.asarray(Image.open(io.BytesIO(png.draw(place(wanted)))).convert("RGB"))
    assert image.shape[:2] == (round(page.height * png.SCALE), round(page.width * png.SCALE))
    side = IMAGE * png.SCALE
    for picture in page.pictures:
        x, y = round(picture.x * png.SCALE), round(picture.y * png.SCALE)
        part = image[y : y + side, x : x + side]
        np.testing.assert_array_equal(part[4::8, 4::8].transpose(2, 0, 1), picture.pixels)
    first = page.pictures[0]
    below = image[round((first.y + IMAGE) * png.SCALE) + 4 :][:30, round(first.x * png.SCALE) :][:, :side]
    assert (below < 128).any(), "no caption"

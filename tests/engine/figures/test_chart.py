"""Charts: where their parts lie, and that both drawings show the lines."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageColor

from ciad_engine.figures import png, svg
from ciad_engine.figures.chart import COLOURS, DASHES, Chart, Plot, Series, place, steps, ticks

SVG = "{http://www.w3.org/2000/svg}"


def chart(count: int = 4, **changes) -> Chart:
    x = np.linspace(0, 1, 200)
    rising = Series("rises", x, x**0.5, COLOURS[0])
    bars = Series(
        "bars " * 20, *steps(np.linspace(0, 1, 6), np.array([0.1, 0.5, 0.9, 0.2, 0.0])), COLOURS[1], (6, 3), True
    )
    plots = tuple(
        Plot(f"plot {k}", "across", "up", (0.0, 1.0), (0.0, 1.0), (rising, bars), ((0.3, "5 %"),)) for k in range(count)
    )
    return Chart("c", "A title", plots, ("A note.",), **changes)


def test_everything_lies_on_the_page_and_plots_do_not_overlap():
    page = place(chart())
    for stroke in page.strokes:
        assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in stroke.points)
    frames = [stroke.points for stroke in page.strokes if stroke.colour == "#b0b0b0"]
    assert len(frames) == 4
    for k, frame in enumerate(frames):
        for other in frames[:k]:
            assert frame[0][0] >= other[1][0] or frame[0][1] >= other[2][1] or other[0][1] >= frame[2][1]
    assert {words.text for words in page.words} >= {
        "A title",
        "plot 3",
        "across",
        "up",
        "rises",
        "5 %",
        "0.2",
        "A note.",
    }
    assert len({words.y for words in page.words if "bars" in words.text}) >= 4  # a long word of the legend is wrapped


def test_a_lines_ends_are_where_its_values_are():
    page = place(chart(1))
    frame = next(stroke.points for stroke in page.strokes if stroke.colour == "#b0b0b0")
    line = next(stroke.points for stroke in page.strokes if stroke.colour == COLOURS[0])
    assert line[0] == pytest.approx(frame[3])  # (0, 0): left below
    assert line[-1] == pytest.approx(frame[1])  # (1, 1): right above
    quarter = min(line, key=lambda point: abs(point[0] - (frame[0][0] * 3 + frame[1][0]) / 4))
    assert quarter[1] == pytest.approx((frame[0][1] + frame[3][1]) / 2, abs=1.5)  # the root of a quarter is a half


def test_ticks_are_round_numbers_within():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0, 0.173) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert ticks(0, 7.3) == [0, 2, 4, 6]
    assert ticks(-1, 1) == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_steps_begin_and_end_on_the_axis():
    x, y = steps(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.2]))
    assert x.tolist() == [0, 0, 1, 1, 3, 3]
    assert y.tolist() == [0, 0.5, 0.5, 0.2, 0.2, 0]


def test_every_line_can_be_told_apart_without_colours():
    assert len(set(COLOURS)) == len(set(DASHES)) == len(COLOURS) == len(DASHES)


def test_the_svg_holds_lines_and_words():
    page = place(chart(1))
    root = ElementTree.fromstring(svg.draw(page))
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == len(page.strokes)
    assert any(line.get("stroke-dasharray") == "6 3" and line.get("fill") == COLOURS[1] for line in lines)
    (turned,) = [text for text in root.iter(f"{SVG}text") if text.text == "up"]
    assert turned.get("transform", "").startswith("rotate(-90")


def test_the_png_shows_the_lines():
    page = place(chart(1))
    image = np.asarray(Image.open(io.BytesIO(png.draw(page))).convert("RGB")).astype(int)
    assert image.shape[:2] == (round(page.height * png.SCALE), round(page.width * png.SCALE))
    rising = next(stroke for stroke in page.strokes if stroke.colour == COLOURS[0])

    def seen(point, colour):
        x, y = (round(value * png.SCALE) for value in point)
        near = image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        return (np.abs(near - ImageColor.getrgb(colour)).max(1) < 60).any()

    hidden = [point for point in rising.points[5:-5] if not seen(point, COLOURS[0])]
    assert len(hidden) < 5  # where the bars' outline crosses it; their veil changes the colour a little
    mark = next(stroke for stroke in page.strokes if stroke.dashes == (3, 3))
    (x, top), (_, bottom) = mark.points
    column = image[round(top * png.SCALE) + 4 : round(bottom * png.SCALE) - 4, round(x * png.SCALE)].max(1)
    assert 0.3 < (column < 128).mean() < 0.7  # drawn and left out in turn


def test_a_sign_the_font_lacks_is_spelt_in_the_png():
    first = Plot("FGSM (L∞)", "x", "y", (0.0, 1.0), (0.0, 1.0), ())
    second = Plot("FGSM (Linf)", "x", "y", (0.0, 1.0), (0.0, 1.0), ())
    assert png.draw(place(Chart("c", "t", (first,)))) == png.draw(place(Chart("c", "t", (second,))))

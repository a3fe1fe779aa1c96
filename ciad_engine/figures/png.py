"""Draw a figure as PNG, with Pillow and the font it brings along."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ciad_engine.figures.layout import IMAGE, Figure, Words, place

SCALE = 2  # pixels for each unit of the layout


def draw(figure: Figure) -> bytes:
    """The figure as a PNG file, at twice the size in which a screen shows the SVG."""
    page = place(figure)
    canvas = Image.new("RGB", (round(page.width * SCALE), round(page.height * SCALE)), "white")
    for picture in page.pictures:
        image = Image.fromarray(np.ascontiguousarray(picture.pixels.transpose(1, 2, 0)))
        large = image.resize((IMAGE * SCALE, IMAGE * SCALE), Image.Resampling.NEAREST)
        canvas.paste(large, (round(picture.x * SCALE), round(picture.y * SCALE)))
    pen = ImageDraw.Draw(canvas)
    for words in page.words:
        _write(pen, words)
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=True)
    return out.getvalue()


def _write(pen: ImageDraw.ImageDraw, words: Words) -> None:
    font = ImageFont.load_default(words.size * SCALE)
    anchor = "ms" if words.anchor == "middle" else "ls"  # on the baseline
    at = (words.x * SCALE, words.y * SCALE)
    # The font has one weight; drawn with an edge of its own colour it looks bold.
    pen.text(at, words.text, "black", font, anchor, stroke_width=SCALE // 2 if words.bold else 0)

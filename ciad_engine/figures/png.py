"""Draw a page as PNG, with Pillow and the font it brings along."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from ciad_engine.figures.layout import IMAGE, Page, Stroke, Words
from ciad_engine.figures.svg import FILL

SCALE = 2  # pixels for each unit of the layout
_FINER = 2  # strokes are drawn so many times as large first, for smooth edges: Pillow's have none


def draw(page: Page) -> bytes:
    """The page as a PNG file, at twice the size in which a screen shows the SVG."""
    canvas = Image.new("RGB", (round(page.width * SCALE), round(page.height * SCALE)), "white")
    for picture in page.pictures:
        image = Image.fromarray(np.ascontiguousarray(picture.pixels.transpose(1, 2, 0)))
        large = image.resize((IMAGE * SCALE, IMAGE * SCALE), Image.Resampling.NEAREST)
        canvas.paste(large, (round(picture.x * SCALE), round(picture.y * SCALE)))
    if page.strokes:
        large = Image.new("RGB", (canvas.width * _FINER, canvas.height * _FINER), "white")
        for stroke in page.strokes:
            _trace(large, stroke)
        canvas = ImageChops.multiply(canvas, large.reduce(_FINER))
    for words in page.words:
        _write(canvas, words)
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=True)
    return out.getvalue()


def _write(canvas: Image.Image, words: Words) -> None:
    font = ImageFont.load_default(words.size * SCALE)
    text = words.text.replace("L∞", "Linf")  # a sign the font lacks
    if not words.turned:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[words.anchor]  # on the baseline
        at = (words.x * SCALE, words.y * SCALE)
        # The font has one weight; drawn with an edge of its own colour it looks bold.
        edge = SCALE // 2 if words.bold else 0
        ImageDraw.Draw(canvas).text(at, text, "black", font, anchor, stroke_width=edge)
        return
    length, height = round(font.getlength(text)), 2 * words.size * SCALE
    ink = Image.new("L", (length, height), 0)
    ImageDraw.Draw(ink).text((0, height // 2), text, 255, font, "ls")
    before = {"start": 0.0, "middle": length / 2, "end": float(length)}[words.anchor]  # of the text, below (x, y)
    corner = (round(words.x * SCALE - height / 2), round(words.y * SCALE + before - length))
    canvas.paste("black", corner, ink.transpose(Image.Transpose.ROTATE_90))


def _trace(canvas: Image.Image, stroke: Stroke) -> None:
    finest = SCALE * _FINER
    points = [(x * finest, y * finest) for x, y in stroke.points]
    if stroke.filled:
        veil = Image.new("L", canvas.size, 0)
        ImageDraw.Draw(veil).polygon(points, fill=round(255 * FILL))
        canvas.paste(stroke.colour, (0, 0), veil)
    pen, width = ImageDraw.Draw(canvas), max(1, round(stroke.width * finest))
    for part in _dashed(points, [length * finest for length in stroke.dashes]):
        pen.line(part, stroke.colour, width, joint="curve")


def _dashed(points: list[tuple[float, float]], lengths: list[float]) -> list[list[tuple[float, float]]]:
    """The parts of a line that are drawn, where it is drawn and left out in turn for these lengths."""
    if not lengths:
        return [points]
    turns = itertools.cycle(lengths)
    parts, drawn, left = [[points[0]]], True, next(turns)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if drawn:
                parts[-1].append(at)
            else:
                parts.append([at])
            drawn, left = not drawn, next(turns)
        left -= length - done
        if drawn:
            parts[-1].append((x1, y1))
    return [part for part in parts if len(part) > 1]

"""Draw a page as SVG: text stays text, lines stay lines, pixels stay square."""

from __future__ import annotations

import base64
from xml.sax.saxutils import escape, quoteattr

from ciad_engine.figures.layout import IMAGE, Page
from ciad_engine.imaging import png_bytes
from ciad_engine.plain_text import plain

FILL = 0.22  # how dense the colour is in what a stroke encloses


def draw(page: Page) -> bytes:
    """The page as an SVG document in UTF-8; its pictures are PNGs inside it, so that it is one file."""
    size = f'width="{page.width:g}" height="{page.height:g}" viewBox="0 0 {page.width:g} {page.height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(plain(page.title))}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for picture in page.pictures:
        data = base64.b64encode(png_bytes(picture.pixels)).decode()
        lines.append(
            f'<image x="{picture.x:g}" y="{picture.y:g}" width="{IMAGE}" height="{IMAGE}" preserveAspectRatio="none"'
            f' style="image-rendering: pixelated" href="data:image/png;base64,{data}"/>'
        )
    for stroke in page.strokes:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
        dashes = f' stroke-dasharray="{" ".join(f"{length:g}" for length in stroke.dashes)}"' if stroke.dashes else ""
        fill = f'fill="{stroke.colour}" fill-opacity="{FILL:g}"' if stroke.filled else 'fill="none"'
        lines.append(
            f'<polyline points="{points}" {fill} stroke="{stroke.colour}" stroke-width="{stroke.width:g}"'
            f' stroke-linejoin="round"{dashes}/>'
        )
    for words in page.words:
        more = ' font-weight="bold"' if words.bold else ""
        more += f' transform="rotate(-90 {words.x:g} {words.y:g})"' if words.turned else ""
        lines.append(
            f'<text x="{words.x:g}" y="{words.y:g}" font-size="{words.size}" text-anchor={quoteattr(words.anchor)}'
            f"{more}>{escape(plain(words.text))}</text>"
        )
    return "\n".join([*lines, "</svg>", ""]).encode()

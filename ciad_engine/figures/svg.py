"""Draw a figure as SVG: text stays text, pixels stay square."""

from __future__ import annotations

import base64
from xml.sax.saxutils import escape, quoteattr

from ciad_engine.figures.layout import IMAGE, Figure, place, printable
from ciad_engine.images import png_bytes


def draw(figure: Figure) -> bytes:
    """The figure as an SVG document in UTF-8; its pictures are PNGs inside it, so that it is one file."""
    page = place(figure)
    size = f'width="{page.width:g}" height="{page.height:g}" viewBox="0 0 {page.width:g} {page.height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(printable(figure.title))}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for picture in page.pictures:
        data = base64.b64encode(png_bytes(picture.pixels)).decode()
        lines.append(
            f'<image x="{picture.x:g}" y="{picture.y:g}" width="{IMAGE}" height="{IMAGE}" preserveAspectRatio="none"'
            f' style="image-rendering: pixelated" href="data:image/png;base64,{data}"/>'
        )
    for words in page.words:
        weight = ' font-weight="bold"' if words.bold else ""
        lines.append(
            f'<text x="{words.x:g}" y="{words.y:g}" font-size="{words.size}" text-anchor={quoteattr(words.anchor)}'
            f"{weight}>{escape(printable(words.text))}</text>"
        )
    return "\n".join([*lines, "</svg>", ""]).encode()

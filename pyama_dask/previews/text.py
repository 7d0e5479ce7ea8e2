"""Lines of text in pictures: their sizes, wrapping and drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageDraw, ImageFont

from pyama_dask.files.palette import DARK

SPACING = 1.35
"""Height of a line, relative to its letters."""


@dataclass(frozen=True)
class Line:
    """One line of text."""

    text: str
    size: int = 14
    """Height of the letters in pixels."""
    bold: bool = False
    colour: str = DARK

    @property
    def height(self) -> int:
        """Pixels from this line to the next one."""
        return round(self.size * SPACING)

    @property
    def width(self) -> float:
        """Pixels from the first to the last letter."""
        return float(_font(self.size, self.bold).getlength(self.text))


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", name), size)


def wrapped(line: Line, width: float) -> Iterator[Line]:
    """Break a line between words, and long words anywhere, so that each part fits into a width in pixels."""
    rest = line.text.split()
    while rest:
        text = rest.pop(0)
        while rest and replace(line, text=f"{text} {rest[0]}").width <= width:
            text += f" {rest.pop(0)}"
        if replace(line, text=text).width > width and len(text) > 1:
            fitting = max(
                1, next(n for n in range(len(text), 0, -1) if replace(line, text=text[:n]).width <= width or n == 1)
            )
            text, over = text[:fitting], text[fitting:]
            rest.insert(0, over)
        yield replace(line, text=text)


def height_of(lines: Sequence[Line]) -> int:
    """Pixels that lines take."""
    return sum(line.height for line in lines)


def write(pen: ImageDraw.ImageDraw, lines: Sequence[Line], x: int, y: int) -> int:
    """Draw lines from a corner downwards; gives the y below them."""
    for line in lines:
        pen.text((x, y), line.text, fill=line.colour, font=_font(line.size, line.bold))
        y += line.height
    return y

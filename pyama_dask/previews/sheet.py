"""All panels with their captions in one picture; each text has the room that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pyama_dask.files.palette import DARK, Picture
from pyama_dask.previews.draw import WARNING
from pyama_dask.previews.layout import in_rows, legend, title
from pyama_dask.previews.panel import Panel
from pyama_dask.previews.shown import Shown
from pyama_dask.previews.text import Line, height_of, wrapped, write

MARGIN, GAP, PADDING = 24, 22, 6
"""Pixels around the sheet, between panels, and between texts and pictures."""
LEAST_WIDTH = 680
"""Least width of head and notes."""
HEAD, TITLE, TEXT, CHIP = 20, 15, 14, 14
"""Heights of letters and of the legend's squares in pixels."""


@dataclass(frozen=True)
class _Block:
    """A panel with its texts, which are as wide as its picture."""

    above: tuple[Line, ...]
    picture: Picture
    below: tuple[Line, ...]

    @classmethod
    def of(cls, shown: Shown, panel: Panel) -> _Block:
        width = panel.picture.shape[1]
        above = [Line(title(shown, panel), TITLE, bold=True), *(Line(words, TEXT) for words in panel.words())]
        below = [Line(words, TEXT - 1, colour=WARNING) for words in panel.said()]
        broken = [tuple(part for line in lines for part in wrapped(line, width)) for lines in (above, below)]
        return cls(broken[0], panel.picture, broken[1])

    @property
    def height(self) -> int:
        return int(self.picture.shape[0])

    @property
    def width(self) -> int:
        return int(self.picture.shape[1])

    def paste(self, image: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, above: int) -> None:
        """Draw at a corner; `above` is the height of the texts above all pictures of the row."""
        write(pen, self.above, x, y + above - height_of(self.above))
        image.paste(Image.fromarray(self.picture), (x, y + above + PADDING))
        write(pen, self.below, x, y + above + 2 * PADDING + self.height)


@dataclass(frozen=True)
class _Row:
    """Panels side by side."""

    blocks: tuple[_Block, ...]

    @property
    def width(self) -> int:
        return sum(block.width for block in self.blocks) + GAP * (len(self.blocks) - 1)

    @property
    def above(self) -> int:
        return max(height_of(block.above) for block in self.blocks)

    @property
    def height(self) -> int:
        pictures = max(block.height for block in self.blocks)
        return self.above + pictures + 2 * PADDING + max(height_of(block.below) for block in self.blocks)


def sheet(shown: Shown) -> Picture:
    """Draw a preview as one picture on white."""
    rows = [_Row(tuple(_Block.of(shown, panel) for panel in row)) for row in in_rows(shown.panels, shown.keys)]
    width = max(LEAST_WIDTH, *(row.width for row in rows))
    head = list(wrapped(Line(shown.head, HEAD, bold=True), width))
    notes = [line for note in shown.notes for line in wrapped(Line(note, TITLE), width)]
    chips = list(_placed(legend(shown), width))
    below_head = MARGIN + height_of(head) + PADDING
    below_chips = below_head + (chips[-1][1] + 2 * TEXT if chips else 0)
    height = below_chips + sum(row.height + GAP for row in rows) + height_of(notes) + MARGIN
    image = Image.new("RGB", (width + 2 * MARGIN, height), "#FFFFFF")
    pen = ImageDraw.Draw(image)
    write(pen, head, MARGIN, MARGIN)
    for x, y, colour, line in chips:
        corner = (MARGIN + x, below_head + y + 2)
        pen.rectangle((*corner, corner[0] + CHIP, corner[1] + CHIP), fill=colour, outline=DARK)
        write(pen, [line], corner[0] + CHIP + PADDING, below_head + y)
    y = below_chips
    for row in rows:
        for k, block in enumerate(row.blocks):
            left = MARGIN + sum(other.width + GAP for other in row.blocks[:k])
            block.paste(image, pen, left, y, row.above)
        y += row.height + GAP
    write(pen, notes, MARGIN, y)
    return np.array(image)


def _placed(entries: Sequence[tuple[str, str]], width: int) -> Iterator[tuple[int, int, str, Line]]:
    """Corner, colour and words of each entry of the legend, in lines of a width."""
    x = y = 0
    for colour, words in entries:
        line = Line(words, TEXT)
        needed = round(CHIP + PADDING + line.width)
        if x and x + needed > width:
            x, y = 0, y + line.height
        yield x, y, colour, line
        x += needed + GAP

"""Pictures of frames with the outlines of their objects, at the size in which they are shown."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pyama_dask.files.palette import (
    BORDER,
    KEPT,
    SERIES,
    TOO_LARGE,
    TOO_SMALL,
    TRUTH,
    Picture,
    as_picture,
    draw,
    outlines,
    rgb,
)
from pyama_dask.previews.objects import Fate, Found
from pyama_dask.previews.trails import Tracks

COLOURS = {Fate.KEPT: KEPT, Fate.TOO_LARGE: TOO_LARGE, Fate.TOO_SMALL: TOO_SMALL, Fate.BORDER: BORDER}
"""Colours of outlines by fate."""
TINTS = {Fate.TOO_LARGE: 0.45, Fate.BORDER: 0.2}
"""Opacity of the colour inside of objects, where the grey levels shine through."""
WARNING = "#8A4B00"
"""Brown: texts of warnings and failures."""
WIDE = 20.0
"""Pixels of the picture across a median object from which on outlines are two pixels wide."""
LARGEST_ZOOM = 4.0
"""Largest enlargement of a small part of a frame."""
GREYS = 72
"""Grey levels of a small PNG, and levels of each tint."""


@dataclass(frozen=True)
class View:
    """Part of a frame, and the size in which it is shown."""

    top: int
    left: int
    height: int
    width: int
    zoom: float

    @classmethod
    def fitting(cls, crop: tuple[int, int, int, int], longest: int) -> View:
        """View of (top, left, height, width) pixels whose longer side has `longest` pixels in the picture."""
        return cls(*crop, min(longest / max(crop[2:]), LARGEST_ZOOM))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return max(1, round(self.height * self.zoom)), max(1, round(self.width * self.zoom))

    def part(self, array: np.ndarray) -> np.ndarray:
        """Pixels of the part."""
        return array[self.top : self.top + self.height, self.left : self.left + self.width]

    def nearest(self, array: np.ndarray) -> np.ndarray:
        """The part at the size of the picture, without mixing values."""
        rows, columns = (
            np.minimum(((np.arange(shown) + 0.5) * held / shown).astype(np.intp), held - 1)
            for shown, held in zip(self.shape, (self.height, self.width), strict=True)
        )
        return self.part(array)[rows[:, None], columns]

    def grey(self, frame: np.ndarray, limits: tuple[float, float]) -> Picture:
        """The part of a frame in grey at the size of the picture, averaged where it is reduced."""
        levels = Image.fromarray(as_picture(self.part(frame), limits)[..., 0])
        how = Image.Resampling.BOX if self.zoom < 1 else Image.Resampling.BICUBIC
        return np.repeat(np.array(levels.resize(self.shape[::-1], how))[..., None], 3, axis=-1)


def drawn(
    grey: Picture,
    found: Found,
    view: View,
    truth: npt.NDArray[np.integer] | None = None,
    tracks: Tracks | None = None,
) -> Picture:
    """Draw what is found in a frame.

    Parameters
    ----------
    grey
        (H, W, 3) frame in grey, from `View.grey`.
    found
        Its objects.
    view
        Part to show.
    truth
        (H, W) true labels, drawn as thin lines.
    tracks
        Tracks that end in this frame or before, drawn as trails.

    Returns
    -------
    (H, W, 3) picture of the view's shape.
    """
    picture = grey.copy()
    _draw_objects(picture, found, view)
    if truth is not None:
        draw(picture, outlines(view.nearest(truth)), TRUTH)
    if tracks is not None:
        picture = _with_trails(picture, tracks, view)
    return picture


def _draw_objects(picture: Picture, found: Found, view: View) -> None:
    labels, dropped = (view.nearest(of) for of in (found.labels, found.dropped))
    fates = np.where(labels > 0, found.fates[labels], found.dropped_fates[dropped])
    for fate, opacity in TINTS.items():
        draw(picture, fates == fate, COLOURS[fate], opacity)
    areas = found.areas(Fate.KEPT, Fate.BORDER)
    across = np.sqrt(np.median(areas)) * view.zoom if areas.size else 0.0
    kept, others = (outlines(of, 2 if across >= WIDE else 1) for of in (labels, dropped))
    for fate, colour in COLOURS.items():
        draw(picture, (kept | others) & (fates == fate), colour)


def _with_trails(picture: Picture, tracks: Tracks, view: View) -> Picture:
    """Picture with a line through the centres of each track, and a dot where it is now."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for track, path in tracks.paths().items():
        colour = SERIES[track % len(SERIES)]
        points = [((x + 0.5 - view.left) * view.zoom, (y + 0.5 - view.top) * view.zoom) for y, x in path]
        if len(points) > 1:
            pen.line(points, fill=colour, width=2)
        if track in tracks.at_the_end:
            x, y = points[-1]
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline="#FFFFFF")
    return np.array(image)


def small_png(picture: Picture) -> bytes:
    """Encode a drawn picture as a PNG of 256 colours, which has a third of the bytes."""
    file = io.BytesIO()
    image = Image.fromarray(picture).quantize(palette=_colours(), dither=Image.Dither.NONE)
    image.save(file, format="png", optimize=True)
    return file.getvalue()


@cache
def _colours() -> Image.Image:
    """Image whose palette has the greys, the tints and the colours of drawn pictures."""
    greys = np.repeat(np.linspace(0, 255, GREYS)[:, None], 3, axis=1)
    tints = [greys * (1 - part) + np.array(rgb(COLOURS[fate])) * part for fate, part in TINTS.items()]
    plain = [rgb(colour) for colour in (*COLOURS.values(), TRUTH, *SERIES, WARNING)]
    every = np.concatenate([greys, *tints, plain]).round().astype(np.uint8)
    held = Image.new("P", (1, 1))
    held.putpalette(np.concatenate([every, np.repeat(every[:1], 256 - len(every), axis=0)]).tobytes())
    return held

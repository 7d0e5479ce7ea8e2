"""Colours with a meaning, and pictures of frames with outlines of objects in them.

The colours are told apart by colour-blind readers (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

KEPT = "#F0E442"
"""Yellow: objects that are kept. For outlines on grey levels; on a light page, put `DARK` around it."""
TOO_LARGE = "#D55E00"
"""Vermillion: objects that are dropped as too large."""
TOO_SMALL = "#56B4E9"
"""Sky blue: objects that are dropped as too small."""
BORDER = "#CC79A7"
"""Reddish purple: objects that are dropped because they are at the border of the frame."""
TRUTH = "#FFFFFF"
"""White: true outlines beside those of `KEPT` objects."""
ANNOTATED, FOUND = "#E69F00", "#56B4E9"
"""Orange and sky blue: annotated outlines under found ones, where every object is shown as it is."""
DARK, PALE = "#1B1B1B", "#999999"
"""Nearly black, and grey: what carries no meaning."""
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Channels or samples, in this order: blue, orange, green, purple, sky blue, vermillion. Visible on white and black."""
LIGHT = ("#00FF00", "#FF00FF", "#00FFFF", "#FFFF00")
"""Light of fluorescence channels on black, in this order: equal parts of green and magenta add up to white."""
GOLDEN = 0.61803398875
"""Step in hue from one cell to the next, in turns: the golden ratio keeps all of them apart, however many there are."""
Picture = npt.NDArray[np.uint8]
"""(H, W, 3) red, green and blue, 0 to 255."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255 of a colour such as ``#F0E442``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def cell_colours(count: int) -> list[str]:
    """Colours of cells by their rank among the ids, such as ``#FF4040``; the same in all viewers."""
    hues = (colorsys.hsv_to_rgb(rank * GOLDEN % 1, 0.75, 1.0) for rank in range(count))
    return ["#" + bytes(round(255 * part) for part in hue).hex().upper() for hue in hues]


def grey_range(frames: Sequence[np.ndarray], percentiles: tuple[float, float] = (1.0, 99.0)) -> tuple[float, float]:
    """Grey levels to show as black and white, one pair for all frames: percentiles of a sample of their pixels.

    Parameters
    ----------
    frames
        (H, W) frames of any type and size.
    percentiles
        Of the pixels that are shown as black and as white.
    """
    steps = [max(1, int(np.sqrt(frame.size / 250_000))) for frame in frames]
    pixels = np.concatenate([frame[::step, ::step].ravel() for frame, step in zip(frames, steps, strict=True)])
    low, high = np.percentile(pixels, percentiles) if pixels.size else (0.0, 0.0)
    return float(low), max(float(high), float(low) + 1e-6)


def as_picture(frame: np.ndarray, limits: tuple[float, float] | None = None) -> Picture:
    """Convert a frame to a picture in grey.

    Parameters
    ----------
    frame
        (H, W) grey levels.
    limits
        Levels to show as black and white; None for `grey_range` of the frame.

    Returns
    -------
    (H, W, 3) uint8.
    """
    low, high = limits or grey_range([frame])
    grey = (np.clip((frame.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def outlines(labels: np.ndarray, thickness: int = 1) -> npt.NDArray[np.bool_]:
    """Mask of the pixels of objects that have another label above, below, left or right.

    Parameters
    ----------
    labels
        (H, W) labels, 0 for background.
    thickness
        Pixels; lines grow inwards, so that those of neighbours stay apart.

    Returns
    -------
    (H, W) mask.
    """
    border = _rim(labels)
    for _ in range(thickness - 1):
        border |= _rim(np.where(border, 0, labels))
    return border


def _rim(labels: np.ndarray) -> npt.NDArray[np.bool_]:
    """(H, W) mask of the outermost pixels of objects."""
    rim = np.zeros(labels.shape, np.bool_)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[here] != labels[there]
        rim[here] |= differs
        rim[there] |= differs
    return rim & (labels > 0)


def draw(picture: Picture, mask: npt.NDArray[np.bool_], colour: str, opacity: float = 1.0) -> None:
    """Colour the pixels of a mask in place.

    Parameters
    ----------
    picture
        (H, W, 3) uint8, changed in place.
    mask
        (H, W) pixels to colour.
    colour
        Such as ``#F0E442``.
    opacity
        0 to 1; below 1, the picture shows through.
    """
    ink = np.array(rgb(colour))
    picture[mask] = np.round(picture[mask] * (1 - opacity) + ink * opacity)

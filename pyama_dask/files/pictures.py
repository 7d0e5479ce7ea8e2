"""Small pictures for pages: frames made small, JPEG files, PNG files with a few colours, and their data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyama_dask.files.palette import rgb


def shrunk(frame: np.ndarray, longest: int) -> npt.NDArray[np.float32]:
    """Average blocks of pixels so that the longest side has at most `longest` pixels; smaller frames stay as they are.

    Parameters
    ----------
    frame
        (H, W) grey levels.
    longest
        Pixels; at least 1.

    Returns
    -------
    (h, w) means of square blocks; pixels that fill no block at the right and bottom are left out.
    """
    step = -(-max(*frame.shape, 1) // longest)
    h, w = (max(n // step, 1) for n in frame.shape)
    rows, columns = (min(n, step) for n in frame.shape)
    whole = frame[: h * step, : w * step]
    summed = np.zeros((h, w) if whole.size else whole.shape, np.float32)
    for row in range(rows):  # sums of few strided frames take a third of the time of `numpy.add.reduceat`
        for column in range(columns):
            summed += whole[row::step, column::step]
    return summed / np.float32(rows * columns) if whole.size else summed


def picked(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Pick the labels at the centres of the pixels of a smaller picture of the same frame.

    Parameters
    ----------
    labels
        (H, W) labels.
    shape
        (h, w) of the picture.
    """
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in zip(shape, labels.shape, strict=True))
    return np.asarray(labels[np.ix_(rows.astype(int), columns.astype(int))])


def to_jpeg(picture: np.ndarray, quality: int = 75) -> bytes:
    """(H, W) or (H, W, 3) uint8 as a JPEG file, with colours at full resolution, as outlines are thin."""
    from PIL import Image  # noqa: PLC0415  (only where it is needed: it is slow to import)

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="jpeg", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


def to_indexed_png(numbers: npt.NDArray[np.uint8], colours: Sequence[str]) -> bytes:
    """PNG file of numbered colours.

    Parameters
    ----------
    numbers
        (H, W) numbers of colours; `len(colours)` is transparent.
    colours
        At most 255, such as ``#F0E442``.
    """
    from PIL import Image  # noqa: PLC0415  (only where it is needed: it is slow to import)

    image = Image.fromarray(numbers)
    image.putpalette([value for colour in (*colours, "#000000") for value in rgb(colour)])
    file = io.BytesIO()
    image.save(file, format="png", optimize=True, transparency=len(colours))
    return file.getvalue()


def data_url(content: bytes, kind: Literal["jpeg", "png"]) -> str:
    """URL that contains a picture."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

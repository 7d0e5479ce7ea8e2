"""Displays of results in notebooks: thumbnails, strips of crops and tables, of at most `LARGEST` characters each.

Objects are those of `analysis.output`, which imports this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import dask.array as da
import numpy as np

from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.config.units import many
from pyama_dask.errors import PyamaError, ResultsWarning
from pyama_dask.files.html import LARGEST, cut, picture, table, text
from pyama_dask.files.palette import DARK, KEPT, PALE, SERIES, Picture, as_picture, draw, grey_range, outlines, rgb
from pyama_dask.files.pictures import picked, shrunk, to_jpeg

WIDTH, SMALL, CROP = 256, 128, 72
"""Longest sides in pixels of the thumbnail of an image, of one of several FOVs, and of a crop."""
MOST_FOVS, MOST_CROPS = 4, 10
"""FOVs that an output shows, and frames in a strip of crops."""
QUALITIES = (80, 60, 40, 20)
"""Of JPEG files; the first that is small enough is taken."""
RAW, LABELS = ("pc_", "fl_ch_"), "seg_"
"""Beginnings of the names of raw channels, and of labels."""
UNITS = {"micrometer": "um", "minute": "min"}
"""Short names of units."""
ORDER = ("failed", "partial", "pending", "done")
"""States of FOVs; those that need a look come first."""


def image_html(image: Any) -> str:
    """Display of an `Image`: its middle frame."""
    middle = len(image.data) // 2
    shown = _coloured if image.is_labels else _grey
    rows = [("pixels", shape_of(image.data)), ("frame shown", middle), *_steps(image).items()]
    thumbnail = _element(shown(_frame(image.data, middle), WIDTH), f"frame {middle} of {image.name}", LARGEST - 2000)
    return f"<div><b>{text(image.name)}</b></div>{_beside(thumbnail, table(rows))}"


def cell_html(cell: Any) -> str:
    """Display of a `Cell`: crops of some frames, one row per product, with the outline of the mask."""
    present = np.flatnonzero(cell.valid)
    frames = present[np.unique(np.linspace(0, len(present) - 1, MOST_CROPS).round().astype(int))]
    masks = [_frame(cell.crops["mask"], k) for k in frames]
    rows = [name for name in cell.crops if name != "mask"]
    shown = [_strip([_frame(cell.crops[name], k) for k in frames], masks) for name in rows]
    strips = [
        f"<div>{_element(strip, f'{name} in {len(frames)} frames', (LARGEST - 2000) // len(rows))} {text(name)}</div>"
        for name, strip in zip(rows, shown, strict=True)
    ]
    title = f"<div><b>cell {cell.id}</b> {text(presence(cell))}; frames {text(', '.join(map(str, frames)))}</div>"
    return title + "".join(strips)


def fov_html(fov: Any) -> str:
    """Display of a `Fov`: its middle frame with the outlines of cells, and a table of its channels."""
    with _no_warnings():
        images, kept = [fov.image(name) for name in (*fov.channels, *fov.pipeline_images)], kept_cells(fov)
        rows = [(image.name, shape_of(image.data), *_steps(image).values()) for image in images]
        thumbnail = fov_thumbnail(fov, WIDTH)
    cells = "" if kept is None else f": {many(len(kept), 'cell')}"
    shown = "" if thumbnail is None else _element(thumbnail, f"FOV {fov.index}, cells outlined", LARGEST - 6000)
    channels = table(cut(rows), ("channel", "pixels", "interval", "pixel size"))
    return f"<div><b>FOV {fov.index}</b>{cells}</div>{_beside(shown, channels)}{_tables(fov)}"


def _tables(of: Any) -> str:
    """Line with the tables that steps of pipelines have written, of an `Output` or a `Fov`."""
    return f"<div>tables: {text(', '.join(of.tables))}</div>" if of.tables else ""


def output_html(output: Any, size: str) -> str:
    """Display of an `Output`: thumbnails of some FOVs, and a table of all.

    Parameters
    ----------
    output
        The output.
    size
        Size of its files, such as ``1.2 GiB``.
    """
    states = sorted(output.status()["fovs"], key=lambda fov: ORDER.index(fov["status"]))
    cells = many(sum(fov["cells"] or 0 for fov in states), "cell")
    rows = [(FovPlace.of(fov).title, fov["status"], fov["cells"] or 0, fov["reason"] or "") for fov in states]
    header = (
        ("FOV", "status", "cells", "reason") if any(fov["reason"] for fov in states) else ("FOV", "status", "cells")
    )
    shown = [_small(output[number], title) for number, title in [*output.titles.items()][:MOST_FOVS]]
    title = f"<div><b>{text(output.directory)}</b>: {many(len(states), 'FOV')}, {cells}, {text(size)}</div>"
    fovs = table(cut([row[: len(header)] for row in rows]), header, left=2)
    return f"{title}<div>{' '.join(shown)}</div>{fovs}{_tables(output)}"


def _small(fov: Any, name: str) -> str:
    """Element with a FOV among others; its name where it cannot be drawn, as while a run is at work."""
    thumbnail = None
    with suppress(Exception), _no_warnings():
        thumbnail = fov_thumbnail(fov, SMALL)
    return text(name) if thumbnail is None else _element(thumbnail, name, (LARGEST - 8000) // MOST_FOVS)


def fov_thumbnail(fov: Any, longest: int) -> Picture | None:
    """Middle frame of the first raw channel of a `Fov`, with kept cells outlined in `KEPT`, and others in `PALE`.

    Parameters
    ----------
    fov
        The FOV.
    longest
        Pixels of the longest side.

    Returns
    -------
    (h, w, 3) picture; None without a raw channel.
    """
    raw = sorted((name for name in fov.channels if name.startswith(RAW)), key=lambda name: not name.startswith("pc_"))
    if not raw:
        return None
    data = fov.image(raw[0]).data
    if max(data.shape[1:]) >= 2 * longest:
        with suppress(PyamaError):  # display levels may be off
            data = fov.image(raw[0], level=1).data
    middle = len(data) // 2
    drawn = _grey(_frame(data, middle), longest)
    if tracked := next((name for name in fov.channels if name.startswith(f"{LABELS}tracked")), None):
        labels = picked(_frame(fov.image(tracked).data, middle), drawn.shape[:2])
        kept = kept_cells(fov)
        rim, of_kept = outlines(labels), labels > 0 if kept is None else np.isin(labels, kept)
        draw(drawn, rim & ~of_kept, PALE)
        draw(drawn, rim & of_kept, KEPT)
    return drawn


def kept_cells(fov: Any) -> tuple[int, ...] | None:
    """Ids of the kept cells of a `Fov`; None before they are stored."""
    try:
        found: tuple[int, ...] = fov.cells
    except PyamaError:
        return None
    return found


def shape_of(data: da.Array) -> str:
    """Shape and type of an array, such as ``40 x 512 x 512 uint16``."""
    return f"{' x '.join(map(str, data.shape))} {data.dtype}"


def presence(cell: Any) -> str:
    """Number of frames with a `Cell`, such as ``in 38 of 40 frames``."""
    filled = f", {int(cell.filled.sum())} of them filled" if cell.filled.any() else ""
    return f"in {int(cell.valid.sum())} of {many(len(cell.valid), 'frame')}{filled}"


def _steps(image: Any) -> dict[str, str]:
    """Interval and pixel size of an image with their units, by name."""
    words = {
        axis: f"{step:.4g} {UNITS.get(unit := image.units.get(axis, ''), unit)}" for axis, step in image.scale.items()
    }
    return {"interval": words["t"], "pixel size": words["x"].strip() if image.units.get("x") else "not calibrated"}


def _frame(data: da.Array, index: int) -> np.ndarray:
    """(H, W) frame of an array, read in this thread; the middle plane, if there are several."""
    frame = data[index] if data.ndim == 3 else data[index, data.shape[1] // 2]
    return np.asarray(frame.compute(scheduler="synchronous"))


def _grey(frame: np.ndarray, longest: int) -> Picture:
    """(h, w, 3) picture of grey levels."""
    return as_picture(shrunk(np.nan_to_num(frame), longest))


def _coloured(labels: np.ndarray, longest: int) -> Picture:
    """(h, w, 3) picture of labels, in the colours of `SERIES` on `DARK`."""
    small = picked(labels, [-(-n * longest // max(*labels.shape, longest)) for n in labels.shape]).astype(np.intp)
    colours = np.array([rgb(DARK), *map(rgb, SERIES)], np.uint8)
    return colours[np.where(small > 0, 1 + small % len(SERIES), 0)]


def _strip(crops: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Picture:
    """(h, w, 3) picture of crops side by side, in the same contrast, with the outlines of their masks."""
    limits, drawn = grey_range(crops, (1.0, 99.8)), []
    for crop, mask in zip(crops, masks, strict=True):
        repeats = max(1, CROP // max(crop.shape))
        one = as_picture(crop, limits).repeat(repeats, axis=0).repeat(repeats, axis=1)
        draw(one, outlines(mask.repeat(repeats, axis=0).repeat(repeats, axis=1)), KEPT)
        drawn.append(np.pad(one, ((1, 1), (1, 1), (0, 0))))
    return np.concatenate(drawn, axis=1)


def _element(drawn: Picture, alt: str, most: int) -> str:
    """Element with a picture, in the best quality that has at most `most` characters."""
    elements = (picture(to_jpeg(drawn, quality), "jpeg", alt) for quality in QUALITIES)
    return next((element for element in elements if len(element) <= most), f"<span>{text(alt)}</span>")


def _beside(left: str, right: str) -> str:
    """Two elements side by side, or below each other where there is no room."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">{left}<div>{right}</div></div>'


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Leave out warnings of missing frames, which the state of a FOV tells."""
    with warnings.catch_warnings(action="ignore", category=ResultsWarning):
        yield

"""Positions of the sites of stitched wells, as a table, and as a picture of the wells with the sites outlined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import ConfigError, MissingFrameError, SourceError
from pyama_dask.files.atomic import writable, write_bytes
from pyama_dask.files.palette import SERIES, Picture, grey_range
from pyama_dask.plan.resolve import resolve
from pyama_dask.previews.draw import View, small_png
from pyama_dask.previews.text import Line, write
from pyama_dask.readers import FovInfo, Metadata, reopen
from pyama_dask.readers.frames import read_planes
from pyama_dask.readers.views.mosaic import mosaic_of
from pyama_dask.runs.movie import look_at_movie
from pyama_dask.runs.output_dir import check_output
from pyama_dask.runs.positions import PICTURE, POSITIONS
from pyama_dask.runs.stitching import registered_channel

MOST_WELLS = 24
"""Largest number of wells that are drawn."""
SIZE, GAP, TITLE = 480, 24, 24
"""Pixels of the longer side of a well, between wells, and above a well for its name."""


@dataclass(frozen=True)
class Placed:
    """The table of positions and its picture, as they were written."""

    table: Path
    picture: Path
    wells: tuple[str, ...]
    """Chosen wells."""
    warnings: tuple[str, ...]


def place_sites(config: Config, progress: Callable[[str], None] = lambda _: None) -> Placed:
    """Find the positions of the sites of the chosen wells as a run would, and write and draw them; nothing else is run.

    Parameters
    ----------
    config
        Config, not yet resolved.
    progress
        Called with what is being done.

    Raises
    ------
    ConfigError, SourceError, OutputError, TableError
        If the wells cannot be stitched as configured, or the output cannot be used.
    """
    if config.params.stitch == "off":
        raise ConfigError("params.stitch: is off. Fix: set it to stage or register (--set params.stitch=register)")
    check_output(config.output)
    progress("Placing the sites of each well")
    movie = look_at_movie(config, lambda done, wells: progress(f"Registering the sites of wells: {done} of {wells}"))
    with writable(config.output):
        config.output.mkdir(parents=True, exist_ok=True)
        for name, content in movie.files.items():
            write_bytes(config.output / name, content)
    resolved = resolve(config, movie.metadata)
    chosen = [movie.metadata.fovs[fov].name for fov in parse_selection(resolved.params.fovs)]
    progress("Drawing the wells")
    picture = sheet(drawn_wells(resolved, movie.metadata))
    with writable(config.output):
        write_bytes(config.output / PICTURE, small_png(picture))
    return Placed(config.output / POSITIONS, config.output / PICTURE, tuple(chosen), movie.warnings)


def drawn_wells(config: Config, metadata: Metadata) -> list[tuple[str, Picture]]:
    """Draw the first of the chosen wells.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie with stitched wells.

    Returns
    -------
    Name and picture of each well: the first frame that is there, in grey, with outlines and numbers of the sites.
    """
    drawn = []
    with reopen(metadata) as reader:
        for fov in parse_selection(config.params.fovs)[:MOST_WELLS]:
            frame = np.zeros(metadata.fovs[fov].shape, np.uint8)
            for number in parse_selection(config.params.frames):
                try:
                    frame = read_planes(reader, fov, number, [registered_channel(config)], config.params.z)[0]
                    break
                except (MissingFrameError, SourceError):  # an empty well with outlines if there is no frame at all
                    continue
            drawn.append((metadata.fovs[fov].name, outlined(metadata.fovs[fov], frame)))
    return drawn


def outlined(well: FovInfo, frame: np.ndarray) -> Picture:
    """Draw a frame (H, W) of a well with the outlines and numbers of its sites."""
    view = View.fitting((0, 0, *well.shape), SIZE)
    image = Image.fromarray(view.grey(frame, grey_range([frame])))
    pen = ImageDraw.Draw(image)
    for k, (tile, (rows, columns)) in enumerate(zip(well.tiles, mosaic_of(well).places, strict=True)):
        left, top, right, bottom = (
            round(view.zoom * edge) for edge in (columns.start, rows.start, columns.stop, rows.stop)
        )
        colour = SERIES[k % len(SERIES)]
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=2)
        write(pen, [Line(str(tile.site), bold=True, colour=colour)], (left + right) // 2, (top + bottom) // 2)
    return np.array(image)


def sheet(wells: Sequence[tuple[str, Picture]]) -> Picture:
    """Put named pictures of wells side by side on white, about as many rows as columns."""
    columns = math.ceil(math.sqrt(len(wells)))
    height, width = (max(picture.shape[axis] for _, picture in wells) + GAP for axis in (0, 1))
    size = (columns * width + GAP, math.ceil(len(wells) / columns) * (height + TITLE) + GAP)
    image = Image.new("RGB", size, "#FFFFFF")
    pen = ImageDraw.Draw(image)
    for k, (name, picture) in enumerate(wells):
        row, column = divmod(k, columns)
        x, y = GAP + column * width, GAP + row * (height + TITLE)
        write(pen, [Line(name, bold=True)], x, y)
        image.paste(Image.fromarray(picture), (x, y + TITLE))
    return np.array(image)

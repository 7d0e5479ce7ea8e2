"""Synthetic plate with overlapping sites, as an ImageXpress microscope exports it, with the truth of every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

from pyama_dask.config.well_names import parse_well
from pyama_dask.demo.movie import PIXEL_SIZE_UM, DemoMovie

PLATE = "DemoPlate"
"""Name of the plate and its folder."""
OVERLAP = 0.1
"""Part of a site that its neighbour shows, too."""
LARGEST_ERROR = 4
"""Largest distance in pixels, along an axis, of a site from where the stage says it is."""
_START = datetime(2026, 1, 1, 10, tzinfo=UTC)
_SHAPE = (8, 12)
"""Rows and columns of wells."""


@dataclass(frozen=True)
class Sites:
    """Places of the sites of a well on its canvas.

    Parameters
    ----------
    corners
        (sites, 2) int, first row and column of each site.
    stated
        (sites, 2) the same as the stage says.
    shape
        (height, width) of the canvas.
    """

    corners: npt.NDArray[np.int_]
    stated: npt.NDArray[np.int_]
    shape: tuple[int, int]


def place_sites(rng: np.random.Generator, grid: tuple[int, int], size: int) -> Sites:
    """Place sites of a number of pixels on a grid, each a little off.

    Parameters
    ----------
    rng
        Generator of the errors of the stage.
    grid
        Rows and columns.
    size
        Height and width of a site.
    """
    step = round(size * (1 - OVERLAP))
    stated = LARGEST_ERROR + step * np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=1)
    corners = stated + rng.integers(-LARGEST_ERROR, LARGEST_ERROR + 1, stated.shape)
    height, width = (step * (count - 1) + size + 2 * LARGEST_ERROR for count in grid)
    return Sites(corners, stated, (height, width))


def make_plate(
    directory: str | PathLike[str],
    *,
    wells: Sequence[str] = ("B02", "B03"),
    grid: tuple[int, int] = (2, 2),
    size: int = 256,
    frames: int = 12,
    seed: int = 0,
    interval_min: float = 10.0,
) -> Path:
    """Write the folder ``DemoPlate`` and ``truth.csv`` into a directory, creating it if necessary.

    The truth is that of `make_movie`, for wells: FOV 0 is the first well, and pixels count from the upper left corner
    of all its sites together.

    Parameters
    ----------
    directory
        Output folder.
    wells
        Names of the wells, by row, then column.
    grid, size
        Rows and columns of sites in a well, and height and width of a site in pixels.
    frames, interval_min
        Number of time points, and minutes between them.
    seed
        Seed of the random numbers.

    Returns
    -------
    Folder of the plate.
    """
    rng = np.random.default_rng(seed)
    placed = [place_sites(rng, grid, size) for _ in wells]
    movie = DemoMovie(fovs=len(wells), frames=frames, shape=placed[0].shape, seed=seed, interval_min=interval_min)
    plate = Path(directory) / PLATE
    for fov, frame, channel in np.ndindex(movie.shape[:3]):
        image, sites = movie[fov, frame, channel], placed[fov]
        for site, (y, x) in enumerate(sites.corners.tolist()):
            path = plate / f"TimePoint_{frame + 1}" / f"{PLATE}_{wells[fov]}_s{site + 1}_w{channel + 1}.TIF"
            path.parent.mkdir(parents=True, exist_ok=True)
            middle = (sites.stated[site] + size / 2 - np.array(sites.shape) / 2) * PIXEL_SIZE_UM
            text = _description(movie.channel_names[channel], middle, _START + frame * timedelta(minutes=interval_min))
            pixels = np.ascontiguousarray(image[y : y + size, x : x + size])
            tifffile.imwrite(path, pixels, description=text, software="MetaSeries", metadata=None)
    (plate / f"{PLATE}.HTD").write_text("\r\n".join(_htd(wells, grid, frames, movie.channel_names)))
    _shifted(movie.truth(), placed).to_csv(plate.with_name("truth.csv"), index=False)
    return plate


def _shifted(truth: pd.DataFrame, placed: Sequence[Sites]) -> pd.DataFrame:
    """Count pixels from the first row and column that a site of the well shows."""
    origins = np.array([sites.corners.min(axis=0) for sites in placed])[truth["fov"]]
    moved = truth.copy()
    for axis, names in enumerate((["y", "bbox_y0", "bbox_y1"], ["x", "bbox_x0", "bbox_x1"])):
        moved[names] -= origins[:, axis, None]
    return moved


def _description(channel: str, middle_um: npt.NDArray[np.float64], when: datetime) -> str:
    """Properties of a plane, as MetaXpress writes them."""
    y, x = middle_um.tolist()
    properties = {
        "plane-type": "plane", "spatial-calibration-state": "on", "spatial-calibration-units": "um",
        "spatial-calibration-x": PIXEL_SIZE_UM, "spatial-calibration-y": PIXEL_SIZE_UM, "image-name": channel,
        "acquisition-time-local": f"{when:%Y%m%d %H:%M:%S}.000",
        "OffsetFromWellCenterUmX": round(x, 3), "OffsetFromWellCenterUmY": round(y, 3),
    }  # fmt: skip
    lines = (f'<prop id="{name}" type="string" value={quoteattr(str(value))}/>' for name, value in properties.items())
    return "<MetaData>\r\n<PlaneInfo>\r\n" + "\r\n".join(lines) + "\r\n</PlaneInfo>\r\n</MetaData>"


def _htd(wells: Sequence[str], grid: tuple[int, int], frames: int, channels: Sequence[str]) -> Iterator[str]:
    """Lines of the description of the plate."""
    chosen = {parse_well(well) for well in wells}
    yield from ('"HTSInfoFile", Version 1.0', '"Description", "synthetic"', f'"TimePoints", {frames}')
    yield from ('"ZSeries", FALSE', f'"XWells", {_SHAPE[1]}', f'"YWells", {_SHAPE[0]}')
    for row in range(_SHAPE[0]):
        flags = ", ".join(str((row, column) in chosen).upper() for column in range(_SHAPE[1]))
        yield f'"WellsSelection{row + 1}", {flags}'
    yield from ('"Sites", TRUE', f'"XSites", {grid[1]}', f'"YSites", {grid[0]}')
    yield from (f'"SiteSelection{row + 1}", ' + ", ".join(["TRUE"] * grid[1]) for row in range(grid[0]))
    yield from ('"Waves", TRUE', f'"NWavelengths", {len(channels)}')
    yield from (f'"WaveName{number}", "{name}"' for number, name in enumerate(channels, start=1))
    yield from ('"EndFile"', "")

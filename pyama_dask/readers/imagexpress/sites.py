"""Stage positions, image sizes and times of ImageXpress plates, from the heads of single files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.imagexpress.metaseries import read_head
from pyama_dask.readers.imagexpress.table import Numbers

Pair = tuple[float, float]
_TRIES = 3
"""Files of a FOV that are tried for a position."""


class Site(NamedTuple):
    """Head of one image of a FOV."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    dtype: str
    """NumPy name of the pixel type."""
    seconds: float
    offset_um: Pair | None
    """(x, y) from the centre of the well, y down."""
    stage_um: Pair | None
    """(x, y) of the stage, y down."""
    pixel_size_um: float | None
    label: str
    """Well and site as the instrument wrote them, such as ``B02 : Site 1``."""


@dataclass(frozen=True)
class Sites:
    """Heads of a plate."""

    sites: list[Site | None]
    """By FOV; None if no image of it can be read."""
    seconds: npt.NDArray[np.float64]
    """(FOVs, frames) time of one plane, in seconds from some day; NaN if it is unknown or was not asked for."""
    unreadable: list[int]
    """Numbers of the files without a time because they cannot be read."""

    def positions_um(self) -> list[Pair | None]:
        """Position (x, y) of each FOV: from the centre of its well, or of the stage if more FOVs state that."""
        offsets = [None if site is None else site.offset_um for site in self.sites]
        stages = [None if site is None else site.stage_um for site in self.sites]
        return offsets if offsets.count(None) <= stages.count(None) else stages

    def pixel_size_um(self) -> float | None:
        """Size of a pixel."""
        return next((site.pixel_size_um for site in self.sites if site and site.pixel_size_um), None)


def read_sites(paths: Sequence[Path], file: Numbers, *, times: bool) -> Sites:
    """Read one head per FOV or, with times, per FOV and frame.

    Parameters
    ----------
    paths
        All files of the plate.
    file
        (FOVs, frames, channels, z) numbers of files, or `ABSENT`.
    times
        True to read the time of every frame.
    """
    chosen = _one_per_frame(file)
    seconds = np.full(chosen.shape, np.nan)
    read = in_threads(lambda row: _first_site(paths, row), [row[row != ABSENT].tolist() for row in chosen])
    for fov, (number, site) in enumerate(read):
        if site is not None:
            seconds[fov, chosen[fov] == number] = site.seconds
    sites = [site for _, site in read]
    if not times:
        return Sites(sites, np.full_like(seconds, np.nan), [])
    known = {number for number, site in read if site is not None}
    left = [place for place in np.argwhere(chosen != ABSENT).tolist() if int(chosen[tuple(place)]) not in known]
    numbers = [int(chosen[tuple(place)]) for place in left]
    stamps = in_threads(lambda number: _seconds(paths[number]), numbers)
    for (fov, frame), stamp in zip(left, stamps, strict=True):
        seconds[fov, frame] = np.nan if stamp is None else stamp
    return Sites(sites, seconds, [number for number, stamp in zip(numbers, stamps, strict=True) if stamp is None])


def _one_per_frame(file: Numbers) -> Numbers:
    """(FOVs, frames) numbers of files: the lowest plane, if possible of the channel with the most planes."""
    order = np.argsort(-(file != ABSENT).sum(axis=(0, 1, 3)), kind="stable")
    planes = file[:, :, order].reshape(*file.shape[:2], -1)
    first = (planes != ABSENT).argmax(axis=2)
    return np.asarray(np.take_along_axis(planes, first[..., None], axis=2)[..., 0])


def _first_site(paths: Sequence[Path], numbers: Sequence[int]) -> tuple[int, Site | None]:
    """Head of the first file that can be read, and its number; rather one of the first few that state a position."""
    found: tuple[int, Site | None] = ABSENT, None
    for tried, number in enumerate(numbers):
        if found[1] is not None and tried >= _TRIES:
            break
        head = read_head(paths[number])
        if head is not None:
            offset = head.pair("OffsetFromWellCenterUmX", "OffsetFromWellCenterUmY")
            stage = head.pair("stage-position-x", "stage-position-y")
            label = head.value("stage-label") or ""
            site = Site(head.shape, head.dtype, head.seconds, offset, stage, head.pixel_size_um, label)
            if offset or stage:
                return number, site
            found = found if found[1] else (number, site)
    return found


def _seconds(path: Path) -> float | None:
    """Time of a plane, NaN if the file states none; None if it cannot be read."""
    head = read_head(path)
    return None if head is None else head.seconds

"""Reader of stitched wells: the sites of a well are blended to one FOV, frame by frame, as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.kernels.mosaic import Mosaic, blend, lay_out
from pyama_dask.readers.base import PROJECTION, FovInfo, Metadata, Planes, Reader, Tile, absent_planes, check_room

Wells = Mapping[str, Sequence[Tile]]
"""Tiles of each well by its name, in the order of the stitched FOVs."""


class MosaicReader:
    """Reader of a movie whose FOVs are wells, each blended from its sites.

    Only one site's plane is in memory beside the image of the well. Areas that no site covers repeat the nearest pixel
    that is covered: black areas would mislead segmentation and the background.

    Parameters
    ----------
    sites
        Reader of the sites; `close` closes it.
    wells
        Wells in the order of their numbers, and the places of their sites.
    """

    suffixes: Sequence[str] = ()

    def __init__(self, sites: Reader, wells: Wells) -> None:
        self.path = sites.path
        self._sites, self._wells = sites, wells

    @cached_property
    def metadata(self) -> Metadata:
        """Content of the movie, with wells as FOVs; raises `SourceError` as the reader of the sites does."""
        return stitched(self._sites.metadata, self._wells)

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read one frame of one well; see `Reader.read_frame`.

        Raises
        ------
        MissingFrameError, IndexError
            As for `Reader.read_frame`; a frame is missing if one of the sites lacks it.
        SourceError
            If the frame of a site cannot be read.
        """
        picked, info = self._picked(fov, channels), self.metadata
        pixels = np.empty((len(picked), *info.fovs[fov].shape), info.pixel_type(picked))
        self._fill(pixels, fov, frame, picked, z)
        return pixels

    def read_into(
        self, out: Planes, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0
    ) -> None:
        """Read one frame of one well into memory of the caller; see `Reader.read_into` and `read_frame`."""
        picked = self._picked(fov, channels)
        check_room(out, self.metadata, fov, picked)
        self._fill(out, fov, frame, picked, z)

    def _picked(self, fov: int, channels: Sequence[int] | None) -> Sequence[int]:
        """Channels to read, after checking that they and the FOV exist."""
        info = self.metadata
        if not 0 <= fov < len(info.fovs):
            raise IndexError(f"{self.path}: FOV {fov} is outside 0..{len(info.fovs) - 1}")
        picked = range(len(info.channels)) if channels is None else channels
        if wrong := [channel for channel in picked if not 0 <= channel < len(info.channels)]:
            raise IndexError(f"{self.path}: channel {wrong[0]} is outside 0..{len(info.channels) - 1}")
        return picked

    def _fill(self, out: Planes, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        numbers, mosaic = self._numbers[fov], mosaic_of(self.metadata.fovs[fov])
        for plane, channel in zip(out, channels, strict=True):
            sites = (self._sites.read_frame(site, frame, channels=[channel], z=z)[0] for site in numbers)
            plane[...] = blend(sites, mosaic)

    @cached_property
    def _numbers(self) -> list[list[int]]:
        """Numbers of each well's sites in the reader of the sites."""
        held = sites_by_well(self._sites.metadata)
        return [[held[well][tile.site] for tile in tiles] for well, tiles in self._wells.items()]

    def close(self) -> None:
        """Close the reader of the sites."""
        self._sites.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def sites_by_well(metadata: Metadata) -> dict[str, dict[int, int]]:
    """Numbers of the FOVs of each well, by site.

    Where a file does not number the sites of a well, they count from 1 in the order of the FOVs.

    Parameters
    ----------
    metadata
        Of a movie that is not stitched. FOVs outside of wells are left out.
    """
    found: dict[str, list[int]] = {}
    for fov, info in enumerate(metadata.fovs):
        if info.well is not None:
            found.setdefault(info.well, []).append(fov)
    return {well: _by_site(metadata, fovs) for well, fovs in found.items()}


def _by_site(metadata: Metadata, fovs: Sequence[int]) -> dict[int, int]:
    numbered = {site: fov for fov in fovs if (site := metadata.fovs[fov].site) is not None}
    return dict(sorted(numbered.items())) if len(numbered) == len(fovs) else dict(enumerate(fovs, 1))


def stitched(metadata: Metadata, wells: Wells) -> Metadata:
    """Describe a movie with wells as FOVs.

    Parameters
    ----------
    metadata
        With sites as FOVs.
    wells
        Tiles of each well, in the order of the new FOVs. A well has the times of its first tile, and lacks the planes
        that one of its tiles lacks.

    Raises
    ------
    SourceError
        If the movie has no such site, or the sites of a well differ in size.
    """
    held = sites_by_well(metadata)
    for well, tiles in wells.items():
        if lost := sorted({tile.site for tile in tiles}.difference(held.get(well, ()))):
            raise SourceError(f"{metadata.path}: has no site {lost[0]} of well {well} (any more)")
    numbers = {well: [held[well][tile.site] for tile in tiles] for well, tiles in wells.items()}
    first, times, source = [fovs[0] for fovs in numbers.values()], metadata.times_min, metadata.time_source
    return replace(
        metadata,
        fovs=tuple(_stitched_fov(metadata, well, fovs, wells[well]) for well, fovs in numbers.items()),
        times_min=None if times is None else times[first],
        time_source=tuple(source[fov] for fov in first) if isinstance(source, tuple) else source,
    )


def _stitched_fov(metadata: Metadata, well: str, fovs: Sequence[int], tiles: Sequence[Tile]) -> FovInfo:
    sites = [metadata.fovs[fov] for fov in fovs]
    shape = sites[0].shape
    if other := next((site for site in sites if site.shape != shape), None):
        raise SourceError(
            f"{metadata.path}: {other.name} has another size than {sites[0].name}. Fix: set 'stitch: off', or leave "
            "out the well"
        )
    held = np.logical_and.reduce([_held(metadata, site) for site in sites])
    absent = absent_planes(held[..., :PROJECTION])
    projected = (
        (c, PROJECTION, tuple(t for t in absent["missing"] if held[t, c, PROJECTION])) for c in metadata.projected
    )
    absent["partial"] += tuple(plane for plane in projected if plane[2])
    canvas = lay_out([(tile.y, tile.x) for tile in tiles], shape).shape
    centre = _centre(sites[0], tiles[0], canvas, metadata.pixel_size_um)
    return FovInfo(well, canvas, centre, plate=sites[0].plate, well=well, tiles=tuple(tiles), **absent)


def _centre(site: FovInfo, tile: Tile, canvas: tuple[int, int], pixel_um: float | None) -> tuple[float, float] | None:
    """Stage position (x, y) of the centre of a well's image, from that of one site."""
    if site.position_um is None or pixel_um is None:
        return None
    (x, y), (height, width) = site.position_um, site.shape
    return (x + ((canvas[1] - width) / 2 - tile.x) * pixel_um, y + ((canvas[0] - height) / 2 - tile.y) * pixel_um)


def _held(metadata: Metadata, site: FovInfo) -> npt.NDArray[np.bool_]:
    """(T, C, Z + 1) mask of the planes that a site has, the last one of which is `PROJECTION`."""
    held = np.ones((metadata.n_frames, len(metadata.channels), metadata.z_planes + 1), np.bool_)
    held[list(site.missing)] = False
    for channel, z, frames in site.partial:
        held[list(frames), channel, z] = True
    return held


def mosaic_of(fov: FovInfo) -> Mosaic:
    """Places of a stitched well's sites on its image."""
    return mosaic_at([(tile.y, tile.x) for tile in fov.tiles], fov.shape)


def mosaic_at(corners: Sequence[tuple[int, int]], shape: tuple[int, int]) -> Mosaic:
    """Places of equal tiles on the smallest image that holds them all.

    Parameters
    ----------
    corners
        y, x of each tile's first pixel in the image.
    shape
        (height, width) of the image.
    """
    height, width = (n - last for n, last in zip(shape, np.max(corners, axis=0).tolist(), strict=True))
    return Mosaic(shape, (height, width), tuple(corners))

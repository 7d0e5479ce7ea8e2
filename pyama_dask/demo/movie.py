"""Synthetic movie of moving, expressing cells, with the truth of every cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage as ndi

from pyama_dask.demo.cells import TEXELS, Cells, Looks, expression, looks, simulate
from pyama_dask.demo.write_czi import write_czi

Image = npt.NDArray[np.float32]

MOVIE = "movie.czi"
"""Name of the file."""
CHANNELS = ("Phase", "GFP", "mCherry", "Cy5", "DAPI")
PIXEL_SIZE_UM = 0.65
WINDOW = 76
"""Width in pixels of the window in which a cell and its halo are drawn."""
AREA_PER_CELL = 10500


@dataclass(frozen=True, eq=False)
class _Scenery:
    """Content shared by all frames of a FOV, cached for one FOV at a time."""

    fov: int
    background: Image
    looks: Looks


class DemoMovie:
    """Movie drawn plane by plane on demand: ``movie[fov, frame, channel]``.

    The random numbers of a frame are seeded by (seed, FOV, frame), so that frames are the same in any order,
    and a longer movie starts with the frames of a shorter one.

    Parameters
    ----------
    fovs, frames : int
        Number of fields of view and time points.
    shape : (height, width)
        Pixels of a frame.
    cells : int, optional
        Cells per FOV; by default a natural density.
    seed : int
        Seed of the random numbers.
    fluorescence_channels : int
        Channels besides phase contrast, at most four.
    interval_min : float
        Minutes between frames.
    border_margin : int
        Margin in pixels; most cells stay off it in all frames, the others reach into it in all frames.

    Raises
    ------
    ValueError
        If a number is out of range, or the cells do not fit.
    """

    def __init__(
        self,
        *,
        fovs: int = 2,
        frames: int = 40,
        shape: tuple[int, int] = (512, 512),
        cells: int | None = None,
        seed: int = 0,
        fluorescence_channels: int = 1,
        interval_min: float = 10.0,
        border_margin: int = 50,
    ) -> None:
        n_cells = max(shape[0] * shape[1] // AREA_PER_CELL, 1) if cells is None else cells
        if min(fovs, frames, *shape, n_cells) < 1:
            raise ValueError(f"nothing to draw: {fovs} FOVs, {frames} frames of shape {shape}, {n_cells} cells in each")
        if not 0 <= fluorescence_channels < len(CHANNELS):
            raise ValueError(f"fluorescence_channels is {fluorescence_channels}, not 0 to {len(CHANNELS) - 1}")
        self.seed = seed
        self.shape = (fovs, frames, 1 + fluorescence_channels, *shape)
        self.dtype = np.dtype(np.uint16)
        self.channel_names = CHANNELS[: 1 + fluorescence_channels]
        self.minutes = np.arange(frames, dtype=np.float64) * interval_min
        self.cells = [
            simulate(
                self._rng(fov, 0, 1),
                n_frames=frames,
                n_cells=n_cells,
                shape=shape,
                border_margin=border_margin,
            )
            for fov in range(fovs)
        ]
        self.totals = np.empty((fovs, fluorescence_channels, frames, n_cells))
        for fov, channel in np.ndindex(fovs, fluorescence_channels):
            self.totals[fov, channel] = expression(self._rng(fov, 0, 3, channel), n_cells, self.minutes)
        self._scenery: _Scenery | None = None
        self._drawn: tuple[int, int] | None = None
        self._planes: list[npt.NDArray[np.uint16]] = []

    def __getitem__(self, index: tuple[int, int, int]) -> npt.NDArray[np.uint16]:
        fov, frame, channel = index
        if self._drawn != (fov, frame):
            self._planes, self._drawn = self._draw(fov, frame), (fov, frame)
        return self._planes[channel]

    def truth(self) -> pd.DataFrame:
        """Box and brightness of every cell in every frame, in the columns that `make_movie` lists."""
        rows = [row for fov in range(self.shape[0]) for row in self._true_rows(fov)]
        return pd.DataFrame(rows).sort_values(["fov", "cell", "frame"], ignore_index=True)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _scenery_of(self, fov: int) -> _Scenery:
        if self._scenery is None or self._scenery.fov != fov:
            rng = self._rng(fov, 0, 2)
            background = _phase_background(rng, (self.shape[-2], self.shape[-1]))
            self._scenery = _Scenery(fov, background, looks(rng, self.totals.shape[-1]))
        return self._scenery

    def _true_rows(self, fov: int) -> Iterator[dict[str, float]]:
        cells, size = self.cells[fov], np.array(self.shape[-2:])
        for frame, centres in enumerate(cells.centres):
            corners, rho, _ = _unit_coordinates(cells, frame)
            for n, (corner, inside) in enumerate(zip(corners, rho < 1, strict=True)):
                y, x = (axis + start for axis, start in zip(np.nonzero(inside), corner, strict=True))
                seen = (y >= 0) & (x >= 0) & (y < size[0]) & (x < size[1])
                y, x = y[seen], x[seen]
                yield {
                    "fov": fov, "cell": n + 1, "frame": frame, "time": float(self.minutes[frame]),
                    "x": float(centres[n, 1]), "y": float(centres[n, 0]),
                    "bbox_x0": int(x.min()), "bbox_y0": int(y.min()),
                    "bbox_x1": int(x.max()) + 1, "bbox_y1": int(y.max()) + 1, "area": int(seen.sum()),
                } | {f"intensity_total_ch_{c + 1}": float(total) for c, total in
                     enumerate(self.totals[fov][:, frame, n])}  # fmt: skip

    def _draw(self, fov: int, frame: int) -> list[npt.NDArray[np.uint16]]:
        cells, rng, shape = self.cells[fov], self._rng(fov, frame + 1), (self.shape[-2], self.shape[-1])
        corners, rho, unit = _unit_coordinates(cells, frame)
        scenery = self._scenery_of(fov)
        texture = _texture(cells.blends[frame], scenery.looks, unit)
        radius = np.sqrt(cells.axes[frame].prod(-1))[:, None, None]
        lamp = np.float32(1 + 0.004 * rng.standard_normal())
        phase = lamp * scenery.background
        _add_windows(phase, corners, _phase_contrast(cells, (rho - 1) * radius, texture, unit))
        planes = [_to_uint16(phase + 130 * rng.standard_normal(shape, np.float32))]
        for c, totals in enumerate(self.totals[fov]):
            light = _fluorescence_background(self._rng(fov, 0, 4, c), shape, frame)
            _add_windows(light, corners, totals[frame][:, None, None] * _profile(scenery.looks, rho, texture, unit))
            noise = rng.standard_normal(shape, np.float32)
            # Shot noise with half a grey level per photon, plus the read noise of the camera.
            planes.append(_to_uint16(light + noise * np.sqrt(0.5 * light + 16)))
        return planes


def make_movie(
    directory: str | PathLike[str],
    *,
    fovs: int = 2,
    frames: int = 40,
    shape: tuple[int, int] = (512, 512),
    cells: int | None = None,
    seed: int = 0,
    fluorescence_channels: int = 1,
    interval_min: float = 10.0,
    border_margin: int = 50,
) -> Path:
    """Write ``movie.czi`` and ``truth.csv`` into a directory, creating it if necessary.

    The truth has one row per cell and frame, with columns ``fov, cell, frame``; ``time`` in minutes; ``x, y``,
    the centre in pixels; ``bbox_x0, bbox_y0, bbox_x1, bbox_y1`` and ``area`` of the true mask within the
    frame, the box half-open; and ``intensity_total_ch_1`` and so on, the noise-free light above background of the
    whole cell (including parts outside the frame).

    Parameters
    ----------
    directory : path
        Output folder.
    **parameters
        As for `DemoMovie`.

    Returns
    -------
    Path of the movie.
    """
    movie = DemoMovie(
        fovs=fovs,
        frames=frames,
        shape=shape,
        cells=cells,
        seed=seed,
        fluorescence_channels=fluorescence_channels,
        interval_min=interval_min,
        border_margin=border_margin,
    )
    path = Path(directory) / MOVIE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_czi(
        path,
        movie,
        channel_names=movie.channel_names,
        scene_names=[f"Pos{fov}" for fov in range(fovs)],
        pixel_size_um=PIXEL_SIZE_UM,
        period_s=60 * interval_min,
        stage_positions_um=[(1.5 * PIXEL_SIZE_UM * shape[1] * fov, 0.0) for fov in range(fovs)],
    )
    movie.truth().to_csv(path.with_name("truth.csv"), index=False)
    return path


def _unit_coordinates(cells: Cells, frame: int) -> tuple[npt.NDArray[np.int_], Image, Image]:
    """Corners (N, 2) of the windows, and the distance from the centre and (2, N, ...) y, x of their pixels.

    Distance and y, x are in units of the cell's outline: inside the cell the distance is below 1.
    """
    centres = cells.centres[frame]
    corners = np.floor(centres).astype(int) - WINDOW // 2
    offsets = np.arange(WINDOW) + 0.5 + (corners - centres)[..., None]
    dy, dx = (o.astype(np.float32) for o in (offsets[:, 0, :, None], offsets[:, 1, None, :]))
    cos, sin = (f(cells.angles[frame]).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    long, short = cells.axes[frame].astype(np.float32).T[..., None, None]
    unit = np.stack([(dy * cos - dx * sin) / short, (dx * cos + dy * sin) / long])
    distance = np.maximum(np.hypot(unit[0], unit[1]), 1e-3)
    direction = (unit[1] + 1j * unit[0]) / distance
    (three, phase_3), (four, phase_4) = cells.lobes.astype(np.float32).transpose(1, 2, 0)[..., None, None]
    cube = direction * direction * direction
    outline = 1 + (three * cube * np.exp(1j * phase_3) + four * cube * direction * np.exp(1j * phase_4)).real
    return corners, distance / outline, unit


def _texture(weights: npt.NDArray[np.float64], looks: Looks, unit: Image) -> Image:
    """(N, WINDOW, WINDOW) texture of the moment, which turns and stretches with the cell."""
    blend = np.einsum("nk,nkyx->nyx", weights.astype(np.float32), looks.textures)
    y, x = np.clip((unit / 2.2 + 0.5) * TEXELS, 0, TEXELS - 1).astype(np.intp)
    texture: Image = blend[np.arange(len(blend))[:, None, None], y, x]
    return texture


def _phase_contrast(cells: Cells, depth: Image, texture: Image, unit: Image) -> Image:
    """Textured body with dark rim and bright halo; `depth` is in pixels outwards from the outline."""
    body = 1 / (1 + np.exp(np.clip(depth / 0.9, -30, 30)))
    facing = np.cos(np.arctan2(unit[0], unit[1]) + cells.lobes[:, 0, 1, None, None])
    halo = 4200 * (1 + 0.3 * facing) * np.exp(-np.square((depth - 2.4) / 2.3))
    glow = 1300 * np.exp(-np.square(np.maximum(depth, 0) / 7)) * (1 - body)
    rim = -1600 * np.exp(-np.square((depth + 2.2) / 1.8))
    contrast: Image = halo + glow + rim + body * (-1300 + 1300 * texture)
    return contrast


def _profile(looks: Looks, rho: Image, texture: Image, unit: Image) -> Image:
    """(N, WINDOW, WINDOW) share of the light in each pixel: as thick as the cell, brighter in the nucleus."""
    thickness = np.power(np.clip(1 - np.square(rho), 0, None), 0.7)
    y, x = unit - looks.nuclei.T[:, :, None, None].astype(np.float32)
    nucleus = 1 / (1 + np.exp((np.hypot(y, x) - 0.36) / 0.06))
    profile = thickness * (1 + 0.35 * nucleus) * np.clip(1 + 0.07 * texture, 0.5, 1.5)
    profile = ndi.gaussian_filter(profile, (0, 0.9, 0.9), truncate=3)
    share: Image = profile / profile.sum((1, 2), keepdims=True)
    return share


def _phase_background(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Uneven illumination, and smears on the dish far out of focus."""
    y, x = _field(shape)
    noise = rng.standard_normal(shape, np.float32)
    smears = sum(width * ndi.gaussian_filter(noise, width) for width in (4.0, 10.0, 25.0))
    background: Image = (15000 + 1500 * x - 1000 * y - 1200 * (x * x + y * y) + 200 * smears).astype(np.float32)
    return background


def _fluorescence_background(rng: np.random.Generator, shape: tuple[int, ...], frame: int) -> Image:
    """Medium and camera offset, 200 to 400 grey levels, brighter in the middle, drifting slowly in time."""
    y, x = _field(shape)
    swing, turn = rng.uniform(0, 2 * np.pi, 2)
    level = 300 + 20 * np.sin(0.06 * frame + swing)
    slope = 30 * (np.cos(0.03 * frame + turn) * x + np.sin(0.03 * frame + turn) * y)
    background: Image = (level + slope - 25 * (x * x + y * y)).astype(np.float32)
    return background


def _field(shape: tuple[int, ...]) -> tuple[Image, Image]:
    """Rows y and columns x, each from -1 to 1 over the frame."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    return y[:, None], x


def _add_windows(image: Image, corners: npt.NDArray[np.int_], windows: Image) -> None:
    """Add every window at its corner, as far as it lies within the image."""
    for corner, window in zip(corners, windows, strict=True):
        first = np.maximum(corner, 0)
        (y0, x0), (y1, x1) = first, np.minimum(corner + WINDOW, image.shape)
        (skip_y, skip_x) = first - corner
        image[y0:y1, x0:x1] += window[skip_y : skip_y + y1 - y0, skip_x : skip_x + x1 - x0]


def _to_uint16(image: Image) -> npt.NDArray[np.uint16]:
    return np.rint(np.clip(image, 0, 65535)).astype(np.uint16)

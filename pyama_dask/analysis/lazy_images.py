"""Images of outputs as Dask arrays, of which nothing is read before it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr

from pyama_dask.errors import OutputError, PyamaError
from pyama_dask.files import zarr_thread  # noqa: F401  (it ends with the process)
from pyama_dask.kernels import background
from pyama_dask.store.arrays import read_attributes


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """Turn whatever a damaged document or array raises within the block into a message.

    Raises
    ------
    OutputError
        If something in `place` is missing or damaged.
    """
    try:
        yield
    except PyamaError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OutputError(
            f"{place}: is missing or damaged ({reason}). Fix: run 'pyama-dask verify --deep', then run again"
        ) from error


def background_plane(grid: npt.NDArray[np.float64], tile_size: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Rebuild the fluorescence background of a frame from its tiles, bit-identical to the one used for the traces.

    Parameters
    ----------
    grid
        (gy, gx) tile medians: one frame of an array ``fl_background_ch_1/tiles``.
    tile_size
        Width of a tile in pixels, from the array's attribute ``tile_size``.
    shape
        (H, W) in pixels, from the array's attribute ``shape``.

    Returns
    -------
    (H, W) background in grey levels; all NaN if it could not be measured.
    """
    return background.background_plane(grid, tile_size, np.empty(shape, np.float32))


def lazy(where: Path | zarr.Array[Any]) -> da.Array:
    """Dask array of a Zarr array, one chunk per frame."""
    array = zarr.open_array(where, mode="r") if isinstance(where, Path) else where
    found: da.Array = da.from_array(array, chunks=(1, *array.shape[1:]))
    return found


def rebuilt(tiles: Path) -> da.Array:
    """Dask array of the backgrounds, rebuilt from an array of tiles."""
    given = read_attributes(tiles)
    size, shape = int(given["tile_size"]), tuple(given["shape"])

    def rebuild(grids: np.ndarray) -> np.ndarray:
        return np.stack([background_plane(grid, size, shape) for grid in grids])

    grids = lazy(tiles)
    chunks = (grids.chunks[0], *((n,) for n in shape))
    whole: da.Array = da.map_blocks(
        rebuild, grids, dtype=np.float32, chunks=chunks, meta=np.empty((0, 0, 0), np.float32)
    )
    return whole


def subtracted(raw: da.Array, planes: da.Array, weight: float) -> da.Array:
    """Subtract backgrounds from fluorescence, in the same arithmetic as the features.

    Parameters
    ----------
    raw
        (T, H, W) grey levels.
    planes
        (T, H, W) float32 backgrounds.
    weight
        Share of the background that is subtracted.

    Returns
    -------
    (T, H, W) float64.
    """

    def subtract(frame: np.ndarray, plane: np.ndarray) -> np.ndarray:
        return np.asarray(frame - weight * plane.astype(np.float64))

    whole: da.Array = da.map_blocks(subtract, raw, planes, dtype=np.float64, meta=np.empty((0, 0, 0)))
    return whole

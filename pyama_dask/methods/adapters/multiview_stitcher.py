"""Registration of the sites of a well by multiview-stitcher: phase correlation, and a global optimisation.

https://github.com/multiview-stitcher/multiview-stitcher. Frames are blended on whole pixels without interpolation, so
that sites are only shifted. The same correlations are also resolved with rotation and scale, which shows whether shifts
are enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_one_by_one = Lock()
"""Filters of warnings and the scheduler of Dask hold for all threads."""


class Registered(NamedTuple):
    """Sites as the package has registered them."""

    positions: npt.NDArray[np.float64]
    """(N, 2) y, x of the tiles' corners in pixels."""
    distortion: npt.NDArray[np.float64]
    """(N,) pixels by which rotation and scale move a corner of the tile, about its centre, unlike those of most."""


def register(
    tiles: Sequence[npt.NDArray[Any]], stage: npt.NDArray[np.float64], pairs: Sequence[tuple[int, int]]
) -> Registered:
    """Register tiles of which each overlaps with another one.

    Parameters
    ----------
    tiles
        N arrays of (H, W) grey levels.
    stage
        (N, 2) y, x of their corners in pixels, as the stage states them.
    pairs
        Indices of neighbours, which connect all tiles.
    """
    with _one_by_one, warnings.catch_warnings(action="ignore"):  # they are for programmers
        import dask
        from multiview_stitcher import param_resolution, registration

        views = [_view(tile, corner) for tile, corner in zip(tiles, stage.tolist(), strict=True)]
        with dask.config.set(scheduler="synchronous"):  # the default is a run's cluster, or other processes
            found = registration.register(
                views,
                transform_key="stage",
                reg_channel_index=0,
                pairs=[*pairs],
                pre_registration_pruning_method=None,
                groupwise_resolution_kwargs={"transform": "translation"},
                return_dict=True,
            )
            graph = found["pairwise_registration"]["graph"]
            affine, _ = param_resolution.groupwise_resolution(graph, transform="affine")
    shifts = _matrices(found["params"])[:, :2, 2]
    return Registered(stage + shifts, _distortion(_matrices([affine[k] for k in sorted(affine)]), tiles[0].shape))


def _view(tile: npt.NDArray[Any], corner: Sequence[float]) -> Any:
    """Tile in the form of the package, in pixels."""
    from multiview_stitcher import msi_utils, spatial_image_utils

    image = spatial_image_utils.get_sim_from_array(
        np.asarray(tile, np.float32)[None, None],
        dims=["t", "c", "y", "x"],
        scale={"y": 1.0, "x": 1.0},
        translation=dict(zip("yx", corner, strict=True)),
        transform_key="stage",
    )
    return msi_utils.get_msim_from_sim(image, scale_factors=[])


def _matrices(params: Sequence[Any]) -> npt.NDArray[np.float64]:
    """(N, 3, 3) matrices from coordinates of the stage to registered ones, of y, x, 1."""
    return np.array([np.asarray(one, np.float64).reshape(3, 3) for one in params])


def _distortion(matrices: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    linear, half = matrices[:, :2, :2], (np.array(shape) - 1) / 2
    corners = half * [(1, 1), (1, -1)]
    moved = np.einsum("nij,kj->nki", linear - np.median(linear, axis=0), corners)
    return np.asarray(np.hypot(moved[..., 0], moved[..., 1]).max(axis=1))

"""Offsets of neighbouring sites of a well, by the method of the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.sparse`, which takes a while, when it is used

from pyama_dask.config.models import StitchParams
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.registration import Offset, levelled, neighbours, offsets_at, pair_offsets
from pyama_dask.methods.optional import MULTIVIEW_STITCHER

DISTORTION = 1.0
"""Largest deviation in pixels of a corner of a site by rotation or scale up to which a shift is enough. Sites that are
not distorted reach 0.3."""
_KEY = "params.stitch_params.method"
Images = Sequence[npt.NDArray[Any]]
Corners = npt.NDArray[np.float64]


def check_method(params: StitchParams) -> None:
    """Refuse a method whose package is not installed; raises `ConfigError`."""
    if params.method == "multiview-stitcher":
        try:
            MULTIVIEW_STITCHER.load()
        except ConfigError as error:
            raise ConfigError(f"{_KEY}: {params.method!r} {error}") from error


def site_offsets(
    well: str, sites: Sequence[int], images: Images, stage: Corners, params: StitchParams
) -> tuple[Mapping[tuple[int, int], Offset], list[str]]:
    """Measure the offsets of all neighbours among the sites of a well.

    Parameters
    ----------
    well, sites
        Name of the well and numbers of its sites, for messages.
    images
        (H, W) grey levels of each site.
    stage
        (N, 2) y, x of their corners in pixels, as the stage states them.
    params
        Method, and how far the stage may be wrong.

    Returns
    -------
    Offsets by pairs of indices, and warnings.

    Raises
    ------
    ConfigError
        If the package of the method is not installed, or fails.
    """
    if params.method == "ncc":
        return pair_offsets(images, stage, params.max_shift), []
    positions, distortion = _by_multiview_stitcher(well, images, stage)
    offsets = offsets_at(images, stage, positions, params.max_shift)
    agreed = {site for pair, offset in offsets.items() if offset.accepted for site in pair}
    return offsets, _notes(well, {sites[k]: float(distortion[k]) for k in sorted(agreed)})


def _notes(well: str, distortion: Mapping[int, float]) -> list[str]:
    """Warning about sites for which a shift is not enough; at most one."""
    turned = [f"{site} by {far:.1f} px" for site, far in distortion.items() if far > DISTORTION]
    note = (
        f"{well}: {MULTIVIEW_STITCHER.package} would also rotate or scale sites ({', '.join(turned)} at their "
        "corners), but sites are only shifted. Fix: check 'pyama-dask positions', and the camera"
    )
    return [note] if turned else []


def _by_multiview_stitcher(well: str, images: Images, stage: Corners) -> tuple[Corners, npt.NDArray[np.float64]]:
    """Positions of all sites and their distortion; sites without neighbours stay where the stage has them.

    Shading, which the package does not remove, would draw its correlations to where it matches.
    """
    register, positions, distortion = MULTIVIEW_STITCHER.load(), stage.copy(), np.zeros(len(stage))
    tiles, pairs = [levelled(image) for image in images], neighbours(stage, images[0].shape)
    for group in _connected(len(stage), pairs):
        number = {site: k for k, site in enumerate(group)}
        within = [(number[i], number[j]) for i, j in pairs if i in number]
        try:
            found = register([tiles[site] for site in group], stage[group], within)
        except Exception as error:  # it raises many kinds
            raise ConfigError(
                f"{_KEY}: {MULTIVIEW_STITCHER.package} {MULTIVIEW_STITCHER.version} failed in {well} "
                f"({type(error).__name__}: {error}). Fix: set it to ncc, or leave out {well} with 'exclude_wells'"
            ) from error
        positions[group], distortion[group] = found.positions, found.distortion
    return positions, distortion


def _connected(count: int, pairs: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield groups of two or more sites that pairs connect."""
    first, second = np.array([*pairs], np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), (first, second)), shape=(count, count))
    groups = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    for group in range(groups.max(initial=-1) + 1):
        members = np.flatnonzero(groups == group).tolist()
        if len(members) > 1:
            yield members

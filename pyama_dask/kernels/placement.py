"""Positions of the tiles of a well, from the stage and from the offsets between neighbours.

Weighted least squares over all offsets that count; an offset that contradicts the others is dropped, one by one, as in
the global optimisation of Preibisch et al. 2009 (doi:10.1093/bioinformatics/btp184).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.sparse`, which takes a while, when it is used

from pyama_dask.kernels.registration import LEAST_NCC, Offset

Pair = tuple[int, int]
Refusal = Literal["weak", "at the limit", "contradicted"]
TOLERANCE = 2.0
"""Largest distance in pixels between an offset and the positions that the offsets agree on."""
STAGE_WEIGHT = 1e-6
"""Weight of the stage: so small that it decides only what the offsets leave open."""
BEST_NCC = 0.999
"""Correlation from which on offsets have equal weights."""


@dataclass(frozen=True)
class Placement:
    """Positions of the tiles of a well, and the pairs and tiles that they rest on."""

    positions: npt.NDArray[np.float64]
    """(N, 2) y, x of the tiles' corners in pixels; the centre of each group is where the stage has it."""
    groups: npt.NDArray[np.int64]
    """(N,) number of the group of each tile; groups are not connected by any pair."""
    used: tuple[Pair, ...]
    """Pairs of tiles whose offsets count."""
    refused: Mapping[Pair, Refusal]
    """Pairs whose offsets do not count: NCC below `LEAST_NCC`, peak at the limit of the search, or contradicted."""

    @property
    def unregistered(self) -> tuple[int, ...]:
        """Tiles that no pair reaches, so that they lie where the stage has them."""
        return tuple(np.flatnonzero(np.bincount(self.groups)[self.groups] == 1).tolist())


def place(stage: npt.ArrayLike, offsets: Mapping[Pair, Offset]) -> Placement:
    """Find the positions of the tiles that agree best with the measured offsets.

    Parameters
    ----------
    stage
        (N, 2) y, x of the tiles' corners in pixels, as the stage states them.
    offsets
        Offset of the second tile of a pair from the first, by indices of both.

    Returns
    -------
    Placement of all tiles. A group of connected tiles is moved as a whole to where the stage has it, as the mean of its
    tiles; a tile without any offset that counts keeps its stage position.
    """
    at = np.asarray(stage, np.float64).reshape(-1, 2)
    refused = {pair: reason for pair, offset in offsets.items() if (reason := _refusal(offset))}
    used = {pair: offset for pair, offset in offsets.items() if pair not in refused}
    while True:
        positions = _solve(at, used)
        errors = {(i, j): np.hypot(*(positions[j] - positions[i] - offset[:2])) for (i, j), offset in used.items()}
        worst = max(errors, key=errors.__getitem__, default=None)
        if worst is None or errors[worst] <= TOLERANCE:
            return Placement(positions, _groups(len(at), used), tuple(used), refused)
        refused[worst] = "contradicted"
        del used[worst]


def _refusal(offset: Offset) -> Refusal | None:
    if offset.accepted:
        return None
    return "weak" if offset.ncc < LEAST_NCC else "at the limit"


def _solve(stage: npt.NDArray[np.float64], used: Mapping[Pair, Offset]) -> npt.NDArray[np.float64]:
    """Least squares by the normal equations, for the corrections of the stage.

    The weight of an offset is the inverse variance of a shift between signals of that coherence (Carter 1987,
    doi:10.1109/PROC.1987.13723).
    """
    normal, right = STAGE_WEIGHT * np.eye(len(stage)), np.zeros_like(stage)
    for (i, j), offset in used.items():
        coherence = min(offset.ncc, BEST_NCC) ** 2
        weight = coherence / (1 - coherence)
        normal[[i, j, i, j], [i, j, j, i]] += weight * np.array([1, 1, -1, -1])
        change = weight * (np.array(offset[:2]) - (stage[j] - stage[i]))
        right[i] -= change
        right[j] += change
    return np.asarray(stage + np.linalg.solve(normal, right))


def _groups(count: int, used: Collection[Pair]) -> npt.NDArray[np.int64]:
    first, second = np.array([*used], np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_array((np.ones(len(used)), (first, second)), shape=(count, count))
    return np.asarray(scipy.sparse.csgraph.connected_components(graph, directed=False)[1], np.int64)

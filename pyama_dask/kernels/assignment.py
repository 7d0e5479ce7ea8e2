"""Sparse assignment: pairs of least total cost, where everything may also stay alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy  # loads the parts of `scipy.sparse` when they are used

from pyama_dask.kernels.overlaps import Pairs

TOGETHER = 2000
"""Number of rows from which on independent parts of a problem are solved apart."""


def assign(pairs: Pairs, costs: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.int64]:
    """Choose pairs so that none shares a member and the total cost is the lowest, if `limit` is paid for a single row.

    Parameters
    ----------
    pairs
        (P,) rows and (P,) columns of the possible pairs, each pair once.
    costs
        (P,) cost of each pair; those of `limit` or more are never chosen.
    limit
        Cost of a row that stays alone.

    Returns
    -------
    Ascending indices of the chosen pairs.

    Notes
    -----
    Parts of the problem that share no row or column are independent. Each row also has a private column that costs
    `limit`, so that there always is a full matching. It is found by the algorithm of Jonker and Volgenant (1987).
    """
    good = np.flatnonzero(costs < limit)
    rows, columns = (np.unique(of[good], return_inverse=True)[1] for of in pairs)
    chosen = [part[_solved(rows[part], columns[part], costs[good[part]], limit)] for part in _parts(rows, columns)]
    return np.sort(good[np.concatenate(chosen)]) if chosen else good


def _parts(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield pairs in independent parts; small ones together."""
    if not len(rows):
        return
    n = int(rows.max()) + 1
    if n <= TOGETHER:
        yield np.arange(len(rows))
        return
    graph = scipy.sparse.coo_array((np.ones(len(rows), bool), (rows, columns + n)), shape=(n + columns.max() + 1,) * 2)
    component = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    sizes = np.bincount(component)
    batch = ((np.cumsum(sizes) - sizes) // TOGETHER)[component[rows]]
    order = np.argsort(batch, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(batch[order])) + 1)


def _solved(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], costs: npt.NDArray[np.float64], limit: float
) -> npt.NDArray[np.int64]:
    """Indices of the chosen pairs of one part."""
    number, rows = np.unique(rows, return_inverse=True)
    columns = np.unique(columns, return_inverse=True)[1]
    n, m = len(number), int(columns.max()) + 1
    if n == 1 or m == 1:
        return np.array([costs.argmin()])
    alone = np.arange(n)
    weights = np.concatenate([costs, np.full(n, limit)]) + 1.0  # a weight of 0 would be no edge
    graph = scipy.sparse.csr_array(
        (weights, (np.concatenate([rows, alone]), np.concatenate([columns, m + alone]))), shape=(n, m + n)
    )
    partner = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph)[1]
    return np.flatnonzero(partner[rows] == columns)

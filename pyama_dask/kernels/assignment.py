"""Sparse assignment: pairs of least total cost, where everything may also stay alone."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.overlaps import Pairs


def assign(pairs: Pairs, costs: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.int64]:
    """Choose pairs so that none shares a member and the total cost is the lowest, if `limit` is paid for a single row.

    Parameters
    ----------
    pairs
        (P,) rows and (P,) columns of the possible pairs, each pair once.
    costs
        (P,) cost of each pair from 0; those of `limit` or more are never chosen.
    limit
        Cost of a row that stays alone.

    Returns
    -------
    Ascending indices of the chosen pairs.

    Notes
    -----
    Shortest augmenting paths with the prices of Jonker and Volgenant 1987 (doi:10.1007/BF02278710), row by row. Each
    row also has a private column that costs `limit`. A search ends at the nearest free column and touches only what
    lies before it, so that the time grows with the number of pairs in movies of any length.
    """
    good = np.flatnonzero(costs < limit)
    if not len(good):
        return good
    rows, columns = (np.unique(of[good], return_inverse=True)[1] for of in pairs)
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(rows.max() + 2))
    chosen = _augment(starts, columns[order], costs[good[order]], float(limit), int(columns.max()) + 1)
    return np.sort(good[order[chosen[chosen >= 0]]])


@compiled
def _augment(starts: Any, columns: Any, costs: Any, limit: float, count: int) -> Any:
    """(N,) pair of each row, -1 if it stays alone; the pairs of row n are ``starts[n]`` to ``starts[n + 1]``."""
    rows = len(starts) - 1
    chosen, origin = np.full(rows, -1), np.zeros(len(columns), np.int64)
    for row in range(rows):
        origin[starts[row] : starts[row + 1]] = row
    owner, price = np.full(count, -1), np.zeros(count)
    reached, way, closed = np.full(count, np.inf), np.full(count, -1), np.zeros(count, np.bool_)
    for first in range(rows):
        graph = (starts, columns, costs)
        end, last, length, touched = _search(first, graph, limit, chosen, owner, price, reached, way, closed)
        if end < 0 and last != first:
            end, chosen[last] = columns[chosen[last]], -1
        while end >= 0:  # back along the path
            pair = way[end]
            row = origin[pair]
            owner[end], before, chosen[row] = row, chosen[row], pair
            end = columns[before] if before >= 0 else -1
        for column in touched:
            if closed[column]:
                price[column] += reached[column] - length
            reached[column], closed[column] = np.inf, False
    return chosen


@compiled
def _search(
    row: int, graph: Any, limit: float, chosen: Any, owner: Any, price: Any, reached: Any, way: Any, closed: Any
) -> Any:  # fmt: skip
    """Find the shortest path from a row to a column without owner, or to a row that stays alone.

    Parameters
    ----------
    row
        Row without a pair.
    graph, limit
        ``starts``, ``columns``, ``costs`` and `limit` as for `_augment`.
    chosen, owner, price
        Pair of each row, row of each column, and price of each column.
    reached, way, closed
        Written: for each column the length of the shortest path to it, its last pair, and whether that is final.

    Returns
    -------
    Column at the end of the path, or -1; the row that stays alone then; the length of the path; and all
    columns that were reached.
    """
    starts, columns, costs = graph
    length = shift = 0.0
    last, alone = row, limit
    heap, touched = [(np.inf, -1)], [-1]
    while True:
        for pair in range(starts[row], starts[row + 1]):
            column = columns[pair]
            ahead = length + costs[pair] - price[column] - shift
            if ahead < min(reached[column], alone) and not closed[column]:  # closed ones may differ by rounding
                if reached[column] == np.inf:
                    touched.append(column)
                reached[column], way[column] = ahead, pair
                heapq.heappush(heap, (ahead, column))
        if length + limit - shift < alone:
            last, alone = row, length + limit - shift
        length, end = heapq.heappop(heap)
        while end >= 0 and length > reached[end]:  # reached by a shorter path since
            length, end = heapq.heappop(heap)
        if length >= alone:
            return -1, last, alone, touched[1:]
        if owner[end] < 0:
            return end, last, length, touched[1:]
        closed[end] = True
        row = owner[end]
        shift = costs[chosen[row]] - price[end]

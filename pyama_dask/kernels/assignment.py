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
    Shortest augmenting paths with the prices of Jonker and Volgenant 1987 (doi:10.1007/BF02278710), row by row. Each row
    also has a private column that costs `limit`. A search ends at the nearest free column and touches only what lies
    before it, so that the time grows with the number of pairs in movies of any length.
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
    chosen = np.full(rows, -1)
    owner = np.full(count, -1)  # row of each column
    price = np.zeros(count)
    reached = np.full(count, np.inf)  # length of the shortest path to a column
    way = np.full(count, -1)  # pair by which it is reached
    closed = np.zeros(count, np.bool_)  # its path cannot become shorter, not by rounding either
    origin = np.zeros(len(columns), np.int64)  # row of each pair
    for row in range(rows):
        origin[starts[row] : starts[row + 1]] = row
    for first in range(rows):
        row, length, shift = first, 0.0, 0.0
        last, alone, end = first, limit, -1  # row that stays alone on the shortest path without a free column
        heap = [(np.inf, -1)]
        touched, settled = [-1], [-1]
        while True:
            for pair in range(starts[row], starts[row + 1]):
                column = columns[pair]
                ahead = length + costs[pair] - price[column] - shift
                if ahead < reached[column] and ahead < alone and not closed[column]:
                    if reached[column] == np.inf:
                        touched.append(column)
                    reached[column], way[column] = ahead, pair
                    heapq.heappush(heap, (ahead, column))
            if length + limit - shift < alone:
                alone, last = length + limit - shift, row
            length, end = heapq.heappop(heap)
            while end >= 0 and length > reached[end]:  # it has been reached by a shorter path since
                length, end = heapq.heappop(heap)
            if length >= alone:
                length, end = alone, -1
                break
            if owner[end] < 0:
                break
            settled.append(end)
            closed[end] = True
            row = owner[end]
            shift = costs[chosen[row]] - price[end]
        for column in settled[1:]:
            price[column] += reached[column] - length
            closed[column] = False
        if end < 0 and last != first:
            end, chosen[last] = columns[chosen[last]], -1
        while end >= 0:  # back along the path
            pair = way[end]
            row = origin[pair]
            owner[end] = row
            before = chosen[row]
            chosen[row] = pair
            end = columns[before] if before >= 0 else -1
        for column in touched[1:]:
            reached[column], way[column] = np.inf, -1
    return chosen

"""Sparse assignment costs the same as that of a dense table."""

import numpy as np
import pytest
import scipy

from pyama_dask.kernels.assignment import assign


def dense_cost(table, limit):
    """Lowest cost of a table in which rows may stay alone."""
    rows, columns = scipy.optimize.linear_sum_assignment(np.minimum(table - limit, 0))
    return limit * len(table) + np.minimum(table - limit, 0)[rows, columns].sum()


@pytest.mark.parametrize("seed", range(40))
def test_cost_is_that_of_the_dense_assignment(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((30, 40)) < rng.choice([0.03, 0.1, 0.6]))
    costs, limit = np.round(rng.uniform(0, 2, len(rows)), 1), 1.3  # with ties
    chosen = assign((rows, columns), costs, limit)
    assert (np.diff(chosen) > 0).all()
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert (costs[chosen] < limit).all()
    table = np.full((30, 40), 9.0)
    table[rows, columns] = costs
    total = costs[chosen].sum() + limit * (30 - len(chosen))
    assert total == pytest.approx(dense_cost(table, limit))


def test_parts_of_one_row_or_column():
    rows, columns = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2, 2, 3])
    assert assign((rows, columns), np.array([0.5, 0.2, 0.3, 0.0, 1.0]), 1.0).tolist() == [1, 3]


def test_without_pairs():
    none = np.zeros(0, np.int64)
    assert assign((none, none), np.zeros(0), 1.0).tolist() == []

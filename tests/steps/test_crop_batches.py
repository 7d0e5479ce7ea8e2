"""Batches of cells whose crops are read together."""

import numpy as np
import pytest

from pyama_dask.steps.crop import batches


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([], []),
        ([3], [[3]]),
        ([11], [[11]]),
        ([4, 6, 1], [[4, 6], [1]]),
        ([4, 7, 3, 11, 0, 2], [[4], [7, 3], [11], [0, 2]]),
        ([0, 0, 10, 0], [[0, 0, 10, 0]]),
    ],
)
def test_they_hold_at_most_ten_values_or_one_cell(sizes, found):
    sizes = np.array(sizes, np.int64)
    assert [sizes[batch].tolist() for batch in batches(sizes, 10)] == found

"""The site that shows a cell of a stitched well best."""

import numpy as np
import pytest

from pyama_dask.steps.extract import tile_numbers

TILES, SHAPE = [[3, 0, 0], [7, 0, 60], [9, 60, 0]], (160, 160)
"""Three sites of 100 x 100; the corner at the bottom right is empty."""


@pytest.mark.parametrize(
    ("position", "site"),
    [((0, 0), 3), ((50, 70), 3), ((50, 90), 7), ((70, 50), 3), ((90, 50), 9), ((40, 159.5), 7), ((150, 150), 0)],
)
def test_the_site_with_the_greatest_weight_counts(position, site):
    assert tile_numbers(TILES, SHAPE, np.array([position])).tolist() == [site]


def test_a_well_without_cells_has_no_sites():
    assert tile_numbers(TILES, SHAPE, np.empty((0, 2))).shape == (0,)

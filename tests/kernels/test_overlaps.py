"""Pairs of overlapping rectangles are those of a comparison of all with all."""

import numpy as np
import pytest
from hypothesis import given
from support import frames

from pyama_dask.kernels.overlaps import centres, overlapping, sides, squares


def of_all(a, b):
    meet = (a[:, None, :2] <= b[None, :, 2:]).all(-1) & (a[:, None, 2:] >= b[None, :, :2]).all(-1)
    return set(zip(*np.nonzero(meet), strict=True))


@given(frames.box_sets(), frames.box_sets())
def test_pairs_are_those_of_all_with_all(a, b):
    a, b = a.astype(float), b.astype(float)
    rows, columns = overlapping(a, b)
    assert (np.diff(rows) >= 0).all()
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == of_all(a, b)


def test_one_box_over_the_whole_frame_meets_all():
    places = np.random.default_rng(0).uniform(0, 1000, (300, 2))
    rows, columns = overlapping(np.array([[0.0, 0.0, 1000.0, 1000.0]]), squares(places, 5.0))
    assert columns[np.argsort(columns)].tolist() == list(range(300))
    assert not rows.any()


def test_centres_sides_and_squares():
    box = np.array([[0, 10, 4, 26]])
    assert centres(box).tolist() == [[2, 18]]
    assert sides(box) == pytest.approx([8])
    assert squares(centres(box), np.array([3.0])).tolist() == [[-1, 15, 5, 21]]

"""The common shift of a frame is found among cells that move, come and go, and is 0 where there is none."""

import numpy as np
import pytest

from pyama_dask.kernels.frame_shift import FEWEST, common_shift, total_shifts


def cells(count=60, seed=0, size=20):
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, 600, (count, 2))
    return np.hstack([at, at + rng.uniform(0.8, 1.2, (count, 2)) * size])


@pytest.mark.parametrize("shift", [(40, 0), (-25, 31), (0.0, 90.0)])
def test_the_shift_is_found_though_cells_move_and_some_are_missing(shift):
    before, rng = cells(), np.random.default_rng(1)
    after = before + np.tile(shift, 2) + np.tile(rng.normal(0, 1.0, (60, 2)), 2)
    kept = np.vstack([after[rng.random(60) < 0.8], cells(8, seed=2)])
    assert common_shift(before, kept, 5.0) == pytest.approx(shift, abs=1.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (cells(), cells() + 1.0),
        (cells(), cells(seed=5)),
        (cells(FEWEST - 1), cells(FEWEST - 1) + 40),
        (cells(), np.zeros((0, 4))),
        (cells(), cells() + 150),  # farther than 5 cells
    ],
    ids=["small", "unrelated", "few", "empty", "far"],
)
def test_no_clear_shift(before, after):
    assert common_shift(before, after, 5.0).tolist() == [0, 0]


def test_shifts_add_up():
    frames = [cells(), cells() + 40, cells() + 40, cells() + 10]
    assert total_shifts(frames, 5.0)[:, 0] == pytest.approx([0, 40, 40, 10])
    assert not total_shifts(frames, 0.0).any()
    assert total_shifts([], 5.0).shape == (0, 2)

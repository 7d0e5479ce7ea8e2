"""Choice of windows: side by side, from the densest to the emptiest."""

import numpy as np
import pytest

from pyama_dask.kernels.windows import choose_windows, most_windows


def frame(shape=(100, 210)):
    """Texture that fades from left to right."""
    rng = np.random.default_rng(0)
    return (1000 + rng.normal(0, np.linspace(200, 5, shape[1]), shape)).astype(np.uint16)


def test_from_the_densest_to_the_emptiest():
    assert choose_windows(frame(), 100, 2) == [(0, 0), (0, 110)]
    columns = [x for _, x in choose_windows(frame((50, 250)), 50, 5)]
    assert columns == [0, 50, 100, 150, 200]
    assert [x for _, x in choose_windows(frame((50, 250)), 50, 3)] == [0, 100, 200]
    assert choose_windows(frame(), 100, 1) == [(0, 0)]
    assert choose_windows(frame(), 100, 2) == choose_windows(frame(), 100, 2)


@pytest.mark.parametrize("shape", [(64, 64), (100, 70), (129, 333)])
def test_windows_lie_within_the_frame_and_do_not_overlap(shape):
    count = most_windows(shape, 32)
    taken = np.zeros(shape, int)
    for y, x in choose_windows(frame(shape), 32, count):
        assert 0 <= y <= shape[0] - 32
        assert 0 <= x <= shape[1] - 32
        taken[y : y + 32, x : x + 32] += 1
    assert taken.max() == 1
    assert taken.sum() == count * 32 * 32


def test_a_frame_that_is_one_window():
    assert choose_windows(frame((40, 40)), 40, 1) == [(0, 0)]
    assert most_windows((39, 80), 40) == 0

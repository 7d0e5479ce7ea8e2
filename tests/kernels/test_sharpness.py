"""Sharpness and light of a frame against their plain definitions."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyama_dask.kernels.sharpness import level_and_spread, sharpness


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 2), (4, 4), (9, 5), (139, 163)])
def test_the_plain_definitions(shape, dtype):
    frame = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    exact = frame.astype(object)  # whole numbers of any size
    differences = [(b - a) ** 2 for row in exact[::4] for a, b in itertools.pairwise(row)]
    assert sharpness(frame) == sum(differences) / len(differences)
    sample = frame[::4, ::4].astype(np.float64)
    assert level_and_spread(frame) == pytest.approx((sample.mean(), sample.std()), rel=1e-12, abs=1e-9)


def test_sums_of_the_largest_differences_are_exact():
    frame = np.tile(np.array([0, 65535], np.uint16), (2048, 1024))
    assert sharpness(frame) == 65535**2
    assert level_and_spread(np.full((2048, 2048), 65535, np.uint16)) == (65535, 0)


def test_pieces_of_other_arrays_and_a_single_column():
    frame = np.arange(60, dtype=np.uint16).reshape(6, 10)
    assert sharpness(frame[:, ::2]) == 4
    assert level_and_spread(np.asfortranarray(frame)) == level_and_spread(frame)
    assert math.isnan(sharpness(frame[:, :1]))


def test_a_frame_out_of_focus_is_less_sharp_and_a_darker_one_has_a_lower_level():
    frame = np.random.default_rng(1).normal(9000, 800, (256, 256))
    frame = gaussian_filter(frame, 1)
    blurred = gaussian_filter(frame, 2)
    assert 10 * sharpness(blurred.astype(np.uint16)) < sharpness(frame.astype(np.uint16))
    assert level_and_spread((frame / 3).astype(np.uint16))[0] == pytest.approx(3000, rel=0.02)


def test_a_large_frame_takes_less_than_a_few_milliseconds():
    frame = np.random.default_rng(2).integers(0, 65536, (2048, 2048)).astype(np.uint16)
    taken = []
    for _ in range(9):
        started = time.thread_time()
        sharpness(frame)
        level_and_spread(frame)
        level_and_spread(frame)  # of a second channel
        taken.append(time.thread_time() - started)
    assert min(taken) < 0.004

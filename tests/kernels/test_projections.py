"""Projections of planes against their plain definitions."""

import numpy as np
import pytest
from support import frames

from pyama_dask.kernels import projections

TYPES = np.uint8, np.uint16, np.float32


def planes(shape, dtype, count=5):
    return np.stack([frames.noise(shape, np.uint8, seed) for seed in range(count)]).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (31, 45)])
def test_maximum_and_mean(shape, dtype):
    given = planes(shape, dtype)
    listed = given.astype(float).reshape(5, -1).T.tolist()
    highest = np.array([max(pixel) for pixel in listed], dtype).reshape(shape)
    means = [sum(pixel) / 5 for pixel in listed]
    mean = np.array([round(m) if dtype != np.float32 else m for m in means], dtype).reshape(shape)
    np.testing.assert_array_equal(projections.max_projection(given), highest, strict=True)
    np.testing.assert_array_equal(projections.mean_projection(given), mean, strict=True)


def test_means_of_large_values_do_not_overflow():
    given = np.full((300, 2, 3), 65535, np.uint16)
    np.testing.assert_array_equal(projections.mean_projection(given), given[0], strict=True)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_sharpest_plane_of_a_focus_series(dtype):
    scene = frames.blobs((61, 47), np.uint8, 1).astype(float)
    blurred = [scene]
    for _ in range(3):
        blurred.append((blurred[-1] + np.roll(blurred[-1], 1, 1) + np.roll(blurred[-1], -1, 1)) / 3)
    series = np.stack([blurred[3], blurred[1], scene, blurred[2]]).astype(dtype)
    found = projections.sharpest_plane(series)
    np.testing.assert_array_equal(found, series[2], strict=True)
    assert not np.shares_memory(found, series)


def test_the_sharpness_of_floats_is_not_that_of_their_whole_parts():
    flat, fine = np.zeros((8, 8), np.float32), np.tile(np.float32([0.1, 0.9]), (8, 4))
    np.testing.assert_array_equal(projections.sharpest_plane(np.stack([flat, fine])), fine)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1)])
def test_the_first_plane_if_none_is_sharper(shape):
    given = planes(shape, np.uint16)
    np.testing.assert_array_equal(projections.sharpest_plane(given), given[0])
    np.testing.assert_array_equal(projections.sharpest_plane(given[:1]), given[0])

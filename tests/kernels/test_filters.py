"""Filters of pipelines equal scipy's and scikit-image's, rounded."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import morphology, restoration
from support import frames

from pyama_dask.kernels import filters
from pyama_dask.kernels.pixel_types import in_type

TYPES = np.uint8, np.uint16, np.float32, np.int32
each_type = pytest.mark.parametrize("dtype", TYPES)
each_shape = pytest.mark.parametrize("shape", [(1, 1), (1, 17), (3, 5), (31, 45)])


def image(shape, dtype, seed=3):
    return (frames.noise(shape, np.uint8 if dtype == np.uint8 else np.uint16, seed)).astype(dtype)


def rounded(values, dtype):
    """Plain definition of rounding, apart from the one of the package."""
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.array([min(max(round(v), limits.min), limits.max) for v in values.ravel()], dtype).reshape(values.shape)


def check(found, expected, dtype):
    assert found.dtype == dtype
    if np.dtype(dtype).kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-3)
    else:
        np.testing.assert_array_equal(found, expected)


@each_type
@each_shape
@pytest.mark.parametrize("sigma", [0, 0.1, 3.5])
def test_gaussian_is_scipys_rounded(shape, dtype, sigma):
    given = image(shape, dtype)
    before = given.copy()
    expected = rounded(ndi.gaussian_filter(given.astype(np.float64), sigma), dtype)
    check(filters.gaussian(given, sigma=sigma), expected, dtype)
    np.testing.assert_array_equal(given, before)


@each_type
@each_shape
@pytest.mark.parametrize("size", [1, 3, 5])
def test_median_is_scipys(shape, dtype, size):
    given = image(shape, dtype)
    np.testing.assert_array_equal(filters.median(given, size=size), ndi.median_filter(given, size), strict=True)


@each_type
@each_shape
@pytest.mark.parametrize("radius", [1, 4])
def test_top_hat_is_scikit_images(shape, dtype, radius):
    given = image(shape, dtype)
    expected = morphology.white_tophat(given, morphology.disk(radius))
    np.testing.assert_array_equal(filters.top_hat(given, radius=radius), expected, strict=True)


@each_type
@each_shape
@pytest.mark.parametrize("radius", [1, 6])
def test_rolling_ball_is_scikit_images(shape, dtype, radius):
    given = image(shape, dtype)
    expected = given - restoration.rolling_ball(given, radius=radius)
    check(filters.rolling_ball(given, radius=radius), expected, dtype)


STEPS = (
    lambda frame: filters.gaussian(frame, sigma=2),
    lambda frame: filters.median(frame, size=3),
    lambda frame: filters.top_hat(frame, radius=3),
    lambda frame: filters.rolling_ball(frame, radius=3),
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_constant_frames_and_any_layout_of_memory(step, dtype):
    full = np.full((7, 9), 255, dtype)
    check(step(full), full if step in STEPS[:2] else np.zeros_like(full), dtype)
    frame = image((21, 34), dtype)
    for view in frames.views(frame).values():
        check(step(view), step(frame), dtype)


def test_backgrounds_are_removed_and_cells_stay():
    y, x = np.indices((80, 90))
    cell = np.where(np.hypot(y - 40, x - 45) < 6, 2000, 0)
    frame = (1000 + 5 * x + 3 * y + cell).astype(np.uint16)
    for found in (filters.top_hat(frame, radius=12), filters.rolling_ball(frame, radius=30)):
        assert found[cell > 0].min() > 1800
        assert found[cell == 0].max() < 200


def test_rounding_to_a_type_clips_and_refuses_what_is_not_a_number():
    values = np.array([-0.5, -3, 0.5, 1.5, 254.6, 300])
    np.testing.assert_array_equal(in_type(values, np.uint8), np.array([0, 0, 0, 2, 255, 255], np.uint8), strict=True)
    np.testing.assert_array_equal(in_type(values, np.float32), values.astype(np.float32), strict=True)
    np.testing.assert_array_equal(in_type(np.array([2.0**40]), np.int32), np.array([2**31 - 1], np.int32), strict=True)
    with pytest.raises(ValueError, match="not a number, which uint16 cannot hold"):
        in_type(np.array([1, np.nan]), np.uint16)

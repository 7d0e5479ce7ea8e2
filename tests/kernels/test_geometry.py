"""Moved, cropped and resampled frames, and sums of channels, against plain definitions."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.transform import downscale_local_mean
from support import frames

from pyama_dask.kernels import geometry

TYPES = np.uint8, np.uint16, np.float32
each_type = pytest.mark.parametrize("dtype", TYPES)
each_shape = pytest.mark.parametrize("shape", [(1, 1), (17, 1), (31, 45)])


def image(shape, dtype, seed=3):
    return frames.noise(shape, np.uint8 if dtype == np.uint8 else np.uint16, seed).astype(dtype)


def rounded(values, dtype):
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.array([min(max(round(v), 0), frames.top(dtype)) for v in values.ravel()], dtype).reshape(values.shape)


# --------------------------------------------------------------------------------------------------- shifts


@each_type
@each_shape
@pytest.mark.parametrize("shift", [(0, 0), (1, -2), (-3, 4), (200, 0), (0, -200)])
def test_whole_shifts_copy_pixels(shape, dtype, shift):
    given = image(shape, dtype)
    (h, w), (dy, dx) = shape, shift
    zero, edge = np.zeros_like(given), np.zeros_like(given)
    for y, x in np.ndindex(shape):
        if 0 <= y - dy < h and 0 <= x - dx < w:
            zero[y, x] = given[y - dy, x - dx]
        edge[y, x] = given[min(max(y - dy, 0), h - 1), min(max(x - dx, 0), w - 1)]
    np.testing.assert_array_equal(geometry.moved(given, shift), zero, strict=True)
    np.testing.assert_array_equal(geometry.moved(given, np.array(shift), outside="edge"), edge, strict=True)


@each_type
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_other_shifts_are_scipys_rounded(dtype, interpolation, outside):
    given, shift = image((31, 45), dtype), (2.25, -3.5)
    mode, order = {"zero": "constant", "edge": "nearest"}[outside], {"linear": 1, "cubic": 3}[interpolation]
    expected = rounded(ndi.shift(given.astype(np.float64), shift, order=order, mode=mode), dtype)
    found = geometry.moved(given, shift, interpolation=interpolation, outside=outside)
    np.testing.assert_array_equal(found, expected, strict=True)
    by_step = geometry.channel_shift(given, y=2.25, x=-3.5, interpolation=interpolation, outside=outside)
    np.testing.assert_array_equal(by_step, expected, strict=True)


def test_a_shift_between_pixels_of_a_slope_is_exact_and_cubic_follows_a_wave():
    y, x = np.indices((40, 50)).astype(float)
    slope = (300 + 4 * y + 8 * x).astype(np.uint16)
    np.testing.assert_array_equal(geometry.moved(slope, (0.5, 0.25))[2:, 2:], (300 + 4 * y + 8 * x - 4)[2:, 2:])
    wave, there = (np.sin((y + dy) / 3) * np.cos((x + dx) / 4) for dy, dx in ((0, 0), (-0.4, 0.3)))
    errors = [
        np.abs(geometry.moved(wave, (0.4, -0.3), interpolation=by) - there)[8:-8, 8:-8].max()
        for by in ("linear", "cubic")
    ]
    assert errors[0] < 0.03
    assert errors[1] < 0.001


def test_a_shift_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="cannot be moved by"):
        geometry.moved(image((5, 5), np.uint8), (np.nan, 0))


# ---------------------------------------------------------------------------------------------------- crops


@each_type
def test_crops_and_their_shapes(dtype):
    given = image((13, 9), dtype)
    for box in ({}, {"top": 2, "left": 3}, {"height": 4, "width": 9}, {"top": 12, "left": 8, "height": 1, "width": 1}):
        top, left = box.get("top", 0), box.get("left", 0)
        expected = given[top : top + box.get("height", 13), left : left + box.get("width", 9)]
        found = geometry.crop(given, **box)
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.shape == geometry.cropped_shape(given.shape, **box)
        assert not np.shares_memory(found, given)


@pytest.mark.parametrize("box", [{"top": 13}, {"left": 9}, {"top": 10, "height": 4}, {"left": 1, "width": 9}])
def test_a_crop_beyond_the_frame_is_refused(box):
    with pytest.raises(ValueError, match=r"not all within a frame of 13 x 9\. Fix"):
        geometry.crop(image((13, 9), np.uint8), **box)


# -------------------------------------------------------------------------------------------------- scaling


@each_type
@each_shape
@pytest.mark.parametrize("times", [2, 3, 7])
def test_whole_reductions_are_means_of_squares(shape, dtype, times):
    given = image(shape, dtype)
    rows, columns = (range(0, n, times) for n in shape)
    squares = [[given[y : y + times, x : x + times].astype(np.float64).mean() for x in columns] for y in rows]
    found = geometry.resample(given, factor=1 / times)
    assert found.dtype == dtype
    assert found.shape == geometry.resampled_shape(shape, factor=1 / times)
    np.testing.assert_allclose(found, rounded(np.array(squares), dtype), rtol=1e-6)


def test_reductions_are_scikit_images_local_mean_without_aliases():
    given = image((60, 90), np.float32)
    np.testing.assert_allclose(geometry.resample(given, factor=1 / 6), downscale_local_mean(given, 6), rtol=1e-6)
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    assert (geometry.resample(stripes, factor=0.5) == 100).all()
    assert np.ptp(geometry.resample(stripes, factor=0.3)[:, 1:-1].astype(int)) < 70  # picked pixels would have 200


@each_type
@each_shape
@pytest.mark.parametrize("factor", [0.03, 0.4, 0.75, 1, 1.5, 2])
def test_other_factors_keep_the_shape_type_mean_and_level(shape, dtype, factor):
    expected = np.full(geometry.resampled_shape(shape, factor=factor), 77, dtype)
    np.testing.assert_array_equal(geometry.resample(np.full(shape, 77, dtype), factor=factor), expected, strict=True)


def test_an_enlargement_is_bilinear():
    given = np.array([[0, 100]], np.uint8)
    np.testing.assert_array_equal(geometry.resample(given, factor=2), [[0, 25, 75, 100]] * 2)


# ------------------------------------------------------------------------------------------------- channels


@each_type
def test_a_composite_is_the_weighted_sum(dtype):
    images = {name: image((7, 5), dtype, seed) for seed, name in enumerate(("Phase", "GFP", "RFP"))}
    real = {name: of.astype(np.float64) for name, of in images.items()}
    mean = rounded(sum(real.values()) / 3, dtype)
    np.testing.assert_allclose(geometry.composite(images), mean, rtol=1e-6)
    both = rounded(0.5 * real["GFP"] + 0.75 * real["RFP"], dtype)
    found = geometry.composite(images, weights={"GFP": 0.5, "RFP": 0.75})
    np.testing.assert_array_equal(found, both, strict=True)


def test_composites_that_cannot_be_made_are_refused():
    frame = image((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"'RFP' is not an image here; there are: GFP\. Fix"):
        geometry.composite({"GFP": frame}, weights={"RFP": 1})
    with pytest.raises(ValueError, match=r"one shape, not 4 x 3 and 4 x 4\. Fix"):
        geometry.composite({"GFP": frame, "RFP": frame[:, :3]})
    with pytest.raises(ValueError, match="no image"):
        geometry.composite({})

"""Frames and labels in other sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize as skimage_resize
from support import frames

from pyama_dask.kernels.resize import enlarge, nearest, reduce_area, zoom

each_shape = pytest.mark.parametrize("shape", frames.SHAPES)
each_dtype = pytest.mark.parametrize("dtype", [*frames.DTYPES, np.float32])


@each_shape
@each_dtype
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_reduced_pixels_are_the_means_of_squares(shape, dtype, factor):
    frame = frames.noise(shape, np.uint16, 1).astype(dtype)
    found = reduce_area(frame, factor)
    rows, columns = (range(0, n, factor) for n in shape)
    expected = [[frame[y : y + factor, x : x + factor].mean(dtype=float) for x in columns] for y in rows]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_is_bilinear_as_in_scikit_image(factor):
    image = frames.noise((13, 9), np.uint8, 2).astype(np.float32)
    shape = (13 * factor, 9 * factor)
    expected = skimage_resize(image, shape, order=1, mode="edge", anti_aliasing=False, preserve_range=True)
    np.testing.assert_allclose(enlarge(image, factor, shape), expected, atol=1e-3)
    cut = enlarge(image, factor, (shape[0] - 1, shape[1] - 3))
    np.testing.assert_allclose(cut, expected[:-1, :-3], atol=1e-3)


@given(frames.shapes(largest=40), st.floats(0.2, 3.0), st.integers(0, 65535))
def test_a_constant_frame_stays_constant(shape, factor, grey):
    found = zoom(np.full(shape, grey, np.uint16), factor)
    assert found.shape == tuple(max(1, round(n * factor)) for n in shape)
    np.testing.assert_allclose(found, grey, rtol=1e-6)


@given(frames.shapes(largest=40), st.floats(0.1, 0.99), frames.seeds)
def test_zooming_out_keeps_the_mean(shape, factor, seed):
    frame = frames.noise(shape, np.uint16, seed)
    np.testing.assert_allclose(zoom(frame, factor).mean(dtype=float), frame.mean(), rtol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_zooming_out_by_a_whole_factor_is_the_mean_of_squares(factor):
    frame = frames.noise((32, 48), np.uint16, 4)
    np.testing.assert_allclose(zoom(frame, factor), reduce_area(frame, round(1 / factor)), rtol=1e-6)


def test_zooming_in_is_bilinear():
    frame = frames.noise((20, 30), np.uint16, 5)
    expected = skimage_resize(
        frame.astype(float), (30, 45), order=1, mode="edge", anti_aliasing=False, preserve_range=True
    )
    np.testing.assert_allclose(zoom(frame, 1.5), expected, rtol=1e-4)


def test_a_factor_of_one_gives_the_frame():
    frame = frames.noise((5, 6))
    assert zoom(frame, 1) is frame
    assert nearest(frame, (5, 6)) is frame


@given(frames.shapes(largest=30), frames.shapes(largest=60), frames.seeds)
def test_each_pixel_takes_the_label_at_its_centre(have, shape, seed):
    labels = frames.label_image(have, seed)
    found = nearest(labels, shape)
    assert (found.shape, found.dtype) == (shape, labels.dtype)
    for y, x in ((0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] // 3)):
        at = int((y + 0.5) * have[0] / shape[0]), int((x + 0.5) * have[1] / shape[1])
        assert found[y, x] == labels[at]

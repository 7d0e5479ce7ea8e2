"""Frames as a network sees them: without background, gain and offset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from support import frames

from pyama_dask.kernels.flatten import LIMIT, flatten


def plainly(frame):
    """Flatten in float64 with whole steps: shape of multiples of 4 only."""

    def reduced(image):
        return image.reshape(image.shape[0] // 4, 4, -1, 4).mean((1, 3))

    def enlarged(image):
        rows, columns = (np.clip((np.arange(4 * n) + 0.5) / 4 - 0.5, 0, n - 1) for n in image.shape)
        return ndi.map_coordinates(image, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")

    frame = frame.astype(float)
    rest = frame - enlarged(ndi.uniform_filter(reduced(frame), 41, mode="reflect"))
    spread = np.sqrt(ndi.uniform_filter(reduced(rest**2), 81, mode="reflect"))
    return np.clip(rest / enlarged(0.5 * spread + 0.5 * np.median(spread)), -4, 4)


@pytest.mark.parametrize("shape", [(4, 4), (64, 48), (200, 168)])
@pytest.mark.parametrize("dtype", [*frames.DTYPES, np.float32])
def test_it_is_the_plain_definition(shape, dtype):
    frame = frames.blobs(shape, np.uint8, 2).astype(dtype)
    found = flatten(frame)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plainly(frame), atol=2e-3)


@given(seed=frames.seeds, gain=st.integers(1, 200), offset=st.integers(0, 10000))
def test_gain_and_offset_drop_out(seed, gain, offset):
    frame = frames.blobs((61, 47), np.uint8, seed).astype(np.uint16)
    np.testing.assert_allclose(flatten(frame * gain + offset), flatten(frame), atol=0.02)


@pytest.mark.parametrize("kind", frames.MAKERS)
@pytest.mark.parametrize("shape", frames.SHAPES)
def test_any_frame_has_finite_values_within_the_limit(kind, shape):
    for dtype in frames.DTYPES:
        found = flatten(frames.MAKERS[kind](shape, dtype, 1))
        assert found.shape == shape
        assert np.abs(found).max() <= LIMIT


@pytest.mark.parametrize("shape", frames.SHAPES)
def test_a_constant_frame_is_zero(shape):
    assert not flatten(np.full(shape, 1000, np.uint16)).any()


def test_a_slope_of_illumination_drops_out():
    even = np.random.default_rng(1).normal(3000, 100, (400, 400))
    slope = np.linspace(0, 2000, 400)
    inner = np.s_[90:-90, 90:-90]
    one, other = (flatten(frame.astype(np.uint16))[inner] for frame in (even, even + slope))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99

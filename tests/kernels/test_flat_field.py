"""Shading, estimated and removed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.frames import DTYPES, noise

from pyama_dask.kernels.flat_field import correct, flat_field, shading_profile

SHAPE = (200, 256)
DARK = 100


def distance(centre=(0, 0)):
    """Squared distance from a centre, where the frame reaches from -1 to 1."""
    y, x = (np.linspace(-1, 1, n) - at for n, at in zip(SHAPE, centre, strict=True))
    return y[:, None] ** 2 + x**2


SHADINGS = {
    "corners": 1 - 0.3 * distance() / 2,
    "off centre": 1 - 0.3 * distance((-0.3, 0.4)) / 2,
    "spot": 0.6 + 0.4 * np.exp(-distance((0.2, -0.3)) / 0.8),
}


def frames(shading, level, cell, *, dark=0, count=20):
    """Frames with cells at random places, as of different wells."""
    rng = np.random.default_rng(0)
    y, x = np.indices(SHAPE)
    for _ in range(count):
        light = np.full(SHAPE, float(level))
        for centre in rng.uniform(0, SHAPE, (6, 2)):
            light[np.hypot(y - centre[0], x - centre[1]) < 15] += cell
        yield np.rint(dark + light * shading + rng.normal(0, level / 100, SHAPE)).astype(np.uint16)


@pytest.mark.parametrize("name", SHADINGS)
@pytest.mark.parametrize(("level", "cell"), [(12000, -2500), (240, 300)], ids=["phase", "fluorescence"])
def test_twenty_wells_with_cells_are_enough_for_three_percent(name, level, cell):
    shading = SHADINGS[name]
    profile = shading_profile(frames(shading, level, cell))
    flat = shading / profile
    assert profile.dtype == np.float32
    assert profile.mean() == pytest.approx(1, abs=1e-6)
    assert np.abs(flat / flat.mean() - 1).max() < 0.015


def test_the_dark_level_is_not_part_of_the_light():
    shading = SHADINGS["corners"]
    profile = shading_profile(frames(shading, 240, 300, dark=DARK), dark=DARK)
    np.testing.assert_allclose(profile, shading / shading.mean(), rtol=0.015)
    frame = np.rint(DARK + 1000 * profile).astype(np.uint16)
    np.testing.assert_allclose(correct(frame, profile, dark=DARK), DARK + 1000, atol=1)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 9))
def test_a_flat_profile_changes_nothing(dtype, seed):
    frame = noise((20, 30), dtype, seed)
    corrected = correct(frame, np.ones((20, 30), np.float32))
    assert corrected.dtype == dtype
    np.testing.assert_array_equal(corrected, frame)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_beyond_the_camera_become_its_limits(dtype):
    top = np.iinfo(dtype).max
    frame = np.array([[0, top]], dtype)
    profile = np.array([[0.5, 0.5]], np.float32)
    assert correct(frame, profile, dark=10).tolist() == [[0, top]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3), (70, 40)])
def test_small_uniform_frames_have_a_flat_profile(shape):
    np.testing.assert_allclose(shading_profile([np.full(shape, 50, np.uint8)]), np.ones(shape), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "dark"), [([], 0), ([np.zeros(SHAPE, np.uint16)], 0), ([np.full(SHAPE, 90, np.uint16)], 100)]
)
def test_without_light_there_is_no_shading(given, dark):
    with pytest.raises(ValueError, match=r"no shading to be found.* Fix: "):
        shading_profile(given, dark=dark)


# ---------------------------------------------------------------------------------------- step of a pipeline


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (31, 45)])
def test_the_step_divides_the_light_above_the_dark_level(shape, dtype):
    frame = noise(shape, np.uint8).astype(dtype)
    profile = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
    light = (frame.astype(np.float64) - 10) / profile + 10
    found = flat_field(frame, profile=profile, dark=10)
    assert found.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_allclose(found, light, rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_allclose(found, np.clip(np.rint(light), 0, np.iinfo(dtype).max), atol=0)


@pytest.mark.parametrize("profile", ["estimate", np.ones((3, 4))])
def test_the_step_needs_a_profile_of_the_frames_shape(profile):
    with pytest.raises(ValueError, match=r"needs a profile of them.*Fix"):
        flat_field(np.ones((4, 4), np.uint16), profile=profile)

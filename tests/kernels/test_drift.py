"""Drift of made frames, whose shift is exactly known between pixels."""

import time

import numpy as np
import pytest
from scipy import fft
from scipy.ndimage import gaussian_filter
from support import frames
from support.drifting import Scene

from pyama_dask.kernels.drift import drift_between, drift_of, seen
from pyama_dask.kernels.geometry import moved

SHAPE = (256, 301)


def error(found, shift):
    return float(np.abs(np.subtract(found[:2], shift)).max())


@pytest.mark.parametrize("shift", [(0, 0), (0.3, -0.45), (-20, 20), (13.37, 0.5), (-7.72, -19.81)])
@pytest.mark.parametrize("change", [{}, {"light": 0.7, "tilt": 0.1}, {"moved": 0.7}], ids=["", "light", "cells"])
def test_shifts_are_found_to_a_fifth_of_a_pixel(shift, change):
    scene = Scene(SHAPE, reach=20, seed=1)
    found = drift_between(scene.frame(), scene.frame(shift, **change), max_shift=25)
    assert error(found, shift) < 0.2
    assert found.confidence > 0.3


def test_the_shift_is_that_of_a_moved_frame_and_undoes_it():
    frame = Scene(SHAPE, seed=2).frame()
    later = moved(frame, (5, -9), outside="edge")
    found = drift_between(frame, later, max_shift=20)
    assert error(found, (5, -9)) < 0.05
    assert error(drift_between(later, frame, max_shift=20), (-5, 9)) < 0.05
    back = moved(later, -np.round(found[:2]))
    np.testing.assert_array_equal(back[:-5, 9:], frame[:-5, 9:])


def test_large_shifts_are_not_drawn_to_zero():
    scene = Scene(SHAPE, reach=60, noise=5, seed=1)
    for shift in ((50.4, -60.2), (-50.4, 60.2)):
        assert error(drift_between(scene.frame(), scene.frame(shift), max_shift=70), shift) < 0.15


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_type_of_pixels(dtype):
    scene = Scene(SHAPE, seed=4)
    before, after = ((frame / 80).astype(dtype) for frame in (scene.frame(), scene.frame((3.5, -2.25))))
    assert error(drift_between(before, after, max_shift=10), (3.5, -2.25)) < 0.2


def test_pixels_that_are_not_numbers_do_not_hide_the_rest():
    scene = Scene(SHAPE, seed=4)
    before, after = (frame.astype(np.float32) for frame in (scene.frame(), scene.frame((3, -2))))
    after[50:60, 70:80] = np.nan
    assert error(drift_between(before, after, max_shift=10), (3, -2)) < 0.2


@pytest.mark.parametrize("seed", range(2))
def test_frames_with_nothing_in_common_have_no_shift(seed):
    full = frames.flat(SHAPE, np.uint16, seed)
    quiet, other = (frames.quiet(SHAPE, np.uint16, seed + by) for by in (50, 60))
    cells, more = Scene(SHAPE, seed=seed).frame(), Scene(SHAPE, seed=seed + 10).frame()
    for pair in ((full, full), (full, cells), (cells, full), (quiet, other), (cells, more), (cells, quiet)):
        found = drift_between(*pair, max_shift=40)
        assert np.isnan(found[:2]).all()
        assert found.confidence < 0.2


def test_a_shift_beyond_the_largest_is_not_taken_for_another_one():
    scene = Scene(SHAPE, reach=40, seed=5)
    found = drift_between(scene.frame(), scene.frame((30, -4)), max_shift=12)
    assert np.isnan(found[:2]).all()


@pytest.mark.parametrize("shape", frames.SHAPES)
def test_tiny_frames_have_a_shift_or_none(shape):
    frame = frames.noise(shape)
    found = drift_between(frame, frame, max_shift=5)
    if min(shape) < 16:
        assert np.isnan(found[:2]).all()
    else:
        assert error(found, (0, 0)) < 0.05


def test_frames_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        drift_between(np.zeros((40, 40)), np.zeros((40, 41)))


def test_large_frames_are_reduced_measured_as_well_and_take_less_than_half_of_a_transform():
    """A method on whole frames needs three transforms of a frame, in 64 bits as here."""
    scene = gaussian_filter(frames.noise((2100, 2120)), 6)
    before, after = scene[20:2080, 10:2092], scene[7:2067, 28:2110]
    assert error(drift_between(before, after, max_shift=40), (13, -18)) < 0.1
    first = seen(before)
    taken = least_time(lambda: drift_of(first, seen(after), max_shift=40))
    assert taken < 0.4 * least_time(lambda: fft.rfft2(after))


def least_time(call):
    """Seconds of CPU of the fastest of five calls."""
    taken = []
    for _ in range(5):
        started = time.thread_time()
        call()
        taken.append(time.thread_time() - started)
    return min(taken)

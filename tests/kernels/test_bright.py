"""Compact bright cells: found as they were drawn, whatever gain, offset and sign."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import frames
from support.bright_cells import AREA, bright_movie

from pyama_dask.errors import MethodWarning
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.scores import match, seg


@pytest.fixture(scope="module")
def movie():
    return bright_movie((384, 384), frames=3, cells=150, seed=1)


def test_the_made_cells_are_as_the_method_expects(movie):
    _, labels = movie
    areas = np.bincount(labels.ravel())[1:] / len(labels)
    assert areas.mean() == pytest.approx(AREA, rel=0.1)
    wide = [np.pad(of, 1) for of in labels]
    contact = [(of[1:] != of[:-1]) & (of[1:] > 0) & (of[:-1] > 0) for of in wide]
    assert all(pairs.sum() > 50 for pairs in contact)


def test_cells_are_found(movie):
    found = np.stack([segment_bright(frame) for frame in movie[0]])
    assert seg(map(match, movie[1], found)) >= 0.80
    assert [of.max() for of in found] == pytest.approx([of.max() for of in movie[1]], rel=0.05)


def test_cells_are_found_where_they_cover_much_of_the_frame():
    frames_of_movie, labels = bright_movie((256, 256), cells=160, contacts=0.9, seed=2)
    assert (labels[0] > 0).mean() > 0.38
    assert seg([match(labels[0], segment_bright(frames_of_movie[0]))]) >= 0.80


def test_dark_cells_are_found_by_inverting(movie):
    frame = movie[0][0]
    np.testing.assert_array_equal(segment_bright(~frame, invert=True), segment_bright(frame))


@settings(max_examples=15)
@given(gain=st.sampled_from([1, 2, 4, 8]), offset=st.integers(0, 4000))
def test_gain_and_offset_change_nothing(gain, offset):
    frame = bright_movie((128, 128), cells=20, seed=4)[0][0]
    expected = segment_bright(frame)
    found = segment_bright((frame * gain + offset).astype(np.uint16))
    assert found.max() == expected.max()
    assert ((found > 0) != (expected > 0)).mean() < 1e-3  # single pixels, by rounding


def test_frames_of_eight_bits():
    frames_of_movie, labels = bright_movie((256, 256), cells=60, seed=2, dtype=np.uint8)
    assert seg([match(labels[0], segment_bright(frames_of_movie[0]))]) >= 0.75


@pytest.mark.parametrize("kind", frames.MAKERS)
@pytest.mark.parametrize("shape", frames.SHAPES)
def test_any_frame_gives_labels_without_gaps(kind, shape):
    for dtype in frames.DTYPES:
        frame = frames.MAKERS[kind](shape, dtype, 3)
        for invert in (False, True):
            labels = segment_bright(frame, invert=invert, min_object_size=2, noise=3.0)
            assert (labels.shape, labels.dtype) == (shape, np.uint16)
            assert np.bincount(labels.ravel())[1:].min(initial=2) >= 2


@pytest.mark.parametrize("shape", frames.SHAPES)
def test_a_constant_frame_has_no_cells(shape):
    assert not segment_bright(np.full(shape, 300, np.uint16)).any()


def test_noise_alone_has_no_cells():
    assert not segment_bright(frames.quiet((200, 200), np.uint16, 1)).any()


def test_sizes_are_limits(movie):
    frame = movie[0][0]
    every = np.bincount(segment_bright(frame, min_object_size=None).ravel())[1:]
    some = np.bincount(segment_bright(frame, min_object_size=100, max_object_size=180).ravel())[1:]
    assert sorted(some) == sorted(every[(every >= 100) & (every <= 180)])


def test_a_smaller_part_makes_larger_cells(movie):
    areas = [(segment_bright(movie[0][0], part=part) > 0).sum() for part in (0.1, 0.3, 0.6)]
    assert areas[0] > areas[1] > areas[2]


def test_a_larger_depth_divides_less(movie):
    counts = [segment_bright(movie[0][0], depth=depth).max() for depth in (0.05, 0.3, 0.9)]
    assert counts[0] > counts[1] > counts[2]


def test_large_objects_that_are_dropped_are_told():
    frame = np.full((400, 400), 100, np.uint16)
    frame[100:300, 100:300] = 5000
    frame += frames.noise(frame.shape, np.uint8, 1) // 32
    with pytest.warns(MethodWarning, match="objects larger than max_object_size cover more than 10%"):
        assert not segment_bright(frame, diameter=200, max_object_size=1000).any()


@pytest.mark.parametrize(
    ("limits", "dropped"),
    [({"min_object_size": 400}, "smaller than min"), ({"max_object_size": 20}, "larger than max")],
)
def test_most_objects_that_are_dropped_are_told(movie, limits, dropped):
    with pytest.warns(MethodWarning, match=f"objects {dropped}_object_size (are most|cover)"):
        segment_bright(movie[0][0], **limits)

"""Drift over movies, measured block by block."""

import numpy as np
import pytest
from support.drifting import Scene

from pyama_dask.kernels.drift_path import Pair, cumulated, drift_pairs, frames_before, solved

SHAPE = (192, 200)
MAX_SHIFT = 24


def steps(n_frames, seed=0):
    """Random steps of up to 20 pixels that do not lead far away."""
    return np.random.default_rng(seed).uniform(-20, 20, (n_frames, 2))


def movie(truth, *, empty=(), moved=0.0):
    scene = Scene(SHAPE, reach=float(np.abs(truth).max()), seed=3)
    for t, shift in enumerate(truth):
        light = 1 + 0.2 * np.sin(t / 5)
        yield np.full(SHAPE, 300, np.uint16) if t in empty else scene.frame(shift, light=light, moved=moved)


def pairs_by_blocks(frames, size):
    found = []
    for begin in range(0, len(frames), size):
        indices = frames_before(begin) + list(range(begin, min(begin + size, len(frames))))
        found += drift_pairs(((t, frames[t]) for t in indices), begin, max_shift=MAX_SHIFT)
    return found


@pytest.fixture(scope="module")
def hundred():
    """Truth, frames and pairs of a movie of 101 frames."""
    truth = np.cumsum(steps(101), axis=0)
    truth -= truth[0]
    frames = list(movie(truth))
    return truth, frames, pairs_by_blocks(frames, 16)


def test_a_hundred_frames_of_up_to_20_pixels_each(hundred):
    truth, _, pairs = hundred
    near = [pair for pair in pairs if pair.second == pair.first + 1]
    assert [pair.second for pair in near] == list(range(1, 101))
    errors = [np.abs(truth[p.second] - truth[p.first] - (p.dy, p.dx)).max() for p in near]
    assert max(errors) < 0.2
    path = solved(pairs, 101)
    assert path.measured.all()
    assert np.abs(path.shifts - truth).max() < 1
    assert not path.shifts[0].any()


def test_the_order_and_size_of_blocks_do_not_matter(hundred):
    _, frames, pairs = hundred
    expected = solved(pairs, 101).shifts
    np.testing.assert_array_equal(solved(pairs[::-1], 101).shifts, expected)
    assert sorted(pairs_by_blocks(frames[:40], 40)) == [pair for pair in sorted(pairs) if pair.second < 40]


def test_each_tenth_frame_is_compared_with_the_tenth_before(hundred):
    pairs = hundred[2]
    assert [(p.first, p.second) for p in pairs if p.second - p.first > 1] == [(t, t + 10) for t in range(0, 100, 10)]


def test_frames_before_a_block():
    found = {begin: frames_before(begin) for begin in (0, 1, 2, 10, 11, 12, 16, 30)}
    assert found == {
        0: [], 1: [0], 2: [0, 1], 10: [0, 8, 9], 11: [9, 10], 12: [10, 11], 16: [10, 14, 15], 30: [20, 28, 29],
    }  # fmt: skip


def test_frames_without_content_are_bridged():
    truth = np.cumsum(np.tile((4.3, -2.6), (32, 1)), axis=0)
    truth -= truth[0]
    empty = (5, 10, 16, 17)  # one is a tenth frame, two are at a border of blocks
    path = solved(pairs_by_blocks(list(movie(truth, empty=empty)), 8), 32)
    assert tuple(np.nonzero(~path.measured)[0]) == empty
    assert np.abs(path.shifts - truth).max() < 1


def test_a_first_frame_without_content_and_missing_frames():
    truth = np.cumsum(np.tile((1.5, 2.0), (9, 1)), axis=0)
    truth -= truth[0]
    frames = list(movie(truth, empty=(0,)))
    pairs = list(drift_pairs(((t, frames[t]) for t in range(9) if t != 4), 0, max_shift=MAX_SHIFT))
    path = solved(pairs, 9)
    assert path.measured.tolist() == [False, True, True, True, False, True, True, True, True]
    assert np.abs(path.shifts - truth).max() < 0.5


# ------------------------------------------------------------------------------------------- without pixels


def exact(truth, links, weight=1.0):
    return [Pair(i, j, *(truth[j] - truth[i]).tolist(), weight) for i, j in links]


def test_exact_pairs_give_the_exact_path():
    truth = np.cumsum(steps(25, 1), axis=0)
    links = [*zip(range(24), range(1, 25), strict=True), (0, 10), (10, 20)]
    path = solved(exact(truth, links), 25)
    np.testing.assert_allclose(path.shifts, truth - truth[0], atol=1e-9)


def test_a_distant_pair_that_contradicts_the_near_ones_does_not_count():
    truth = np.cumsum(steps(21, 2), axis=0)
    near = exact(truth, zip(range(20), range(1, 21), strict=True), 0.3)
    wrong = Pair(0, 10, *(truth[10] - truth[0] + (100, 0)).tolist(), 1.0)  # the next part of a regular pattern
    np.testing.assert_allclose(solved([*near, wrong], 21).shifts, truth - truth[0], atol=1e-9)


def test_a_distant_pair_divides_the_errors_of_the_near_ones():
    near = [Pair(t, t + 1, 0.1, 0.0, 1.0) for t in range(10)]
    path = solved([*near, Pair(0, 10, 0.0, 0.0, 1.0)], 11)
    np.testing.assert_allclose(path.shifts[-1], (1 / 11, 0), atol=1e-9)


def test_frames_that_are_added_leave_those_up_to_the_last_tenth_where_they_are():
    random = np.random.default_rng(6)
    links = [(t, t + 1) for t in range(60) if t != 33] + [(t, t + 10) for t in range(0, 60, 10) if t != 20]
    pairs = [Pair(*link, *random.normal(0, 1, 2), random.uniform(0.3, 1)) for link in links]
    before, after = (solved([pair for pair in pairs if pair.second < n], n).shifts for n in (48, 61))
    np.testing.assert_allclose(after[:41], before[:41], atol=1e-9)
    assert np.abs(after[41:48] - before[41:48]).max() > 0.01


def test_nothing_measured_is_said():
    path = solved([Pair(t, t + 1, np.nan, np.nan, 0.0) for t in range(4)], 5)
    assert path.measured.tolist() == [True, False, False, False, False]
    assert not path.shifts.any()
    assert solved([], 1).shifts.tolist() == [[0, 0]]


def test_cumulated_shifts():
    np.testing.assert_allclose(cumulated([(1, 2), (3, -4)]), [(0, 0), (1, 2), (4, -2)])
    np.testing.assert_allclose(cumulated([(1, 2), (np.nan, np.nan), (3, -4)]), [(0, 0), (1, 2), (3, 1), (6, -3)])
    np.testing.assert_allclose(cumulated([(np.nan, np.nan), (3, -4)]), [(0, 0), (3, -4), (6, -8)])
    np.testing.assert_allclose(cumulated([(np.nan, np.nan)]), [(0, 0), (0, 0)])
    np.testing.assert_allclose(cumulated([]), [(0, 0)])

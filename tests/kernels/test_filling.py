"""Gaps are filled with the mask of the nearer end, on the line between both, where pixels are free."""

import numpy as np
import pytest

from pyama_dask.kernels.filling import FEWEST, draw, plan_fills


def boxes(*rows):
    return np.array(rows, np.int32).reshape(-1, 4)


def ids(*numbers):
    return np.array(numbers, np.int64)


def planned(per_frame, tracks, longest=9):
    return plan_fills(per_frame, tracks, longest, fill_gaps=True)


A, B = [10, 10, 20, 20], [14, 50, 24, 60]


def test_each_frame_takes_the_nearer_end_on_the_line_between():
    end = [18, 22, 30, 34]
    fills = planned([boxes(B, A), *[boxes()] * 3, boxes(end)], [ids(1, 2), *[ids()] * 3, ids(2)])
    assert fills.frame.tolist() == [1, 2, 3]
    assert fills.track.tolist() == [2, 2, 2]
    assert fills.source.tolist() == [0, 0, 4]
    assert fills.label.tolist() == [2, 2, 1]
    assert fills.box.tolist() == [A, A, end]
    assert fills.move.tolist() == [[2, 3], [4, 6], [-2, -3]]  # by a quarter of (9, 13), a half, and a quarter back


def test_a_measured_drift_moves_masks_where_there_are_too_few_cells_to_see_it():
    per_frame, tracks = [boxes(A), boxes(), boxes(A)], [ids(1), ids(), ids(1)]
    assert planned(per_frame, tracks).move.tolist() == [[0, 0]]
    drift = np.array([[0, 0], [7.4, -3.6], [1, 1]])
    fills = plan_fills(per_frame, tracks, 9, drift, fill_gaps=True)
    assert fills.move.tolist() == [[7, -4]]  # half of the cell's own way back by (1, 1), and the drift


def test_fills_are_sorted_by_frame_and_track():
    tracks = [ids(5, 2), ids(), ids(2), ids(5)]
    fills = planned([boxes(A, B), boxes(), boxes(B), boxes(A)], tracks)
    assert list(zip(fills.frame.tolist(), fills.track.tolist(), strict=True)) == [(1, 2), (1, 5), (2, 5)]
    of_one = fills.of_frames(1, 2)
    assert of_one.track.tolist() == [2, 5]
    assert len(fills.of_frames(3, 9)) == 0


def test_longer_gaps_and_objects_outside_all_tracks_are_left():
    per_frame, tracks = [boxes(A, B), *[boxes()] * 3, boxes(A, B)], [ids(1, 0), *[ids()] * 3, ids(1, 0)]
    assert planned(per_frame, tracks, 3).track.tolist() == [1, 1, 1]
    assert len(planned(per_frame, tracks, 2)) == 0


@pytest.mark.parametrize("off", [False, None])
def test_nothing_is_planned_unless_it_is_asked_for(off):
    assert plan_fills([boxes(A)] * 2, [ids(1)] * 2, 9, fill_gaps=off) is None


def test_without_frames_or_objects():
    assert len(planned([], [])) == 0
    assert len(planned([boxes(), boxes()], [ids(), ids()])) == 0


def test_a_jump_of_the_stage_in_the_gap_is_followed():
    others = np.array([[y, x, y + 10, x + 10] for y in range(0, 90, 30) for x in range(100, 190, 30)], np.int32)
    assert len(others) >= FEWEST
    names = ids(*range(2, 11))
    with_a = np.vstack([others, A]).astype(np.int32)
    tracks = [np.append(names, 1), names, np.append(names, 1)]
    fills = planned([with_a, others + 40, with_a + 40], tracks)
    assert fills.move.tolist() == [[40, 40]]


def test_boxes_are_clipped_to_the_frame():
    fills = planned([boxes([0, 0, 4, 4]), boxes(), boxes([0, 90, 4, 96])], [ids(1), ids(), ids(1)])
    assert fills.boxes((10, 48)).tolist() == [[0, 46, 4, 48]]


class TestDrawing:
    @pytest.fixture
    def labels(self):
        frame = np.zeros((8, 8), np.uint16)
        frame[2:4, 0:3], frame[5:7, 5:8] = 1, 2
        return frame

    MASK = np.ones((2, 4), bool)

    def test_only_free_pixels_are_drawn(self, labels):
        before = labels.copy()
        box = draw(labels, np.array([True, False, False]), self.MASK, np.array([3, 1]), 3)
        assert box.tolist() == [3, 1, 5, 5]
        assert (labels == 3).sum() == 6
        assert np.array_equal(labels[before > 0], before[before > 0])

    def test_pixels_of_objects_outside_all_tracks_are_free(self, labels):
        draw(labels, np.array([True, True, False]), self.MASK, np.array([3, 1]), 3)
        assert (labels == 3).sum() == 8

    @pytest.mark.parametrize(("corner", "pixels"), [((2, -1), 0), ((2, 0), 2), ((2, 1), 4), ((-1, 3), 4), ((7, 6), 0)])
    def test_too_little_room_leaves_the_frame_as_it_is(self, labels, corner, pixels):
        before = labels.copy()
        box = draw(labels, np.array([True, False, False]), self.MASK, np.array(corner), 3)
        drawn = pixels if pixels >= 0.3 * self.MASK.size else 0
        assert (box is not None) == (drawn > 0)
        assert (labels == 3).sum() == drawn
        assert np.array_equal(labels[labels != 3], before[labels != 3])

    def test_outside_of_the_frame(self, labels):
        assert draw(labels, np.array([True, False, False]), self.MASK, np.array([-9, 20]), 3) is None

    def test_what_was_drawn_before_is_not_free(self, labels):
        free = np.array([True, False, False])
        draw(labels, free, self.MASK, np.array([0, 0]), 3)
        box = draw(labels, free, self.MASK, np.array([0, 2]), 4)
        assert box.tolist() == [0, 4, 2, 6]
        assert (labels == 3).sum() == 8

"""Warped crops, and the maps that a network learns."""

import numpy as np
import pytest
from scipy import ndimage
from support.touching import touching_cells

from pyama_dask.kernels.training_crops import UNKNOWN, learned_maps, warp

FRAME, LABELS = touching_cells(shape=(90, 110))
FRAME = FRAME.astype(np.float32)


def shifted(y, x):
    return np.array([[1.0, 0, x], [0, 1.0, y]])


def test_a_shift_by_whole_pixels_copies_them():
    crop, labels = warp(FRAME, LABELS, shifted(20, 31), 64)
    np.testing.assert_array_equal(crop, FRAME[20:84, 31:95])
    np.testing.assert_array_equal(labels, LABELS[21:85:2, 32:96:2])


def test_a_crop_is_interpolated_and_reflected_as_by_scipy():
    angle, zoom = 0.7, 1.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    matrix = np.column_stack([turn, [-12.3, 17.8]])
    crop, _ = warp(FRAME, LABELS, matrix, 96)
    y, x = np.indices((96, 96))
    at = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    expected = ndimage.map_coordinates(FRAME, at[::-1], order=1, mode="mirror").reshape(96, 96)
    np.testing.assert_allclose(crop, expected, rtol=1e-4)


def test_labels_outside_the_frame_are_unknown():
    _, labels = warp(FRAME, LABELS, shifted(-40, 80), 80)
    assert (labels[:20] == UNKNOWN).all()
    assert (labels[:, 15:] == UNKNOWN).all()
    np.testing.assert_array_equal(labels[20:, :15], LABELS[1:40:2, 81:111:2])


def test_one_pixel_is_reflected_everywhere():
    crop, _ = warp(np.full((1, 1), 7, np.float32), np.ones((1, 1), np.int32), shifted(-9, -9), 16)
    assert (crop == 7).all()


def test_distance_rises_to_one_in_each_cell_and_is_that_of_the_border():
    labels = np.zeros((40, 60), np.int32)
    labels[5:26, 5:26], labels[5:16, 30:41] = 1, 2
    foreground, touch, distance = learned_maps(labels)
    np.testing.assert_array_equal(foreground, labels > 0)
    assert not touch.any()
    assert distance[labels == 0].max() == 0
    for label, middle, side in ((1, (15, 15), 21), (2, (10, 35), 11)):
        assert distance[middle] == distance[labels == label].max() == 1
        largest = 1 + (side // 2) * 0.955
        assert distance[middle[0], middle[1] - side // 2] == pytest.approx(1 / largest, rel=1e-5)
        assert distance[middle[0], middle[1] - side // 2 + 1] == pytest.approx(1.955 / largest, rel=1e-5)


def test_a_cell_cut_by_the_crop_has_no_border_there():
    distance = learned_maps(np.ones((20, 30), np.int32))[2]
    assert (distance == 1).all()


def test_touch_is_where_two_cells_are_within_two_pixels():
    labels = np.zeros((12, 30), np.int32)
    labels[2:10, 2:10], labels[2:10, 10:20], labels[2:10, 24:28] = 1, 2, 3
    touch = learned_maps(labels)[1]
    assert touch[5].tolist() == [x in (8, 9, 10, 11) for x in range(30)]


def test_pixels_that_are_not_annotated_are_background_of_the_maps():
    labels = np.full((16, 16), UNKNOWN, np.int32)
    labels[4:12, 4:12] = 3
    np.testing.assert_array_equal(learned_maps(labels), learned_maps(np.maximum(labels, 0)))

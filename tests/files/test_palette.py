"""Colours, and outlines drawn in pictures of frames."""

from itertools import combinations

import numpy as np

from pyama_dask.files import palette
from pyama_dask.files.palette import as_picture, draw, grey_range, outlines, rgb

LABELS = np.kron(np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]], np.uint16), np.ones((6, 6), np.uint16))


def test_outlines_are_inside_of_objects_and_apart():
    thin = outlines(LABELS)
    assert thin.sum() == 2 * 20  # the rims of two squares of 6 x 6, neighbours included
    assert not (thin & (LABELS == 0)).any()
    thick = outlines(LABELS, 2)
    assert thick.sum() == 2 * (20 + 12)
    assert (outlines(LABELS, 9) == (LABELS > 0)).all()
    assert not outlines(np.ones((4, 4), np.uint16)).any()  # an object that fills the frame


def test_one_contrast_for_all_frames():
    frame = np.arange(101, dtype=np.uint16).reshape(1, -1)
    assert grey_range([frame]) == (1, 99)
    assert grey_range([frame, frame + 101], (0, 100)) == (0, 201)
    low, high = grey_range([np.full((3, 3), 7, np.uint8)])
    assert low < high
    levels = as_picture(frame, (0, 100))[0, [0, 50, 100]]
    assert levels.tolist() == [[0] * 3, [127] * 3, [255] * 3]
    assert as_picture(frame)[0, [0, 1, 99, 100], 0].tolist() == [0, 0, 255, 255]


def test_drawing_covers_or_shines_through():
    picture = np.full((2, 2, 3), 100, np.uint8)
    draw(picture, np.array([[True, False], [False, False]]), palette.KEPT)
    draw(picture, np.array([[False, True], [False, False]]), palette.TRUTH, 0.5)
    assert picture[0].tolist() == [list(rgb(palette.KEPT)), [178] * 3]
    assert (picture[1] == 100).all()


def test_meanings_have_different_colours():
    colours = [palette.KEPT, palette.TOO_LARGE, palette.TOO_SMALL, palette.BORDER, palette.TRUTH]
    for one, other in combinations(map(rgb, colours), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 80
    assert len(set(palette.SERIES)) == 6

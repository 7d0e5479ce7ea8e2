"""Segmenters note how many objects they drop for their size, beside the labels that they return."""

import threading
import warnings

import numpy as np
import pytest
from support.bright_cells import bright_movie

from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.losses import Losses, collected, note
from pyama_dask.kernels.segmentation import segment


@pytest.fixture(scope="module")
def textured():
    """Squares of noise of 20 to 60 pixels on a calm background."""
    random = np.random.default_rng(3)
    frame = random.normal(1000, 2, (400, 500))
    for row, column, side in [
        (20, 20, 20),
        (20, 120, 20),
        (20, 250, 40),
        (150, 30, 40),
        (150, 200, 60),
        (280, 380, 60),
    ]:
        frame[row : row + side, column : column + side] += random.normal(0, 200, (side, side))
    return frame.round().astype(np.uint16)


@pytest.fixture(scope="module")
def bright():
    return bright_movie((256, 256), cells=60, seed=2)[0][0]


def dropped(segmenter, frame, **limits):
    with warnings.catch_warnings(action="ignore"), collected() as noted:
        labels = segmenter(frame, **limits)
    (losses,) = noted
    return labels, losses


@pytest.mark.parametrize(("segmenter", "name"), [(segment, "textured"), (segment_bright, "bright")])
def test_they_are_the_objects_that_other_limits_keep(request, segmenter, name):
    frame = request.getfixturevalue(name)
    every, losses = dropped(segmenter, frame, min_object_size=None, max_object_size=None)
    areas = np.bincount(every.ravel())[1:]
    assert losses == Losses(0, 0, 0.0)
    assert losses.large is None
    low, high = np.quantile(areas, (0.3, 0.7)).astype(int).tolist()
    labels, losses = dropped(segmenter, frame, min_object_size=low, max_object_size=high)
    large = areas[areas > high]
    assert losses == Losses((areas < low).sum(), large.size, large.sum() / frame.size)
    assert min(losses.too_small, losses.too_large) > 0
    assert losses.too_small + losses.too_large + labels.max() == areas.size
    assert (losses.large == np.isin(every, 1 + np.flatnonzero(areas > high))).all()


def test_maps_of_large_frames_are_reduced(textured):
    frame = np.tile(textured, (2, 3))  # 800 x 1500: every third row and column
    _, losses = dropped(segment, frame, max_object_size=1000)
    every, _ = dropped(segment, frame, max_object_size=None)
    areas = np.bincount(every.ravel())
    areas[0] = 0
    assert losses.large.shape == (267, 500)
    assert (losses.large == (areas > 1000)[every[::3, ::3]]).all()


def test_notes_are_collected_in_the_innermost_block_of_the_same_thread_only():
    note(Losses(1, 1, 0.1))  # nobody collects it
    with collected() as outer:
        with collected() as inner:
            note(Losses(2))
        note(Losses(3))
        (other := threading.Thread(target=note, args=[Losses(4)])).start()
        other.join()
    assert (inner, outer) == ([Losses(2)], [Losses(3)])

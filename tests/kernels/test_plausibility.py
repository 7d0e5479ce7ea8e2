"""Judgement of labels without truth, on made labels: separate cells, merged ones, debris, and noise."""

import numpy as np
import pytest

from pyama_dask.kernels.plausibility import look, plausibility

PLACES = np.stack(np.meshgrid(np.arange(20, 480, 40), np.arange(20, 480, 40)), axis=-1).reshape(-1, 2)


def disks(places=PLACES, radius=12, shape=(500, 500)):
    labels = np.zeros(shape, np.uint16)
    y, x = np.indices(shape)
    for k, (cy, cx) in enumerate(places, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius * radius] = k
    return labels


def followed(shift=2, **options):
    """Three frames of separate cells that move a little."""
    return [disks(PLACES + shift * t, **options) for t in range(3)]


def textured(labels):
    return float(np.mean([(frame > 0).mean() for frame in labels]))


def merged(labels):
    """Most cells in one object."""
    return [np.where(frame > 10, 11, frame) for frame in labels]


def debris(seed):
    rng = np.random.default_rng(seed)
    return disks(rng.integers(5, 495, (80, 2)), radius=3)


def test_what_is_seen_of_separate_cells():
    seen = look(followed())
    assert seen.count == len(PLACES)
    assert seen.covered == pytest.approx(len(PLACES) * 441 / 500**2)
    assert seen.largest == pytest.approx(441 / 500**2)
    assert seen.unevenness == 1
    assert 0.7 < seen.agreement < 0.95


def test_separate_cells_are_more_plausible_than_anything_else():
    cells = followed()
    texture = textured(cells)
    good = plausibility(look(cells), texture)
    assert good > 0.7
    noise = [debris(seed) for seed in range(3)]
    few = [np.where(frame > 6, 0, frame) for frame in cells]
    pieces = [cells[0], np.roll(debris(1), 7), disks(PLACES + 11)]
    for worse in (merged(cells), noise, few, pieces, [np.ones((500, 500), np.uint8)] * 3):
        assert plausibility(look(worse), max(texture, textured(worse))) < good / 2


def test_nothing_found_is_not_plausible():
    empty = [np.zeros((10, 10), np.uint16)] * 3
    seen = look(empty)
    assert (seen.count, seen.covered, seen.largest, seen.unevenness, seen.agreement) == (0, 0, 0, 0, 1)
    assert plausibility(seen, 0.5) == 0


def test_one_frame_is_judged_without_agreement():
    cells = followed()
    seen = look(cells[:1])
    assert np.isnan(seen.agreement)
    assert plausibility(seen, textured(cells)) == 1
    assert plausibility(look(merged(cells)[:1]), textured(cells)) < 0.1


def test_a_cell_that_comes_and_goes():
    seen = look([disks(PLACES[:1]), disks([]), disks(PLACES[:1])])
    assert seen.agreement == 0
    assert plausibility(look([disks(PLACES[:2])] * 3), 0.0) == 1

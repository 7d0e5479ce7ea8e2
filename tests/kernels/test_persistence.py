"""Basins by persistence are those of scikit-image's watershed from its h-maxima."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed
from support import frames

from pyama_dask.kernels.persistence import persistence_watershed

EIGHT = np.ones((3, 3))
HIGHEST = 4095


def hills(shape, seed, width):
    """Smooth landscape of distinct whole heights."""
    smooth = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=shape), width)
    return np.argsort(np.argsort(smooth, axis=None)).reshape(shape).astype(np.float32)


def basins_of_skimage(landscape, mask, depth):
    """The same by scikit-image; outside the mask lies an abyss deeper than any depth."""
    levels = np.pad(np.where(mask, landscape.astype(np.int64) + 2 * HIGHEST, 0), 1)
    peaks = label(h_maxima(levels, depth) * (levels > 0), connectivity=2)
    return watershed(-levels, peaks, connectivity=2, mask=levels > 0)[1:-1, 1:-1]


@given(
    shape=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    seed=frames.seeds,
    width=st.floats(1, 4),
    covered=st.floats(0, 0.7),
    depth=st.integers(1, HIGHEST),
)
@example(shape=(8, 55), seed=55, width=1.234375, covered=0.0, depth=9)
def test_basins_are_scikit_images(shape, seed, width, covered, depth):
    landscape = hills(shape, seed, width)
    mask = landscape >= np.quantile(landscape, covered)
    labels, count = persistence_watershed(landscape, mask, depth)
    expected = basins_of_skimage(landscape, mask, depth)
    assert count == expected.max()
    assert_same_basins(landscape, labels, expected)


def assert_same_basins(landscape, labels, expected):
    """Equal but for numbers, and a few slopes below passes: scikit-image floods, the kernel goes the steepest way.

    So a narrow basin may lie mostly in another one; but each has one peak, which is that of one basin of scikit-image.
    """
    assert np.array_equal(labels > 0, expected > 0)
    assert peaks_of(landscape, labels) == peaks_of(landscape, expected)
    pairs, counts = np.unique(np.stack([labels, expected]).reshape(2, -1), axis=1, return_counts=True)
    most = dict.fromkeys(pairs[0], 0)
    for (found, _), area in zip(pairs.T, counts, strict=True):
        most[found] = max(most[found], area)
    assert sum(most.values()) >= 0.9 * labels.size


def peaks_of(landscape, labels):
    """Places of the highest pixels of the basins."""
    return set(ndi.maximum_position(landscape, labels, np.unique(labels[labels > 0])))


def plain_basins(landscape, mask, depth):
    """Basins by the definition: a pixel belongs to that of its highest neighbour, and low peaks are joined."""
    owner, peak, joined = {}, [], []

    def root(basin):
        return basin if joined[basin] == basin else root(joined[basin])

    for pixel in sorted(zip(*np.nonzero(mask), strict=True), key=lambda at: -landscape[at]):
        around = [(pixel[0] + dy, pixel[1] + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        higher = sorted((at for at in around if at in owner), key=lambda at: -landscape[at])
        if not higher:
            joined.append(len(peak))
            peak.append(landscape[pixel])
        basins = sorted({root(owner[at]) for at in higher}, key=lambda basin: -peak[basin])
        owner[pixel] = root(owner[higher[0]]) if higher else len(peak) - 1
        for basin in basins[1:]:
            if peak[basin] - landscape[pixel] < depth:
                joined[basin] = basins[0]
    labels = np.zeros(landscape.shape, int)
    for pixel, basin in owner.items():
        labels[pixel] = root(basin) + 1
    return labels


@given(
    shape=st.tuples(st.integers(3, 20), st.integers(3, 20)),
    seed=frames.seeds,
    width=st.floats(1, 3),
    covered=st.floats(0, 0.7),
    depth=st.integers(1, 400),
)
def test_basins_are_those_of_the_definition(shape, seed, width, covered, depth):
    landscape = hills(shape, seed, width)
    mask = landscape >= np.quantile(landscape, covered)
    labels, count = persistence_watershed(landscape, mask, depth)
    expected = plain_basins(landscape, mask, depth)
    pairs = np.unique(np.stack([labels, expected]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == np.unique(labels).size == np.unique(expected).size
    assert count == labels.max()


def test_a_valley_as_deep_as_the_depth_divides():
    landscape = np.array([[1, 5, 3, 8, 0]], np.float32)
    mask = landscape > 0
    assert persistence_watershed(landscape, mask, 2)[0].tolist() == [[1, 1, 2, 2, 0]]
    assert persistence_watershed(landscape, mask, 2.1)[0].tolist() == [[1, 1, 1, 1, 0]]


def test_the_peak_counts_from_its_own_pass():
    """Of three peaks, the middle one is joined to the higher neighbour, not to the nearer one."""
    landscape = np.array([[9, 2, 4, 3, 8, 1]], np.float32)
    labels, count = persistence_watershed(landscape, landscape > 0, 3)
    assert count == 2
    assert labels[0, 2] == labels[0, 4] != labels[0, 0]


def test_separate_regions_of_the_mask_are_never_joined():
    mask = np.zeros((9, 9), bool)
    mask[1, 1] = mask[7, 7] = True
    labels, count = persistence_watershed(np.zeros((9, 9), np.float32), mask, 100)
    assert count == 2
    assert (labels[1, 1], labels[7, 7]) == (1, 2)


def test_diagonal_neighbours_are_connected():
    mask = np.eye(5, dtype=bool)
    assert persistence_watershed(np.ones((5, 5), np.float32), mask, 0.5)[1] == 1


@pytest.mark.parametrize("shape", frames.SHAPES)
def test_a_constant_landscape_has_the_regions_of_its_mask(shape):
    mask = frames.noise(shape, np.uint8, 3) > 160
    labels, count = persistence_watershed(np.full(shape, 7, np.float32), mask, 0.1)
    expected, expected_count = ndi.label(mask, EIGHT)
    assert (labels.dtype, count) == (np.int32, expected_count)
    np.testing.assert_array_equal(labels, expected)


def test_an_empty_mask():
    labels, count = persistence_watershed(np.ones((4, 6), np.float32), np.zeros((4, 6), bool), 0.1)
    assert count == 0
    assert not labels.any()


@given(seed=frames.seeds, gain=st.sampled_from([0.25, 2.0, 1024.0]))
def test_labels_do_not_depend_on_the_unit_of_height(seed, gain):
    landscape = hills((30, 41), seed, 2)
    mask = landscape > 800
    one, other = (persistence_watershed(landscape * unit, mask, 300 * unit)[0] for unit in (1, np.float32(gain)))
    np.testing.assert_array_equal(one, other)


def test_heights_outside_the_mask_are_not_read():
    landscape = hills((20, 20), 5, 2)
    mask = landscape > 1500
    spoiled = np.where(mask, landscape, np.nan).astype(np.float32)
    np.testing.assert_array_equal(
        persistence_watershed(spoiled, mask, 200)[0], persistence_watershed(landscape, mask, 200)[0]
    )

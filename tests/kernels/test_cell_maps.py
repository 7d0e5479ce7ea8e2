"""Labels from the maps of a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from support import frames

from pyama_dask.kernels.cell_maps import decode, decode_mask, without_gaps
from pyama_dask.kernels.losses import Losses, collected
from pyama_dask.kernels.resize import reduce_area

SETTINGS = {"depth": 0.2, "touch": 0.3, "smallest": 60}


def two_disks(shape=(128, 128), radius=18, apart=30):
    """Labels of two disks in contact, divided halfway."""
    y, x = np.indices(shape)
    left, right = ((y - shape[0] / 2) ** 2 + (x - shape[1] / 2 - side * apart / 2) ** 2 for side in (-1, 1))
    return np.where(np.minimum(left, right) > radius**2, 0, np.where(left <= right, 1, 2)).astype(np.uint16)


def maps_of(labels):
    """Maps that a perfect network would give for labels, at half the resolution."""
    each = [labels == k for k in range(1, labels.max() + 1)]
    distances = [ndi.distance_transform_edt(of) for of in each]
    distance = sum((of / of.max() for of in distances), np.zeros(labels.shape))
    inside = np.where(labels > 0, 6.0, -6.0)
    near = sum(ndi.binary_dilation(of, iterations=3).astype(int) for of in each) > 1
    maps = [inside, np.where(near, 6.0, -6.0), distance]
    return np.stack([reduce_area(of.astype(np.float32), 2) for of in maps])


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("shape", [(128, 128), (127, 125), (97, 131)])
def test_cells_in_contact_come_back(shape):
    labels = two_disks(shape)
    found = decode(maps_of(labels), shape, **SETTINGS)
    assert (found.dtype, found.shape, found.max()) == (np.uint16, shape, 2)
    for k in (1, 2):
        mine = found == found[tuple(int(n) for n in ndi.center_of_mass(labels == k))]
        assert overlap(mine, labels == k) > 0.93


def test_depth_joins_them():
    found = decode(maps_of(two_disks()), (128, 128), depth=1.2, touch=0.0, smallest=60)
    assert found.max() == 1


def test_small_cells_are_dropped_and_noted_and_the_others_numbered_without_gaps():
    labels = two_disks() * 0
    labels[8:12, 8:16] = 1
    labels[60:90, 60:90] = 2
    maps = maps_of(labels)
    with collected() as noted:
        assert decode(maps, labels.shape, **SETTINGS).max() == 1
        assert decode(maps, labels.shape, depth=0.2, touch=0.3, smallest=16).max() == 2
        assert decode_mask(maps[0], labels.shape, depth=0.2, smallest=10_000).max() == 0
    assert noted == [Losses(1, 0, 0.0), Losses(0, 0, 0.0), Losses(2, 0, 0.0)]  # nothing is too large


def test_outlines_are_cut_at_full_resolution():
    labels = two_disks()
    outside = (decode(maps_of(labels), labels.shape, **SETTINGS) > 0) != (labels > 0)
    assert outside.sum() < 0.04 * (labels > 0).sum()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_mask_is_divided_by_its_waist(factor):
    labels = two_disks()
    inside = reduce_area(np.where(labels > 0, 6.0, -6.0).astype(np.float32), factor)
    found = decode_mask(inside, labels.shape, depth=0.1, smallest=60, factor=factor)
    assert found.max() == 2
    for k in (1, 2):
        mine = found == found[tuple(int(n) for n in ndi.center_of_mass(labels == k))]
        assert overlap(mine, labels == k) > 0.9
    assert decode_mask(inside, labels.shape, depth=0.9, smallest=60, factor=factor).max() == 1


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=frames.seeds, smallest=st.integers(0, 400))
def test_any_maps_give_labels_without_gaps_within_the_mask(size, seed, smallest):
    maps = np.random.default_rng(seed).normal(0, 3, (3, *size)).astype(np.float32)
    shape = 2 * size[0], 2 * size[1] - (size[1] > 1)
    for found in (
        decode(maps, shape, depth=0.2, touch=0.3, smallest=smallest),
        decode_mask(maps[0], shape, depth=0.2, smallest=smallest),
    ):
        assert found.shape == shape
        assert np.bincount(found.ravel())[1:].all()


def test_gaps_are_closed_in_order():
    labels = np.array([[0, 9, 2], [65535, 2, 0]], np.uint16)
    assert without_gaps(labels).tolist() == [[0, 2, 1], [3, 1, 0]]
    assert not without_gaps(np.zeros((3, 3), np.uint16)).any()


def test_too_many_cells_are_refused():
    inside = np.full((1100, 1100), -1, np.float32)
    inside[::4, ::4] = 9
    with pytest.raises(OverflowError, match=r"75625 objects .* raise 'smallest'"):
        decode_mask(inside, (1100, 1100), depth=0.2, smallest=0, factor=4)

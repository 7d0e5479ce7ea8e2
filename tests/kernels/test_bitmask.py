"""Masks as bits are the masks, and grow and shrink as SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage.morphology import disk as plain_disk
from support import frames

from pyama_dask.kernels.bitmask import Bits, dilate, erode, pack, unpack
from pyama_dask.kernels.morphology import disk

masks = st.builds(frames.mask, frames.mask_shapes, frames.seeds, st.floats(0, 1))


def same(bits, mask):
    """The bits are those of a mask, and there are none beyond its width."""
    np.testing.assert_array_equal(unpack(bits), mask)
    h, w = mask.shape
    assert bits.shape == (h, w)
    assert bits.words.shape == (h, -(-w // 64))
    packed = np.zeros((h, 8 * bits.words.shape[1]), np.uint8)
    packed[:, : -(-w // 8)] = np.packbits(mask, axis=1, bitorder="little")
    np.testing.assert_array_equal(bits.words.view(np.uint8), packed)


@given(masks)
def test_pack_is_numpys(mask):
    same(pack(mask), mask)
    same(~pack(mask), ~mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_all_but_0_is_packed(dtype):
    labels = np.zeros((3, 130), dtype)
    labels[0, ::7], labels[2, 64], labels[2, 129] = 128, 1, np.iinfo(dtype).max
    same(pack(labels), labels != 0)


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed"])
def test_layout_in_memory_does_not_matter(layout):
    mask = frames.mask((40, 70), 1, 0.3)
    same(pack(frames.views(mask)[layout]), mask)


@given(masks, st.integers(0, 12))
def test_dilate_and_erode_are_scipys(mask, radius):
    same(dilate(pack(mask), disk(radius)), ndi.binary_dilation(mask, plain_disk(radius)))
    same(erode(pack(mask), disk(radius)), ndi.binary_erosion(mask, plain_disk(radius), border_value=1))


@pytest.mark.parametrize("radius", [63, 64, 65, 130])
def test_footprints_may_be_larger_than_words_and_frames(radius):
    mask = frames.mask((90, 300), 5, 0.0004)
    assert mask.any()
    distance = ndi.distance_transform_edt(~mask)
    same(dilate(pack(mask), disk(radius)), distance <= radius)
    same(erode(pack(~mask), disk(radius)), distance > radius)


def test_nothing_and_all_stay():
    for mask in (np.zeros((5, 100), bool), np.ones((5, 100), bool)):
        for step in (dilate, erode):
            same(step(pack(mask), disk(3)), mask)


def test_the_arguments_are_left_alone():
    mask = frames.mask((20, 100), 0, 0.5)
    bits = pack(mask)
    for step in (dilate, erode):
        step(bits, disk(2))
        same(bits, mask)
    assert isinstance(~bits, Bits)
    same(bits, mask)

"""Offsets of overlapping tiles."""

import re

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import noise
from support.tiles import REAL_PLATES, Tiles

from pyama_dask.kernels import registration
from pyama_dask.kernels.registration import Offset, neighbours, pair_offsets

SHAPE = (96, 128)


def grid(rows, columns, overlap=0.25):
    return np.indices((rows, columns)).reshape(2, -1).T * np.array(SHAPE) * (1 - overlap)


# ------------------------------------------------------------------------------------------------ neighbours


def test_neighbours_share_a_side():
    assert neighbours(grid(2, 3), SHAPE) == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5)]


def test_neighbours_of_unselected_sites_are_not_there():
    assert neighbours(grid(2, 3)[[0, 2, 4]], SHAPE) == []
    assert neighbours(grid(1, 1), SHAPE) == []
    assert neighbours([], SHAPE) == []


def test_tiles_that_do_not_overlap_are_no_neighbours():
    assert neighbours(grid(2, 2, overlap=0), SHAPE) == []


# ---------------------------------------------------------------------------------------------- correlation


@given(st.integers(0, 99), st.tuples(st.integers(9, 14), st.integers(9, 30)), st.tuples(*[st.integers(-40, 40)] * 2))
def test_each_shift_has_the_correlation_of_the_shared_pixels(seed, shape, shift):
    a, b = noise((13, 25), seed=seed).astype(float), noise(shape, seed=seed + 1).astype(float)
    (y, x), (h, w) = shift, shape
    shared_a = a[max(y, 0) : max(h + y, 0), max(x, 0) : max(w + x, 0)]
    shared_b = b[max(-y, 0) : max(13 - y, 0), max(-x, 0) : max(25 - x, 0)]
    found = registration._ncc(a, b, np.array([y]), np.array([x]))[0, 0]
    if min(shared_a.shape) < registration.NARROWEST:
        assert found == -np.inf
    else:
        assert found == pytest.approx(np.corrcoef(shared_a.ravel(), shared_b.ravel())[0, 1], abs=1e-9)


# --------------------------------------------------------------------------------------------------- offsets


def offset(first, second, expected, max_shift):
    """Offset of two tiles."""
    return pair_offsets([first, second], [(0, 0), expected], max_shift)[0, 1]


@settings(max_examples=15)
@given(st.integers(0, 99), st.floats(-4, 4), st.floats(-4, 4), st.booleans())
def test_fractional_offsets_are_found_in_spite_of_shading_and_noise(seed, dy, dx, below):
    expected = (96.0, 0.0) if below else (0.0, 120.0)
    truth = (expected[0] + dy, expected[1] + dx)
    found = offset(*Tiles(at=[(0, 0), truth], shape=(128, 160), seed=seed, shading=0.2).images, expected, 6)
    assert (found.y, found.x) == pytest.approx(truth, abs=0.5)
    assert found.accepted


def test_the_offset_back_is_the_negative_one():
    tiles = Tiles(at=[(0, 0), (1.3, 95.6)])
    there, back = offset(*tiles.images, (0, 96), 6), offset(*tiles.images[::-1], (0, -96), 6)
    assert (there.y, there.x, there.ncc) == pytest.approx((-back.y, -back.x, back.ncc))


def test_a_pattern_of_the_camera_does_not_count():
    rng = np.random.default_rng(0)
    pattern = rng.normal(0, 200, (SHAPE[0], 1)) + rng.normal(0, 200, SHAPE[1])
    first, second = (np.rint(1000 + pattern + rng.normal(0, 20, SHAPE)).astype(np.uint16) for _ in range(2))
    assert offset(first, second, (0, 96), 12).ncc < 0.4


def test_a_shift_beyond_the_search_does_not_count():
    tiles = Tiles(at=[(0, 0), (0, 90)])
    assert offset(*tiles.images, (0, 96), 7).accepted
    found = offset(*tiles.images, (0, 96), 5)
    assert (found.at_limit, found.accepted) == (True, False)


def test_tiles_of_different_places_do_not_count():
    tiles = Tiles(at=[(0, 0), (500, 500)])
    assert not offset(*tiles.images, (0, 96), 6).accepted


@pytest.mark.parametrize("level", [0, 1, 12345, 65535])
def test_uniform_tiles_have_nothing_to_compare(level):
    tile = np.full(SHAPE, level, np.uint16)
    assert offset(tile, tile, (0, 96), 6) == Offset(0, 96, 0.0, at_limit=False)


def test_a_search_wider_than_the_overlap_keeps_to_the_tiles():
    tiles = Tiles(at=[(0, 0), (0, 117)])
    found = offset(*tiles.images, (0, 118.0), 200)
    assert np.isfinite([found.y, found.x]).all()
    assert found.x <= SHAPE[1] - registration.NARROWEST


def test_the_least_correlation_counts():
    assert Offset(0, 0, 0.5, at_limit=False).accepted
    assert not Offset(0, 0, 0.49, at_limit=False).accepted


def test_all_neighbours_of_a_well_are_measured():
    tiles = Tiles(grid=(2, 2), shape=(192, 192))
    offsets = pair_offsets(tiles.images, tiles.stage, 10)
    assert [*offsets] == [(0, 1), (0, 2), (1, 3), (2, 3)]
    for (i, j), found in offsets.items():
        assert (found.y, found.x) == pytest.approx(tiles.truth[j] - tiles.truth[i], abs=0.4)
    assert pair_offsets([], np.empty((0, 2)), 10) == {}


# ---------------------------------------------------------------------------------------------- a real plate


def real_offset(well, wave, max_shift):
    """Measured minus stated offset of the two sites of a well of a real plate, and its correlation."""
    folder = REAL_PLATES / "imagexpress/9987_Plate_3434/TimePoint_1/ZStep_0"
    if not folder.exists():
        pytest.skip("the real plates are not beside this checkout")
    images, stage = [], []
    for site in (1, 2):
        with tifffile.TiffFile(folder / f"9987_{well}_s{site}_{wave}.TIF") as file:
            images.append(file.asarray())
            values = dict(re.findall(r'id="([\w-]+)" type="float" value="([^"]*)"', file.pages[0].description))
        stage.append(
            [float(values[f"stage-position-{axis}"]) / float(values["spatial-calibration-x"]) for axis in "yx"]
        )
    [found] = pair_offsets(images, stage, max_shift).values()
    return np.array([found.y, found.x]) - np.subtract(stage[1], stage[0]), found


@pytest.mark.parametrize("max_shift", [8, 15])
def test_channels_of_a_real_well_agree_on_its_offset(max_shift):
    (first, found), (second, again) = (real_offset("B03", wave, max_shift) for wave in ("w1", "w2"))
    assert first == pytest.approx([0.2, 2.1], abs=0.2)
    assert second == pytest.approx(first, abs=0.2)
    assert found.ncc > 0.94
    assert again.ncc > 0.9


@pytest.mark.parametrize("max_shift", [8, 15])
@pytest.mark.parametrize("wave", ["w1", "w2", "w3"])
def test_an_empty_real_well_does_not_count(wave, max_shift):
    assert not real_offset("B02", wave, max_shift)[1].accepted

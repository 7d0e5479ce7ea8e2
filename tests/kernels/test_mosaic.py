"""Wells as one image, blended from their tiles."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, distance_transform_edt
from support.frames import DTYPES, noise
from support.tiles import generated

from pyama_dask.kernels.mosaic import blend, lay_out, owners
from pyama_dask.kernels.placement import place
from pyama_dask.kernels.registration import pair_offsets
from pyama_dask.kernels.segmentation import segment

SHAPE = (12, 17)
positions = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.floats(-30, 30))


def plain_weights():
    """Distance to the nearest edge along y times that along x, from 1 at the edge."""
    y, x = np.indices(SHAPE)
    return np.minimum(y + 1, SHAPE[0] - y) * np.minimum(x + 1, SHAPE[1] - x)


def by_tile(mosaic):
    """(N, height, width) weights of all tiles on the canvas."""
    weights = np.zeros((len(mosaic.corners), *mosaic.shape))
    for weight, where in zip(weights, mosaic.places, strict=True):
        weight[where] = plain_weights()
    return weights


@given(positions)
def test_the_canvas_just_holds_all_tiles_each_within_half_a_pixel(at):
    mosaic = lay_out(at, SHAPE)
    corners = np.array(mosaic.corners)
    assert np.abs(corners - (at - at.min(0))).max() <= 0.5 + 1e-9
    assert corners.min(0).tolist() == [0, 0]
    assert mosaic.shape == tuple((corners.max(0) + SHAPE).tolist())


@pytest.mark.parametrize("dtype", DTYPES)
@given(at=positions, seed=st.integers(0, 9))
def test_the_canvas_is_the_weighted_mean_of_its_tiles(dtype, at, seed):
    mosaic = lay_out(at, SHAPE)
    tiles = [noise(SHAPE, dtype, seed + k) for k in range(len(at))]
    canvas, weights = blend(iter(tiles), mosaic), by_tile(mosaic)
    light = np.zeros(weights.shape)
    for k, where in enumerate(mosaic.places):
        light[k][where] = tiles[k]
    covered = weights.any(0)
    mean = (light * weights).sum(0)[covered] / weights.sum(0)[covered]
    assert canvas.dtype == dtype
    np.testing.assert_allclose(canvas[covered], mean, atol=0.55)


@pytest.mark.parametrize("dtype", DTYPES)
@given(at=positions, data=st.data())
def test_a_constant_image_stays_as_it_is(dtype, at, data):
    level = data.draw(st.integers(0, np.iinfo(dtype).max))
    canvas = blend([np.full(SHAPE, level, dtype)] * len(at), lay_out(at, SHAPE))
    assert (canvas == level).all()


def test_blending_is_linear_over_the_overlap():
    mosaic = lay_out([[0, 0], [0, 10]], SHAPE)  # 7 pixels
    canvas = blend([np.full(SHAPE, 100, np.uint8), np.full(SHAPE, 180, np.uint8)], mosaic)
    np.testing.assert_array_equal(canvas, np.broadcast_to([100] * 10 + [*range(110, 180, 10)] + [180] * 10, (12, 27)))


@given(positions)
def test_the_owner_is_the_first_tile_with_the_greatest_weight(at):
    mosaic = lay_out(at, SHAPE)
    weights = by_tile(mosaic)
    expected = np.where(weights.any(0), weights.argmax(0), -1)
    np.testing.assert_array_equal(owners(mosaic), expected)


@given(positions)
def test_pixels_without_a_tile_repeat_a_nearest_one(at):
    mosaic = lay_out(at, SHAPE)
    places = np.arange(np.prod(mosaic.shape), dtype=np.uint16).reshape(mosaic.shape)  # every pixel says where it is
    canvas, gaps = blend([places[place] for place in mosaic.places], mosaic), owners(mosaic) < 0
    y, x = np.unravel_index(canvas[gaps], mosaic.shape)
    rows, columns = np.nonzero(gaps)
    np.testing.assert_array_equal(canvas[~gaps], places[~gaps])
    np.testing.assert_allclose(np.hypot(y - rows, x - columns), distance_transform_edt(gaps)[gaps])


def test_pixels_without_a_tile_are_marked():
    mosaic = lay_out([[0, 0], [14, 0]], SHAPE)
    assert (owners(mosaic)[12:14] == -1).all()


def test_there_must_be_one_array_per_tile():
    with pytest.raises(ValueError, match="zip"):
        blend([noise(SHAPE)], lay_out([[0, 0], [0, 10]], SHAPE))


@pytest.mark.parametrize("selected", [None, (0, 1, 3)], ids=["all sites", "one left out"])
def test_cells_of_a_generated_well_are_found_once(selected):
    images, truth, well = generated(grid=(2, 2), tile=(256, 256), selected=selected, seed=3)
    stage = truth + np.random.default_rng(0).normal(0, 3, truth.shape)
    mosaic = lay_out(place(stage, pair_offsets(images, stage, 16)).positions, (256, 256))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = segment(blend(images, mosaic))
    inside = binary_erosion(owners(mosaic) >= 0, np.ones((51, 51)))
    cells = np.rint(well.centres[0] - truth.min(0)).astype(int)
    cells = cells[((cells >= 0) & (cells < mosaic.shape)).all(1)]
    found = labels[*cells[inside[*cells.T]].T].tolist()
    assert len(found) == len(set(found)) > 3
    assert 0 not in found

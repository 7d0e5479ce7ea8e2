"""Positions of tiles from the stage and from offsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiles import Tiles, generated

from pyama_dask.kernels.placement import place
from pyama_dask.kernels.registration import Offset, neighbours, pair_offsets

SHAPE = (100, 120)


def grid(rows, columns):
    return np.indices((rows, columns)).reshape(2, -1).T * np.array([90.0, 108.0])


def exact(positions, pairs, ncc=0.9):
    return {(i, j): Offset(*(positions[j] - positions[i]), ncc, at_limit=False) for i, j in pairs}


def error(placement, truth):
    """Largest distance of a tile from its true position, wherever the canvas lies."""
    off = placement.positions - truth
    return np.hypot(*(off - off.mean(0)).T).max()


@st.composite
def wells(draw):
    """True and stated positions of some sites of a grid, and the pairs of neighbours that count."""
    nominal = grid(draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    selected = draw(st.sets(st.integers(0, len(nominal) - 1), min_size=1))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    truth = nominal[sorted(selected)] + rng.uniform(-3, 3, (len(selected), 2))
    stage = truth + rng.normal(0, 6, truth.shape)
    known = draw(st.floats(0, 1))
    return truth, stage, [pair for pair in neighbours(truth, SHAPE) if rng.random() < known]


@given(wells())
def test_each_group_of_tiles_has_its_true_shape_where_the_stage_has_it(well):
    truth, stage, pairs = well
    placement = place(stage, exact(truth, pairs))
    for i, j in pairs:
        assert placement.groups[i] == placement.groups[j]
    for group in set(placement.groups):
        inside = placement.groups == group
        moved = placement.positions[inside] - truth[inside]
        np.testing.assert_allclose(moved, np.broadcast_to(moved.mean(0), moved.shape), atol=1e-3)
        np.testing.assert_allclose(placement.positions[inside].mean(0), stage[inside].mean(0), atol=1e-6)
    reached = {tile for pair in pairs for tile in pair}
    assert placement.unregistered == tuple(k for k in range(len(stage)) if k not in reached)
    assert (placement.used, placement.refused) == (tuple(pairs), {})


def test_without_offsets_all_tiles_keep_their_stage_positions():
    placement = place(grid(2, 2), {})
    np.testing.assert_array_equal(placement.positions, grid(2, 2))
    assert placement.unregistered == (0, 1, 2, 3)
    assert place(grid(1, 1), {}).positions.tolist() == [[0, 0]]


def test_offsets_that_do_not_count_are_refused_with_the_reason():
    offsets = {(0, 1): Offset(5, 100, 0.4, at_limit=False), (1, 2): Offset(5, 100, 0.9, at_limit=True)}
    placement = place(grid(1, 3), offsets)
    np.testing.assert_array_equal(placement.positions, grid(1, 3))
    assert placement.used == ()
    assert placement.refused == {(0, 1): "weak", (1, 2): "at the limit"}


@pytest.mark.parametrize("wrong", [(0, 1), (1, 4), (4, 5), (7, 8)])
def test_an_offset_that_contradicts_the_others_is_dropped(wrong):
    truth = grid(3, 3)
    offsets = exact(truth, neighbours(truth, SHAPE))
    y, x, *_ = offsets[wrong]
    offsets[wrong] = Offset(y + 9, x - 14, 0.6, at_limit=False)
    placement = place(truth + np.random.default_rng(0).normal(0, 4, truth.shape), offsets)
    assert error(placement, truth) < 1e-3
    assert placement.refused == {wrong: "contradicted"}


def test_offsets_weigh_as_much_as_their_correlation_is_sure():
    truth = grid(2, 2)
    offsets = exact(truth, neighbours(truth, SHAPE), ncc=0.95)
    y, x, *_ = offsets[0, 1]
    placement = place(truth, {**offsets, (0, 1): Offset(y + 1, x, 0.5, at_limit=False)})
    assert error(placement, truth) < 0.05  # least squares without weights: 0.35


# ------------------------------------------------------------------------- with registration, as in a well


@pytest.mark.parametrize(
    ("sites", "overlap", "most"), [((3, 3), 0.1, 0.5), ((4, 4), 0.08, 0.8), ((1, 1), 0.1, 0.0)], ids=str
)
def test_tiles_at_fractional_positions_are_found_under_shading(sites, overlap, most):
    tiles = Tiles(sites, (512, 512), overlap, stage_error=12, shading=0.3)
    placement = place(tiles.stage, pair_offsets(tiles.images, tiles.stage, 25))
    assert error(placement, tiles.truth) <= most
    assert placement.unregistered == (() if most else (0,))


def test_tiles_of_a_generated_plate_are_found_with_sites_left_out():
    images, truth, _ = generated(grid=(2, 3), tile=(256, 256), shading=0.3, selected=(0, 1, 3, 5))
    stage = truth + np.random.default_rng(1).normal(0, 3, truth.shape)
    placement = place(stage, pair_offsets(images, stage, 14))
    assert error(placement, truth) > 0.5  # of the tile that the others do not reach
    assert placement.unregistered == (3,)
    np.testing.assert_allclose(placement.positions[3], stage[3], atol=1e-6)
    found, true = placement.positions[:3], truth[:3]
    np.testing.assert_allclose(found - found[0], true - true[0], atol=0.5)

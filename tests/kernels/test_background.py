"""The background and its parts equal the plain definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import frames, reference

from pyama_dask.kernels import background as kernel
from pyama_dask.kernels import surface, tiles
from pyama_dask.kernels.bitmask import pack
from pyama_dask.kernels.histogram import FineLevels

SHAPES = [
    # (H, W), tile size: from a single pixel to several tiles, elongated, and where tiles are barely exceeded
    ((1, 1), 100),
    ((1, 50), 8),
    ((2, 3), 1),
    ((7, 5), 2),
    ((3, 400), 50),
    ((400, 3), 50),
    ((60, 400), 50),
    ((100, 100), 100),
    ((101, 99), 100),
    ((101, 101), 100),
    ((99, 101), 100),
    ((130, 217), 30),
    ((240, 320), 100),
]
each_shape = pytest.mark.parametrize(("shape", "tile_size"), SHAPES, ids=str)


def lit(shape, dtype=np.uint16, seed=0):
    """Frame with uneven light, noise, and cells, and the labels of the cells."""
    rng = np.random.default_rng(seed)
    top = frames.top(dtype)
    y, x = (np.arange(n) / n for n in shape)
    light = top * (0.2 + 0.2 * y[:, None] + 0.3 * x**2 + 0.1 * np.sin(5 * y)[:, None] * x)
    labels = frames.disks(shape, seed, count=max(1, shape[0] * shape[1] // 2500)).astype(np.uint16)
    frame = light + rng.normal(0, top / 100, shape) + labels * top / 3
    return np.clip(frame, 0, top).astype(dtype), labels


def same_background(frame, labels, **parameters):
    found, plain = kernel.background(frame, labels, **parameters), reference.background(frame, labels, **parameters)
    assert found.dtype == np.float32
    assert found.shape == frame.shape
    # rounding of float32, at the scale of the frame
    np.testing.assert_allclose(found, plain, rtol=3e-7, atol=3e-7 * frames.top(frame.dtype))
    return found


# ------------------------------------------------------------------------------------------------ tiles


@given(st.integers(1, 3000), st.integers(1, 400))
def test_tile_edges_are_the_plain_definition(n, tile_size):
    edges = tiles.tile_edges(n, tile_size)
    np.testing.assert_array_equal(edges, reference.tile_edges(n, tile_size))
    assert (edges[0], edges[-1]) == (0, n)
    width = edges[2:] - edges[:-2]
    assert width.max() <= tile_size + 1
    assert width.min() > 0 or tile_size == 1


def same_medians(frame, labels, tile_size, dilation, min_fraction):
    found = tiles.tile_medians(frame, kernel.cover(labels, dilation), tile_size=tile_size, min_fraction=min_fraction)
    plain, _, _ = reference.tile_medians(
        frame, labels, tile_size=tile_size, dilation=dilation, min_fraction=min_fraction
    )
    np.testing.assert_array_equal(found, plain)  # NaN where NaN, too
    return found


@pytest.mark.parametrize("dtype", frames.DTYPES)
@each_shape
def test_tile_medians_are_the_plain_definition(shape, tile_size, dtype):
    frame, labels = lit(shape, dtype)
    same_medians(frame, labels, tile_size, 2, 0.05)
    same_medians(frames.noise(shape, dtype, 1), labels, tile_size, 0, 0.0)


@given(
    frames.frames(largest=60, kinds=("noise", "blobs", "half_saturated", "outlier")),
    st.integers(1, 40),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.05, 0.5, 0.9, 1.0]),
    st.floats(0, 1),
    frames.seeds,
)
def test_tile_medians_of_anything(frame, tile_size, dilation, min_fraction, covered, seed):
    labels = (np.random.default_rng(seed).uniform(size=frame.shape) < covered**3).astype(np.uint16)
    same_medians(frame, labels, tile_size, dilation, min_fraction)


def test_tiles_with_too_little_background_are_nan():
    frame = frames.noise((40, 80), np.uint16, 0)
    labels = np.zeros(frame.shape, np.uint16)
    labels[:, :40] = 1
    labels[:10, :8] = 0  # 80 of the 1600 pixels of the first tile
    grid = same_medians(frame, labels, 40, 0, 0.05)
    assert np.isfinite(grid).all()
    grid = same_medians(frame, labels, 40, 0, 0.06)
    assert np.isnan(grid).tolist() == [[True, False, False]]
    labels[0, 0] = 1
    assert np.isnan(same_medians(frame, labels, 40, 0, 0.05)).tolist() == [[True, False, False]]


def test_medians_of_odd_and_even_numbers_of_pixels():
    frame = np.array([[0, 255, 256, 65535]], np.uint16)
    even = tiles.tile_medians(frame, pack(np.zeros((1, 4))), tile_size=100, min_fraction=0)
    assert even.tolist() == [[255.5]]
    odd = tiles.tile_medians(frame, pack(np.array([[0, 0, 0, 1]])), tile_size=100, min_fraction=0)
    assert odd.tolist() == [[255]]
    none = tiles.tile_medians(frame, pack(np.ones((1, 4))), tile_size=100, min_fraction=0)
    assert np.isnan(none).all()


@given(
    st.lists(st.lists(st.sampled_from([np.nan, 0.0, 1.0, 7.25, 1e4]), min_size=5, max_size=5), min_size=1, max_size=7)
)
def test_fill_grid_is_the_plain_definition(rows):
    grid = np.array(rows)
    before = grid.copy()
    found = tiles.fill_grid(grid)
    np.testing.assert_array_equal(found, reference.fill_grid(grid))
    np.testing.assert_array_equal(grid, before)
    known = np.isfinite(grid)
    np.testing.assert_array_equal(found[known], grid[known])
    assert np.isfinite(found).all() == known.any()


# ------------------------------------------------------------------------------------------- background


@pytest.mark.parametrize("dtype", frames.DTYPES)
@each_shape
def test_background_is_the_plain_definition(shape, tile_size, dtype):
    frame, labels = lit(shape, dtype)
    same_background(frame, labels, tile_size=tile_size)
    same_background(frame, labels, tile_size=tile_size, dilation=2, min_fraction=0.5)
    same_background(frame, 0 * labels, tile_size=tile_size, dilation=0)


@given(
    frames.frames(largest=70, kinds=("noise", "quiet", "blobs", "outlier", "checkerboard")),
    st.integers(1, 80),
    st.integers(0, 12),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    frames.seeds,
)
def test_background_of_anything_is_the_plain_definition(frame, tile_size, dilation, min_fraction, seed):
    labels = frames.disks(frame.shape, seed, count=seed % 4).astype(np.uint16)
    same_background(frame, labels, tile_size=tile_size, dilation=dilation, min_fraction=min_fraction)


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed"])
def test_layout_in_memory_does_not_matter(layout):
    frame, labels = lit((130, 140))
    found = kernel.background(frames.views(frame)[layout], frames.views(labels)[layout], tile_size=40)
    np.testing.assert_array_equal(found, kernel.background(frame, labels, tile_size=40))


@each_shape
def test_without_background_there_is_nothing_to_measure(shape, tile_size):
    frame, _ = lit(shape)
    found = kernel.background(frame, np.ones(shape, np.uint16), tile_size=tile_size)
    assert found.shape == shape
    assert np.isnan(found).all()


@pytest.mark.parametrize("dtype", frames.DTYPES)
@each_shape
def test_a_flat_field_stays_flat(shape, tile_size, dtype):
    found = kernel.background(np.full(shape, 201, dtype), np.zeros(shape, np.uint16), tile_size=tile_size)
    np.testing.assert_allclose(found, 201, rtol=2e-7)


@pytest.mark.parametrize(("shape", "tile_size"), [((240, 320), 40), ((203, 151), 50), ((64, 400), 30)], ids=str)
def test_a_linear_ramp_is_reproduced(shape, tile_size):
    y, x = np.indices(shape)
    ramp = 1000 + 7 * y + 3 * x
    found = kernel.background(ramp.astype(np.uint16), np.zeros(shape, np.uint16), tile_size=tile_size)
    np.testing.assert_allclose(found, ramp, rtol=1e-6)  # the median of a tile is the value at its centre


def test_the_plane_is_rebuilt_from_its_tiles():
    for shape, tile_size in SHAPES:
        frame, labels = lit(shape)
        grid = kernel.tile_grid(frame, labels, tile_size=tile_size, dilation=2)
        assert grid.dtype == np.float64
        assert grid.shape == tiles.grid_shape(shape, tile_size)
        out = np.empty(shape, np.float32)
        assert kernel.background_plane(grid.copy(), tile_size, out) is out
        whole = kernel.background(frame, labels, tile_size=tile_size, dilation=2)
        np.testing.assert_array_equal(out.view(np.uint32), whole.view(np.uint32))  # every bit


def counted(frame, grid, weight, *, height=None, background=True, corrected=True):
    """Grey levels that are counted as a plane is made, and what counts them of the whole plane."""
    planes, plain = kernel.CountedPlanes(frame.shape), [FineLevels(), FineLevels()]
    planes.background = FineLevels() if background else None
    planes.corrected = FineLevels() if corrected else None
    for _ in range(2):  # frames add up, and the second finds the room of the first used
        strips = [strip.copy() for strip in planes.strips(grid, 40, frame, weight, height)]
        plane = kernel.background_plane(grid, 40, np.empty(frame.shape, np.float32))
        plain[0].add(plane)
        plain[1].add_corrected(frame, plane, weight)
        np.testing.assert_array_equal(np.concatenate(strips).view(np.uint32), plane.view(np.uint32))
        assert not height or {len(strip) for strip in strips[:-1]} <= {height}
    return [planes.background, planes.corrected], plain


@pytest.mark.parametrize("strip", [1, 140, 1000, 2**17], ids="{} pixels".format)
@pytest.mark.parametrize("dtype", frames.DTYPES)
@pytest.mark.parametrize("height", [None, 40, 1000], ids="{} rows".format)
def test_grey_levels_counted_strip_by_strip_are_those_of_the_whole(monkeypatch, strip, dtype, height):
    monkeypatch.setattr(kernel, "STRIP", strip)
    frame, labels = lit((130, 140), dtype)
    grid = kernel.tile_grid(frame, labels, tile_size=40)
    for background, corrected in ((True, True), (True, False), (False, True)):
        found, plain = counted(frame, grid, 0.3, height=height, background=background, corrected=corrected)
        for one, whole in zip(found, plain, strict=True):
            for name in vars(whole.histogram()) if one else ():
                np.testing.assert_array_equal(getattr(one.histogram(), name), getattr(whole.histogram(), name))


def test_a_frame_without_rows_has_no_strips():
    assert not [*kernel.CountedPlanes((0, 9)).strips(np.full((1, 1), 5.0), 40, None, 1.0)]


def test_nothing_is_counted_without_background():
    frame, _ = lit((130, 140))
    found, _ = counted(frame, np.full((5, 5), np.nan), 1.0)
    assert [one.histogram().counts.size for one in found] == [0, 0]


def test_without_background_the_grid_and_its_plane_are_nan():
    frame, _ = lit((130, 217))
    grid = kernel.tile_grid(frame, np.ones_like(frame), tile_size=30)
    assert grid.shape == tiles.grid_shape(frame.shape, 30)
    assert np.isnan(grid).all()
    assert np.isnan(kernel.background_plane(grid, 30, np.zeros(frame.shape, np.float32))).all()


def plain_surface(grid, tile_size, shape):
    """Sum over the terms of the splines, pixel by pixel."""
    down, right = (surface._basis(n, tile_size) for n in shape)
    coefficients = np.pad(down.solve @ grid @ right.solve.T, (0, 3))
    out = np.empty(shape)
    for y, x in np.ndindex(shape):
        row = np.zeros(coefficients.shape[1])
        for k in range(4):
            row += down.weights[k, y] * coefficients[down.first[y] + k]
        out[y, x] = sum(right.weights[k, x] * row[right.first[x] + k] for k in range(4))
    return out.astype(np.float32)


@pytest.mark.parametrize(("shape", "tile_size"), [((9, 31), 4), ((40, 23), 7), ((12, 12), 11), ((5, 60), 4)], ids=str)
def test_no_bit_depends_on_the_order_of_the_loops(shape, tile_size):
    grid = np.random.default_rng(3).uniform(0, 65535, tiles.grid_shape(shape, tile_size))
    out = np.empty(shape, np.float32)
    kernel.background_plane(grid, tile_size, out)
    np.testing.assert_array_equal(out, plain_surface(grid, tile_size, shape))


def test_cells_are_left_out_with_a_margin():
    y = np.arange(200) % 50 - 25
    cell, halo = (np.broadcast_to((np.abs(y) <= reach)[:, None], (200, 200)) for reach in (6, 16))
    frame = np.where(halo, 9000, 500).astype(np.uint16)
    labels = cell.astype(np.uint16)
    np.testing.assert_allclose(kernel.background(frame, labels, tile_size=50, dilation=10), 500, rtol=1e-6)
    assert kernel.background(frame, labels, tile_size=50, dilation=9).max() < 9000
    assert kernel.background(frame, labels, tile_size=50, dilation=0).max() > 8000  # most that is left is halo

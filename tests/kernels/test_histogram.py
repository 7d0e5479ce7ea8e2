"""Grey levels of a whole FOV from its blocks, and what is made with them: display levels and crops."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import frames, reference

from pyama_dask.kernels import crops, display
from pyama_dask.kernels.histogram import FINE, FineLevels, Histogram, WholeLevels

PERCENTS = (0, 0.1, 1, 25, 50, 73.3, 99, 99.9, 100)
STACKS = ((1, 1, 1), (1, 2, 2), (3, 5, 7), (2, 1, 9), (2, 9, 1), (4, 32, 48), (3, 31, 44), (5, 64, 33))

sizes = st.integers(1, 400)
integers = st.builds(
    lambda make, size, dtype, seed: frames.MAKERS[make]((size,), dtype, seed),
    st.sampled_from(["noise", "quiet", "flat", "saturated", "half_saturated", "outlier"]),
    sizes,
    st.sampled_from(frames.DTYPES),
    frames.seeds,
)
floats = st.builds(
    lambda size, seed, centre, width: np.random.default_rng(seed).normal(centre, width, size).astype(np.float32),
    sizes,
    frames.seeds,
    st.floats(-3e4, 3e4),
    st.sampled_from([0.0, 0.01, 1.0, 100.0, 5000.0]),
)


def of_integers(*blocks):
    levels = WholeLevels()
    for block in blocks:
        levels.add(block)
    return levels.histogram()


def of_floats(block):
    levels = FineLevels()
    levels.add(block)
    return levels.histogram()


def corrected(frame, background, weight):
    levels = FineLevels()
    levels.add_corrected(frame, background, weight)
    return levels.histogram()


def assert_same(found, whole):
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_array_equal(found.counts, whole.counts)
    assert found.bin_width == whole.bin_width
    np.testing.assert_equal((found.minimum, found.maximum), (whole.minimum, whole.maximum))


# -------------------------------------------------------------------------------------------- histogram


@given(integers)
def test_percentiles_of_whole_numbers_are_numpys(block):
    histogram = of_integers(block)
    for percent in PERCENTS:
        assert histogram.percentile(percent) == pytest.approx(np.percentile(block, percent), rel=0, abs=1e-9)
    assert (histogram.minimum, histogram.maximum) == (block.min(), block.max())
    assert histogram.counts.sum() == block.size


@given(floats)
def test_percentiles_of_floats_are_numpys_within_a_sixteenth(block):
    assert FINE == 16
    histogram = of_floats(block)
    for percent in PERCENTS:
        plain = np.percentile(block.astype(np.float64), percent)
        assert histogram.percentile(percent) == pytest.approx(plain, rel=0, abs=1 / 16)
    assert (histogram.minimum, histogram.maximum) == (block.min(), block.max())


def test_values_of_a_bin_count_as_spread_over_it():
    for value in (10.003, 10.03, 10.06):
        lone = of_floats(np.array([0, value, 20], np.float32))
        assert lone.percentile(50) == pytest.approx(value, rel=0, abs=1 / 32)
    even = of_floats(np.linspace(0, 1, 10001, dtype=np.float32))
    for percent in PERCENTS:
        assert even.percentile(percent) == pytest.approx(percent / 100, rel=0, abs=1e-3)


@given(integers, frames.seeds, st.sampled_from([0.0, 0.3, 1.0]))
def test_histogram_of_corrected_grey_levels(block, seed, weight):
    background = np.random.default_rng(seed).uniform(-100, 70000, block.size).astype(np.float32)
    histogram = corrected(block, background, weight)
    plain = block.astype(np.float64) - weight * background.astype(np.float64)
    assume(np.abs(plain).max() < 65536)
    for percent in PERCENTS:
        assert histogram.percentile(percent) == pytest.approx(np.percentile(plain, percent), rel=0, abs=1 / 16)
    assert histogram.counts.sum() == block.size


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed"])
def test_histograms_of_any_layout_in_memory(layout):
    block = frames.noise((3, 20, 30), np.uint16, 1)
    assert_same(of_integers(frames.views(block)[layout]), of_integers(block))
    background = frames.noise((3, 20, 30), np.uint16, 2).astype(np.float32)
    found = corrected(frames.views(block)[layout], frames.views(background)[layout], 0.5)
    assert_same(found, corrected(block, background, 0.5))


@st.composite
def parts(draw, whole):
    """A block, and the pieces it is cut into, in any order."""
    block = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(1, block.size), max_size=6)))
    pieces = [piece for piece in np.split(block, cuts) if piece.size]
    return block, draw(st.permutations(pieces))


@given(parts(integers))
def test_sums_of_parts_of_whole_numbers_equal_the_whole(case):
    block, pieces = case
    assert_same(Histogram.sum([of_integers(piece) for piece in pieces]), of_integers(block))
    assert_same(of_integers(*pieces), of_integers(block))


@given(parts(floats), frames.seeds)
def test_sums_of_parts_of_floats_equal_the_whole(case, seed):
    block, pieces = case
    whole = of_floats(block)
    found = [of_floats(piece) for piece in pieces]
    assert_same(Histogram.sum(found), whole)
    middle = seed % len(found)
    nested = [Histogram.sum(group) for group in (found[:middle], found[middle:]) if group]
    assert_same(Histogram.sum(nested), whole)


def test_summing_many_histograms_takes_the_memory_of_a_few():
    def of_blocks(blocks, bins=20_000):
        for block in range(blocks):
            yield Histogram((block + np.arange(bins)) / FINE, np.ones(bins, np.int64), 1 / FINE, block, block + bins)

    one = sum(array.nbytes for array in (next(of_blocks(1)).values, next(of_blocks(1)).counts))
    for blocks in (3, 300):
        tracemalloc.start()
        try:
            found = Histogram.sum(of_blocks(blocks))
            assert tracemalloc.get_traced_memory()[1] < 8 * one
        finally:
            tracemalloc.stop()
        assert found.counts.sum() == blocks * 20_000
        assert (found.minimum, found.maximum) == (0, blocks + 19_999)


@given(floats, frames.seeds)
def test_nan_is_left_out(block, seed):
    holes = np.random.default_rng(seed).permutation(np.concatenate([block, np.full(5, np.nan, np.float32)]))
    assert_same(of_floats(holes), of_floats(block))
    nothing = of_floats(np.full(3, np.nan, np.float32))
    assert_same(Histogram.sum([nothing, of_floats(block), nothing]), of_floats(block))


def test_histogram_of_nothing():
    for block in (np.full((2, 3), np.nan, np.float32), np.zeros((0, 4), np.float32)):
        histogram = of_floats(block)
        assert histogram.counts.sum() == 0
        for found in (histogram, Histogram.sum([histogram, histogram])):
            assert np.isnan([found.minimum, found.maximum, found.percentile(50), *found.window()]).all()


def test_histogram_of_no_whole_numbers():
    histogram = of_integers(np.zeros((0, 5, 5), np.uint16))
    assert np.isnan([histogram.percentile(1), *histogram.window()]).all()
    some = of_integers(np.array([1, 2, 2], np.uint16))
    assert_same(Histogram.sum([histogram, some]), some)


@pytest.mark.parametrize("value", [0, 1, 255, 65535])
def test_histogram_of_a_constant(value):
    whole = of_integers(np.full((4, 5), value, np.uint16))
    fine = of_floats(np.full((4, 5), value, np.float32))
    assert whole.window() == fine.window() == (value, value)
    assert fine.percentile(50) == value
    assert (whole.values.tolist(), whole.counts.tolist(), whole.bin_width) == ([value], [20], 0)


def test_window_is_the_whole_range_where_nearly_all_is_the_same():
    block = np.full(1000, 50, np.uint16)
    block[:3] = 9, 50, 4000
    assert of_integers(block).window() == (9, 4000)
    block[:40] = 9
    block[-40:] = 4000
    assert of_integers(block).window() == (9, 4000)
    block = np.arange(1001, dtype=np.uint16)
    assert of_integers(block).window() == (10, 990)


# ---------------------------------------------------------------------------------------------- display


def plain_window(stack):
    """Percentiles as the plain definition takes them."""
    low, high = np.percentile(stack, [1, 99])
    return (float(low), float(high)) if high > low else (float(stack.min()), float(stack.max()))


def some_stack(kind, shape, dtype, seed=3):
    return frames.MAKERS[kind](shape, dtype, seed)


FLAT_KINDS = ["noise", "quiet", "flat", "saturated", "half_saturated", "outlier"]  # any number of axes


@pytest.mark.parametrize("kind", FLAT_KINDS)
def test_shown_whole_numbers_are_the_plain_definition(kind):
    for shape, dtype in itertools.product(STACKS, frames.DTYPES):
        stack = some_stack(kind, shape, dtype)
        plain = reference.display_level(stack, is_labels=False)
        for window in (plain_window(stack), of_integers(stack).window()):
            found = display.show_intensities(stack, *window)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, plain, err_msg=f"{shape}, {dtype}, {window}")


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)), st.sampled_from(frames.DTYPES), frames.seeds
)
def test_shown_noise_is_the_plain_definition(shape, dtype, seed):
    stack = frames.noise(shape, dtype, seed)
    found = display.show_intensities(stack, *plain_window(stack))
    np.testing.assert_array_equal(found, reference.display_level(stack, is_labels=False))


@pytest.mark.parametrize("centre", [-300, 0, 20000])
def test_shown_floats_are_the_plain_definition_within_a_level(centre):
    for shape in STACKS:
        stack = np.random.default_rng(0).normal(centre, 100, shape).astype(np.float32)
        plain = reference.display_level(stack, is_labels=False).astype(int)
        windows = [plain_window(stack)]
        if stack.size > 50:  # else a sixteenth of a grey level may be more than a level
            windows.append(of_floats(stack).window())
        for window in windows:
            found = display.show_intensities(stack, *window)
            assert found.shape == plain.shape
            assert np.abs(found - plain).max(initial=0) <= 1, (shape, window)


def test_blocks_are_shown_as_the_whole():
    stack = some_stack("noise", (7, 12, 13), np.uint16)
    window = Histogram.sum([of_integers(stack[:4]), of_integers(stack[4:])]).window()
    found = np.concatenate([display.show_intensities(block, *window) for block in (stack[:4], stack[4:])])
    np.testing.assert_array_equal(found, reference.display_level(stack, is_labels=False))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_shades_of_known_means(dtype):
    stack = np.array([[[10, 10, 20, 20, 30, 30, 9], [10, 10, 20, 20, 30, 30, 9], [99] * 7]], dtype)
    assert display.show_intensities(stack, 10.0, 30.0).tolist() == [[[0, 127, 255]]]
    assert display.show_intensities(stack, 20.0, 20.5).tolist() == [[[0, 0, 255]]]
    assert not display.show_intensities(stack, 20.0, 20.0).any()
    assert not display.show_intensities(stack, np.nan, np.nan).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_means_of_saturated_pixels_do_not_overflow(dtype):
    top = frames.top(dtype)
    stack = np.full((1, 4, 4), top, dtype)
    stack[0, :2, :2] = top // 2
    assert display.show_intensities(stack, 0.0, float(top)).tolist() == [[[127, 255], [255, 255]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_halves_are_rounded_means_or_every_second_pixel(dtype):
    top = np.iinfo(dtype).max
    frame = np.array([[0, 1, 1, 1, 9], [0, 1, 0, 0, 9], [top, top, 3, 3, 9], [top, top, 0, 0, 9], [9] * 5], dtype)
    for shrink, expected in ((display.halve, [[1, 1], [top, 2]]), (display.subsample, [[0, 1], [top, 3]])):
        out = np.full((2, 2), 7, dtype)
        shrink(frame, out)
        assert out.tolist() == expected


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_is_shown_as_0(place):
    stack = np.full((1, 2, 4), 5, np.float32)
    stack[0][place] = np.nan
    assert display.show_intensities(stack, 0.0, 10.0).tolist() == [[[0, 127]]]


@pytest.mark.parametrize(
    ("dtype", "tops"),
    [
        (np.uint8, (0, 1, 200, 255)),
        (np.uint16, (0, 2, 255, 256, 1000, 65535)),
        (np.uint32, (1, 300, 70000)),
    ],
)
def test_shown_labels_are_the_plain_definition(dtype, tops):
    for top, shape in itertools.product(tops, STACKS):
        stack = np.random.default_rng(0).integers(0, top, shape, dtype, endpoint=True)
        stack[np.random.default_rng(1).uniform(size=shape) < 0.4] = 0
        stack[-1, -1, -1] = top
        found = display.show_labels(stack, top)
        assert found.dtype == np.uint8
        plain = reference.display_level(stack, is_labels=True)
        np.testing.assert_array_equal(found, plain, err_msg=f"{shape}, {top}")


def test_no_label_is_black_and_the_last_is_white():
    stack = np.zeros((1, 2, 6), np.uint16)
    stack[0, 0, ::2] = 0, 1, 60000
    assert display.show_labels(stack, 60000).tolist() == [[[0, 1, 255]]]
    assert display.show_labels(stack[:, :, :4], 60000).tolist() == [[[0, 1]]]  # a block with small labels only
    assert display.show_labels(stack[:, :1], 60000).shape == (1, 0, 3)


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed"])
def test_any_layout_in_memory_is_shown(layout):
    whole = some_stack("noise", (3, 8, 9), np.uint16)
    for stack in (whole, whole.astype(np.float32) / 1000):
        view = frames.views(stack)[layout]
        expected = display.show_intensities(stack, 1.0, 60.0)
        np.testing.assert_array_equal(display.show_intensities(view, 1.0, 60.0), expected)


# ------------------------------------------------------------------------------------------------ crops


@st.composite
def cell_sets(draw):
    """A stack, its background, and boxes of cells in it, seen in some of the frames."""
    count, times = draw(st.integers(0, 5)), draw(st.integers(1, 5))
    h, w = draw(frames.shapes(largest=24))
    rng = np.random.default_rng(draw(frames.seeds))
    stack = frames.noise((times, h, w), draw(st.sampled_from(frames.DTYPES)), draw(frames.seeds))
    background = rng.uniform(0, 20000, stack.shape).astype(np.float32)
    background[rng.uniform(size=stack.shape) < 0.1] = np.nan
    y, x = (np.sort(rng.integers(0, n, (2, count, times)), axis=0) for n in (h, w))
    boxes = np.stack([y[0], x[0], y[1] + 1, x[1] + 1], axis=-1).astype(np.int32)
    valid = rng.uniform(size=(count, times)) < draw(st.sampled_from([0.2, 0.7, 1.0]))
    boxes[~valid] = 0
    return stack, background, boxes, valid


def cut_intensities(stack, background, weight, scale, boxes, valid, sizes):
    found = crops.Windows(sizes, len(stack), np.float32)
    for k, frame in enumerate(stack):
        back = None if background is None else background[k]
        found.cut_intensities(k, frame, back, weight, scale, boxes[:, k], valid[:, k])
    return found.flat


def cut_masks(tracked, ids, boxes, valid, sizes):
    found = crops.Windows(sizes, len(tracked), np.uint8)
    for k, frame in enumerate(tracked):
        found.cut_masks(k, frame, ids, boxes[:, k], valid[:, k])
    return found.flat


def windows(values, boxes, valid, sizes):
    """Plain loop: the boxes of (N, T, H, W) values at the top-left of windows of zeros, one cell after the other."""
    flat = [np.zeros(0, values.dtype)]
    for n, (h, w) in enumerate(sizes):
        window = np.zeros((values.shape[1], h, w), values.dtype)
        for t in np.flatnonzero(valid[n]):
            y0, x0, y1, x1 = boxes[n, t]
            window[t, : y1 - y0, : x1 - x0] = values[n, t, y0:y1, x0:x1]
        flat.append(window.ravel())
    return np.concatenate(flat)


@given(cell_sets(), st.integers(0, 30))
def test_padded_boxes(case, padding):
    stack, _, boxes, _ = case
    h, w = stack.shape[1:]
    found = crops.padded_boxes(boxes, padding, (h, w))
    assert found.dtype == np.int32
    assert found.shape == boxes.shape
    for (y0, x0, y1, x1), wide in zip(boxes.reshape(-1, 4).tolist(), found.reshape(-1, 4).tolist(), strict=True):
        assert wide == [max(y0 - padding, 0), max(x0 - padding, 0), min(y1 + padding, h), min(x1 + padding, w)]


@given(cell_sets())
def test_windows_hold_the_largest_box(case):
    _, _, boxes, valid = case
    boxes[~valid] = (0, 0, 1000, 1000)  # what was not seen does not count
    found = crops.window_shapes(boxes, valid)
    assert found.shape == (len(boxes), 2)
    for n in range(len(boxes)):
        seen = [(y1 - y0, x1 - x0) for (y0, x0, y1, x1), there in zip(boxes[n], valid[n], strict=True) if there]
        assert found[n].tolist() == [max((size[axis] for size in seen), default=0) for axis in (0, 1)]


@given(cell_sets(), st.sampled_from([0.0, 0.4, 1.0]), st.booleans(), st.floats(-500, 30000), st.floats(1, 60000))
def test_cut_intensities(case, weight, subtract, low, span):
    stack, background, boxes, valid = case
    scale = crops.Scale.between(low, low + span)
    sizes = crops.window_shapes(boxes, valid)
    found = cut_intensities(stack, background if subtract else None, weight, scale, boxes, valid, sizes)
    levels = stack.astype(np.float64)
    if subtract:
        levels -= weight * background.astype(np.float64)
    shades = np.nan_to_num(np.clip((levels - scale.offset) / scale.scale, 0, 1)).astype(np.float32)
    plain = windows(np.broadcast_to(shades, (len(boxes), *shades.shape)), boxes, valid, sizes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, plain)


@given(cell_sets(), st.sampled_from([np.uint16, np.uint32]), frames.seeds)
def test_cut_masks(case, dtype, seed):
    stack, _, boxes, valid = case
    ids = np.random.default_rng(seed).permutation(np.arange(1, len(boxes) + 3))[: len(boxes)]
    tracked = np.random.default_rng(seed).integers(0, len(boxes) + 3, stack.shape).astype(dtype)
    sizes = crops.window_shapes(boxes, valid)
    found = cut_masks(tracked, ids, boxes, valid, sizes)
    plain = windows((tracked[None] == ids[:, None, None, None]).astype(np.uint8), boxes, valid, sizes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, plain)


def test_windows_of_known_cells():
    stack = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    boxes = np.array([[[0, 1, 2, 3], [1, 0, 2, 3]], [[2, 3, 3, 4], [0, 0, 0, 0]]], np.int32)
    valid = np.array([[True, True], [True, False]])
    sizes = crops.window_shapes(boxes, valid)
    assert sizes.tolist() == [[2, 3], [1, 1]]
    found = cut_intensities(stack, None, 1.0, crops.Scale.between(0, 32), boxes, valid, sizes) * 32
    assert found.tolist() == [1, 2, 0, 5, 6, 0, 16, 17, 18, 0, 0, 0, 11, 0]
    masks = cut_masks(np.where(stack % 2, 9, 5), np.array([9, 5]), boxes, valid, sizes)
    assert masks.tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_scale():
    assert crops.Scale.between(10.0, 30.0) == crops.Scale(offset=10.0, scale=20.0)
    assert crops.Scale.between(-5.0, -5.0) == crops.Scale(offset=-5.0, scale=1.0)
    assert crops.Scale.between(np.nan, np.nan) == crops.Scale(offset=0.0, scale=1.0)


def test_what_is_constant_or_unknown_becomes_0():
    stack = np.full((1, 3, 3), 700, np.uint16)
    box, valid, sizes = np.array([[[0, 0, 3, 3]]], np.int32), np.array([[True]]), np.array([[3, 3]], np.int32)
    constant = crops.Scale.between(*of_integers(stack).window())
    assert not cut_intensities(stack, None, 1.0, constant, box, valid, sizes).any()
    nothing = np.full(stack.shape, np.nan, np.float32)
    unknown = crops.Scale.between(*corrected(stack, nothing, 1.0).window())
    assert not cut_intensities(stack, nothing, 1.0, unknown, box, valid, sizes).any()

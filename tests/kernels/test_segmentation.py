"""Segmentation and its parts equal the plain definitions, pixel by pixel."""

import itertools
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import disk as plain_disk
from support import frames, reference

from pyama_dask.kernels import morphology, runlength, segmentation
from pyama_dask.kernels.bitmask import pack, unpack
from pyama_dask.kernels.logstd import LocalDeviation

MODES = ("valley", "mode")
masks = st.builds(frames.mask, frames.mask_shapes, frames.seeds, st.floats(0, 1))
WIDTHS = [1, 7, 8, 9, 16, 63, 64, 65, 127, 128, 129]


each_kind = pytest.mark.parametrize("kind", frames.MAKERS)


def each_frame(kind, seed):
    """Frames of a kind in every shape and both dtypes, each with its name for messages."""
    for shape, dtype in product(frames.SHAPES, frames.DTYPES):
        yield frames.MAKERS[kind](shape, dtype, seed), f"{shape} {dtype.__name__}"


def segment(frame, **parameters):
    """The plain definition, under the names of the kernel's parameters."""
    parameters["window_size"] = parameters.pop("logstd_window_size", 3)
    return reference.segment(frame, **parameters)


def outcome(function, *args, **parameters):
    """Result of a call, or the error (or warning, as these are errors here) that it ends with."""
    try:
        return function(*args, **parameters)
    except (ValueError, RuntimeWarning) as error:
        return str(error)


# ---------------------------------------------------------------------------------------------- log-std


@each_kind
@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_logstd_is_the_plain_definition(kind, window):
    for frame, name in each_frame(kind, 3):
        values = LocalDeviation(frame, window).values()
        assert values.dtype == np.float32, name
        np.testing.assert_array_equal(values, reference.logstd(frame, window), name)


def test_logstd_of_one_bright_pixel():
    frame = np.full((5, 5), 60000, np.uint16)
    frame[2, 2] += 9
    values = LocalDeviation(frame, 3).values()
    assert (values[[0, -1]] == 0).all()
    np.testing.assert_allclose(values[1:4, 1:4], np.log(np.sqrt(8.0)), rtol=1e-6)  # 81 / 9 - 1


def test_logstd_does_not_see_the_offset_of_the_camera():
    frame = frames.noise((40, 40), np.uint8, 1).astype(np.uint16)
    np.testing.assert_array_equal(LocalDeviation(frame).values(), LocalDeviation(frame + np.uint16(65000)).values())


def test_logstd_of_the_largest_window_does_not_overflow():
    frame = frames.checkerboard((120, 130), np.uint16, 3)
    np.testing.assert_array_equal(LocalDeviation(frame, 37).values(), reference.logstd(frame, 37))


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed"])
def test_layout_in_memory_does_not_matter(layout):
    frame = frames.blobs((61, 83), np.uint16, 5)
    view = frames.views(frame)[layout]
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(LocalDeviation(view, 5).values(), LocalDeviation(frame, 5).values())
    labels = segmentation.segment(view, min_object_size=5, morph_size=3)
    assert labels.max() > 0
    np.testing.assert_array_equal(labels, segmentation.segment(frame, min_object_size=5, morph_size=3))


def test_segment_leaves_the_frame_alone():
    frame = frames.blobs((60, 60), np.uint16, 5)
    before = frame.copy()
    segmentation.segment(frame)
    np.testing.assert_array_equal(frame, before)


# ------------------------------------------------------------------------------- histogram, thresholds


@each_kind
@pytest.mark.parametrize("window", [1, 3, 5])
def test_histogram_and_mask_are_numpys_of_the_values(kind, window):
    for frame, name in each_frame(kind, 7):
        values, deviation = reference.logstd(frame, window), LocalDeviation(frame, window)
        plain = outcome(np.histogram, values, segmentation.HISTOGRAM_BINS)
        found = outcome(deviation.histogram, segmentation.HISTOGRAM_BINS)
        if isinstance(plain, str):  # too narrow for so many bins
            assert found == plain, name
            continue
        counts, edges = found
        assert edges.dtype == plain[1].dtype, name
        np.testing.assert_array_equal(edges, plain[1], name)
        np.testing.assert_array_equal(counts, plain[0], name)
        for cut in (*edges[::40], values.flat[0], values.max(), values.min(), -9.0, 99.0):
            above = unpack(deviation.above(float(cut)))
            np.testing.assert_array_equal(above, values > np.float32(cut), f"{name} above {cut}")


@given(frames.seeds, frames.shapes(largest=40), st.sampled_from([2, 3, 40, 256, 5000, 65536]), st.integers(1, 500))
def test_histogram_has_any_number_of_bins(seed, shape, levels, bins):
    frame = np.random.default_rng(seed).integers(0, levels, shape).astype(np.uint16)
    plain = outcome(np.histogram, reference.logstd(frame), bins)
    if not isinstance(plain, str):
        counts, edges = LocalDeviation(frame).histogram(bins)
        np.testing.assert_array_equal(edges, plain[1])
        np.testing.assert_array_equal(counts, plain[0])


class PlainDeviation:
    """Any values in the place of a frame's."""

    def __init__(self, values):
        self.values = values

    def histogram(self, bins):
        return np.histogram(self.values, bins)

    def spread_up_to(self, cut):
        return float(self.values[self.values <= np.float32(cut)].std(dtype=np.float64))


@each_kind
def test_thresholds_are_the_plain_definitions(kind):
    for frame, name in each_frame(kind, 11):
        values, deviation = reference.logstd(frame), LocalDeviation(frame)
        assert segmentation.threshold_mode(deviation) == reference.threshold_mode(values), name
        assert segmentation.threshold_valley(deviation) == reference.threshold_valley(values), name


@given(frames.seeds, st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 2), st.integers(1, 3000)), min_size=1))
def test_thresholds_of_mixtures_are_the_plain_definitions(seed, modes):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(centre, width, n) for centre, width, n in modes]).astype(np.float32)[None]
    for name in ("threshold_mode", "threshold_valley"):
        assert outcome(getattr(segmentation, name), PlainDeviation(values)) == outcome(getattr(reference, name), values)


def test_valley_lies_between_two_modes_and_falls_back_where_there_is_one():
    rng = np.random.default_rng(0)
    background, cells = rng.normal(1, 0.3, 20000), rng.normal(6, 0.5, 4000)
    both = np.concatenate([background, cells]).astype(np.float32)[None]
    assert background.max() - 0.5 < segmentation.threshold_valley(PlainDeviation(both)) < cells.min() + 0.5
    one = np.linspace(1, 0, 5000, dtype=np.float32)[None] ** 4
    assert segmentation.threshold_valley(PlainDeviation(one)) == segmentation.threshold_mode(PlainDeviation(one))


def test_a_cell_mode_may_have_two_equal_bins():
    counts = np.zeros(segmentation.HISTOGRAM_BINS, int)
    counts[[0, 20, 150, 151, -1]] = 1, 900, 300, 300, 1
    values = np.repeat((np.arange(counts.size) + 0.5) / 20, counts).astype(np.float32)[None]
    values[0, [0, -1]] = 0, 10
    assert 20.5 / 20 < segmentation.threshold_valley(PlainDeviation(values)) < 150.5 / 20
    assert segmentation.threshold_valley(PlainDeviation(values)) == reference.threshold_valley(values)


def test_a_frame_that_needs_64_bits_differs_by_nothing_else():
    frame = frames.blobs((70, 90), np.uint16, 2) // 8
    wide = frame.copy()
    wide[40, 60] = 65535
    for size in (3, 5):
        plain = reference.logstd(wide, size)
        np.testing.assert_array_equal(LocalDeviation(wide, size).values(), plain)
        counts, edges = LocalDeviation(wide, size).histogram(200)
        np.testing.assert_array_equal(counts, np.histogram(plain, edges)[0])


@pytest.mark.parametrize("step", [14562, 14563, 14564, 14654, 14655, 20000])
def test_steps_at_the_limit_of_32_bits(step):
    for shape, size in itertools.product([(3, 3), (2, 9), (9, 2), (12, 70)], (1, 3, 5)):
        half = np.where(np.random.default_rng(step).random(shape) < 0.5, 30000, 30000 + step).astype(np.uint16)
        found, plain = LocalDeviation(half, size).values(), reference.logstd(half, size)
        np.testing.assert_array_equal(found, plain, err_msg=f"{shape}, {size}")


def test_bins_that_share_their_leading_bits_are_told_apart():
    """A hundred bins within a hundredth of the values, where one number leads to all of them."""
    frame = np.zeros((30, 30), np.uint16)
    frame[1::3, 1::3] = 1000 + np.arange(100).reshape(10, 10) // 10
    values = reference.logstd(frame)
    assert (values > 0).all()
    counts, edges = LocalDeviation(frame).histogram(100)
    np.testing.assert_array_equal(counts, np.histogram(values, 100)[0])
    np.testing.assert_array_equal(edges, np.histogram(values, 100)[1])


# ------------------------------------------------------------------------------------------- morphology


def footprint(reach):
    """Mask of a footprint that is held by its reach."""
    y, x = np.ogrid[1 - reach.size : reach.size, -reach[0] : reach[0] + 1]
    return np.abs(x) <= reach[np.abs(y)]


@pytest.mark.parametrize("radius", range(12))
def test_disk_is_scikit_images(radius):
    np.testing.assert_array_equal(footprint(morphology.disk(radius)), plain_disk(radius))


@pytest.mark.parametrize("radius", range(5))
@pytest.mark.parametrize("times", range(5))
def test_repeated_is_the_sum_of_footprints(radius, times):
    point = np.zeros((41, 41), bool)
    point[20, 20] = True
    reach = morphology.repeated(morphology.disk(radius), times)
    size = times * radius
    for _ in range(times):
        point = ndi.binary_dilation(point, plain_disk(radius))
    np.testing.assert_array_equal(footprint(reach), point[20 - size : 21 + size, 20 - size : 21 + size])


@given(masks, st.integers(0, 5), st.integers(0, 3))
def test_closing_and_opening_are_scipys(mask, radius, iterations):
    reach = morphology.repeated(morphology.disk(radius), iterations)
    for name in ("closing", "opening"):
        found = getattr(morphology, name)(pack(mask), reach)
        plain = getattr(reference, name)(mask, plain_disk(radius), iterations)
        np.testing.assert_array_equal(unpack(found), plain, name)


def test_outside_of_the_frame_never_counts():
    reach = morphology.repeated(morphology.disk(2), 3)
    whole = np.ones((9, 11), np.uint8)
    np.testing.assert_array_equal(unpack(morphology.opening(pack(whole), reach)), whole)
    np.testing.assert_array_equal(unpack(morphology.erode(pack(whole), reach)), whole)
    np.testing.assert_array_equal(unpack(morphology.closing(pack(0 * whole), reach)), 0 * whole)


@given(masks, st.integers(0, 30))
def test_solid_is_the_plain_definition(mask, smallest):
    labels = label(mask, connectivity=1)
    kept = reference.keep_sizes(labels, smallest, None)
    found, dropped = runlength.solid(pack(mask), smallest)
    np.testing.assert_array_equal(unpack(found), ndi.binary_fill_holes(kept > 0))
    assert dropped == labels.max(initial=0) - kept.max(initial=0)


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_are_the_stretches_of_a_row(width):
    for seed in range(20):
        mask = np.random.default_rng(seed).random((5, width)) < seed / 19
        first, begins, ends = runlength.find_runs(pack(mask))
        drawn = np.zeros_like(mask)
        for y in range(5):
            for k in range(first[y], first[y + 1]):
                assert begins[k] < ends[k]
                assert k == first[y] or begins[k] > ends[k - 1]
                drawn[y, begins[k] : ends[k]] = True
        np.testing.assert_array_equal(drawn, mask)


def test_fill_holes_of_rings():
    mask = np.zeros((20, 20), np.uint8)
    mask[2:9, 2:9], mask[4:7, 4:7] = 1, 0  # closed
    mask[2:9, 12:20], mask[4:7, 14:20] = 1, 0  # open to the border
    mask[12:17, 3:8], mask[13:16, 4:7] = 1, 0
    mask[12, 3] = 0  # open at a corner only, which is no way out
    filled = unpack(runlength.solid(pack(mask), 0)[0])
    assert filled[4:7, 4:7].all()
    assert filled[13:16, 4:7].all()
    assert filled.sum() == mask.sum() + 18
    for simple in (np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8), np.eye(1, dtype=np.uint8)):
        np.testing.assert_array_equal(unpack(runlength.solid(pack(simple), 0)[0]), simple)


@given(masks, st.integers(0, 30), st.integers(1, 30))
def test_label_is_the_plain_definition(mask, smallest, largest):
    found, count, dropped = runlength.label(pack(mask), smallest, largest)
    labels = label(mask, connectivity=1)
    np.testing.assert_array_equal(found, reference.keep_sizes(labels, smallest, largest))
    assert count == found.max(initial=0)
    areas = np.bincount(labels.ravel())[1:]
    small, large = areas[(areas < smallest) & (areas <= largest)], areas[areas > largest]
    assert dropped == (small.size, large.size, large.sum())


def test_label_keeps_the_limits_and_numbers_in_raster_order():
    mask = np.zeros((7, 12), np.uint8)
    mask[0, 9:12] = 1  # 3 pixels, first
    mask[1:4, 0:2] = 1  # 6 pixels, second
    mask[2, 6] = 1  # 1 pixel
    mask[6, 0:5] = 1  # 5 pixels, last
    mask[5, 5] = 1  # touches the last at a corner only
    labels, *_ = runlength.label(pack(mask), 3, 5)
    assert labels[0, 10] == 1
    assert labels[6, 2] == 2
    assert np.unique(labels, return_counts=True)[1].tolist() == [84 - 8, 3, 5]
    assert runlength.label(pack(mask), 0, 99)[1] == 5


@given(st.builds(frames.label_image, frames.shapes(largest=40), frames.seeds, st.integers(1, 20)))
def test_boxes_are_scikit_images(labels):
    found = morphology.boxes(labels)
    assert found.shape == (labels.max(), 4)
    np.testing.assert_array_equal(found, reference.boxes(labels))


def test_boxes_are_half_open():
    labels = np.zeros((6, 8), np.uint16)
    labels[1:3, 2:7] = 2
    labels[5, 7] = 1
    assert morphology.boxes(labels).tolist() == [[5, 7, 6, 8], [1, 2, 3, 7]]
    assert morphology.boxes(np.zeros((6, 8), np.uint16)).shape == (0, 4)


# ---------------------------------------------------------------------------------------------- segment


@each_kind
@pytest.mark.parametrize("threshold", MODES)
def test_segment_is_the_plain_definition(kind, threshold):
    for frame, name in each_frame(kind, 7):
        for rules in ({}, {"min_object_size": None, "max_object_size": None, "morph_size": 3, "morph_iterations": 1}):
            labels = segmentation.segment(frame, threshold=threshold, **rules)
            assert labels.dtype == np.uint16, name
            plain = segment(frame, threshold=threshold, **rules)
            np.testing.assert_array_equal(labels, plain, f"{name} {rules}")


parameters = st.fixed_dictionaries(
    {},
    optional={
        "logstd_window_size": st.sampled_from([3, 5, 7]),
        "threshold": st.sampled_from(MODES),
        "morph_size": st.sampled_from([1, 3, 5, 7, 9]),
        "morph_iterations": st.integers(0, 3),
        "min_object_size": st.one_of(st.none(), st.integers(0, 60)),
        "max_object_size": st.one_of(st.none(), st.integers(0, 2000)),
    },
)
NARROW = frames.checkerboard((8, 8), np.uint16, 0)
NARROW[4, 5] -= 1


@pytest.mark.parametrize("kind", ["checkerboard", "half_saturated", "outlier", "noise"])
@pytest.mark.parametrize("window", [35, 37])
def test_segment_of_large_windows_is_the_plain_definition(kind, window):
    frame = frames.MAKERS[kind]((120, 131), np.uint16, 3)
    rules = {"logstd_window_size": window, "min_object_size": None, "max_object_size": None, "morph_iterations": 0}
    for threshold in MODES:
        found = outcome(segmentation.segment, frame, threshold=threshold, **rules)
        np.testing.assert_array_equal(found, outcome(segment, frame, threshold=threshold, **rules))


@settings(max_examples=200)
@given(frames.frames(largest=64), parameters)
@example(NARROW, {})  # log-std so nearly constant that numpy cannot make 200 bins
def test_segment_of_anything_is_the_plain_definition(frame, parameters):
    found, plain = outcome(segmentation.segment, frame, **parameters), outcome(segment, frame, **parameters)
    np.testing.assert_array_equal(found, plain)


@given(frames.frames(smallest=20, largest=80, kinds=("blobs", "noise")), parameters)
def test_labels_are_numbered_in_raster_order_connected_and_of_the_right_size(frame, parameters):
    labels = segmentation.segment(frame, **parameters)
    first = labels.ravel()[np.sort(np.unique(labels, return_index=True)[1])]
    assert first[first > 0].tolist() == list(range(1, labels.max() + 1))
    np.testing.assert_array_equal(labels, label(labels > 0, connectivity=1))
    area = np.bincount(labels.ravel())[1:]
    assert (area >= (parameters.get("min_object_size", 50) or 0)).all()
    assert (area <= (parameters.get("max_object_size", 10000) or np.inf)).all()


def test_segment_finds_the_blobs():
    mask = frames.disks((400, 400), seed=3, count=12, radius=(12, 20))
    rng = np.random.default_rng(0)
    frame = rng.normal(10000, 10, mask.shape) + mask * rng.normal(0, 2000, mask.shape)
    found = segmentation.segment(frame.astype(np.uint16)) > 0
    assert (found & mask).sum() / (found | mask).sum() > 0.85


def test_a_cell_is_above_the_threshold_not_at_it(monkeypatch):
    frame = frames.blobs((60, 60))
    top = LocalDeviation(frame).values().max()
    rules = {"min_object_size": None, "morph_iterations": 0}
    monkeypatch.setattr(segmentation, "threshold_valley", lambda values: float(top))
    assert segmentation.segment(frame, **rules).max() == 0
    monkeypatch.setattr(segmentation, "threshold_valley", lambda values: float(np.nextafter(top, np.float32(0))))
    assert segmentation.segment(frame, **rules).max() == 1


@pytest.mark.parametrize("kind", ["flat", "saturated"])
def test_no_texture_no_cells(kind):
    assert not segmentation.segment(frames.MAKERS[kind]((50, 60)), min_object_size=None).any()


def test_as_many_objects_as_16_bits_can_count():
    rules = {"min_object_size": None, "morph_iterations": 0}
    labels = segmentation.segment(frames.specks(255, 257), **rules)
    assert labels.max() == 65535
    assert labels[-2, -3] == 65535
    with pytest.raises(OverflowError, match="65536 objects"):
        segmentation.segment(frames.specks(256, 256), **rules)
    assert runlength.label(pack(frames.specks(256, 256)), 0, 9)[1] == 65536
    assert segmentation.segment(frames.specks(256, 256), min_object_size=10, morph_iterations=0).max() == 0


# --------------------------------------------------------------------------------------------- warnings


def warned(frame, **parameters):
    """Starts of the warnings of the segmentation of a frame."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        segmentation.segment(frame, **parameters)
    return [str(warning.message).partition(";")[0] for warning in caught]


def textured(places, radius, shape=(400, 400)):
    """Textured disks on a background with little noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices(shape)
    inside = np.zeros(shape, bool)
    for cy, cx in places:
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= radius * radius
    return np.where(inside, rng.normal(1000, 300, shape), rng.normal(1000, 30, shape)).clip(0).astype(np.uint16)


CROWD = list(product(range(30, 390, 20), range(30, 390, 20)))


def test_separate_cells_give_no_warning():
    assert warned(textured(CROWD[::21], 14)) == []
    assert warned(textured([], 1)) == []


def test_large_losses_give_a_warning():
    most = "most of the area of all objects was dropped, as larger than max_object_size"
    assert warned(textured(CROWD[:18], 12), max_object_size=5000) == [most]
    frame = textured(CROWD[:100], 12)
    assert warned(frame) == ["objects larger than max_object_size cover more than 10% of the frame and were dropped"]


def test_vanished_cells_give_a_warning():
    small = textured(CROWD, 3)
    assert warned(small) == ["most of the textured area was dropped, as too small or too thin"]
    assert warned(small, morph_size=3, morph_iterations=1, min_object_size=10) == []

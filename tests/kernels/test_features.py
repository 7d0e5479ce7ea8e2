"""Features equal those of scikit-image, plain numpy and dask-image."""

import dask.array as da
import numpy as np
import pytest
from dask_image import ndmeasure
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops
from support import frames

from pyama_dask.kernels import features
from pyama_dask.kernels.morphology import boxes, boxes_and_areas

images = st.builds(frames.label_image, frames.shapes(largest=60), frames.seeds, st.integers(1, 25), st.floats(0, 0.9))


def shape_values(labels):
    """Every shape feature by name."""
    shapes = features.measure_shapes(labels, boxes(labels))
    return {name: function(shapes) for name, function in features.SHAPE_FEATURES.items()}


def intensity_values(frame, background, weight, labels):
    """Every intensity feature by name."""
    measured = features.measure_intensities(frame, background, weight, labels, boxes(labels))
    return {name: function(measured) for name, function in features.INTENSITY_FEATURES.items()}


def same_shapes(labels):
    found = shape_values(labels)
    regions = regionprops(labels)
    assert found["area"].tolist() == [region.area for region in regions]
    for k, region in enumerate(regions):
        perimeter = region.perimeter
        circularity = 4 * np.pi * region.area / perimeter**2 if perimeter > 0 else np.nan
        np.testing.assert_allclose(found["circularity"][k], circularity, rtol=1e-12)
        if is_line(region):
            assert np.isnan(found["aspect_ratio"][k])
            assert found["eccentricity"][k] == (1 if region.area > 1 else 0)
        else:
            ratio = region.axis_major_length / region.axis_minor_length
            np.testing.assert_allclose(found["aspect_ratio"][k], ratio, rtol=1e-9)
            np.testing.assert_allclose(found["eccentricity"][k] ** 2, region.eccentricity**2, atol=1e-9)


def is_line(region):
    """All pixels of a region are on one line: nothing has an extent across it."""
    offset = region.coords - region.coords[0]
    return np.linalg.matrix_rank(offset) < 2


# ------------------------------------------------------------------------------------------------ shape


@given(images)
def test_shapes_are_scikit_images(labels):
    same_shapes(labels)


@given(st.builds(lambda shape, seed, count: frames.without_gaps(
    np.random.default_rng(seed).integers(0, count + 1, shape)), frames.shapes(largest=12), frames.seeds,
    st.integers(1, 40)))  # fmt: skip
def test_shapes_of_scattered_pixels_are_scikit_images(labels):
    same_shapes(labels)


@pytest.mark.parametrize("radius", [1, 2, 5, 20, 60])
def test_shapes_of_disks(radius):
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    labels = (y * y + x * x <= radius * radius).astype(np.uint16)
    same_shapes(labels)
    found = shape_values(labels)
    np.testing.assert_allclose(found["aspect_ratio"], 1)
    np.testing.assert_allclose(found["eccentricity"], 0, atol=1e-6)
    if radius >= 20:
        np.testing.assert_allclose(found["area"], np.pi * radius**2, rtol=0.02)
        np.testing.assert_allclose(found["circularity"], 1, rtol=0.1)


@pytest.mark.parametrize(("h", "w"), [(2, 2), (2, 10), (30, 6), (400, 700)])
def test_shapes_of_rectangles(h, w):
    labels = np.zeros((h + 3, w + 5), np.uint16)
    labels[1 : h + 1, 4 : w + 4] = 1
    same_shapes(labels)
    found = shape_values(labels)
    # scikit-image's moments are those of points at the pixel centres
    np.testing.assert_allclose(found["aspect_ratio"], np.sqrt((max(h, w) ** 2 - 1) / (min(h, w) ** 2 - 1)))


def test_covariance_is_numpys():
    labels = frames.label_image((50, 70), seed=4)
    shapes = features.measure_shapes(labels, boxes(labels))
    for k in range(labels.max()):
        (yy, yx), (_, xx) = np.cov(np.nonzero(labels == k + 1), bias=True)
        np.testing.assert_allclose(shapes.covariance[k], [yy, xx, yx], rtol=1e-9, atol=1e-12)


def test_lines_and_single_pixels():
    labels = np.zeros((20, 20), np.uint16)
    labels[0, 0] = 1  # in the corner
    labels[2, 3:9] = 2
    labels[5:19, 1] = 3
    labels[np.arange(6, 16), np.arange(5, 15)] = 4
    labels[19, 18:20] = 5  # at the border
    same_shapes(labels)
    found = shape_values(labels)
    assert np.isnan(found["aspect_ratio"]).all()
    assert found["eccentricity"].tolist() == [0, 1, 1, 1, 1]
    assert found["area"].tolist() == [1, 6, 14, 10, 2]
    assert np.isnan(found["circularity"]).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("step", [(1, 2), (3, 1), (2, -3), (7, 5), (5, -1)], ids=str)
@pytest.mark.parametrize("count", [2, 3, 7, 11])
def test_sloped_lines_have_no_width(step, count):
    places = np.arange(count)[:, None] * step
    places -= places.min(0)
    labels = np.zeros(places.max(0) + 1, np.uint16)
    labels[tuple(places.T)] = 1
    found = shape_values(labels)
    assert np.isnan(found["aspect_ratio"]).all()
    assert found["eccentricity"].tolist() == [1]


def test_a_neighbour_is_not_part_of_a_cell():
    labels = np.zeros((12, 24), np.uint16)
    labels[2:10, 2:12] = 1
    labels[4:9, 12:20] = 2
    labels[4:6, 4:6] = 3  # inside of the first
    for k, alone in enumerate(((labels == 1), (labels == 2), (labels == 3))):
        together, single = shape_values(labels), shape_values(alone.astype(np.uint16))
        for name in together:
            np.testing.assert_array_equal(together[name][k], single[name][0], name)


def test_no_cells_no_values():
    labels = np.zeros((10, 10), np.uint16)
    for values in (shape_values(labels), intensity_values(labels, labels.astype(np.float32), 1.0, labels)):
        assert [value.shape for value in values.values()] == [(0,)] * 4


# -------------------------------------------------------------------------------------------- intensity


def measured(labels, dtype, seed, low=-50.0):
    rng = np.random.default_rng(seed)
    return frames.noise(labels.shape, dtype, seed), rng.uniform(low, 300, labels.shape).astype(np.float32)


@given(images, st.sampled_from(frames.DTYPES), frames.seeds, st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_intensities_are_plain_numpy(labels, dtype, seed, weight):
    frame, background = measured(labels, dtype, seed)
    found = intensity_values(frame, background, weight, labels)
    corrected = frame.astype(np.float64) - weight * background.astype(np.float64)
    for k in range(labels.max()):
        inside = corrected[labels == k + 1]
        scale = np.abs(inside).sum()
        np.testing.assert_allclose(found["intensity_total"][k], inside.sum(), atol=1e-12 * scale)
        np.testing.assert_allclose(found["intensity_mean"][k], inside.mean(), atol=1e-12 * scale)
        assert found["intensity_max"][k] == inside.max()
        np.testing.assert_allclose(found["intensity_variance"][k], inside.var(), rtol=1e-9, atol=1e-9)


def test_intensities_of_known_pixels():
    labels = np.array([[1, 1, 0], [2, 1, 0]], np.uint16)
    frame = np.array([[10, 20, 99], [7, 60, 99]], np.uint16)
    background = np.array([[1, 2, 50], [10, 3, 50]], np.float32)
    found = intensity_values(frame, background, 1.0, labels)
    assert found["intensity_total"].tolist() == [84, -3]
    assert found["intensity_mean"].tolist() == [28, -3]
    assert found["intensity_max"].tolist() == [57, -3]
    assert found["intensity_variance"].tolist() == [(19**2 + 10**2 + 29**2) / 3, 0]


def test_a_dim_difference_on_a_bright_cell_is_not_cancelled():
    labels = np.ones((200, 200), np.uint16)
    frame = (65000 + np.indices(labels.shape).sum(0) % 2).astype(np.uint16)
    found = intensity_values(frame, np.zeros(labels.shape, np.float32), 1.0, labels)
    np.testing.assert_allclose(found["intensity_variance"], 0.25, rtol=1e-9)


def test_without_background_there_is_no_value():
    labels = frames.label_image((40, 40), seed=1)
    found = intensity_values(frames.noise(labels.shape), np.full(labels.shape, np.nan, np.float32), 1.0, labels)
    for name, values in found.items():
        assert values.size > 3
        assert np.isnan(values).all(), name


@pytest.mark.parametrize("place", range(4))
def test_a_single_pixel_without_background_spoils_its_cell_only(place):
    labels = np.array([[1, 1, 1, 1], [0, 2, 2, 0]], np.uint16)
    background = np.zeros(labels.shape, np.float32)
    background[0, place] = np.nan
    for name, values in intensity_values(np.full(labels.shape, 9, np.uint8), background, 1.0, labels).items():
        assert np.isnan(values).tolist() == [True, False], name


# ------------------------------------------------------------------------------------------- dask-image


@pytest.mark.parametrize("seed", range(3))
def test_features_are_dask_images(seed):
    labels = frames.label_image((90, 130), seed, count=15)
    frame, background = measured(labels, np.uint16, seed)
    index = np.arange(1, labels.max() + 1)
    lazy = da.from_array(frame.astype(np.float64) - background, chunks=(50, 70))
    lazy_labels = da.from_array(labels, chunks=(50, 70))
    arguments = (lazy, lazy_labels, index)
    ones = (da.ones_like(lazy), lazy_labels, index)
    found = shape_values(labels) | intensity_values(frame, background, 1.0, labels)
    np.testing.assert_array_equal(found["area"], ndmeasure.sum_labels(*ones).compute(scheduler="sync"))
    for name, measure in {
        "area": ndmeasure.area,
        "intensity_total": ndmeasure.sum_labels,
        "intensity_mean": ndmeasure.mean,
        "intensity_max": ndmeasure.maximum,
        "intensity_variance": ndmeasure.variance,
    }.items():
        values = np.asarray(measure(*arguments).compute(scheduler="sync"))
        np.testing.assert_allclose(found[name], values, rtol=1e-9, err_msg=name)


def test_the_middle_of_a_box_is_the_centre_of_mass_of_what_is_symmetric():
    labels = np.zeros((40, 60), np.uint16)
    labels[3:9, 5:20] = 1
    labels[20:31, 40:55] = 2
    labels[22:29, 44:51] = 0  # a frame
    y, x = np.ogrid[-6:7, -6:7]
    labels[24:37, 10:23][x * x + y * y <= 36] = 3
    ones = da.ones(labels.shape, chunks=25)
    centre = ndmeasure.center_of_mass(ones, da.from_array(labels, chunks=25), np.arange(1, 4))
    found, areas = boxes_and_areas(labels)
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel())[1:])
    middle = (found[:, :2] + found[:, 2:]) / 2
    np.testing.assert_allclose(middle, centre.compute(scheduler="sync") + 0.5)  # boxes are half-open

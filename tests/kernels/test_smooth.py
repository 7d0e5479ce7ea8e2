"""Filters equal those of scipy and scikit-image."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.morphology import disk
from support import frames

from pyama_dask.kernels.smooth import gaussian, grey_opening, median_of_five

each_shape = pytest.mark.parametrize("shape", frames.SHAPES)


def image_of(shape):
    return frames.noise(shape, np.uint16, 6).astype(np.float32)


@each_shape
@pytest.mark.parametrize("sigma", [0.5, 1.12, 3.5])
def test_gaussian_is_scipys(shape, sigma):
    image = image_of(shape)
    expected = ndi.gaussian_filter(image.astype(float), sigma, mode="reflect")
    np.testing.assert_allclose(gaussian(image, sigma), expected, rtol=1e-5)


@each_shape
def test_medians_of_five_down_then_across(shape):
    image = image_of(shape)
    expected = ndi.median_filter(ndi.median_filter(image, (5, 1), mode="reflect"), (1, 5), mode="reflect")
    np.testing.assert_array_equal(median_of_five(image), expected)


@each_shape
@pytest.mark.parametrize("radius", [0, 1, 2, 7])
def test_opening_is_scipys(shape, radius):
    image = image_of(shape)
    footprint = disk(radius)
    low = ndi.grey_erosion(image, footprint=footprint, mode="constant", cval=np.inf)
    expected = ndi.grey_dilation(low, footprint=footprint, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(grey_opening(image, radius), expected)

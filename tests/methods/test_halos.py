"""Halos: blocks with them equal the whole stack, and one frame less is not enough."""

from importlib import import_module

import dask.array as da
import numpy as np
import pytest

from pyama_dask.errors import ConfigError
from pyama_dask.methods.halos import HALOS, halo_of

FRAMES, SHAPE, BLOCK = 20, (11, 10), 5
DIAMOND = [[[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]]
CROSS = [[[1, 1, 1]] * 3]
LATE = [[[0]], [[0]], [[1]], [[1]], [[1]]]

FILTERS = {
    "gaussian_filter": [({"sigma": [1, 0, 1]}, 4), ({"sigma": 0.6, "truncate": 3.0}, 2), ({"sigma": [0, 2, 2]}, 0)],
    "gaussian_laplace": [({"sigma": 0.7}, 3)],
    "gaussian_gradient_magnitude": [({"sigma": [0.5, 1, 1]}, 2)],
    "median_filter": [({"size": 3}, 1), ({"size": [5, 1, 1]}, 2), ({"size": [1, 3, 3]}, 0), ({"footprint": CROSS}, 0)],
    "minimum_filter": [
        ({"size": [4, 1, 1]}, 2),
        ({"footprint": LATE}, 2),
        ({"size": [3, 1, 1], "origin": [1, 0, 0]}, 2),
    ],
    "maximum_filter": [({"size": [2, 1, 1]}, 1), ({"footprint": DIAMOND}, 1)],
    "percentile_filter": [({"percentile": 30, "size": [5, 1, 1]}, 2)],
    "rank_filter": [({"rank": 1, "size": [3, 2, 2]}, 1)],
    "uniform_filter": [({}, 1), ({"size": [7, 1, 1]}, 3)],
    "convolve": [({"weights": LATE}, 2), ({"weights": np.ones((4, 1, 1))}, 2)],
    "correlate": [({"weights": LATE}, 2)],
    "laplace": [({}, 1)],
    "sobel": [({}, 1)],
    "prewitt": [({"axis": 0}, 1)],
}
BINARY = {
    "binary_erosion": [({}, 1), ({"iterations": 3}, 3), ({"structure": CROSS}, 0)],
    "binary_dilation": [({"structure": np.ones((5, 1, 1))}, 2)],
    "binary_opening": [({}, 2), ({"structure": np.ones((4, 1, 1))}, 3)],
    "binary_closing": [({"iterations": 2, "structure": np.ones((3, 1, 1))}, 4)],
}
SCIPY = {
    "gaussian_filter": [
        ({"sigma": 1, "axes": [1, 2]}, 0),
        ({"sigma": [9, 0.5], "axes": [2, -3]}, 2),
        ({"sigma": 1, "radius": 2}, 2),
    ],
    "uniform_filter": [({"size": [9, 5], "axes": [1, 0]}, 2)],
    "median_filter": [({"footprint": np.ones((5, 1)), "axes": [1, 0]}, 2)],
    "grey_erosion": [({"size": [3, 1, 1]}, 1), ({"structure": np.zeros((3, 1, 1))}, 1)],
    "grey_dilation": [({"size": [4, 1, 1]}, 2)],
    "grey_opening": [({"size": [3, 1, 1]}, 2), ({"size": [4, 1, 1]}, 3)],
    "grey_closing": [({"footprint": DIAMOND}, 2)],
    "white_tophat": [({"size": [5, 1, 1]}, 4)],
    "black_tophat": [({"size": [3, 1, 1]}, 2)],
    "morphological_gradient": [({"size": [3, 1, 1]}, 1)],
    "morphological_laplace": [({"size": [5, 1, 1]}, 2)],
    "gaussian_filter1d": [({"sigma": 1, "axis": 0}, 4), ({"sigma": 1}, 0)],
    "uniform_filter1d": [({"size": 5, "axis": 0}, 2)],
    "minimum_filter1d": [({"size": 3, "axis": -3}, 1)],
    "maximum_filter1d": [({"size": 4, "axis": 0}, 2), ({"size": 4, "axis": 1}, 0)],
}  # fmt: skip
CASES = [
    (f"{module}:{name}", params, halo)
    for module, table in {
        "scipy.ndimage": FILTERS, "dask_image.ndfilters": FILTERS, "dask_image.ndmorph": BINARY,
    }.items()
    for name, cases in table.items()
    for params, halo in cases
] + [
    (f"scipy.ndimage:{name}", params, halo)
    for table in (BINARY, SCIPY)
    for name, cases in table.items()
    for params, halo in cases
] + [
    ("skimage.filters:gaussian", {"sigma": [1, 0, 0]}, 4),
    ("dask_image.ndfilters:gaussian", {"sigma": 1}, 4),
]  # fmt: skip


def result(name, params, stack):
    module, function = name.split(":")
    of_dask = module.startswith("dask_image")
    given = {key: np.asarray(value) if key in ARRAYS else value for key, value in params.items()}
    if "origin" in given and of_dask:
        given["origin"] = tuple(given["origin"])
    made = getattr(import_module(module), function)(da.from_array(stack, chunks=-1) if of_dask else stack, **given)
    return made.compute(scheduler="sync") if of_dask else made


ARRAYS = {"footprint", "structure", "weights"}


def differing_frames(name, params, stack, halo):
    """Number of frames that differ from the whole stack if each block has a halo."""
    whole, count = result(name, params, stack), 0
    for begin in range(0, FRAMES, BLOCK):
        first, last = max(begin - halo, 0), min(begin + BLOCK + halo, FRAMES)
        part = result(name, params, stack[first:last])[begin - first :][:BLOCK]
        expected = whole[begin : begin + BLOCK]
        count += sum(not np.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(part, expected, strict=True))
    return count


@pytest.mark.filterwarnings("ignore::FutureWarning:dask_image")
@pytest.mark.parametrize(("name", "params", "halo"), CASES, ids=range(len(CASES)))
def test_blocks_with_the_halo_are_the_whole_stack_and_one_frame_less_is_not_enough(name, params, halo):
    assert halo_of(name, params) == halo
    stack = np.random.default_rng(1).uniform(0, 1, (FRAMES, *SHAPE))
    if "binary" in name:
        stack = stack < {"erosion": 0.99, "opening": 0.9}.get(name.rpartition("_")[2], 0.1)
    assert differing_frames(name, params, stack, halo) == 0
    assert halo == 0 or differing_frames(name, params, stack, halo - 1) > 0


def test_every_name_is_a_function_and_has_a_case():
    generic = {"scipy.ndimage:generic_filter", "dask_image.ndfilters:generic_filter"}
    assert {*HALOS} == {name for name, *_ in CASES} | generic
    for name in HALOS:
        module, function = name.split(":")
        assert callable(getattr(import_module(module), function))


def test_a_generic_filter_has_a_window_too_and_other_functions_are_not_known():
    assert halo_of("scipy.ndimage:generic_filter", {"function": max, "size": [5, 3, 3]}) == 2
    assert halo_of("scipy.ndimage:label", {}) is None
    assert halo_of("mine.py:smooth", {"sigma": 1}) is None


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("scipy.ndimage:median_filter", {}, "no size along time"),
        ("dask_image.ndmorph:binary_erosion", {"iterations": -1}, "until nothing changes"),
        ("scipy.ndimage:median_filter", {"footprint": [[1, 1]]}, "a window of 2 axes for 3"),
        ("scipy.ndimage:gaussian_filter", {"sigma": "wide"}, "cannot be read"),
        ("scipy.ndimage:gaussian_filter", {"sigma": []}, "cannot be read"),
        ("scipy.ndimage:gaussian_filter", {"sigma": 1, "mode": "wrap"}, "depend on the last ones"),
        ("scipy.ndimage:gaussian_filter", {"sigma": 1, "mode": ["wrap", "reflect", "reflect"]}, "the last ones"),
    ],
)
def test_what_cannot_be_done_block_by_block_is_refused(name, params, why):
    with pytest.raises(ConfigError, match=why) as refused:
        halo_of(name, params)
    assert str(refused.value).startswith(name)
    assert "Fix:" in str(refused.value)


def test_wrapping_along_other_axes_is_no_matter():
    assert halo_of("scipy.ndimage:gaussian_filter", {"sigma": [0, 1, 1], "mode": "wrap"}) == 0
    assert halo_of("scipy.ndimage:gaussian_filter", {"sigma": 1, "mode": ["reflect", "wrap", "wrap"]}) == 4

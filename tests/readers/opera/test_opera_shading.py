"""Shading that Harmony has measured: polynomials of a real index, and texts by hand."""

import re

import numpy as np
import pytest
import tifffile
from support.plates import REAL, needs_real

from pyama_dask.errors import SourceError
from pyama_dask.readers.opera import plate as opera
from pyama_dask.readers.opera.flat_field import read_shading
from pyama_dask.readers.plain import as_plain, from_plain

MEASUREMENT = REAL / "opera/operetta_plate"
SHAPE = (4, 6)
SURFACE = (
    "Profile: {Coefficients: [[2], [0.5, -0.25], [0.1, 0, 0.3]], Dims: [6, 4], Origin: [2.5, 1], Scale: [0.1, 0.2], "
    "Type: Polynomial}"
)


def value(name, text, row, column):
    """Value of a polynomial at a pixel, term by term from the numbers in the text."""
    part = text[text.index(f"{name}: ") :]
    rows = re.findall(r"\[([^\[\]]+)\]", part[part.index("Coefficients: [[") + 14 : part.index("]]") + 2])
    (x0, y0), (sx, sy) = (
        map(float, re.search(rf"{key}: \[(.*?)\]", part)[1].split(",")) for key in ("Origin", "Scale")
    )
    x, y = (column - x0) * sx, (row - y0) * sy
    terms = [[float(c) for c in one.split(",")] for one in rows]
    return sum(c * x ** (degree - k) * y**k for degree, one in enumerate(terms) for k, c in enumerate(one))


@pytest.fixture(scope="module")
def metadata():
    return opera.scan(MEASUREMENT).metadata


@needs_real
class TestRealIndex:
    def test_surfaces_are_those_of_the_index(self, metadata):
        [text] = metadata.instrument_shading
        found = read_shading(text, (1080, 1080))
        for row, column in [(0, 0), (0, 1079), (1079, 0), (300, 820), (539, 540)]:
            assert found.profile[row, column] == pytest.approx(value("Foreground", text, row, column), rel=1e-4)
            level = 373.69866 * value("Background", text, row, column)
            assert found.background[row, column] == pytest.approx(level, rel=1e-4)
        assert found.profile.min() == pytest.approx(0.35756, abs=1e-4)
        assert found.profile.mean() == pytest.approx(1, abs=1e-5)
        assert found.background.mean() == pytest.approx(373.7, abs=0.1)
        assert not found.is_background_only

    def test_x_goes_to_the_right(self, metadata):
        """The background of the images fits the surface better than the transposed one."""
        levels = read_shading(metadata.instrument_shading[0], (1080, 1080)).background
        tiles = [
            np.percentile(tifffile.imread(path).reshape(30, 36, 30, 36).swapaxes(1, 2).reshape(900, -1), 20, axis=1)
            for path in sorted((MEASUREMENT / "Images").glob("*.tiff"))
        ]
        surface = levels.reshape(30, 36, 30, 36).mean((1, 3))
        right, turned = (sum(np.corrcoef(tile, of.ravel())[0, 1] for tile in tiles) for of in (surface, surface.T))
        assert right > turned + 0.1

    def test_they_are_kept_with_the_metadata(self, metadata):
        assert from_plain(as_plain(metadata)).instrument_shading == metadata.instrument_shading


def surface():
    y, x = ((np.arange(n) - at) * step for n, at, step in zip(SHAPE, (1, 2.5), (0.2, 0.1), strict=True))
    x, y = np.meshgrid(x, y)
    return 2 + 0.5 * x - 0.25 * y + 0.1 * x**2 + 0.3 * y**2


def test_a_profile_without_background_has_mean_1():
    found = read_shading(f"{{Channel: 1, ChannelName: a {{b, Foreground: {{Character: NonFlat, {SURFACE}}}}}", SHAPE)
    np.testing.assert_allclose(found.profile, surface() / surface().mean(), rtol=1e-6)
    assert (found.background, found.profile.dtype) == (None, np.float32)


def test_json_is_read_too():
    quoted = re.sub(r"([A-Z]\w+)(?=[:,}])", r'"\1"', f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}")
    np.testing.assert_allclose(read_shading(quoted, SHAPE).profile, surface() / surface().mean(), rtol=1e-6)


def test_background_alone_is_told():
    uneven = read_shading(f"{{Background: {{Character: NonFlat, Mean: 1e2, {SURFACE}}}}}", SHAPE)
    np.testing.assert_allclose(uneven.background, 100 * surface(), rtol=1e-6)
    assert (uneven.profile, uneven.is_background_only) == (None, True)
    flat = read_shading("{Background: {Character: Flat, Mean: 12}, Foreground: {Character: Flat}}", SHAPE)
    assert (flat.profile, flat.is_background_only, flat.background.tolist()) == (
        None,
        False,
        np.full(SHAPE, 12).tolist(),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}".replace("[6, 4]", "[4, 6]"),
            "4 x 6 pixels, but images have 6 x 4",
        ),
        (f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}".replace("Polynomial", "Spline"), "of type Spline"),
        (f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}".replace("[[2]", "[[-2]"), "not above 0 everywhere"),
        (f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}".replace("[[2]", "[[.inf]"), "not finite"),
        (f"{{Foreground: {{Character: NonFlat, {SURFACE}}}}}".replace("[[2]", "[[two]"), "could not convert"),
        (f"{{Background: {{Character: NonFlat, {SURFACE}}}}}", "no 'Mean'"),
        (f"{{Foreground: {{Character: NonFlat, {SURFACE}", "cut off"),
        ("{Foreground: {Character: NonFlat}}", "'Profile'"),
        ("{Foreground: {Character: [}}", "flow"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(text, said):
    with pytest.raises(
        SourceError, match=rf"^the instrument's profile cannot be used: .*{said}.*\. Fix: set 'flat_field'"
    ):
        read_shading(text, SHAPE)

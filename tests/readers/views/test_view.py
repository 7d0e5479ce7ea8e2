"""Views of movies: shading that is removed as frames are read, alone and below stitched wells."""

import numpy as np
import pytest
from support.sites import SHAPE, WELLS, Sites

from pyama_dask.errors import SourceError
from pyama_dask.kernels.flat_field import correct
from pyama_dask.readers.base import FlatField, Reader
from pyama_dask.readers.views.flat_field import FlatFieldReader
from pyama_dask.readers.views.mosaic import MosaicReader
from pyama_dask.readers.views.view import View

PROFILE = np.linspace(0.5, 1.5, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
SHADING = FlatField({1: PROFILE}, dark=10)
UNEVEN = FlatField({0: PROFILE, 1: PROFILE}, 10, {1: 20 / PROFILE})


def test_only_channels_with_a_profile_change():
    plain, reader = Sites(), FlatFieldReader(Sites(), SHADING)
    assert isinstance(reader, Reader)
    found, raw = (of.read_frame(0, 1, channels=[1, 0]) for of in (reader, plain))
    np.testing.assert_array_equal(found[1], raw[1])
    np.testing.assert_array_equal(found[0], correct(raw[0].astype(np.uint8), PROFILE, dark=10))
    alone = reader.read_frame(0, 1, channels=[1])
    np.testing.assert_array_equal(alone[0], found[0])
    assert (alone.dtype, reader.metadata.flat_field) == (np.uint8, SHADING)


def test_sites_are_corrected_before_they_are_blended():
    with View(WELLS, SHADING).on(Sites()) as reader:
        expected = MosaicReader(FlatFieldReader(Sites(), SHADING), WELLS).read_frame(1, 0)
        np.testing.assert_array_equal(reader.read_frame(1, 0), expected)
        assert View.of(reader.metadata).digest == View(WELLS, SHADING).digest


def test_the_background_of_a_channel_is_subtracted_instead_of_the_dark_level():
    found, raw = (of.read_frame(0, 1) for of in (FlatFieldReader(Sites(), UNEVEN), Sites()))
    raw = [raw[0].astype(np.uint16), raw[1].astype(np.uint8)]
    np.testing.assert_array_equal(found[0], correct(raw[0], PROFILE, dark=10))
    levels = (20 / PROFILE).astype(np.float64)
    light = np.clip((raw[1] - levels) / PROFILE + levels.mean(), 0, 255)
    assert np.abs(found[1] - light).max() < 0.501
    assert np.ptp(found[1]) > 0


@pytest.mark.parametrize(
    "view", [View(WELLS, UNEVEN), View(WELLS, SHADING), View(WELLS), View(flat_field=SHADING), View()]
)
def test_a_view_is_read_back_from_its_file(tmp_path, view):
    view.save(tmp_path / "view.npz")
    again = View.load(tmp_path / "view.npz")
    assert (again.digest, again.wells) == (view.digest, view.wells)
    for fov in range(2):
        np.testing.assert_array_equal(again.on(Sites()).read_frame(fov, 0), view.on(Sites()).read_frame(fov, 0))


def test_everything_in_a_view_is_in_its_digest():
    shadings = [SHADING, FlatField({0: PROFILE}, 10), FlatField({1: PROFILE}), FlatField({1: PROFILE * 2}, 10)]
    shadings += [FlatField({1: PROFILE}, 10, {1: levels}) for levels in (PROFILE, 2 * PROFILE)]
    views = [View(), View(WELLS), View({"B02": WELLS["B02"]}), *(View(flat_field=shading) for shading in shadings)]
    assert len({view.digest for view in views}) == len(views)


def test_a_damaged_file_is_said(tmp_path):
    (tmp_path / "view.npz").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"view\.npz: the view of the movie is damaged"):
        View.load(tmp_path / "view.npz")

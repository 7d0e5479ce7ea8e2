"""Wells stitched from their sites as they are read."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from support.sites import CANVAS, CHANNELS, CORNERS, FRAMES, SHAPE, TILES, WELLS, Sites

from pyama_dask.errors import MissingFrameError, SourceError
from pyama_dask.readers.base import Reader, Tile
from pyama_dask.readers.views.mosaic import MosaicReader, sites_by_well, stitched


@pytest.fixture
def reader():
    return MosaicReader(Sites(), WELLS)


def covered():
    """Pixels of the canvas that a site covers."""
    found = np.zeros(CANVAS, bool)
    for y, x in CORNERS:
        found[y : y + SHAPE[0], x : x + SHAPE[1]] = True
    return found


def test_wells_are_the_fovs(reader):
    assert isinstance(reader, Reader)
    info = reader.metadata
    assert [(fov.name, fov.well, fov.site, fov.shape, fov.plate) for fov in info.fovs] == [
        ("C03", "C03", None, SHAPE, "P"),
        ("B02", "B02", None, CANVAS, "P"),
    ]
    assert info.fovs[1].tiles == TILES
    assert info.times_min.tolist() == [[12, 13, 14], [3, 4, 5]]  # of the first site
    assert info.time_source == ("C03 1", "B02 1")
    assert (info.channels, info.n_frames, info.pixel_size_um) == (CHANNELS, FRAMES, 0.5)


def test_the_position_of_a_well_is_that_of_its_middle():
    sites = Sites([(1, {"position_um": (100.0, -50.0)})])  # site 1 of B02, which begins at 0, 0
    info = MosaicReader(sites, WELLS).metadata
    assert info.fovs[0].position_um is None
    assert info.fovs[1].position_um == (100 + 0.5 * (44 - 24) / 2, -50 + 0.5 * (36 - 20) / 2)


@pytest.mark.parametrize(("channels", "dtype"), [([0], np.uint16), ([1], np.uint8), ([1, 0], np.uint16)])
def test_a_well_is_what_its_sites_show(reader, channels, dtype):
    frame, inside = reader.read_frame(1, 2, channels=channels), covered()
    assert frame.dtype == dtype
    assert frame.flags.owndata
    np.testing.assert_array_equal(frame[:, inside], Sites().canvas[2, channels][:, inside])
    np.testing.assert_array_equal(frame[:, 0, 25:42], frame[:, 1, 25:42])  # above site 2, where no site is


def test_all_channels_are_the_default(reader):
    np.testing.assert_array_equal(reader.read_frame(0, 1), Sites().canvas[1, :, :20, :24])


def test_a_well_lacks_what_one_of_its_sites_lacks():
    lacks = [(0, {"missing": (1,), "partial": ((0, 0, (1,)),)}), (2, {"missing": (1, 2), "partial": ((0, 0, (1,)),)})]
    sites = Sites(lacks)
    with MosaicReader(sites, WELLS) as reader:
        fov = reader.metadata.fovs[1]
        assert (fov.missing, fov.partial) == ((1, 2), ((0, 0, (1,)),))
        assert reader.metadata.fovs[0].missing == ()
        assert reader.read_frame(1, 1, channels=[0]).shape == (1, *CANVAS)
        with pytest.raises(MissingFrameError, match="B02 s"):
            reader.read_frame(1, 1)
    assert not sites.is_open


def test_a_well_has_a_projection_if_all_of_its_sites_have_it():
    lacks = [
        (0, {"missing": (1, 2), "partial": ((1, -1, (1, 2)),)}),
        (2, {"missing": (1,), "partial": ((1, -1, (1,)),)}),
    ]
    sites = Sites(lacks)
    sites.metadata = replace(sites.metadata, projected=(1,))
    fov = MosaicReader(sites, WELLS).metadata.fovs[1]
    assert (fov.missing, fov.partial) == ((1, 2), ((1, -1, (1, 2)),))
    assert (fov.lacking([1], [-1]), fov.lacking([1], [0])) == (set(), {1, 2})


def test_it_can_be_sent_to_another_process(reader):
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read_frame(1, 0), reader.read_frame(1, 0))


@pytest.mark.parametrize("place", [(2, 0, [0], 0), (-1, 0, [0], 0), (0, 3, [0], 0), (0, 0, [2], 0), (0, 0, [0], 1)])
def test_what_is_out_of_range_is_an_index_error(reader, place):
    fov, frame, channels, z = place
    with pytest.raises(IndexError):
        reader.read_frame(fov, frame, channels=channels, z=z)


def test_sites_of_different_sizes_and_sites_that_are_gone_are_refused():
    with pytest.raises(SourceError, match="B02 s3 has another size than B02 s1"):
        _ = MosaicReader(Sites([(2, {"shape": (20, 25)})]), WELLS).metadata
    with pytest.raises(SourceError, match="no site 5 of well B02"):
        stitched(Sites().metadata, {"B02": (Tile(5, 0, 0),)})


def test_sites_without_numbers_count_in_the_order_of_the_fovs():
    assert sites_by_well(Sites().metadata) == {"B02": {1: 1, 2: 0, 3: 2, 4: 3}, "C03": {1: 4}}
    unnumbered = Sites([(fov, {"site": None}) for fov in range(5)]).metadata
    assert sites_by_well(unnumbered) == {"B02": {1: 0, 2: 1, 3: 2, 4: 3}, "C03": {1: 4}}

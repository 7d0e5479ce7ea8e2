"""Datasets of Micro-Manager: stacks and NDTiff, complete, aborted, and damaged."""

import numpy as np
import pytest
from support.micro_manager import write_ndtiff, write_stacks
from support.plates import state_of
from support.stacks import CHANNELS, PIXEL_UM, check_pixels, random_pixels

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers import read_metadata
from pyama_dask.readers.registry import open_reader

PIXELS = random_pixels(planes=2)
WRITERS = pytest.mark.parametrize("write", [write_stacks, write_ndtiff])


@WRITERS
def test_planes_names_times_and_positions(tmp_path, write):
    folder = write(tmp_path / "acq_1", PIXELS)
    before = state_of(folder)
    info = check_pixels(folder, PIXELS)
    assert state_of(folder) == before
    assert [(fov.name, fov.well, fov.site, fov.position_um) for fov in info.fovs] == [
        ("A1-Site_0", "A01", 0, (0.0, -30.5)),
        ("B02-Site_1", "B02", 1, (200.0, -30.5)),
    ]
    assert [(one.name, one.dtype, one.kind) for one in info.channels] == [
        (CHANNELS[0], "uint16", "phase"),
        (CHANNELS[1], "uint16", "fluorescence"),
    ]
    assert (info.format, info.pixel_size_um, info.interval_min, info.notes) == ("Micro-Manager", PIXEL_UM, 1, ())
    assert info.time_source == "ElapsedTime-ms of images"
    np.testing.assert_allclose(info.times_min, np.add.outer([0, 0.01 / 60], [0, 61 / 60, 122 / 60]))


@WRITERS
def test_a_dataset_is_found_from_the_folder_above_and_from_its_files(tmp_path, write):
    folder = write(tmp_path / "acq_1", PIXELS)
    for path in (tmp_path, *sorted(folder.iterdir())):
        assert len(read_metadata(path).fovs) == 2


@WRITERS
def test_planes_that_were_not_recorded_are_missing(tmp_path, write):
    lost = [(1, 2, 1, 0), (1, 2, 1, 1), (0, 1, 0, 1)]
    check_pixels(write(tmp_path / "acq_1", PIXELS, without=lost), PIXELS, lost)


@WRITERS
def test_planes_of_a_file_that_is_not_there_are_missing(tmp_path, write):
    folder = write(tmp_path / "acq_1", PIXELS, images_per_file=12)
    max(folder.glob("*.tif")).unlink()
    info = read_metadata(folder)
    if write is write_ndtiff:
        assert [fov.missing for fov in info.fovs] == [(2,), (1, 2)]
        assert info.notes == ("acq_1: 1 file not there, such as acq_NDTiffStack_1.tif; images are missing",)
    else:
        assert [fov.name for fov in info.fovs] == ["A1-Site_0"]


@WRITERS
def test_a_channel_with_one_plane_stands_for_all(tmp_path, write):
    lost = [(fov, frame, 1, 0) for fov, frame in np.ndindex(2, 3)]
    folder = write(tmp_path / "acq_1", PIXELS, without=lost)
    pixels = PIXELS.copy()
    pixels[:, :, 1, 0] = pixels[:, :, 1, 1]
    assert check_pixels(folder, pixels).notes == ("acq_1: one z plane only, which stands for all: GFP",)


def test_frames_that_were_announced_are_missing(tmp_path):
    folder = write_stacks(tmp_path / "acq_1", PIXELS, frames=5)
    assert [fov.missing for fov in read_metadata(folder).fovs] == [(3, 4), (3, 4)]


def test_stacks_of_a_recording_that_was_not_completed(tmp_path):
    folder = write_stacks(tmp_path / "acq_1", PIXELS, has_map=False)
    assert check_pixels(folder, PIXELS).notes[0].endswith("was not completed")


def test_a_stack_that_is_cut_off_lacks_its_last_images(tmp_path):
    folder = write_stacks(tmp_path / "acq_1", PIXELS, images_per_file=12, has_map=False)
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert read_metadata(folder).fovs[1].missing == (2,)


@WRITERS
def test_channels_by_number(tmp_path, write):
    options = {"names": False, "ChNames": None} if write is write_ndtiff else {}
    assert [one.name for one in read_metadata(write(tmp_path / "a", PIXELS, **options)).channels] == list(CHANNELS)


def test_the_full_resolution_of_a_pyramid_is_read(tmp_path):
    write_ndtiff(tmp_path / "acq_1" / "Full resolution", PIXELS)
    write_ndtiff(tmp_path / "acq_1" / "Downsampled_x2", PIXELS[..., ::2, ::2])
    for path in (tmp_path, tmp_path / "acq_1"):
        check_pixels(path, PIXELS)


@WRITERS
@pytest.mark.parametrize("left", [0, 10, 60])
def test_files_that_are_cut_off(tmp_path, write, left):
    folder = write(tmp_path / "acq_1", PIXELS)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(SourceError, match=r"acq_1.*Fix: ") as caught, open_reader(folder) as reader:
        reader.read_frame(0, 0)
    assert str(caught.value).count("Fix: ") == 1


def test_a_map_that_is_longer_than_the_file(tmp_path):
    """An aborted recording leaves entries of images that were never written."""
    folder = write_stacks(tmp_path / "acq_1", PIXELS, images_per_file=12)
    path = min(folder.iterdir())
    content = path.read_bytes()
    start = int.from_bytes(content[12:16], "little") + 8 + 11 * 20 + 16  # the place of the last image in the map
    path.write_bytes(content[:start] + (5000).to_bytes(4, "little") + content[start + 4 :])
    info = check_pixels(folder, PIXELS, [(0, 2, 1, 1)])
    assert info.notes == (f"acq_1: {path.name}: 1 of the 12 images in its map are not there; they are missing",)


def test_positions_that_files_name_otherwise_are_mentioned(tmp_path):
    folder = write_stacks(tmp_path / "acq_1", PIXELS)
    for path in folder.glob("*B02*"):
        path.rename(folder / path.name.replace("B02", "B03"))
    (note,) = check_pixels(folder, PIXELS).notes
    assert "B03-Site_1.ome.tif has the position B02-Site_1," in note


def test_datasets_in_one_folder_are_refused(tmp_path):
    folder = write_stacks(tmp_path / "acq_1", PIXELS)
    first = min(folder.iterdir())
    (folder / first.name.replace("acq_", "other_")).write_bytes(first.read_bytes())
    with pytest.raises(SourceError, match=r"holds 2 datasets: acq, other. Fix: "):
        read_metadata(folder)


def test_colours_are_refused(tmp_path):
    folder = write_ndtiff(tmp_path / "acq_1", PIXELS)
    index = folder / "NDTiff.index"
    kind = (PIXELS.shape[-2]).to_bytes(4, "little")
    index.write_bytes(index.read_bytes().replace(kind + b"\1\0\0\0", kind + b"\2\0\0\0"))
    with pytest.raises(UnsupportedSourceError, match=r"has images in colours"):
        read_metadata(folder)

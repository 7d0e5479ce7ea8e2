"""Outputs of runs as movies: raw frames under the names, wells and times of the run's movie."""

import shutil

import numpy as np
import pytest
from support.movies import config, products
from support.plates import state_of
from support.stacks import check_pixels, random_pixels
from support.zarrs import write_zarr_plate

import pyama_dask
from pyama_dask.errors import SourceError
from pyama_dask.readers import read_metadata
from pyama_dask.readers.registry import open_reader

PIXELS = random_pixels(fovs=4, frames=6, shape=(48, 40))
CHANGES = {"params.tracking_params": {"min_frames": 1}, "storage.block_frames": 2}


def processed(source, output, **changes):
    assert pyama_dask.run(config(source, output, CHANGES | changes)).exit_status == 0
    return output


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Output of a run on sites 1 and 3, of frames 1 to 5; to be read only."""
    folder = tmp_path_factory.mktemp("output")
    plate = write_zarr_plate(folder / "plate.zarr", PIXELS)
    return processed(plate, folder / "out", **{"params.fovs": "1,3", "params.frames": "1-5"})


def test_frames_names_wells_and_times(output):
    before = state_of(output)
    info = check_pixels(output, PIXELS[[1, 3], 1:])
    assert state_of(output) == before
    assert [(fov.name, fov.plate, fov.well, fov.site) for fov in info.fovs] == [
        ("A11 s2", "Screen 4", "A11", 2),
        ("B03 s2", "Screen 4", "B03", 2),
    ]
    source = read_metadata(output.parent / "plate.zarr")
    assert [fov.position_um for fov in info.fovs] == [source.fovs[fov].position_um for fov in (1, 3)]
    assert (info.channels, info.pixel_size_um) == (source.channels, source.pixel_size_um)
    np.testing.assert_array_equal(info.times_min, source.times_min[[1, 3], 1:])
    assert info.time_source == (source.time_source,) * 2


def test_a_run_on_it_makes_the_same(output, tmp_path):
    before = state_of(output)
    again = processed(output, tmp_path / "again")
    assert state_of(output) == before
    ours, theirs = products(again), products(output)
    for fov, number in enumerate((1, 3)):
        for name in ("seg_labeled_ch_0/0", "pc_ch_0/0", "fl_background_ch_1/tiles"):
            found, expected = (made[f"fov_{k:03}/images.zarr/{name}"] for made, k in ((ours, fov), (theirs, number)))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunks", ["block", "tiles of 32"])
def test_its_chunks_may_have_any_form(output, tmp_path, chunks):
    source = output.parent / "plate.zarr"
    changes = {"params.fovs": "1", "params.copy_only": True, "storage.chunks": chunks, "storage.display": "off"}
    info = check_pixels(processed(source, tmp_path / "out", **changes), PIXELS[[1]])
    assert any("chunks hold several planes" in note for note in info.notes) == (chunks == "block")


def test_blocks_that_are_not_there_are_missing_frames(output, tmp_path):
    copy = shutil.copytree(output, tmp_path / "copy")
    (copy / "fov_003/images.zarr/fl_ch_1/0/c.1.0.0").unlink()
    check_pixels(copy, PIXELS[[1, 3], 1:], [(1, 2, 1, 0), (1, 3, 1, 0)])


@pytest.mark.parametrize("damage", ["config", "attributes", "shard", "images"])
def test_damage(output, tmp_path, damage):
    copy = shutil.copytree(output, tmp_path / "copy")
    if damage == "config":
        (copy / "processing_config.yaml").write_text("metadata: {")
    elif damage == "attributes":
        (copy / "fov_001/images.zarr/zarr.json").write_text("{")
    elif damage == "shard":
        shard = copy / "fov_001/images.zarr/pc_ch_0/0/c.0.0.0"
        shard.write_bytes(shard.read_bytes()[:-30])
    else:
        for images in copy.glob("fov_*/images.zarr"):
            shutil.rmtree(images)
    with pytest.raises(SourceError, match=r"copy.*Fix: ") as caught, open_reader(copy) as reader:
        reader.read_frame(0, 0)
    assert str(caught.value).count("Fix: ") == 1

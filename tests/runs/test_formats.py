"""A run on a movie of each format: raw frames are those of the source, which stays as it is."""

import numpy as np
import pytest
from support.micro_manager import write_ndtiff, write_stacks
from support.movies import config
from support.plates import state_of
from support.stacks import random_pixels, write_ome
from support.zarrs import write_zarr_plate

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.store.arrays import read_frame

PIXELS = random_pixels(frames=2, shape=(48, 40))
WRITERS = {
    "movie.ome.tif": write_ome,
    "movie_stacks": write_stacks,
    "movie_ndtiff": write_ndtiff,
    "movie_plate.zarr": write_zarr_plate,
}


@pytest.mark.parametrize("name", WRITERS)
def test_raw_frames_are_those_of_the_source(tmp_path, name):
    source, output = WRITERS[name](tmp_path / name, PIXELS), tmp_path / "out"
    before = state_of(source)
    assert pyama_dask.run(config(source, output, {"params.tracking_params": {"min_frames": 1}})).exit_status == 0
    assert state_of(source) == before
    for fov, frame, channel in np.ndindex(PIXELS.shape[:3]):
        array = f"{('pc', 'fl')[channel]}_ch_{channel}/0"
        found = read_frame(output / f"fov_{fov:03}/images.zarr", array, frame)
        np.testing.assert_array_equal(found, PIXELS[fov, frame, channel, 0])
    assert [path.name.startswith("movie") for path in output.glob("fov_001/*_fov_001_traces.csv")] == [True]


def test_an_output_within_the_movie_is_refused(tmp_path):
    source = write_zarr_plate(tmp_path / "movie.zarr", PIXELS)
    before = state_of(source)
    with pytest.raises(ConfigError, match=r"is within the movie .*movie.zarr. Fix: "):
        pyama_dask.run(config(source, source / "A/out"))
    assert state_of(source) == before

"""Warnings of `plan` from one frame: given where the segmentation fails, and only there."""

from dataclasses import replace

import numpy as np
import pytest
from support.bright_cells import bright_movie
from support.movies import as_nd2, config, write_config

from pyama_dask.config.load import parse_config
from pyama_dask.plan.resolve import resolve
from pyama_dask.plan.resources import table_memory
from pyama_dask.readers import read_metadata
from pyama_dask.runs.frame_check import check_frame, looked_at
from pyama_dask.runs.planning import plan_run


def checked(movie, changes=None):
    metadata = read_metadata(movie)
    return check_frame(resolve(parse_config(config(movie, movie.parent / "out", changes)), metadata), metadata)[0]


@pytest.fixture(scope="module")
def crowded_nd2(tmp_path_factory):
    frames, _ = bright_movie((400, 400), frames=3, cells=400, contacts=0.9, seed=2)
    return as_nd2(tmp_path_factory.mktemp("crowded") / "movie.nd2", np.stack([frames, frames], axis=1)[None])


def test_separate_cells_give_no_warning(small_nd2):
    assert checked(small_nd2) == []


def test_merged_cells_are_noticed(crowded_nd2):
    (one,) = checked(crowded_nd2)
    assert one.startswith("FOV 0, frame 1: objects larger than max_object_size cover more than 10% of the frame")
    changes = {"params.segmentation_params": {"max_object_size": None}}
    (one,) = checked(crowded_nd2, changes)
    assert "FOV 0, frame 1: one object covers" in one
    assert (
        checked(crowded_nd2, changes | {"params.segmentation_method": "bright", "params.segmentation_params": {}}) == []
    )


def test_a_frame_without_cells_is_noticed(tmp_path):
    movie = as_nd2(tmp_path / "movie.nd2", np.full((1, 3, 2, 64, 80), 500, np.uint16))
    (one,) = checked(movie)
    assert one.startswith("FOV 0, frame 1: no object is found. Fix: ")


def test_the_frames_and_fovs_of_the_run_count(tmp_path, small_pixels):
    data = small_pixels.copy()
    data[0, :, 0] = data[1, :5, 0] = 500
    movie = as_nd2(tmp_path / "movie.nd2", data)
    assert checked(movie, {"params.fovs": "1", "params.frames": "6-8"}) == []
    (one,) = checked(movie, {"params.fovs": "1", "params.frames": "1-3"})
    assert one.startswith("FOV 1, frame 2: ")


def test_foreign_methods_are_not_run(tmp_path, small_nd2):
    (tmp_path / "mine.py").write_text("def none(frame):\n    raise RuntimeError('was run')\n")
    assert (
        checked(
            small_nd2, {"params.segmentation_method": f"{tmp_path / 'mine.py'}:none", "params.segmentation_params": {}}
        )
        == []
    )


def test_memory_for_tables_is_predicted_from_the_objects_of_the_frame(tmp_path, crowded_nd2):
    changes = {"params.segmentation_method": "bright", "params.segmentation_params": {}}
    plan, metadata = plan_run(parse_config(config(crowded_nd2, tmp_path / "out", changes)))
    looked = looked_at(plan, metadata)
    _, objects, window = check_frame(plan.job.config, metadata)
    assert objects > 300
    cluster = plan.job.config.cluster
    assert (
        looked.table_memory == table_memory(cluster, objects * 3, 3, window) == table_memory(cluster, objects * 3, 3, 0)
    )
    long = replace(plan, job=replace(plan.job, frames=tuple(range(3)) * 10**5))
    looked = looked_at(long, metadata)
    assert looked.memory == looked.table_memory > plan.worker_memory
    assert "objects in each of 300000 frames; to link them" in looked.warnings[-1]


def test_memory_for_crops_grows_with_the_frames_and_the_largest_cell(tmp_path):
    frame = np.full((64, 80), 500, np.uint16)
    frame[20:30, 40:55] = frame[50:53, 10:14] = 900
    movie = as_nd2(tmp_path / "movie.nd2", np.tile(frame, (1, 3, 2, 1, 1)))
    changes = {"params.crop_padding": 4, "params.segmentation_method": "bright", "params.segmentation_params": {}}
    plan, metadata = plan_run(parse_config(config(movie, tmp_path / "out", changes)))
    window = check_frame(plan.job.config, metadata).window
    assert 18 * 23 <= window <= 22 * 27  # of the larger object, of 10 x 15 pixels, with its padding
    few, many = (table_memory(plan.job.config.cluster, 2 * frames, frames, window) for frames in (20_000, 30_000))
    assert many - few == 4 * 4 * window * 10_000


def test_plan_shows_the_warning(tmp_path, call, crowded_nd2):
    file = write_config(tmp_path / "run.yaml", config(crowded_nd2, tmp_path / "out"))
    status, said, _ = call("plan", file)
    assert status == 0
    assert "warning: FOV 0, frame 1: objects larger than max_object_size" in said
    assert "frame 1: objects larger" in call("plan", file, "--json")[1]

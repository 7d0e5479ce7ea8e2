"""A movie that has changed: refused, or gone on with where it is the same acquisition with more frames."""

import shutil
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.movies import as_czi, as_nd2, config, differences, file_bytes, products, times_of_change

import pyama_dask
from pyama_dask.cli.text import describe_status
from pyama_dask.config.load import parse_config
from pyama_dask.errors import OutputError
from pyama_dask.runs import driver
from pyama_dask.runs.plan_text import describe_plan
from pyama_dask.runs.planning import plan_run, what_is_left

FRAMES = 10


@pytest.fixture(scope="module")
def data(small_pixels):
    return small_pixels


@pytest.fixture(params=[as_czi, as_nd2], ids=["czi", "nd2"], scope="module")
def write(request):
    return request.param


@pytest.fixture(scope="module")
def begin(tmp_path_factory, data):
    """Give a movie of some frames, and a copy of what a run with some settings makes of it, each made once."""

    @cache
    def made(write, frames, block_frames):
        folder = tmp_path_factory.mktemp("begun")
        movie = write(folder / f"movie.{'czi' if write is as_czi else 'nd2'}", data[:, :frames])
        pyama_dask.run(config(movie, folder / "out", {"storage.block_frames": block_frames}))
        return movie, folder / "out"

    def begun(write, to, frames, block_frames=4):
        movie, output = made(write, frames, block_frames)
        if to is None:
            return movie, output
        return Path(shutil.copy(movie, to)), Path(shutil.copytree(output, to / "out"))

    return begun


def test_a_longer_movie_is_refused_with_the_way_to_go_on(write, begin, tmp_path, data):
    movie, output = begin(write, tmp_path, 6)
    before = file_bytes(output)
    write(movie, data)
    with pytest.raises(OutputError, match=r"holds the results of another movie.*--extend"):
        pyama_dask.run(config(movie, output))
    assert file_bytes(output) == before


@pytest.mark.parametrize("frames", [4, 6, 8])
def test_extended_it_gives_what_the_whole_movie_gives_and_whole_blocks_stay(write, begin, tmp_path, data, frames):
    movie, output = begin(write, tmp_path, frames)
    before = times_of_change(output)
    write(movie, data)
    report = pyama_dask.run(config(movie, output), extend=True)
    assert report.exit_status == 0
    kept = [name for name in before if name.startswith("fov_") and "/pc_ch_0/0/c." in name]
    same = {name for name in kept if times_of_change(output)[name] == before[name]}
    assert same == {f"fov_{fov:03d}/images.zarr/pc_ch_0/0/c.{b}.0.0" for fov in range(2) for b in range(frames // 4)}
    _, reference = begin(write, None, FRAMES)
    assert differences(products(output), products(reference)) == []
    assert file_bytes(output) == file_bytes(reference)
    assert pyama_dask.run(config(movie, output)).tasks == 0  # and needs not be told again


def test_added_frames_of_the_same_movie_leave_whole_blocks(tmp_path, data, small_czi):
    output = tmp_path / "out"
    pyama_dask.run(config(small_czi, output, {"params.frames": "0-7"}))
    before = times_of_change(output)
    pyama_dask.run(config(small_czi, output))
    name = "fov_000/images.zarr/fl_ch_1/0/c.1.0.0"
    assert times_of_change(output)[name] == before[name]
    pyama_dask.run(config(small_czi, output, {"params.frames": "0-4"}))  # and fewer leave nothing of those beyond
    pyama_dask.run(config(small_czi, tmp_path / "few", {"params.frames": "0-4"}))
    assert file_bytes(output) == file_bytes(tmp_path / "few")


def other_pixels(data):
    changed = data.copy()
    changed[1, 4] += 1
    return changed


OTHERS = {
    "has other pixels": other_pixels,
    "it has 5 frames, and had 8": lambda data: data[:, :5],
    "it has another set of channels": lambda data: np.concatenate([data, data[:, :, 1:]], 2),
    "it has another set of FOVs": lambda data: data[:1],
}


@pytest.mark.parametrize("said", OTHERS)
def test_another_movie_is_no_longer_one(write, begin, tmp_path, data, said):
    movie, output = begin(write, tmp_path, 8)
    before = file_bytes(output)
    write(movie, OTHERS[said](data))
    with pytest.raises(OutputError, match=f"cannot be extended.*{said}"):
        pyama_dask.run(config(movie, output), extend=True)
    assert file_bytes(output) == before


def test_other_times_are_another_movie(begin, tmp_path, data):
    movie, output = begin(as_nd2, tmp_path, 8)
    as_nd2(movie, data, frame_times_ms=601_000.0 * np.arange(20))
    with pytest.raises(OutputError, match="was taken at another time"):
        pyama_dask.run(config(movie, output), extend=True)


def test_after_an_interrupted_extension_it_does_not_say_that_settings_differ(begin, tmp_path, data):
    movie, output = begin(as_czi, tmp_path, 8)
    as_czi(movie, data)
    (cancel := threading.Event()).set()
    pyama_dask.run(config(movie, output), extend=True, cancel=cancel)
    plan, _ = plan_run(parse_config(config(movie, output)))
    said = describe_plan(plan, what_is_left(plan))
    assert "in FOV 0-1, made before methods, times, frames or the name of the movie changed" in said
    assert "other settings" not in said


def test_it_says_that_there_are_more_frames_and_not_that_settings_differ(begin, tmp_path, data):
    movie, output = begin(as_czi, tmp_path, 8)
    as_czi(movie, data)
    longer = parse_config(config(movie, output, {"params.fovs": "0"}))
    plan, _ = plan_run(longer, extend=True)
    said = describe_plan(plan, what_is_left(plan))
    assert f"in FOV 0, made from frames 0-7; now there are {FRAMES}" in said
    assert "other settings" not in said
    pyama_dask.run(longer, extend=True)
    status = describe_status(pyama_dask.open_output(output).status())
    assert "done, made from frames 0-7, not those of the last run: FOV 1" in status
    assert [fov["fov"] for fov in pyama_dask.open_output(output).metadata["fovs"]] == [0, 1]
    plan, _ = plan_run(parse_config(config(movie, output, {"params.crop_padding": 1})))
    assert "crop in FOV 0, made with other settings" in describe_plan(plan, what_is_left(plan))


def test_a_run_that_was_killed_before_its_first_result_can_be_extended(begin, tmp_path, data, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    movie, output = Path(shutil.copy(begin(as_czi, None, 6)[0], tmp_path)), tmp_path / "new"
    monkeypatch.setattr(driver, "write_records", killed)
    with pytest.raises(KeyboardInterrupt):
        pyama_dask.run(config(movie, output))
    monkeypatch.undo()
    as_czi(movie, data)
    assert pyama_dask.run(config(movie, output), extend=True).exit_status == 0
    _, reference = begin(as_czi, None, FRAMES)
    assert file_bytes(output) == file_bytes(reference)


def test_to_extend_what_has_not_changed_does_nothing(small_czi, copied):
    assert pyama_dask.run(config(small_czi, copied), extend=True).tasks == 0


def test_a_trial_does_not_settle_the_length_of_blocks(tmp_path, small_czi):
    output = tmp_path / "out"
    pyama_dask.run(config(small_czi, output, {"params.frames": "0", "storage.block_frames": "auto"}))
    pyama_dask.run(config(small_czi, output, {"storage.block_frames": "auto"}))
    assert len(list(output.glob("fov_000/images.zarr/pc_ch_0/0/c.*"))) == 1


def test_fovs_done_with_other_blocks_are_compared_by_their_own(begin, tmp_path, data):
    movie, output = begin(as_czi, tmp_path, 8, 2)
    pyama_dask.run(config(movie, output, {"storage.block_frames": 5, "params.fovs": "0"}))
    as_czi(movie, data)
    assert pyama_dask.run(config(movie, output, {"storage.block_frames": 5}), extend=True).exit_status == 0


def test_a_run_that_does_not_come_to_a_fov_leaves_its_times_alone(small_czi, copied):
    times = pyama_dask.open_output(copied)[1].times
    cancelled = threading.Event()
    cancelled.set()
    pyama_dask.run(config(small_czi, copied, {"params.frames": "2-5"}), cancel=cancelled)
    assert np.array_equal(pyama_dask.open_output(copied)[1].times, times)

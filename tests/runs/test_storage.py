"""What ``storage`` switches off or makes smaller is given back exactly, and nothing is read or written twice."""

from collections import Counter

import numpy as np
import pytest
from support.movies import config, differences, file_bytes, listing, products

import pyama_dask
from pyama_dask.errors import OutputError
from pyama_dask.files.paged import AppendedFile, direct_works
from pyama_dask.readers.czi.reader import CziReader
from pyama_dask.runs import driver
from pyama_dask.runs.planning import plan_run
from pyama_dask.store import shards
from pyama_dask.store.layout import layout
from pyama_dask.store.shards import ShardReader, ShardWriter

OTHER_FORM = {"storage.chunks": "block"}
SMALL = {"storage.background": "grid", "storage.cells": "zip", "storage.display": "off"}


def run(movie, output, changes=None):
    report = pyama_dask.run(config(movie, output, changes))
    assert report.exit_status == 0, report
    return report


@pytest.fixture(scope="module")
def whole(finished):
    return pyama_dask.open_output(finished)


@pytest.fixture(scope="module")
def small(small_czi, tmp_path_factory):
    output = tmp_path_factory.mktemp("small") / "out"
    run(small_czi, output, SMALL)
    return pyama_dask.open_output(output)


class TestSmallOutput:
    def test_what_is_not_wanted_is_not_there(self, small):
        files = [name for name in listing(small.directory) if name.startswith("fov_000/")]
        assert "fov_000/cells.zarr.zip" in files
        assert not [name for name in files if name.startswith("fov_000/cells.zarr/") or name.endswith("/1")]
        assert "fov_000/images.zarr/fl_background_ch_1/tiles" in files
        assert "fov_000/images.zarr/fl_background_ch_1/0" not in files

    def test_images_are_the_same(self, small, whole):
        for fov in (0, 1):
            assert small[fov].channels == whole[fov].channels
            for channel in whole[fov].channels:
                mine, other = small[fov].image(channel), whole[fov].image(channel)
                assert mine.data.dtype == other.data.dtype
                assert mine.data.numblocks == other.data.numblocks
                assert (mine.scale, mine.units) == (other.scale, other.units)
                np.testing.assert_array_equal(mine.data.compute(), other.data.compute())

    def test_a_part_of_a_background_is_rebuilt_alone(self, small, whole):
        mine, other = (output[1].image("fl_background_ch_1").data[3, 50:60, 7] for output in (small, whole))
        np.testing.assert_array_equal(mine.compute(), other.compute())

    def test_traces_are_the_same(self, small, whole):
        assert small.traces().equals(whole.traces())

    def test_cells_are_the_same(self, small, whole):
        for fov in (0, 1):
            assert small[fov].cells == whole[fov].cells
            for cell in whole[fov].cells:
                mine, other = small[fov].cell(cell), whole[fov].cell(cell)
                assert mine.crops.keys() == other.crops.keys()
                np.testing.assert_array_equal(mine.boxes, other.boxes)
                for name in other.crops:
                    np.testing.assert_array_equal(mine.crops[name].compute(), other.crops[name].compute())

    def test_there_is_nothing_to_look_at(self, small):
        with pytest.raises(OutputError, match=r"pc_ch_0/1: does not exist"):
            small[0].image("pc_ch_0", level=1)


def test_a_background_is_rebuilt_from_its_tiles_by_one_function(whole):
    import zarr

    path = whole.directory / "fov_001" / "images.zarr" / "fl_background_ch_1"
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    tiles = group["tiles"]
    size, shape = tiles.attrs["tile_size"], tuple(tiles.attrs["shape"])
    for frame in range(tiles.shape[0]):
        plane = pyama_dask.background_plane(tiles[frame], size, shape)
        np.testing.assert_array_equal(plane, group["0"][frame])


def test_a_background_that_could_not_be_measured_stays_unknown():
    assert np.isnan(pyama_dask.background_plane(np.full((3, 3), np.nan), 100, (40, 50))).all()


def test_without_crops_asking_for_a_cell_says_why(small_czi, tmp_path):
    run(small_czi, tmp_path, {"storage.cells": "off"})
    assert not [name for name in listing(tmp_path) if "cells.zarr" in name]
    with pytest.raises(OutputError, match="has no crops of cells"):
        pyama_dask.open_output(tmp_path)[0].cell(1)


@pytest.mark.parametrize(
    ("key", "redone"),
    [
        ("storage.background", {"ingest": {"background"}}),
        ("storage.cells", {"finish": {"crop"}, "gather": {"crop"}}),
        ("storage.display", {"finish": {"crop"}, "gather": {"crop"}}),
        ("storage.chunks", {"ingest": {"copy", "segment", "background"}, "finish": {"track"}}),
    ],
)
def test_a_change_of_mind_redoes_only_what_is_stored_otherwise(small_czi, copied, finished, key, redone):
    tasks = []
    change = {key: OTHER_FORM.get(key) or SMALL[key]}
    pyama_dask.run(config(small_czi, copied, change), on_start=lambda todo, _: tasks.extend(todo.tasks))
    assert {task.kind: set(task.digests) for task in tasks} == redone
    if key in OTHER_FORM:  # the same pixels in other bytes
        assert differences(products(copied), products(finished)) == []
        assert file_bytes(copied) != file_bytes(finished)
    run(small_czi, copied)
    assert differences(products(copied), products(finished)) == []
    mine, whole = ({name for name in listing(output) if name.startswith("fov_")} for output in (copied, finished))
    assert mine == whole


# --------------------------------------------------------------------------------------- how often, exactly


@pytest.mark.parametrize("changes", [{}, SMALL], ids=["all", "small"])
def test_every_frame_is_read_once_and_every_shard_written_once(small_czi, tmp_path, monkeypatch, changes):
    document = config(small_czi, tmp_path / "out", changes)
    plan, _ = plan_run(pyama_dask.Config.model_validate(document))
    frames, written, read = Counter(), Counter(), Counter()
    frame = lambda _, file, out, fov, t, *more: (fov, t)  # noqa: E731
    monkeypatch.setattr(CziReader, "_fill", _counting(CziReader._fill, frames, frame))
    name = lambda _, images, spec, block, **__: (images.parent.name, spec.path, plan.job.blocks[block][0])  # noqa: E731
    for shard, opened in ((ShardWriter, written), (ShardReader, read)):
        monkeypatch.setattr(shard, "__init__", _counting(shard.__init__, opened, name))
    assert pyama_dask.run(document).exit_status == 0
    job = plan.job
    specs = layout(job, plan.fovs[0].tasks[0].shape).values()
    starts = [(f"fov_{fov.fov:03d}", start) for fov in plan.fovs for start, _ in job.blocks]
    assert frames == Counter((fov.fov, t) for fov in plan.fovs for t in job.frames)
    assert written == Counter((fov, spec.path, start) for spec in specs for fov, start in starts)
    again = {spec.path for spec in specs if spec.is_raw or spec.level == "tiles" or spec.group == "seg_labeled_ch_0"}
    assert read == Counter((fov, path, start) for path in again - {"seg_labeled_ch_0/1"} for fov, start in starts)


def _block(images, spec, start, *_):
    return images.parent.name, spec.path, start


def _counting(function, counts, name):
    def counted(*args, **kwargs):
        counts[name(*args, **kwargs)] += 1
        return function(*args, **kwargs)

    return counted


# ------------------------------------------------------------------------------------- past the page cache


def test_files_are_the_same_past_the_page_cache_and_through_it(small_czi, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        shards, "AppendedFile", lambda path, **how: (opened.append(how["direct"]), AppendedFile(path, **how))[1]
    )
    for setting in ("auto", "on", "off"):
        run(small_czi, tmp_path / setting, {"storage.direct_io": setting, "storage.background": "full"})
        direct = setting != "off" and direct_works(tmp_path, anywhere=setting == "on")
        assert set(opened) == ({direct, False} if direct else {False})  # tiles of backgrounds are small
        opened.clear()
    assert file_bytes(tmp_path / "auto") == file_bytes(tmp_path / "on") == file_bytes(tmp_path / "off")
    run(small_czi, tmp_path / "on", {"storage.direct_io": "off"})
    assert not opened  # another way to write changes no result


def test_a_file_system_without_direct_transfer_is_reported_if_it_was_asked_for(small_czi, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "direct_works", lambda *_, **__: False)
    for setting, said in (("on", True), ("auto", False)):
        report = run(small_czi, tmp_path / setting, {"storage.direct_io": setting})
        assert any("does not support direct transfers" in warning for warning in report.warnings) == said


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_damaged_shard_is_regenerated_before_anything_is_made_from_it(small_czi, tmp_path, setting):
    change = {"storage.direct_io": setting}
    run(small_czi, tmp_path, change)
    before = file_bytes(tmp_path)
    shard = tmp_path / "fov_000" / "images.zarr" / "fl_ch_1" / "0" / "c.0.0.0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    report = pyama_dask.run(config(small_czi, tmp_path, change), force=["extract"])
    assert report.exit_status == 0, report
    assert file_bytes(tmp_path) == before

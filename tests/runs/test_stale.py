"""What is in an output is what its last run was asked for, or it is not there and that is said."""

import errno
import json
import os
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from support.movies import config, differences, products

import pyama_dask
from pyama_dask.analysis.summaries import read_summary
from pyama_dask.cli.text import describe_report, describe_status
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError, OutputError, ResultsWarning
from pyama_dask.runs.plan_settings import other_frames
from pyama_dask.runs.plan_text import describe_plan
from pyama_dask.runs.planning import plan_run, what_is_left
from pyama_dask.runs.status import REPORT, read_status
from pyama_dask.steps import background, copy_frames

OTHER = {"params.segmentation_params": {"min_object_size": 300}}


def run(movie, output, changes=None, **options):
    return pyama_dask.run(config(movie, output, changes), **options)


def test_results_of_other_settings_are_removed_before_they_are_made_anew(small_czi, copied):
    report = run(small_czi, copied, OTHER, steps=["segment"])
    assert [fov.status for fov in report.fovs] == ["partial", "partial"]
    fov = pyama_dask.open_output(copied)[0]
    for read in (fov.traces, lambda: fov.cells):
        with pytest.raises(OutputError, match="status"):
            read()
    with pytest.warns(ResultsWarning, match="10 frames of seg_tracked_ch_0 are missing"):
        fov.image("seg_tracked_ch_0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fov.image("pc_ch_0")
        fov.image("seg_labeled_ch_0")
    assert run(small_czi, copied, OTHER).exit_status == 0
    assert len(pyama_dask.open_output(copied)[0].traces())


def test_results_are_whole_when_settings_come_back(small_czi, finished, copied):
    run(small_czi, copied, OTHER, steps=["segment"])
    assert run(small_czi, copied).exit_status == 0
    pd.testing.assert_frame_equal(pyama_dask.open_output(copied).traces(), pyama_dask.open_output(finished).traces())


def test_another_weight_reads_neither_the_movie_nor_the_background_again(small_czi, tmp_path, copied, monkeypatch):
    weight = {"params.background_weight": 0.5}
    run(small_czi, tmp_path / "fresh", weight)
    for module, name in ((copy_frames, "read_planes"), (background, "tile_grid")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("this is done already"))
    report = run(small_czi, copied, weight)
    assert report.exit_status == 0
    assert {step.step for step in report.steps} == {"crop", "extract", "summary"}
    assert differences(products(copied), products(tmp_path / "fresh")) == []


def test_channels_that_are_not_chosen_any_more_are_gone(small_czi, copied):
    assert "fl_ch_1" in pyama_dask.open_output(copied)[0].channels
    run(small_czi, copied, {"channels.fl": []})
    fov = pyama_dask.open_output(copied)[0]
    assert set(fov.channels) == {"pc_ch_0", "seg_labeled_ch_0", "seg_tracked_ch_0"}
    assert not [name for name in fov.traces().columns if name.endswith("_ch_1")]


def test_a_plan_says_what_is_left_and_what_it_replaces(small_czi, copied):
    made, _ = plan_run(parse_config(config(small_czi, copied)))
    assert what_is_left(made).tasks == ()
    said = describe_plan(made, what_is_left(made)).splitlines()
    assert "tasks:   0 left of 16" in said
    assert any(line.startswith("reads:   0.0 MiB of pixels, of ") for line in said), said
    assert any(line.endswith(" per cell; 0 of 2 FOVs left") for line in said), said
    made, _ = plan_run(parse_config(config(small_czi, copied, OTHER)))
    said = describe_plan(made, what_is_left(made))
    replaced = "segment, track, background, crop, extract, cache, summary in FOV 0-1, made with other settings"
    assert f"replaces: results of {replaced}" in said


def test_a_plan_tells_the_form_of_images_unless_it_is_the_default(small_czi, copied):
    def told(changes):
        made, _ = plan_run(parse_config(config(small_czi, copied, changes)))
        lines = describe_plan(made, what_is_left(made)).splitlines()
        return [line for line in lines if line.startswith("storage")], len(what_is_left(made).tasks)

    assert told({"storage.level": 5, "storage.chunks": "tiles of 1024"}) == ([], 0)
    lines, left = told({"storage.codec": "zstd", "storage.level": 3, "storage.chunks": "block"})
    assert lines == ["storage: codec zstd, level 3, chunks block"]
    assert left > 0


def test_fewer_frames_are_no_more_of_them(small_czi, copied):
    made, _ = plan_run(parse_config(config(small_czi, copied, {"params.frames": "1-4"})))
    (line,) = [line for line in describe_plan(made, what_is_left(made)).splitlines() if line.startswith("replaces")]
    assert line.endswith("in FOV 0-1, made from frames 0-9")


def test_fovs_that_a_run_leaves_alone_keep_their_record_and_settings(small_czi, copied):
    run(small_czi, copied, {"params.fovs": "0", "params.background_weight": 0.5})
    status = read_status(copied)
    assert [(fov["fov"], fov["status"], fov["other_settings"]) for fov in status["fovs"]] == [
        (0, "done", False), (1, "done", True),
    ]  # fmt: skip
    assert "done, made with other settings than the last run: FOV 1" in describe_status(status)
    with pytest.warns(ResultsWarning, match="FOVs were processed with different settings"):
        traces = pyama_dask.open_output(copied).traces()
    assert set(traces["fov"]) == {0, 1}


def test_a_renamed_movie_leaves_one_table(small_czi, copied, tmp_path):
    other = tmp_path / "renamed.czi"
    other.write_bytes(small_czi.read_bytes())
    report = run(other, copied)
    assert report.tasks == 2  # gather only
    assert [path.name for path in sorted(copied.glob("fov_*/*.csv"))] == [
        "renamed_fov_000_traces.csv", "renamed_fov_001_traces.csv",
    ]  # fmt: skip


def test_what_a_method_notices_reaches_the_report(small_czi, tmp_path):
    report = run(small_czi, tmp_path / "out", {"params.segmentation_params": {"max_object_size": 60}})
    said = [warning for fov in report.fovs for warning in fov.warnings]
    assert any("larger than max_object_size cover more than 10% of the frame" in warning for warning in said)
    assert all(warning.startswith("FOV ") for warning in said)
    status = read_status(tmp_path / "out")
    assert said == [w for fov in status["fovs"] for w in fov["warnings"]]
    assert report.exit_status == 0
    assert report.attention.startswith("HARDLY ANY CELLS: ")
    assert "Objects that are too large cover much of the frames" in report.attention
    assert describe_report(report).endswith(report.attention)
    assert describe_status(status).endswith(report.attention)
    words = json.loads((tmp_path / "out" / REPORT).read_text())
    assert (words["attention"], words["tracks"]) == (report.attention, status["tracks"])
    lost = [read_summary(tmp_path / "out", fov).lost.mean() for fov in (0, 1)]
    assert [fov.lost for fov in report.fovs] == pytest.approx(lost, abs=0.0005)
    assert "% of the frame dropped as too large" in status["tracks"][0]
    log = (tmp_path / "out" / ".pyama_dask" / "log.txt").read_text()
    assert all(f"WARNING {warning}\n" in log for warning in said)


def test_more_frames_than_there_are_cannot_keep_a_cell(small_czi, tmp_path):
    report = run(small_czi, tmp_path / "out", {"params.tracking_params": {"min_frames": 11}})
    assert any("min_frames: is 11, but the run has only 10 frames" in warning for warning in report.warnings)
    assert np.array_equal([fov.cells for fov in report.fovs], [0, 0])


def test_copying_only_leaves_no_traces_of_before(small_czi, copied):
    run(small_czi, copied, {"params.copy_only": True})
    fov = pyama_dask.open_output(copied)[0]
    assert set(fov.channels) == {"pc_ch_0", "fl_ch_1"}
    with pytest.raises(OutputError, match="has no traces"):
        fov.traces()
    assert not (fov.directory / "cells.zarr").exists()


def test_cancelled_before_it_begins_a_run_destroys_nothing(small_czi, finished, copied):
    cancel = threading.Event()
    cancel.set()
    assert run(small_czi, copied, OTHER, cancel=cancel).cancelled
    pd.testing.assert_frame_equal(pyama_dask.open_output(copied).traces(), pyama_dask.open_output(finished).traces())


def test_times_are_corrected_where_nothing_is_copied_again(small_czi, tmp_path):
    changes = {"params.copy_only": True}
    run(small_czi, tmp_path, changes)
    minutes = {frame: 7.0 * frame for frame in range(10)}
    report = run(small_czi, tmp_path, changes | {"params.time_mapping": minutes})
    assert (report.tasks, {step.step for step in report.steps}) == (2, {"summary"})
    assert pyama_dask.open_output(tmp_path)[0].times.tolist() == list(minutes.values())
    assert read_summary(tmp_path, 0).times_min.tolist() == list(minutes.values())


def test_warnings_stay_while_their_step_is_not_redone(small_czi, tmp_path):
    changes = {"params.tracking_params": {"min_frames": 10, "border_margin": 99}}
    first = run(small_czi, tmp_path, changes)
    assert all("none of" in fov.warnings[-1] for fov in first.fovs)
    again = run(small_czi, tmp_path, changes | {"params.crop_padding": 2})
    assert [fov.warnings for fov in again.fovs] == [fov.warnings for fov in first.fovs]


def test_an_edited_method_is_run_again(small_czi, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text("def size(shapes):\n    return shapes.area\n")
    changes = {"channels.pc.features": [f"{plugin}:size"]}
    run(small_czi, tmp_path / "out", changes)
    assert run(small_czi, tmp_path / "out", changes).tasks == 0
    before = pyama_dask.open_output(tmp_path / "out").traces()["size_ch_0"]
    plugin.write_text("def size(shapes):\n    return 2 * shapes.area\n")
    assert run(small_czi, tmp_path / "out", changes).tasks > 0
    assert (pyama_dask.open_output(tmp_path / "out").traces()["size_ch_0"] == 2 * before).all()


def test_a_preprocessor_must_give_whole_numbers(small_czi, tmp_path):
    (tmp_path / "plugin.py").write_text("def brighten(frame):\n    return frame / 65535\n")
    with pytest.raises(ConfigError, match=r"params.preprocess, .* the preprocessor .*:brighten' .* returned float64"):
        run(small_czi, tmp_path / "out", {"params.preprocess": [f"{tmp_path / 'plugin.py'}:brighten"]})
    assert not (tmp_path / "out").exists()


def test_a_fov_fails_once(small_czi, tmp_path):
    (tmp_path / "plugin.py").write_text("def broken(frame):\n    raise ValueError('dark')\n")
    events = []
    changes = {"params.segmentation_method": f"{tmp_path / 'plugin.py'}:broken", "params.segmentation_params": {}}
    report = run(small_czi, tmp_path / "out", changes, progress=events.append)
    assert len(report.failed) == 2
    assert [event["fov"] for event in events if event["step"] == "failed"] == [0, 1]


def test_a_fov_that_cannot_be_prepared_says_so(small_czi, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("pyama_dask.runs.output_dir.fov_documents", refused)
    assert run(small_czi, tmp_path).exit_status == 3
    assert all("Permission denied" in fov["reason"] for fov in read_status(tmp_path)["fovs"])
    assert {fov["cause"] for fov in read_status(tmp_path)["fovs"]} == {"storage"}


def test_after_a_cancelled_run_on_a_client_of_ones_own_nothing_writes(small_czi, tmp_path, client):
    (tmp_path / "plugin.py").write_text(
        "import time\nimport numpy as np\n"
        "def slow(frame):\n    time.sleep(0.3)\n    return (frame > 0).astype('uint16')\n"
    )
    changes = {"params.segmentation_method": f"{tmp_path / 'plugin.py'}:slow", "params.segmentation_params": {}}
    cancel = threading.Event()
    threading.Timer(1.5, cancel.set).start()
    assert run(small_czi, tmp_path / "out", changes, client=client, cancel=cancel).cancelled
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    time.sleep(2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_frames_are_named_only_where_they_and_nothing_else_differ():
    now = {"channels": {}, "params": {"frames": "0-9", "z": 0}, "storage": {"block_frames": 4, "codec": "lz4"}}
    fewer = now | {"params": now["params"] | {"frames": "0-7"}, "storage": now["storage"] | {"block_frames": 3}}
    assert other_frames(fewer, now) == "0-7"
    assert other_frames(now | {"storage": now["storage"] | {"block_frames": 5}}, now) is None
    assert other_frames(fewer | {"params": fewer["params"] | {"z": 1}}, now) is None

"""A task that works on its block in pieces of fewer frames makes exactly what it makes of the whole."""

import functools
import json
import shutil
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import USUAL
from support.ledgers import recorded
from support.movies import INTENSITIES, as_czi, config, file_bytes, pixels

import pyama_dask
from pyama_dask.errors import CancelledError
from pyama_dask.execute.pool import SerialPool
from pyama_dask.kernels import display
from pyama_dask.launch import start
from pyama_dask.readers.czi.reader import CziReader
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps import run_task
from pyama_dask.steps.context import TaskContext
from pyama_dask.store.cancel import stop_tasks
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock import locked

FRAMES, BLOCK = 5, 3
WARNS = """
import warnings

from pyama_dask.errors import MethodWarning
from pyama_dask.kernels.segmentation import segment


def careful(frame):
    if int(frame[0, 0]) % 3:
        warnings.warn("a corner that is not divisible", MethodWarning)
    return segment(frame, morph_iterations=1)
"""


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Three channels, a size that no tile divides, and with blocks of 3 a last one of 2 frames."""
    data = pixels(fovs=1, frames=FRAMES, shape=(139, 163), cells=5, fluorescence_channels=2, seed=4)
    return as_czi(tmp_path_factory.mktemp("pieces") / "movie.czi", data)


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """Settings of all runs here: two fluorescence channels, and a segmenter that notices something in some frames."""
    file = tmp_path_factory.mktemp("pieces") / "warns.py"
    file.write_text(WARNS)
    return {
        "channels.fl": [{"channel": k, "features": INTENSITIES} for k in (1, 2)],
        "params.segmentation_method": f"{file}:careful",
        "params.segmentation_params": {},
        "params.background_params": {"tile_size": 40},
        "params.tracking_params": {"min_frames": 3, "border_margin": 2},
        "storage.block_frames": BLOCK,
    }


def run(movie, output, changes, at_once, steps=(None,)):
    """Run in pieces of so many frames, the steps one after the other."""
    pool = SerialPool(lambda task, job: run_task(replace(task, at_once=at_once), job))
    with patch.object(start, "SerialPool", lambda: pool):
        for step in steps:
            report = pyama_dask.run(config(movie, output, changes), steps=step and [step])
            assert report.exit_status == 0, report
    return report


def made(output):
    """All files of a run, tables between tasks too, and what its receipts say but time and memory."""
    files = file_bytes(output, leave_out={"processing_config.yaml"})
    kept = {name: content for name, content in files.items() if not name.startswith(".pyama_dask/")}
    kept |= {name: content for name, content in files.items() if name.startswith(".pyama_dask/fov_")}
    receipts = [json.loads(line).get("done") for line in (output / LEDGER).read_text().splitlines()]
    for receipt in filter(None, receipts):
        told = {
            name: receipt[name] for name in ("digests", "files", "bytes_read", "bytes_written", "warnings", "notes")
        }
        kept[receipt["key"]] = told
    return kept


@pytest.fixture(scope="module")
def whole(movie, changes, tmp_path_factory):
    """Give what runs with further settings make of whole blocks; each is done once."""

    @functools.cache
    def of(*further):
        output = tmp_path_factory.mktemp("whole") / "out"
        run(movie, output, changes | dict(further), None)
        return made(output)

    return of


@settings(max_examples=6)
@given(
    at_once=st.integers(1, 4),
    background=st.sampled_from(["full", "grid"]),
    shown=st.sampled_from(["on", "off"]),
    cells=st.sampled_from(["directory", "zip"]),
)
def test_every_file_is_the_same_to_the_byte(movie, changes, whole, tmp_path_factory, at_once, background, shown, cells):
    further = {"storage.background": background, "storage.display": shown, "storage.cells": cells}
    output = tmp_path_factory.mktemp("pieces") / "out"
    run(movie, output, changes | further, at_once)
    found, wanted = made(output), whole(*further.items())
    shutil.rmtree(output)
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def test_the_runs_compared_have_cells_and_warnings(whole):
    files = whole()
    assert files["gather-fov000"]["notes"]["crop"]["cells"]
    noticed = [words for name in files if name.startswith("ingest") for _, words in files[name]["warnings"]]
    assert any("frames" in words and "not divisible" in words for words in noticed)


@pytest.mark.parametrize("at_once", [1, 2])
def test_steps_alone_are_as_all_of_the_whole(movie, changes, whole, tmp_path, at_once):
    run(movie, tmp_path, changes, at_once, USUAL)
    found, wanted = ({n: c for n, c in made.items() if "-fov" not in n} for made in (made(tmp_path), whole()))
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


@pytest.mark.parametrize("changes", [{"params.copy_only": True}, {"channels": {"pc": {"channel": 0}}}], ids=str)
def test_fewer_channels_and_steps(movie, tmp_path, changes):
    outputs = [tmp_path / "whole", tmp_path / "pieces"]
    for output, at_once in zip(outputs, (None, 2), strict=True):
        run(movie, output, changes, at_once)
    assert made(outputs[0]) == made(outputs[1])


def test_a_display_level_that_fails_on_the_way_leaves_no_part_of_it(movie, changes, tmp_path, monkeypatch):
    show, calls = display.show_labels, []

    def fails_in_the_end(stack, top, out):
        calls.append(len(stack))
        if sum(calls) > BLOCK:
            raise RuntimeError("no colours today")
        return show(stack, top, out)

    monkeypatch.setattr(display, "show_labels", fails_in_the_end)
    report = run(movie, tmp_path, changes | {"storage.cells": "off"}, 1)
    assert any("no colours today" in warning for warning in report.fovs[0].warnings)
    assert not list(tmp_path.glob("fov_000/images.zarr/*/1/c.*"))
    files = recorded(Ledger(tmp_path / LEDGER), "files")["finish-fov000-b000"]
    assert {step: [*of] for step, of in files.items()} == {
        "track": ["fov_000/images.zarr/seg_tracked_ch_0/0/c.0.0.0"],
        "extract": [".pyama_dask/fov_000/rows_b000.npz"],
        "cache": [],
    }


# ------------------------------------------------------------------------------------------------ cancelling


@pytest.fixture
def tasks(movie, changes, tmp_path):
    """The tasks of a run that is done, by key, and their job."""
    run(movie, tmp_path / "out", changes, None)
    plan, _ = plan_run(pyama_dask.Config.model_validate(config(movie, tmp_path / "out", changes)))
    return {task.key: task for task in plan.tasks}, plan.job


@pytest.mark.parametrize("at_once", [None, 1])
def test_a_task_stops_between_frames_when_the_run_is_cancelled(tasks, monkeypatch, at_once):
    by_key, job = tasks
    fill, frames = CziReader._fill, []

    def cancel(self, file, out, fov, frame, *others):
        frames.append(frame)
        if len(frames) == 2:
            stop_tasks(job.output, "run")
        fill(self, file, out, fov, frame, *others)

    monkeypatch.setattr(CziReader, "_fill", cancel)
    with locked(job.output, "run"), pytest.raises(CancelledError, match="the run was cancelled"):
        run_task(replace(by_key["ingest-fov000-b000"], at_once=at_once), replace(job, run="run"))
    assert frames == [0, 1]


def test_every_frame_and_every_cell_is_a_place_to_stop(tasks, monkeypatch):
    by_key, job = tasks
    asked, written, check, put = [], [], TaskContext.check, TaskContext.put
    monkeypatch.setattr(TaskContext, "check", lambda bench: (asked.append(bench.task.key), check(bench)))
    monkeypatch.setattr(TaskContext, "put", lambda bench, *given: (written.append(bench.task.key), put(bench, *given)))
    receipts = {key: run_task(task, job) for key, task in by_key.items()}
    # but once before anything else, and once before each piece that is written
    of = {key: asked.count(key) - 1 - written.count(key) for key in set(asked)}
    assert written.count("ingest-fov000-b000") > 0
    rounds = {"ingest": 4, "finish": 2}  # copy, segment, two channels; track, all others
    assert of["ingest-fov000-b000"] == rounds["ingest"] * BLOCK
    assert of["finish-fov000-b000"] == rounds["finish"] * BLOCK
    cells = receipts["gather-fov000"].notes["crop"]["cells"]
    assert of["gather-fov000"] == 4 * cells > 0  # three channels and the mask


def test_a_cancelled_display_is_no_fault_of_the_display(tasks, monkeypatch):
    by_key, job = tasks
    put = TaskContext.put

    def cancelled(bench, group, data, level=0):
        if level == 1:
            raise CancelledError("the run was cancelled")
        put(bench, group, data, level)

    monkeypatch.setattr(TaskContext, "put", cancelled)
    shown = sorted(job.output.glob("fov_000/images.zarr/*/1/c.0.0.0"))
    with pytest.raises(CancelledError):
        run_task(by_key["finish-fov000-b000"], job)
    assert sorted(job.output.glob("fov_000/images.zarr/*/1/c.0.0.0")) == shown

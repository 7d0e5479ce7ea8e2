"""Blocks are kept as long as what they read from the whole FOV is the same."""

import random
import shutil
import threading
import warnings

import numpy as np
import pytest
from support.ledgers import costs_of
from support.movies import as_czi, config, differences, file_bytes, pixels, products, times_of_change

import pyama_dask
from pyama_dask.errors import ResultsWarning
from pyama_dask.runs import driver
from pyama_dask.runs.status import LEDGER, PLAN
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.summary import summary_file
from pyama_dask.workflow.task import parse_key

LENIENT = {"params.tracking_params": {"min_frames": 2, "border_margin": 0}}
STRICT = {"params.tracking_params": {"min_frames": 2, "border_margin": 40}}
SAME_CELLS = {"params.tracking_params": {"min_frames": 1, "border_margin": 0}}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """One FOV with 10 frames, and cells that come and go."""
    return as_czi(tmp_path_factory.mktemp("kept") / "movie.czi", pixels(fovs=1, frames=10, shape=(180, 220), cells=8))


def run(movie, output, changes=None, **options):
    return pyama_dask.run(config(movie, output, changes), **options)


def steps_done(output, entries_before):
    """Steps by kind and block that were recorded after some lines of the ledger."""
    ledger = Ledger(output / LEDGER)
    return {
        (parse_key(cost.key).kind, parse_key(cost.key).block): set(cost.spent)
        for cost in costs_of(ledger, entries_before)
    }


def entries(output):
    return Ledger(output / LEDGER).receipts


def changed_since(before, output):
    after = times_of_change(output)
    return {name for name in before if after.get(name) != before[name]}


@pytest.fixture
def output(movie, tmp_path):
    assert run(movie, tmp_path / "out", LENIENT).exit_status == 0
    return tmp_path / "out"


def assert_like_a_fresh_run(movie, output, tmp_path, changes):
    run(movie, tmp_path / "fresh", changes)
    assert differences(products(output), products(tmp_path / "fresh")) == []
    assert file_bytes(output) == file_bytes(tmp_path / "fresh")
    mine, fresh = (summary_file(of / ".pyama_dask" / "fov_000").read_bytes() for of in (output, tmp_path / "fresh"))
    assert mine == fresh


def test_added_frames_leave_labels_tracks_and_rows_of_whole_blocks(movie, tmp_path):
    output = tmp_path / "out"
    run(movie, output, LENIENT | {"params.frames": "0-7"})
    before, done = times_of_change(output), entries(output)
    report = run(movie, output, LENIENT)
    assert report.exit_status == 0
    assert report.tasks == report.tasks_done
    steps = steps_done(output, done)
    assert steps["ingest", 2] >= {"copy", "segment", "background"}
    assert {key for key in steps if key[0] == "ingest"} == {("ingest", 2)}  # the movie is read for new frames only
    for block in (0, 1):
        assert steps["finish", block] <= {"crop", "cache"}  # crops are stored as one array over time
        for group in ("seg_labeled_ch_0/0", "seg_tracked_ch_0/0", "pc_ch_0/0", "fl_background_ch_1/tiles"):
            name = f"fov_000/images.zarr/{group}/c.{block}.0.0"
            assert times_of_change(output)[name] == before[name]
    assert steps["finish", 2] == {"track", "crop", "extract", "cache"}
    assert_like_a_fresh_run(movie, output, tmp_path, LENIENT)


def test_a_change_that_keeps_all_ids_leaves_the_tracked_labels(movie, output, tmp_path):
    before, done = times_of_change(output), entries(output)
    report = run(movie, output, STRICT)
    assert report.exit_status == 0
    steps = steps_done(output, done)
    assert {key[0] for key in steps} == {"link", "finish", "gather"}
    assert all(steps["finish", block] == {"crop", "extract"} for block in range(3))  # fewer cells are kept
    assert not {name for name in changed_since(before, output) if "images.zarr" in name and "/c." in name}
    assert_like_a_fresh_run(movie, output, tmp_path, STRICT)


def test_a_change_that_keeps_all_cells_leaves_rows_crops_and_traces(movie, output, tmp_path):
    before, done, cells = times_of_change(output), entries(output), pyama_dask.open_output(output)[0].cells
    report = run(movie, output, SAME_CELLS)
    assert pyama_dask.open_output(output)[0].cells == cells  # else this tests nothing
    steps = steps_done(output, done)
    assert {key[0] for key in steps} == {"link", "gather"}
    assert steps["gather", None] == {"summary"}  # other tracks are too short
    assert (report.tasks, report.tasks_done) == (2, 2)
    assert not {name for name in changed_since(before, output) if "/c." in name or "cells" in name or ".csv" in name}
    assert_like_a_fresh_run(movie, output, tmp_path, SAME_CELLS)


@pytest.mark.parametrize(
    "change",
    [{"params.crop_padding": 2}, {"params.background_weight": 0.5}, {"storage.cells": "zip"}],
    ids=["padding", "weight", "form"],
)
def test_crops_are_cut_again_for_all_else_that_they_depend_on(movie, output, tmp_path, change):
    before, done = times_of_change(output), entries(output)
    run(movie, output, SAME_CELLS | change)
    steps = steps_done(output, done)
    assert all("crop" in steps["finish", block] for block in range(3))
    assert not {name for name in changed_since(before, output) if "images.zarr" in name and "/c." in name}
    assert_like_a_fresh_run(movie, output, tmp_path, SAME_CELLS | change)


def test_missing_crops_are_cut_again_though_their_cells_are_the_same(movie, output, tmp_path):
    shutil.rmtree(output / "fov_000/cells.zarr")
    assert run(movie, output, SAME_CELLS).exit_status == 0
    assert_like_a_fresh_run(movie, output, tmp_path, SAME_CELLS)


def test_progress_counts_what_is_kept(movie, output):
    events = []
    run(movie, output, STRICT, progress=events.append)
    assert max(event["frame"] for event in events if event["step"] == "track") == 10


def test_blocks_are_compared_by_the_next_run_after_a_kill_between_linking_and_the_blocks(movie, output, tmp_path):
    run(movie, output, SAME_CELLS)
    ledger = output / LEDGER
    lines = ledger.read_bytes().splitlines(keepends=True)
    linked = max(k for k, line in enumerate(lines) if b'"done":{"key":"link-fov000"' in line)
    ledger.write_bytes(b"".join(lines[: linked + 1]))
    before, done = times_of_change(output), entries(output)
    assert run(movie, output, SAME_CELLS).exit_status == 0
    assert steps_done(output, done) == {("gather", None): {"summary"}}
    assert not {name for name in changed_since(before, output) if "/c." in name or "cells" in name or ".csv" in name}
    assert_like_a_fresh_run(movie, output, tmp_path, SAME_CELLS)


def test_blocks_done_before_a_cancelled_run_are_not_done_again(movie, output, tmp_path):
    cancel = threading.Event()
    run(movie, output, STRICT, progress=lambda event: event["step"] == "crop" or cancel.set(), cancel=cancel)
    before = times_of_change(output)
    assert run(movie, output, STRICT).exit_status == 0
    assert not {name for name in changed_since(before, output) if "images.zarr" in name and "/c." in name}
    assert_like_a_fresh_run(movie, output, tmp_path, STRICT)


def test_forced_steps_are_done_even_if_they_read_the_same(movie, output):
    done = entries(output)
    run(movie, output, LENIENT, force=["track"])
    assert all(steps_done(output, done)["finish", block] >= {"track", "extract"} for block in range(3))


def test_a_missing_file_is_made_again_though_its_block_reads_the_same(movie, output, tmp_path):
    (output / "fov_000/images.zarr/seg_tracked_ch_0/0/c.1.0.0").unlink()
    assert run(movie, output, STRICT).exit_status == 0
    assert_like_a_fresh_run(movie, output, tmp_path, STRICT)


TRACKERS = """
from pathlib import Path
from pyama_dask.kernels.tracking import link

CALLS = Path(__file__).with_suffix(".calls")

def other_ids(boxes):
    with CALLS.open("a") as file:
        file.write("x")
    return [ids + 10 * CALLS.stat().st_size for ids in link(boxes)]

def fails(boxes):
    raise ValueError("no tracks today")
"""


@pytest.fixture
def trackers(tmp_path):
    """Configs with a tracker that gives other ids each time, and with one that fails."""
    file = tmp_path / "mine.py"
    file.write_text(TRACKERS)
    kept = {"params.tracking_params": {"min_frames": 2, "border_margin": 0}}
    return [kept | {"params.tracking_method": f"{file}:{name}"} for name in ("other_ids", "fails")]


def test_what_wider_parts_made_again_is_compared_though_settings_come_back(movie, trackers, tmp_path):
    output, (other_ids, fails) = tmp_path / "out", trackers
    run(movie, output, other_ids)
    assert run(movie, output, fails).exit_status == 3
    assert run(movie, output, other_ids).exit_status == 0
    fov = pyama_dask.open_output(output)[0]
    in_traces = set(fov.traces()["cell"])
    assert in_traces == set(fov.cells)
    assert in_traces <= set(np.unique(fov.image("seg_tracked_ch_0").data.compute()))


def test_a_fov_that_fails_leaves_no_result_of_other_settings(movie, output, trackers):
    assert run(movie, output, trackers[1]).exit_status == 3
    fov = pyama_dask.open_output(output)[0]
    with pytest.warns(ResultsWarning, match="10 frames of seg_tracked_ch_0 are missing"):
        fov.image("seg_tracked_ch_0")
    assert run(movie, output, LENIENT).exit_status == 0


def test_a_killed_run_leaves_results_that_are_said_to_be_of_other_settings(movie, output, trackers, monkeypatch):
    monkeypatch.setattr(driver, "void_unsettled", lambda *_: None)  # a killed run does not come to it
    run(movie, output, trackers[1])
    fov = pyama_dask.open_output(output)[0]
    with pytest.warns(
        ResultsWarning, match="seg_tracked_ch_0 may be of other settings, as the last run has not finished"
    ):
        fov.image("seg_tracked_ch_0")
    for what, read in {"crops": lambda: fov.cells, "traces": fov.traces}.items():
        with pytest.warns(ResultsWarning, match=f"{what} may be of other settings"):
            read()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fov.image("seg_labeled_ch_0")


def test_tracked_labels_can_be_opened_without_the_plan_of_the_run(output):
    (output / PLAN).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pyama_dask.open_output(output)[0].image("seg_tracked_ch_0").data.shape[0] == 10


CHANGES = (
    {"params.tracking_params": {"min_frames": 2, "border_margin": 0}},
    {"params.tracking_params": {"min_frames": 8, "border_margin": 5}},
    {"params.tracking_params": {"min_frames": 2, "border_margin": 0, "min_iou": 0.6}},
    {"params.segmentation_params": {"min_object_size": 300}},
    {"params.frames": "0-5"},
    {"params.frames": "0-7"},
    SAME_CELLS,
    {"params.background_weight": 0.5},
    {"params.crop_padding": 3},
    {"storage.display": "off"},
    {"storage.cells": "off"},
)


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_changes_and_cancelled_runs_gives_what_a_fresh_run_gives(movie, tmp_path, seed):
    chance, output = random.Random(seed), tmp_path / "out"
    for _ in range(4):
        changes = {key: value for of in chance.sample(CHANGES, 2) for key, value in of.items()}
        cancel, left = threading.Event(), chance.choice([1, 2, 4, 6, 9, 1000])

        def stop_soon(_event, cancel=cancel, counted=[left]):  # noqa: B006  (counts down)
            counted[0] -= 1
            if counted[0] <= 0:
                cancel.set()

        run(movie, output, changes, progress=stop_soon, cancel=cancel)
    assert run(movie, output, changes).exit_status == 0
    assert_like_a_fresh_run(movie, output, tmp_path, changes)

"""Runs with the tracker `lap`: filled gaps in all products, the same bytes for all blocks, and sizes of objects."""

import random
import shutil
import threading
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import zarr
from support.dense import made_masks
from support.ledgers import costs_of
from support.movies import as_czi, config, file_bytes

import pyama_dask
from pyama_dask.analysis.fit import fit_traces
from pyama_dask.execute.pool import SerialPool
from pyama_dask.kernels import scores
from pyama_dask.launch import start
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps import run_task
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import parse_key

FRAMES = 12
METHODS = """
import numpy as np
from pyama_dask.kernels.lap import link

def labels(frame):
    return frame.astype(np.int32) // 100

def with_mothers(boxes):
    ids = [np.where((of == 4) & (t > 5), 41, np.where((of == 3) & (t > 5), 40, of)) for t, of in enumerate(link(boxes))]
    late = {40, 41} & {*np.concatenate(ids).tolist()}
    return ids, dict.fromkeys(late, 3)
"""


@pytest.fixture(scope="module")
def truth():
    """(T, H, W) masks of cells, some in contact."""
    return made_masks(frames=FRAMES, shape=(150, 160), cells=9, seed=2)


@pytest.fixture(scope="module")
def pixels(truth):
    """(FOV, T, C, H, W) whose phase channel has the numbers of the cells, but for those that are missed in a frame."""
    rng = np.random.default_rng(3)
    missed = rng.random((FRAMES, 10)) < 0.2
    missed[[0, -1]], missed[:, 1] = False, False
    missed[2:6, 2] = [False, True, True, True]  # over the border of blocks of 4
    missed[7, 3], missed[8:, 3] = True, False
    seen = np.where(missed[np.arange(FRAMES)[:, None, None], truth], 0, truth)
    seen[:, 0, 0] = 30  # a speck
    light = np.random.default_rng(0).integers(100, 200, truth.shape) + truth.astype(int) * 50
    return np.stack([seen.astype(np.uint16) * 100, light.astype(np.uint16)], 1)[None]


@pytest.fixture(scope="module")
def movie(pixels, tmp_path_factory):
    return as_czi(tmp_path_factory.mktemp("filled") / "movie.czi", pixels)


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    file = tmp_path_factory.mktemp("filled") / "mine.py"
    file.write_text(METHODS)
    return file


@pytest.fixture(scope="module")
def changes(methods):
    return {
        "params.segmentation_method": f"{methods}:labels",
        "params.segmentation_params": {},
        "params.tracking_method": "lap",
        "params.tracking_params": {"min_frames": 3, "border_margin": 0, "min_size": 2},
        "params.background_params": {"tile_size": 50, "dilation": 2},
    }


def run(movie, output, changes, **options):
    report = pyama_dask.run(config(movie, output, changes), **options)
    assert report.exit_status == 0, report
    return output


@pytest.fixture(scope="module")
def output(movie, changes, tmp_path_factory):
    return run(movie, tmp_path_factory.mktemp("filled") / "out", changes)


def tracked(output):
    return pyama_dask.open_output(output)[0].image("seg_tracked_ch_0").data.compute()


def steps_done(output, entries_before=0):
    """Steps by kind and block that were recorded after some lines of the ledger."""
    costs = costs_of(Ledger(output / LEDGER), entries_before)
    return {(parse_key(cost.key).kind, parse_key(cost.key).block): set(cost.spent) for cost in costs}


def test_traces_and_labels_and_crops_say_the_same(output, truth):
    fov = pyama_dask.open_output(output)[0]
    traces, labels = fov.traces(), tracked(output)
    assert list(traces)[-1] == "filled"
    assert traces["filled"].dtype == bool
    assert traces["filled"].sum() >= 8
    for row in traces.itertuples():
        place = np.argwhere(labels[row.frame] == row.cell)
        assert len(place) == row.area_ch_0
        assert [row.bbox_y0, row.bbox_x0, *place.max(0)] == [*place.min(0), row.bbox_y1 - 1, row.bbox_x1 - 1]
    for cell, of in traces.groupby("cell"):
        crop = fov.cell(cell)
        assert np.flatnonzero(crop.valid).tolist() == of["frame"].tolist()
        assert np.flatnonzero(crop.filled).tolist() == of["frame"][of["filled"]].tolist()
        assert np.array_equal(crop.boxes[crop.valid], of[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]])
        masks = crop.crops["mask"].compute()
        assert masks.sum((1, 2))[crop.valid].tolist() == of["area_ch_0"].tolist()
        assert not masks[~crop.valid].any()


def test_filled_masks_lie_where_the_missed_cells_are(output, truth):
    traces, labels = pyama_dask.open_output(output)[0].traces(), tracked(output)
    found = []
    for row in traces[traces["filled"]].itertuples():
        mask = labels[row.frame] == row.cell
        cell = truth[row.frame] == np.bincount(truth[row.frame][mask]).argmax()
        found.append((mask & cell).sum() / (mask | cell).sum())
    assert np.mean(found) > 0.75


def test_tra_rises_where_gaps_are_filled(movie, changes, output, truth, tmp_path):
    unfilled = changes["params.tracking_params"] | {"fill_gaps": False}
    plain = run(movie, tmp_path / "plain", changes | {"params.tracking_params": unfilled, "storage.cells": "off"})
    assert "filled" not in pyama_dask.open_output(plain)[0].traces()
    tra = [
        scores.tra([scores.match(t, f) for t, f in zip(truth.astype(np.int32), labels.astype(np.int32), strict=True)])
        for labels in map(tracked, (plain, output))
    ]
    assert tra[0] < tra[1] > 0.95


@pytest.mark.parametrize("block_frames", [3, 5, FRAMES])
def test_bytes_do_not_depend_on_blocks(movie, changes, output, tmp_path, block_frames):
    other = run(movie, tmp_path / "other", changes | {"storage.block_frames": block_frames})
    assert np.array_equal(tracked(output), tracked(other))
    wanted, found = file_bytes(output), file_bytes(other)
    same = {name for name in wanted if name.endswith(".csv") or "/cells.zarr/" in name}
    assert len(same) > 50
    assert [name for name in same if wanted[name] != found[name]] == []


def test_a_gap_longer_than_a_block_is_not_filled(movie, changes, tmp_path):
    short = run(movie, tmp_path / "short", changes | {"storage.block_frames": 2, "storage.cells": "off"})
    (told,) = pyama_dask.open_output(short).status()["warnings"]
    assert told.startswith("storage.block_frames: is 2, so that only gaps of up to 2 frames are filled")
    traces = pyama_dask.open_output(short)[0].traces()
    gaps = traces[traces["cell"] == 2]["frame"].diff().max()  # of three frames
    assert gaps == 4
    assert traces["filled"].any()


def test_pieces_of_blocks_give_the_same_bytes(movie, changes, output, tmp_path):
    pool = SerialPool(lambda task, job: run_task(replace(task, at_once=1), job))
    with patch.object(start, "SerialPool", lambda: pool):
        run(movie, tmp_path / "pieces", changes)
    assert file_bytes(tmp_path / "pieces") == file_bytes(output)


def test_workers_give_the_same_bytes(movie, changes, output, tmp_path):
    run(movie, tmp_path / "local", changes | {"cluster": {"kind": "local", "workers": 2, "memory": "1GiB"}})
    assert file_bytes(tmp_path / "local") == file_bytes(output)


@pytest.mark.parametrize("step", ["segment", "track", "crop"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(movie, changes, output, tmp_path, step):
    cancel, stopped = threading.Event(), tmp_path / "stopped"
    pyama_dask.run(
        config(movie, stopped, changes), progress=lambda event: event["step"] == step and cancel.set(), cancel=cancel
    )
    run(movie, stopped, changes)
    assert file_bytes(stopped) == file_bytes(output)


def test_a_changed_tracker_redoes_its_steps_and_no_other(movie, changes, output, tmp_path):
    shutil.copytree(output, tmp_path / "out")
    before = Ledger(output / LEDGER).receipts
    less = changes["params.tracking_params"] | {"gap": 1}
    run(movie, tmp_path / "out", changes | {"params.tracking_params": less})
    steps = steps_done(tmp_path / "out", before)
    assert {kind for kind, _ in steps} == {"link", "finish", "gather"}
    assert set().union(*steps.values()) <= {"track", "crop", "extract", "cache", "summary"}
    run(movie, tmp_path / "fresh", changes | {"params.tracking_params": less})
    assert file_bytes(tmp_path / "out") == file_bytes(tmp_path / "fresh")


def test_a_block_is_redone_where_a_fill_reaches_into_it(movie, changes, output, tmp_path):
    """Cell 3 is missed in frame 7, the last of a block: that is a gap only when frames follow."""
    without = changes | {"storage.cells": "off"}
    run(movie, tmp_path / "out", without | {"params.frames": "0-7"})
    assert not pyama_dask.open_output(tmp_path / "out")[0].traces().query("cell == 3 and frame == 7").size
    before = Ledger(tmp_path / "out" / LEDGER).receipts
    run(movie, tmp_path / "out", without)
    steps = steps_done(tmp_path / "out", before)
    assert "track" not in steps.get(("finish", 0), set())
    assert steps["finish", 1] >= {"track", "extract"}
    assert pyama_dask.open_output(tmp_path / "out")[0].traces().query("cell == 3 and frame == 7")["filled"].all()
    assert np.array_equal(tracked(tmp_path / "out"), tracked(output))


TRACKERS = (
    {"gap": 1}, {"gap": 3, "divide": True}, {"fill_gaps": False}, {"min_size": 400}, {"max_size": 500}, {"near": 0.3},
    {"min_frames": 6}, {"border_margin": 8},
)  # fmt: skip


@pytest.mark.parametrize(("seed", "block_frames"), [(0, 1), (1, 2)])
def test_any_sequence_of_trackers_added_frames_and_stopped_runs_gives_what_a_fresh_run_gives(
    pixels, changes, tmp_path, seed, block_frames
):
    chance, frames, movie = random.Random(seed), 5, tmp_path / "movie.czi"
    for _ in range(4):
        as_czi(movie, pixels[:, :frames])
        tracker = changes["params.tracking_params"] | chance.choice(TRACKERS)
        given = changes | {"params.tracking_params": tracker, "storage.block_frames": block_frames}
        cancel, left = threading.Event(), chance.choice([2, 5, 9, 20, 1000])

        def stop_soon(_event, cancel=cancel, counted=[left]):  # noqa: B006  (counts down)
            counted[0] -= 1
            if counted[0] <= 0:
                cancel.set()

        pyama_dask.run(config(movie, tmp_path / "out", given), progress=stop_soon, cancel=cancel, extend=True)
        frames = min(FRAMES, frames + chance.choice([0, 1, 3]))
    run(movie, tmp_path / "out", given)
    run(movie, tmp_path / "fresh", given)
    assert file_bytes(tmp_path / "out") == file_bytes(tmp_path / "fresh")
    assert pyama_dask.run(config(movie, tmp_path / "out", given)).tasks == 0


@pytest.mark.parametrize("limits", [{"min_size": 400}, {"max_size": 500}])
def test_objects_of_other_sizes_take_no_part(movie, changes, tmp_path, limits):
    plain = {"params.tracking_method": "iou", "storage.cells": "off"}
    given = {"min_frames": 1, "border_margin": 0} | limits
    out = run(movie, tmp_path / "out", changes | plain | {"params.tracking_params": given})
    labels = pyama_dask.open_output(out)[0].image("seg_labeled_ch_0").data.compute()
    low, high = limits.get("min_size", 0), limits.get("max_size", 10**9)
    for found, tracks in zip(labels, tracked(out), strict=True):
        areas = np.bincount(found.ravel())
        part = (areas[found] >= low) & (areas[found] <= high) & (found > 0)
        assert np.array_equal(tracks > 0, part)
    assert 0 < pyama_dask.open_output(out)[0].traces()["area_ch_0"].between(low, high).mean() == 1


@pytest.fixture(scope="module")
def divided(movie, changes, methods, tmp_path_factory):
    tracker = {"params.tracking_method": f"{methods}:with_mothers"}
    kept = {"params.tracking_params": {"min_frames": 2, "border_margin": 0, "fill_gaps": True, "min_size": 2}}
    return run(movie, tmp_path_factory.mktemp("divided") / "out", changes | tracker | kept)


class TestDivisions:
    def test_mothers_stand_in_the_traces(self, divided):
        fov = pyama_dask.open_output(divided)[0]
        traces = fov.traces()
        assert list(traces)[-2:] == ["filled", "parent"]
        assert traces["parent"].dtype == np.int64
        assert traces.groupby("cell")["parent"].nunique().eq(1).all()
        assert fov.parents == {40: 3, 41: 3}
        assert not traces[~traces["cell"].isin([40, 41])]["parent"].any()

    def test_divisions_are_exported_as_the_graph_they_are(self, divided, tmp_path):
        pyama_dask.export_traces(divided, "ctc", tmp_path / "ctc")
        lines = np.loadtxt(tmp_path / "ctc/00_RES/res_track.txt", dtype=int)
        parent = dict(lines[:, [0, 3]].tolist())
        ends = dict(lines[:, [0, 2]].tolist())
        begins = dict(lines[:, [0, 1]].tolist())
        assert parent[40] == parent[41] != 0
        assert ends[parent[40]] < min(begins[40], begins[41])
        pyama_dask.export_traces(divided, "geff", tmp_path / "geff")
        graph = zarr.open_group(tmp_path / "geff/fov_000.geff", mode="r")
        cell, lineage = (graph[f"nodes/props/{name}/values"][:] for name in ("cell", "lineage"))
        edges = [(a, b) for a, b in cell[graph["edges/ids"][:]].tolist() if a != b]
        assert sorted(edges) == [(3, 40), (3, 41)]
        assert set(lineage[np.isin(cell, [3, 40, 41])].tolist()) == {3}

    def test_a_parquet_file_has_both_columns(self, divided, tmp_path):
        pyama_dask.export_traces(divided, "parquet", tmp_path / "all")
        table = pd.read_parquet(tmp_path / "all/traces.parquet")
        assert list(table)[-2:] == ["filled", "parent"]
        assert table["filled"].dtype == bool


class TestWithoutFilledRows:
    def test_merging_and_fits(self, output, tmp_path):
        traces = pyama_dask.open_output(output)[0].traces()
        samples = {"samples": [{"name": "a", "fovs": "0"}]}
        name, fitted = "a_intensity_total_ch_1.csv", []
        for given, rows in (({}, len(traces)), ({"filled": False}, int((~traces["filled"]).sum()))):
            place = tmp_path / str(rows)
            pyama_dask.merge_samples(output, samples, place, **given)
            table = pyama_dask.read_analysis_csv(place / name)
            assert len(table) == rows
            assert ("filled" in table) == (not given)
            fit_traces([place / name], {"model": "trivial"}, filled=bool(given.get("filled", False)))
            fitted.append(pd.read_csv(next(place.glob("*_fitted_*.csv")), comment="#"))
        pd.testing.assert_frame_equal(*fitted)

    def test_quality(self, output, tmp_path):
        quality = pyama_dask.inspect_traces(output, tmp_path / "q.csv").table
        traces = pyama_dask.open_output(output)[0].traces()
        assert quality["filled_frames"].sum() == traces["filled"].sum()
        measured = pyama_dask.inspect_traces(output, tmp_path / "m.csv", filled=False).table
        assert (measured["missing"] - quality["missing"]).sum() == traces["filled"].sum()

    def test_exports(self, output, tmp_path):
        pyama_dask.export_traces(output, "parquet", tmp_path / "all", filled=False)
        table = pd.read_parquet(tmp_path / "all/traces.parquet")
        assert "filled" not in table
        assert len(table) == (~pyama_dask.open_output(output)[0].traces()["filled"]).sum()

"""`register: drift`: a stage that drifts breaks tracks, and those of registered frames are whole."""

import re
import shutil
from collections import Counter
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import zarr
from support.drifting import Scene
from support.ledgers import costs_of
from support.movies import as_czi, config, file_bytes, put_in_wells, times_of_change

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.kernels import lap
from pyama_dask.kernels.drift_path import Pair, Path, solved
from pyama_dask.kernels.frame_shift import total_shifts
from pyama_dask.kernels.geometry import undrifted
from pyama_dask.previews import preview as previews
from pyama_dask.report import write_report_page
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps.drift import LARGEST, doubts_about_drift
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Task, parse_key

FRAMES, SHAPE, CELLS = 12, (170, 190), 9
METHODS = """
import numpy as np
from scipy.ndimage import gaussian_filter, label
from pyama_dask.kernels.image_types import Frame, Labels

def dark(frame):
    return label(gaussian_filter(frame.astype(np.float32), 1.5) < 11600)[0].astype(np.int32)

def masked(frame: Frame) -> Labels:
    return (frame > 12000).astype(np.uint16)

def brighter(frame):
    return frame + np.uint16(100)
"""


@pytest.fixture(scope="module")
def truth():
    """(T, 2) shifts y, x of the frames, with steps of up to 20 pixels back and forth."""
    steps = (
        np.random.default_rng(4).uniform(-4, 4, (FRAMES, 2))
        + [[14.3, -15.6]] * (np.arange(FRAMES) % 2 * 2 - 1)[:, None]
    )
    return np.cumsum(steps, axis=0) - steps[0]


@pytest.fixture(scope="module")
def data(truth):
    """(FOV, T, C, H, W) with cells that all stay in the frame."""
    scene = Scene(SHAPE, texture=80.0, noise=40.0, seed=5)
    scene._light[:] = 1
    y, x = np.meshgrid([45, 85, 125], [50, 95, 140], indexing="ij")
    scene.cells = np.stack([y.ravel(), x.ravel()], axis=1).astype(float)
    phase = [scene.frame(shift, moved=0.3) for shift in truth]
    return np.stack([phase, np.full_like(phase, 300)], axis=1)[None]


@pytest.fixture(scope="module")
def movie(data, tmp_path_factory):
    return as_czi(tmp_path_factory.mktemp("drift") / "movie.czi", data)


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    file = tmp_path_factory.mktemp("drift") / "mine.py"
    file.write_text(METHODS)
    return file


@pytest.fixture(scope="module")
def run(methods):
    def run(movie, output, register="drift", tracker="iou", extend=False, **changes):
        settings = {
            "params.register": register,
            "params.segmentation_method": f"{methods}:dark",
            "params.segmentation_params": {},
            "params.tracking_method": tracker,
            "params.tracking_params": {"min_frames": 1, "border_margin": 0},
            "params.background_params": {"tile_size": 60},
            "storage.display": "off",
            "storage.cells": "off",
        }
        report = pyama_dask.run(config(movie, output, settings | changes), extend=extend)
        assert report.exit_status == 0, report
        return report

    return run


@pytest.fixture(scope="module")
def plain(movie, run, tmp_path_factory):
    """Output without registration."""
    output = tmp_path_factory.mktemp("drift") / "plain"
    run(movie, output, "off")
    return output


@pytest.fixture(scope="module")
def registered(movie, run, plain, tmp_path_factory):
    """The same output with registration, switched on later; with the times at which its files were written before."""
    output = shutil.copytree(plain, tmp_path_factory.mktemp("drift") / "registered")
    before = times_of_change(output)
    report = run(movie, output)
    return output, report, before


def traces(output):
    return pyama_dask.open_output(output)[0].traces()


def shifts(output):
    return pd.read_csv(output / "fov_000/movie_fov_000_shifts.csv")


def test_tracks_that_broke_become_whole(plain, registered):
    broken = traces(plain).groupby("cell").size()
    assert broken.tolist() == [1] * (CELLS * FRAMES)
    whole = traces(registered[0]).groupby("cell").size()
    assert whole.tolist() == [FRAMES] * CELLS


def test_shifts_are_a_table_and_columns_and_positions_are_those_of_the_image(plain, registered, truth, data):
    table, cells = shifts(registered[0]), traces(registered[0])
    assert list(table) == ["frame", "time", "shift_y", "shift_x", "measured"]
    assert table["frame"].tolist() == list(range(FRAMES))
    assert table["measured"].all()
    assert np.abs(table[["shift_y", "shift_x"]] - truth).to_numpy().max() < 0.2
    assert list(cells) == [*traces(plain), "shift_y", "shift_x"]
    assert np.array_equal(cells[["shift_y", "shift_x"]], table[["shift_y", "shift_x"]].to_numpy()[cells["frame"]])
    row = cells.sample(1, random_state=1).iloc[0]
    around = data[
        0, int(row["frame"]), 0, int(row["bbox_y0"]) : int(row["bbox_y1"]), int(row["bbox_x0"]) : int(row["bbox_x1"])
    ]
    assert around.mean() < 11600
    still = cells[["position_y", "position_x"]].to_numpy() - cells[["shift_y", "shift_x"]].to_numpy()
    assert pd.DataFrame(still).groupby(cells["cell"]).std().to_numpy().max() < 2


def test_a_later_switch_redoes_what_follows_from_it_and_copies_nothing(movie, run, plain, registered, tmp_path):
    output, report, before = registered
    assert {step.step for step in report.steps} == {"drift", "track", "extract", "summary"}
    kept = {name for name, at in times_of_change(output).items() if before.get(name) == at}
    assert {name for name in before if "/0/c." in name and "seg_tracked" not in name and "images.zarr" in name} <= kept
    assert run(movie, output).tasks == 0
    back = shutil.copytree(output, tmp_path / "back")
    run(movie, back, "off")
    assert file_bytes(back) == file_bytes(plain)


def test_extended_it_is_the_same_and_each_frame_is_read_once_and_a_halo_once_more(data, run, registered, tmp_path):
    movie, reads = as_czi(tmp_path / "movie.czi", data[:, :8]), Counter()
    with pyama_dask.open_reader(movie) as reader:
        of = type(reader)
    fill = of._fill

    def counted(self, file, out, fov, frame, channels, z):
        reads[frame, tuple(channels)] += 1
        fill(self, file, out, fov, frame, channels, z)

    with patch.object(of, "_fill", counted):
        run(movie, tmp_path / "out")
    assert reads == {(frame, (0, 1)): 1 for frame in range(8)} | {(frame, (0,)): 1 for frame in (0, 2, 3)}
    as_czi(movie, data)
    run(movie, tmp_path / "out", extend=True)
    assert file_bytes(tmp_path / "out") == file_bytes(registered[0])


def test_lap_takes_the_shifts_instead_of_its_own_and_fills_gaps_along_them(data, run, truth, tmp_path):
    missed = data.copy()
    missed[0, 5:7, 0, :, :] = np.where(
        np.abs(np.arange(SHAPE[0])[:, None] - (85 + truth[5:7, 0, None, None])) < 20, 12000, missed[0, 5:7, 0]
    )
    limits = []

    def noted(boxes, max_shift):
        limits.append(max_shift)
        return total_shifts(boxes, max_shift)

    with patch.object(lap, "total_shifts", noted):
        run(as_czi(tmp_path / "movie.czi", missed), tmp_path / "out", tracker="lap")
    assert limits == [0]
    table = traces(tmp_path / "out")
    assert table.groupby("cell").size().tolist() == [FRAMES] * CELLS
    assert list(table)[-3:] == ["shift_y", "shift_x", "filled"]
    assert table["filled"].sum() == 6
    still = table[["position_y", "position_x"]].to_numpy() - table[["shift_y", "shift_x"]].to_numpy()
    assert pd.DataFrame(still).groupby(table["cell"]).std().to_numpy().max() < 2


def test_a_preview_links_as_the_run_does(movie, registered):
    preview = pyama_dask.preview(registered[0], fov=0, frames=f"0-{FRAMES - 1}", tracks=True)
    (panel,) = preview.panels
    assert (len(panel.tracks), panel.tracks.through_all) == (CELLS, CELLS)


def test_frames_after_steps_of_a_pipeline(movie, methods, run, registered, tmp_path):
    steps = [{"do": f"{methods}:brighter", "channels": "all"}]
    pipelines = [{"name": "prepare", "steps": steps}, {"name": "cells", "input": "prepare", "steps": "seven"}]
    run(movie, tmp_path / "out", pipelines=pipelines)
    here, there = (shifts(output)[["shift_y", "shift_x"]] for output in (tmp_path / "out", registered[0]))
    assert np.allclose(here, there, atol=0.02)


def moved_back(data, shifts, interpolation="linear"):
    """(T, C, H, W) frames moved back by (T, 2) shifts."""
    how = {"interpolation": interpolation, "outside": "edge"}
    frames = zip(data[0], shifts, strict=True)
    return np.array([[undrifted(channel, shift, **how) for channel in frame] for frame, shift in frames])


@pytest.fixture(scope="module")
def prepared():
    """Pipelines in which a step moves frames before the seven steps."""
    steps = [{"do": "drift", "channels": "all", "by": "Phase", "checkpoint": True, "outside": "edge"}]
    return [{"name": "prepare", "steps": steps}, {"name": "cells", "input": "prepare", "steps": "seven"}]


def test_a_step_moves_frames_and_stores_them(movie, data, run, prepared, registered, tmp_path):
    output, settings = tmp_path / "out", {"pipelines": prepared, "params.copy_only": True}
    run(movie, output, "off", **settings)
    table = pd.read_csv(output / "fov_000/movie_fov_000_prepare_drift.csv")
    assert np.allclose(table[["shift_y", "shift_x"]], shifts(registered[0])[["shift_y", "shift_x"]])
    wanted = moved_back(data, table[["shift_y", "shift_x"]].to_numpy())
    for channel, raw in enumerate(("pc_ch_0", "fl_ch_1")):
        for path in (f"prepare.zarr/drift_{channel}/0", f"images.zarr/{raw}/0"):
            assert np.array_equal(zarr.open_array(output / "fov_000" / path, mode="r")[:], wanted[:, channel])
    assert run(movie, output, "off", **settings).tasks == 0
    prepared[0]["steps"][0]["interpolation"] = "whole"
    before = times_of_change(output)
    run(movie, output, "off", **settings)
    after = times_of_change(output)
    assert before["fov_000/movie_fov_000_prepare_drift.csv"] == after["fov_000/movie_fov_000_prepare_drift.csv"]
    assert before["fov_000/images.zarr/pc_ch_0/0/c.0.0.0"] != after["fov_000/images.zarr/pc_ch_0/0/c.0.0.0"]
    wanted = moved_back(data, table[["shift_y", "shift_x"]].to_numpy(), "whole")
    assert np.array_equal(zarr.open_array(output / "fov_000/images.zarr/pc_ch_0/0", mode="r")[:], wanted[:, 0])


def test_extended_a_step_moves_again_only_frames_whose_shift_has_changed(data, run, prepared, tmp_path):
    """The tenth frame corrects those before it; frames after it leave them as they are."""
    movie, output = tmp_path / "movie.czi", tmp_path / "out"
    settings = {"pipelines": prepared, "params.copy_only": True, "extend": True}
    done = []
    for frames in (8, 11, FRAMES):
        as_czi(movie, data[:, :frames])
        before = Ledger(output / LEDGER).receipts if done else 0
        run(movie, output, "off", **settings)
        keys = [parse_key(cost.key) for cost in costs_of(Ledger(output / LEDGER), before)]
        done.append([[key.block for key in keys if key.kind == kind] for kind in ("block0", "ingest")])
    assert done == [[[0, 1], [0, 1]], [[2], [0, 1, 2]], [[2], [2]]]
    run(movie, tmp_path / "whole", "off", **settings)
    assert file_bytes(output) == file_bytes(tmp_path / "whole")


def test_wells_are_measured_apart_and_in_batches_too(data, run, tmp_path):
    two = np.concatenate([data[:, :6], data[:, 6:]])
    movie = put_in_wells(as_czi(tmp_path / "movie.czi", two), ["A1", "B2"])
    step = {"do": "drift", "channels": "all", "outside": "edge", "wells": "B2"}
    pipelines = [{"name": "prepare", "steps": [step]}, {"name": "cells", "input": "prepare", "steps": "seven"}]
    settings = {"pipelines": pipelines, "params.copy_only": True}
    run(movie, tmp_path / "whole", "off", **settings)
    with patch.object(Task, "frames_at_once", 3):
        run(movie, tmp_path / "out", "off", **settings)
    assert file_bytes(tmp_path / "out") == file_bytes(tmp_path / "whole")
    (table,) = (tmp_path / "out").glob("fov_*/*_drift.csv")
    moved = moved_back(two[1:], pd.read_csv(table)[["shift_y", "shift_x"]].to_numpy())
    for fov, wanted in enumerate((two[0], moved)):
        raw = zarr.open_array(tmp_path / f"out/fov_{fov:03d}/images.zarr/pc_ch_0/0", mode="r")[:]
        assert np.array_equal(raw, wanted[:, 0])


@pytest.mark.parametrize(("by", "problem"), [("Fase", "did you mean Phase"), ("cells", "which has labels")])
def test_an_image_without_drift_is_refused(movie, methods, run, tmp_path, by, problem):
    steps = [{"do": f"{methods}:masked", "channels": [0], "to": "cells"}, {"do": "drift", "channels": "all", "by": by}]
    with pytest.raises(ConfigError, match=problem):
        run(movie, tmp_path / "out", pipelines=[{"name": "prepare", "steps": steps}])


def test_a_step_moves_what_comes_after_copying(movie, data, run, registered, tmp_path):
    seven = [
        "copy",
        {"do": "drift", "channels": "all", "outside": "edge"},
        "segment",
        "track",
        "background",
        "crop",
        "extract",
        "cache",
    ]
    pipelines = [{"name": "cells", "steps": seven}]
    run(movie, tmp_path / "out", "off", pipelines=pipelines)
    raw = zarr.open_array(tmp_path / "out/fov_000/images.zarr/pc_ch_0/0", mode="r")[:]
    assert np.array_equal(raw, data[0, :, 0])
    assert traces(tmp_path / "out").groupby("cell").size().tolist() == [FRAMES] * CELLS
    with patch.object(previews, "compile_kernels"):
        preview = pyama_dask.preview(tmp_path / "out", fov=0, frames=[1])
    assert [note for note in preview.notes if "recorded" in note and "step cells.drift" in note]
    with pytest.raises(ConfigError, match=r"register: drift would move cells back once more, as step 'cells\.drift'"):
        run(movie, tmp_path / "twice", pipelines=pipelines)


@pytest.mark.parametrize(("at", "channels"), [(0, ["GFP"]), (1, ["Phase"]), (2, "all"), (3, ["GFP"])])
def test_channels_that_would_not_lie_over_the_cells_are_refused(movie, run, tmp_path, at, channels):
    seven = ["copy", "segment", "track", "background", "crop", "extract", "cache"]
    steps = [*seven[:at], {"do": "drift", "channels": channels, "by": "Phase"}, *seven[at:]]
    with pytest.raises(ConfigError, match=r"'background' gets channel [01] and cells that do not lie over each other"):
        run(movie, tmp_path / "out", "off", pipelines=[{"name": "cells", "steps": steps}])


def test_what_cannot_be_measured_reaches_the_report(data, run, tmp_path):
    empty = data.copy()
    empty[0, [4, 9], 0] = 12000
    still = {"name": "still", "input": "cells", "steps": [{"do": "drift", "channels": ["Phase"]}]}
    pipelines = [{"name": "cells", "steps": "seven"}, still]
    report = run(as_czi(tmp_path / "movie.czi", empty), tmp_path / "out", pipelines=pipelines)
    warned = [warning for fov in report.fovs for warning in fov.warnings]
    assert any(
        "drift of the stage could not be measured at frames 4, 9, whose shifts are interp" in of for of in warned
    )
    assert sum("step still.drift: the drift" in of and "leave out the step still.drift" in of for of in warned) == 1
    assert shifts(tmp_path / "out").query("not measured")["frame"].tolist() == [4, 9]
    page = write_report_page(tmp_path / "out", tmp_path / "page.html").read_text()
    assert re.findall("Drift of the stage, in pixels[^<]*</h3>", page) == [
        "Drift of the stage, in pixels</h3>", "Drift of the stage, in pixels: still.drift</h3>",
    ]  # fmt: skip
    assert page.count("Drift of the stage not measured in FOV 0 at frames 4, 9, where it is interpolated") == 2
    assert "still_drift (12 rows of 1 FOV)" in page


def test_shifts_close_to_the_largest_one_are_doubtful():
    pairs = [Pair(0, 1, -5.0, 2.0, 1.0), Pair(1, 2, 0.0, 0.95 * LARGEST, 1.0), Pair(2, 3, np.nan, np.nan, 0.0)]
    path = Path(np.zeros((4, 2)), np.ones(4, bool))
    _, doubt = doubts_about_drift(pairs, path, (100, 100), range(10, 14), "my_shifts.csv", "")
    assert doubt.startswith("the stage moved by up to 38 px from one frame to the next, at frames 12; more than 40 px")
    assert "my_shifts.csv" in doubt
    first = path._replace(shifts=path.shifts[:2], measured=path.measured[:2])
    assert list(doubts_about_drift(pairs[:1], first, (100, 100), range(10, 14), "", "")) == []


def test_frames_that_only_distant_pairs_connect_are_doubtful():
    pairs = [Pair(t, t + 1, 1.0, 1.0, 0.0 if t in (3, 11) else 1.0) for t in range(14)] + [Pair(0, 10, 9.0, 9.0, 1.0)]
    path = solved(pairs, 15)
    assert path.measured.tolist() == [True] * 12 + [False] * 3
    unknown, doubt = doubts_about_drift(pairs, path, (100, 100), range(20, 35), "", "leave it")
    assert unknown.startswith("the drift of the stage could not be measured at frames 32-34")
    assert unknown.endswith("leave it")
    assert doubt.startswith("the drift of the stage at frames 24 was measured against frames 10 apart only")


def test_it_is_warned_of_without_cells(movie, run, tmp_path):
    report = run(movie, tmp_path / "out", **{"params.copy_only": True})
    assert any(warning.startswith("params.register: drift has no effect") for warning in report.warnings)

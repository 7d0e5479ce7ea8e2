"""Whole runs: right against the oracle, the same however they are run, complete on disk, and safe to go on with."""

import hashlib
import io
import json
import logging
import os
import re
import runpy
import shutil
import sys
import threading
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from support.graphs import USUAL
from support.movies import (
    INTENSITIES,
    SHAPES,
    as_czi,
    as_nd2,
    config,
    data_files,
    differences,
    file_bytes,
    listing,
    pixels,
    products,
    times_of_change,
)

import pyama_dask
from pyama_dask.errors import ConfigError, OutputError, PlanError, SourceError
from pyama_dask.kernels import display
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger

COMPOSITE = Path(__file__).parents[3] / "shared" / "data" / "composite"
AGREE = Path(__file__).parents[1] / "support" / "agree.py"


def run(movie, output, changes=None, **options):
    return pyama_dask.run(config(movie, output, changes), **options)


def array(output, path, fov=0):
    return zarr.open_array(output / f"fov_{fov:03d}" / path, mode="r")[:]


def images(output, path, fov=0):
    return array(output, f"images.zarr/{path}", fov)


def traces(output, fov=0):
    return pd.read_csv(next((output / f"fov_{fov:03d}").glob("*_traces.csv")))


# -------------------------------------------------------------------------------------------------- right


def assert_agrees(output, source, *fovs):
    """The oracle, a program of its own, recomputes the FOVs from their raw frames."""
    for fov in fovs:
        words, told = [str(AGREE), str(output), str(fov), "--source", str(source)], io.StringIO()
        as_program = patch.multiple(sys, argv=words, path=[*sys.path])
        with as_program, redirect_stdout(told), pytest.raises(SystemExit) as ended:
            runpy.run_path(str(AGREE), run_name="__main__")
        assert "OFF" not in told.getvalue(), told.getvalue()
        assert ended.value.code == 0
        assert len(told.getvalue().splitlines()) > 10


class TestAgainstTheOracle:
    def test_small_czi(self, finished, small_czi):
        assert_agrees(finished, small_czi, 0, 1)

    def test_small_nd2_with_another_weight(self, small_nd2, tmp_path):
        run(small_nd2, tmp_path / "out", {"params.background_weight": 0.7})
        assert_agrees(tmp_path / "out", small_nd2, 0, 1)

    @pytest.mark.slow
    def test_sizes_that_nothing_divides_and_three_channels(self, odd_nd2, tmp_path):
        fl = [{"channel": k, "features": INTENSITIES} for k in (1, 2)]
        run(odd_nd2, tmp_path / "out", {"channels.fl": fl, "storage.block_frames": 8})
        assert len(traces(tmp_path / "out"))
        assert_agrees(tmp_path / "out", odd_nd2, 0)

    @pytest.mark.slow
    @pytest.mark.skipif(not COMPOSITE.exists(), reason="the movies made from real cells are not here")
    @pytest.mark.parametrize(("suffix", "fov", "iterations"), [("nd2", 0, 3), ("czi", 1, 1)])
    def test_cells_of_real_movies(self, tmp_path, suffix, fov, iterations):
        movie = COMPOSITE / f"t98g.{suffix}"
        changes = {
            "params.fovs": [fov],
            "params.segmentation_params": {"morph_iterations": iterations},
            "params.tracking_params": {"min_frames": 5, "border_margin": 0},
        }
        report = run(movie, tmp_path / "out", changes)
        assert report.exit_status == 0
        assert report.fovs[0].cells
        assert_agrees(tmp_path / "out", movie, fov)


def test_czi_and_nd2_of_the_same_pixels_give_the_same(finished, small_nd2, tmp_path):
    run(small_nd2, tmp_path / "out")
    for fov in (0, 1):
        for group in ("pc_ch_0", "fl_ch_1", "seg_labeled_ch_0", "seg_tracked_ch_0", "fl_background_ch_1"):
            for level in (0, 1):
                path = f"{group}/{level}"
                assert np.array_equal(images(finished, path, fov), images(tmp_path / "out", path, fov))
        a, b = (traces(output, fov).drop(columns="time") for output in (finished, tmp_path / "out"))
        pd.testing.assert_frame_equal(a, b, check_exact=True)


# ------------------------------------------------------------------------------------------------ the same


class TestTheSame:
    @pytest.mark.parametrize(("frames", "codec"), [(1, "zstd"), (100, "none"), ("auto", "lz4")])
    def test_in_blocks_of_any_length_with_any_codec(self, finished, small_czi, tmp_path, frames, codec):
        run(small_czi, tmp_path / "out", {"storage.block_frames": frames, "storage.codec": codec})
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_on_workers_to_the_byte_by_tasks_with_the_keys_of_the_plan(self, finished, small_czi, tmp_path, client):
        from distributed import get_task_stream

        plan = []
        with get_task_stream(client) as stream:
            report = run(small_czi, tmp_path / "out", client=client, on_start=lambda todo, _: plan.extend(todo.tasks))
        assert report.exit_status == 0
        assert file_bytes(tmp_path / "out") == file_bytes(finished)
        sent = [entry["key"].partition("-and-") for entry in stream.data]  # small tasks travel together
        assert {first for first, _, _ in sent} <= {task.key for task in plan}
        assert sum(1 + int(more.removesuffix("-more") or 0) for _, _, more in sent) == len(plan)

    def test_one_fov_or_some_frames_are_as_in_the_whole(self, finished, small_czi, tmp_path):
        run(small_czi, tmp_path / "out", {"params.fovs": "1", "params.frames": "0-6"})
        assert sorted(p.name for p in (tmp_path / "out").glob("fov_*")) == ["fov_001"]
        for path in ("pc_ch_0/0", "seg_tracked_ch_0/0", "fl_background_ch_1/0"):
            assert np.array_equal(images(tmp_path / "out", path, 1), images(finished, path, 1)[:7])

    def test_frames_that_do_not_start_at_0(self, small_czi, small_pixels, tmp_path):
        run(small_czi, tmp_path / "out", {"params.frames": "2-4, 6, 8-9"})
        assert np.array_equal(images(tmp_path / "out", "fl_ch_1/0"), small_pixels[0, [2, 3, 4, 6, 8, 9], 1])
        table = traces(tmp_path / "out")
        assert sorted(set(zip(table["frame"], table["time"], strict=True))) == list(
            enumerate([20.0, 30.0, 40.0, 60.0, 80.0, 90.0])
        )


# ---------------------------------------------------------------------------------------- what is on disk

BASE = ["fov", "cell", "frame", "time", "good", "position_x", "position_y", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]


def tree(output, depth=4):
    """Paths down to a depth below a FOV's directory, without bookkeeping."""
    return {p for p in listing(output) if not p.startswith(".pyama_dask/") and len(Path(p).parts) <= depth}


def expected_tree(groups, cells, products_of_cells, stem="movie"):
    found = {".pyama_dask", "processing_config.yaml"}
    for fov, ids in enumerate(cells):
        top = f"fov_{fov:03d}"
        found |= {top, f"{top}/zarr.json", f"{top}/images.zarr", f"{top}/images.zarr/zarr.json"}
        for group in groups:
            found |= {f"{top}/images.zarr/{group}"}
            tiles = ("tiles",) if "background" in group else ()
            found |= {f"{top}/images.zarr/{group}/{inner}" for inner in ("zarr.json", "0", "1", *tiles)}
        if ids is None:
            continue
        found |= {f"{top}/{stem}_{top}_traces.csv", f"{top}/cells.zarr", f"{top}/cells.zarr/zarr.json"}
        found |= {f"{top}/cells.zarr/metadata"}
        found |= {f"{top}/cells.zarr/metadata/{n}" for n in ("zarr.json", "cell_ids", "bboxes", "valid_frames")}
        for product in products_of_cells:
            found |= {f"{top}/cells.zarr/{product}", f"{top}/cells.zarr/{product}/zarr.json"}
            found |= {f"{top}/cells.zarr/{product}/{cell}" for cell in ids}
    return found


SEGMENTED = {"seg_labeled_ch_0", "seg_tracked_ch_0"}
VARIANTS = {
    "phase only": (
        {"channels.fl": []},
        {"pc_ch_0"} | SEGMENTED,
        ["pc_ch_0", "mask"],
        [f"{name}_ch_0" for name in SHAPES],
    ),
    "without features": (
        {"channels": {"pc": {"channel": 0}, "fl": [{"channel": 1}]}},
        {"pc_ch_0", "fl_ch_1", "fl_background_ch_1"} | SEGMENTED,
        ["pc_ch_0", "fl_ch_1", "mask"],
        [],
    ),
    "all": (
        {},
        {"pc_ch_0", "fl_ch_1", "fl_background_ch_1"} | SEGMENTED,
        ["pc_ch_0", "fl_ch_1", "mask"],
        [f"{name}_ch_0" for name in SHAPES] + [f"{name}_ch_1" for name in INTENSITIES],
    ),
    "fluorescence only": (
        {"channels": {"fl": [{"channel": 1, "features": ["intensity_mean"]}]}},
        {"fl_ch_1"},
        None,
        None,
    ),
    "copy only": ({"params.copy_only": True}, {"pc_ch_0", "fl_ch_1"}, None, None),
}


class TestTree:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_the_tree_is_that_of_the_design(self, small_czi, tmp_path, name):
        changes, groups, of_cells, features = VARIANTS[name]
        output = tmp_path / "out"
        report = run(small_czi, output, changes)
        assert [fov.status for fov in report.fovs] == ["done", "done"]
        assert ("cell" in repr(report)) == ("seg_tracked_ch_0" in groups)
        cells = [None, None]
        if of_cells:
            cells = [array(output, "cells.zarr/metadata/cell_ids", fov).tolist() for fov in (0, 1)]
            assert list(traces(output).columns) == BASE + features
        assert tree(output) == expected_tree(groups, cells, of_cells)
        assert any("no phase-contrast channel" in w for w in report.warnings) == (name == "fluorescence only")

    def test_crops_have_two_levels_of_one_file(self, finished):
        cells = [*(finished / "fov_000" / "cells.zarr" / "mask").glob("[0-9]*")]
        assert cells
        for cell in cells:
            assert {p.name for p in cell.iterdir()} == {"zarr.json", "0", "1"}
            assert [len(data_files(cell / level)) for level in "01"] == [1, 1]

    def test_nothing_is_left_over(self, finished):
        assert not [p for p in listing(finished) if p.endswith((".partial", "lock")) or "crops_" in p]

    def test_raw_frames_are_those_of_the_movie(self, finished, small_pixels):
        for fov in (0, 1):
            assert np.array_equal(images(finished, "pc_ch_0/0", fov), small_pixels[fov, :, 0])
            assert np.array_equal(images(finished, "fl_ch_1/0", fov), small_pixels[fov, :, 1])

    def test_two_fluorescence_channels_stand_by_channel_whatever_their_order(self, tmp_path):
        movie = as_nd2(
            tmp_path / "three.nd2", pixels(fovs=1, frames=6, shape=(200, 240), cells=6, fluorescence_channels=2)
        )
        fl = [{"channel": "mCherry", "features": ["intensity_mean"]}, {"channel": 1, "features": INTENSITIES[::-1]}]
        run(movie, tmp_path / "out", {"channels.fl": fl})
        columns = BASE + [f"{n}_ch_0" for n in SHAPES] + [f"{n}_ch_1" for n in INTENSITIES[::-1]]
        assert list(traces(tmp_path / "out").columns) == [*columns, "intensity_mean_ch_2"]
        groups = {"pc_ch_0", "fl_ch_1", "fl_ch_2", "fl_background_ch_1", "fl_background_ch_2"} | SEGMENTED
        cells = [array(tmp_path / "out", "cells.zarr/metadata/cell_ids").tolist()]
        assert tree(tmp_path / "out") == expected_tree(
            groups, cells, ["pc_ch_0", "fl_ch_1", "fl_ch_2", "mask"], "three"
        )

    def test_planes_are_chosen_or_their_maximum_is_taken(self, tmp_path):
        data = np.random.default_rng(0).integers(0, 60000, (1, 3, 1, 2, 40, 50)).astype("uint16")
        movie = as_nd2(tmp_path / "z.nd2", data, z_step_um=1.0)
        for z, wanted in ((1, data[0, :, 0, 1]), ("max", data[0, :, 0].max(1))):
            changes = {"channels": {"pc": {"channel": 0}}, "params.z": z, "params.copy_only": True}
            run(movie, tmp_path / f"out_{z}", changes)
            assert np.array_equal(images(tmp_path / f"out_{z}", "pc_ch_0/0"), wanted)


class TestTraces:
    def test_rows_are_sorted_and_unique(self, finished):
        for fov in (0, 1):
            table = traces(finished, fov)
            assert len(table)
            assert table[["cell", "frame"]].equals(table[["cell", "frame"]].sort_values(["cell", "frame"]))
            assert not table.duplicated(["cell", "frame"]).any()
            assert set(table["fov"]) == {fov}
            assert table["good"].all()

    def test_time_is_in_minutes_of_the_file(self, tmp_path, small_pixels):
        seconds = [0, 90, 700, 1300, 1800, 2500, 3000, 3700, 4300, 4900]
        movie = as_czi(tmp_path / "movie.czi", small_pixels[:1], time_offsets_s=seconds)
        report = run(movie, tmp_path / "out")
        table = traces(tmp_path / "out")
        assert table.time.tolist() == pytest.approx([seconds[frame] / 60 for frame in table["frame"]])
        assert report.warnings == ()

    def test_without_stamps_time_counts_from_the_interval_with_a_warning(self, tmp_path, small_pixels):
        movie = as_czi(tmp_path / "movie.czi", small_pixels[:1], period_s=None)
        report = run(movie, tmp_path / "out", {"params.frame_interval": 7.5})
        table = traces(tmp_path / "out")
        assert table["time"].tolist() == (7.5 * table["frame"]).tolist()
        assert any("frame_interval" in warning for warning in report.warnings)
        document = yaml.safe_load((tmp_path / "out" / "processing_config.yaml").read_text())
        assert document["metadata"]["time_source"] == "frame_interval"

    def test_positions_are_centres_of_half_open_boxes_around_the_label(self, finished):
        table, tracked = traces(finished), images(finished, "seg_tracked_ch_0/0")
        for row in table.itertuples():
            y, x = np.nonzero(tracked[row.frame] == row.cell)
            box = (y.min(), x.min(), y.max() + 1, x.max() + 1)
            assert (row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1) == box
            assert (row.position_y, row.position_x) == ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            assert row.area_ch_0 == len(y)

    @pytest.mark.parametrize("weight", [1.0, 0.4])
    def test_intensities_come_from_raw_pixels_under_the_label(self, finished, copied, small_czi, weight):
        if weight != 1.0:
            run(small_czi, copied, {"params.background_weight": weight})
        raw, back = (images(copied, f"{group}_ch_1/0").astype(float) for group in ("fl", "fl_background"))
        tracked = images(copied, "seg_tracked_ch_0/0")
        for row in traces(copied).itertuples():
            values = (raw - weight * back)[row.frame][tracked[row.frame] == row.cell]
            for name, wanted in zip(
                INTENSITIES, (values.sum(), values.mean(), values.max(), values.var()), strict=True
            ):
                assert getattr(row, f"{name}_ch_1") == pytest.approx(wanted, rel=1e-6)

    def test_numbers_are_written_with_six_digits_or_more(self, finished):
        text = next((finished / "fov_000").glob("*.csv")).read_text()
        assert "nan" not in text.lower()
        longest = max(
            len(cell.replace(".", "").lstrip("-0")) for cell in text.replace("\n", ",").split(",") if "." in cell
        )
        assert 6 <= longest <= 17

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"params.tracking_params": {"min_frames": 5, "border_margin": 99}}, "none of .* tracks was kept.*border"),
            ({"params.tracking_params": {"min_frames": 11, "border_margin": 0}}, "fewer than 11 frames"),
            (
                {"params.segmentation_params": {"min_object_size": 40000, "max_object_size": None}},
                "no cells were found",
            ),
        ],
    )
    def test_without_cells_there_is_a_header_and_the_report_says_why(self, small_czi, tmp_path, changes, why):
        report = run(small_czi, tmp_path / "out", changes | {"params.fovs": "1"})
        assert report.exit_status == 0, report
        for fov in report.fovs:
            assert (fov.status, fov.cells, fov.rows) == ("done", 0, 0)
            (said,) = [warning for warning in fov.warnings if warning.startswith(f"FOV {fov.fov}: ")]
            assert re.search(why, said)
            of_frames = {warning.partition(": ")[2][:37] for warning in fov.warnings if warning != said}
            assert of_frames == ({"most of the textured area was dropped"} if why == "no cells were found" else set())
            text = next((tmp_path / "out" / f"fov_{fov.fov:03d}").glob("*.csv")).read_text()
            assert text.splitlines() == [",".join(traces(tmp_path / "out", 1).columns)]
            assert array(tmp_path / "out", "cells.zarr/metadata/bboxes", fov.fov).shape == (0, 10, 4)

    def test_a_movie_without_cells(self, tmp_path):
        flat = np.full((1, 5, 2, 120, 130), 1000, "uint16")
        report = run(as_nd2(tmp_path / "flat.nd2", flat), tmp_path / "out")
        assert report.exit_status == 0, report
        assert report.fovs[0].rows == 0
        assert not images(tmp_path / "out", "seg_tracked_ch_0/0").any()

    def test_a_movie_of_black_frames(self, tmp_path):
        report = run(as_nd2(tmp_path / "black.nd2", np.zeros((1, 5, 2, 120, 130), "uint16")), tmp_path / "out")
        assert report.exit_status == 0, report

    def test_some_black_fluorescence(self, tmp_path, small_pixels):
        data = small_pixels[:1].copy()
        data[:, 4:8, 1] = 0  # a whole block
        report = run(as_nd2(tmp_path / "dark.nd2", data), tmp_path / "out")
        assert report.exit_status == 0, report
        table = traces(tmp_path / "out")
        assert (table.intensity_total_ch_1[table.frame.between(4, 7)] == 0).all()

    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (7, 30)])
    def test_tiny_frames(self, tmp_path, shape):
        data = np.random.default_rng(0).integers(1, 9999, (1, 3, 2, *shape)).astype("uint16")
        report = run(as_nd2(tmp_path / "tiny.nd2", data), tmp_path / "out")
        assert report.exit_status == 0, report

    def test_a_single_frame(self, tmp_path, small_pixels):
        changes = {"params.tracking_params": {"min_frames": 1, "border_margin": 0}}
        report = run(as_nd2(tmp_path / "one.nd2", small_pixels[:1, :1]), tmp_path / "out", changes)
        assert report.exit_status == 0
        assert set(traces(tmp_path / "out").frame) == {0}


class TestConfigOfTheRun:
    def test_it_has_every_default_and_the_metadata(self, finished, small_czi):
        document = yaml.safe_load((finished / "processing_config.yaml").read_text())
        params = document["params"]
        assert document["channels"]["pc"] == {"channel": 0, "features": SHAPES, "flat_field": "off"}
        assert (params["fovs"], params["frames"], params["z"]) == ("0-1", "0-9", 0)
        assert params["segmentation_params"]["threshold"] == "valley"
        assert params["segmentation_params"]["morph_iterations"] == 1
        assert params["tracking_params"] == {"min_iou": 0.1, "min_frames": 5, "border_margin": 5}
        assert params["background_params"] == {"tile_size": 100, "dilation": 10, "min_fraction": 0.05}
        assert document["storage"] == {
            "codec": "lz4", "level": "auto", "shuffle": "auto", "chunks": "auto", "background": "full",
            "cells": "directory", "display": "on", "block_frames": 4, "direct_io": "auto",
            "layout": "fovs",
        }  # fmt: skip
        metadata = document["metadata"]
        assert (metadata["file"], metadata["format"], metadata["n_frames"]) == ("movie.czi", "CZI", 10)
        assert [channel["name"] for channel in metadata["channels"]] == ["Phase", "GFP"]
        assert [fov["shape"] for fov in metadata["fovs"]] == [[200, 240]] * 2
        assert metadata["time_source"]

    def test_it_is_itself_a_config_that_does_the_same(self, copied):
        document = yaml.safe_load((copied / "processing_config.yaml").read_text())
        document.pop("metadata")
        document["output"] = str(copied)
        assert pyama_dask.run(document).tasks == 0

    def test_channels_by_name_are_written_as_indices(self, copied, small_czi):
        channels = {"pc": {"channel": "Phase", "features": SHAPES}, "fl": [{"channel": "GFP", "features": INTENSITIES}]}
        assert run(small_czi, copied, {"channels": channels}).tasks == 0
        document = yaml.safe_load((copied / "processing_config.yaml").read_text())
        assert (document["channels"]["pc"]["channel"], document["channels"]["fl"][0]["channel"]) == (0, 1)


# ------------------------------------------------------------------------------------------------- plugins

PLUGINS = """
from pathlib import Path

from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import link


def shifted(per_frame, *, min_iou: float = 0.1):
    return [ids + 70000 for ids in link(per_frame, min_iou=min_iou)]


def brittle(frame, *, poison: int = -1, flag: str = ""):
    if int(frame.sum()) == poison and Path(flag).exists():
        raise ValueError("bad frame")
    return segment(frame, morph_iterations=1)


def every_third(frame):
    return segment(frame, morph_iterations=1).astype("int32") * 3


def hungry(frame):
    raise MemoryError("too much")


def no_labels(frame, *, poison: int = -1):
    return frame / 2 if int(frame.sum()) == poison else segment(frame, morph_iterations=1)


def inverted(frame):
    return frame.max() - frame


def twice_area(shapes):
    return 2 * shapes.area
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / f"plugins_{os.getpid()}.py"
    path.write_text(PLUGINS)
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory, small_czi, plugins):
    """Output with track ids beyond 16 bits, and the changes that give it; to be read only."""
    output, changes = tmp_path_factory.mktemp("wide") / "out", {"params.tracking_method": f"{plugins}:shifted"}
    assert run(small_czi, output, changes).exit_status == 0
    return output, changes


class TestPlugins:
    def test_ids_beyond_16_bits_are_written_in_32(self, finished, wide):
        output, _ = wide
        small, large = (images(of, "seg_tracked_ch_0/0") for of in (finished, output))
        assert (small.dtype, large.dtype) == ("uint16", "uint32")
        assert np.array_equal(large, np.where(small > 0, small.astype("uint32") + 70000, 0))
        a, b = traces(finished), traces(output)
        assert (a["cell"] + 70000).tolist() == b["cell"].tolist()
        ids = array(output, "cells.zarr/metadata/cell_ids")
        assert ids.tolist() == sorted(set(b["cell"]))
        assert array(output, f"cells.zarr/mask/{ids[0]}/0").any()

    def test_wide_ids_stay_when_other_steps_are_done_again_and_go_with_the_tracker(
        self, finished, small_czi, tmp_path, wide
    ):
        shutil.copytree(wide[0], tmp_path / "out")
        changes, before = wide[1], images(tmp_path / "out", "seg_tracked_ch_0/0")
        report = run(small_czi, tmp_path / "out", changes | {"channels.pc.features": ["area"]})
        assert report.exit_status == 0
        after = images(tmp_path / "out", "seg_tracked_ch_0/0")
        assert after.dtype == "uint32"
        assert np.array_equal(after, before)
        assert run(small_czi, tmp_path / "out").exit_status == 0
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_wide_ids_survive_a_run_that_was_cut_short(self, small_czi, tmp_path, wide):
        whole, changes = wide
        cancel = threading.Event()

        def stop(event):
            if event["step"] == "track":
                cancel.set()

        assert run(small_czi, tmp_path / "out", changes, cancel=cancel, progress=stop).cancelled
        assert run(small_czi, tmp_path / "out", changes).exit_status == 0
        assert differences(products(tmp_path / "out"), products(whole)) == []

    def test_tracked_spec_widens_only_where_it_must(self):
        from pyama_dask.store.layout import ArraySpec

        spec = ArraySpec("seg_tracked_ch_0", "tracks", 0, (5, 10, 10), "uint16", 4, "lz4")
        assert spec.for_tracks(65535) == spec
        assert spec.for_tracks(65536).dtype == "uint32"

    def test_labels_with_gaps_are_numbered_anew_and_preprocessors_change_the_frame_that_is_segmented_only(
        self, finished, small_czi, tmp_path, plugins
    ):
        changes = {
            "params.segmentation_method": f"{plugins}:every_third",
            "params.segmentation_params": {},
            "params.preprocess": [f"{plugins}:inverted"] * 2,
        }
        assert run(small_czi, tmp_path / "out", changes).exit_status == 0
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_a_feature_is_a_column(self, finished, small_czi, copied, plugins):
        run(small_czi, copied, {"channels.pc.features": ["area", f"{plugins}:twice_area"]})
        table = traces(copied)
        name = table.columns[len(BASE) + 1]
        assert (table[name] == 2 * table["area_ch_0"]).all()
        assert name == "twice_area_ch_0"

    def test_methods_of_a_file_run_on_workers(self, small_czi, tmp_path, client, plugins, wide):
        changes = {
            "params.segmentation_method": f"{plugins}:every_third",
            "params.segmentation_params": {},
            "params.tracking_method": f"{plugins}:shifted",
        }
        assert run(small_czi, tmp_path / "out", changes, client=client).exit_status == 0
        assert differences(products(tmp_path / "out"), products(wide[0])) == []


# --------------------------------------------------------------------------------------------------- crops


class TestCrops:
    @pytest.fixture(params=[0, 4])
    def output(self, request, finished, small_czi, tmp_path):
        if not request.param:
            return finished, 0
        shutil.copytree(finished, tmp_path / "padded")
        run(small_czi, tmp_path / "padded", {"params.crop_padding": request.param})
        return tmp_path / "padded", request.param

    def test_crops_reproduce_the_images(self, output):
        directory, padding = output
        ids, boxes, valid = (
            array(directory, f"cells.zarr/metadata/{n}") for n in ("cell_ids", "bboxes", "valid_frames")
        )
        tracked = images(directory, "seg_tracked_ch_0/0")
        raw = {"pc_ch_0": images(directory, "pc_ch_0/0").astype(float)}
        raw["fl_ch_1"] = images(directory, "fl_ch_1/0").astype(float) - images(directory, "fl_background_ch_1/0")
        group = zarr.open_group(directory / "fov_000" / "cells.zarr", mode="r")
        assert len(ids)
        for n, cell in enumerate(ids.tolist()):
            top = np.clip(boxes[n, :, :2] - padding, 0, None)
            bottom = np.minimum(boxes[n, :, 2:] + padding, tracked.shape[1:])
            h, w = (bottom - top)[valid[n]].max(0)
            for product in ("pc_ch_0", "fl_ch_1", "mask"):
                crop = group[f"{product}/{cell}/0"][:]
                assert crop.shape == (10, h, w)
                assert crop.dtype == ("uint8" if product == "mask" else "float32")
                for t in range(10):
                    (y0, x0), (y1, x1) = top[t], bottom[t]
                    wanted = np.zeros((h, w))
                    if valid[n, t]:
                        window = np.s_[t, y0:y1, x0:x1]
                        if product == "mask":
                            values = tracked[window] == cell
                        else:
                            attributes = group[product].attrs
                            values = np.clip((raw[product][window] - attributes["offset"]) / attributes["scale"], 0, 1)
                        wanted[: y1 - y0, : x1 - x0] = values
                    assert np.allclose(crop[t], wanted, atol=1e-5)

    def test_scale_is_the_1st_and_99th_percentile_of_the_fov(self, finished):
        group = zarr.open_group(finished / "fov_000" / "cells.zarr", mode="r")
        back = images(finished, "fl_background_ch_1/0")
        for product, values in (
            ("pc_ch_0", images(finished, "pc_ch_0/0")),
            ("fl_ch_1", images(finished, "fl_ch_1/0").astype(float) - back),
        ):
            low, high = np.percentile(values, [1, 99])
            attributes = group[product].attrs
            assert attributes["offset"] == pytest.approx(low, abs=0.002 * (high - low))
            assert attributes["scale"] == pytest.approx(high - low, rel=0.004)

    def test_level_1_is_half_as_large_with_8_bits(self, finished):
        group = zarr.open_group(finished / "fov_000" / "cells.zarr", mode="r")
        for product in ("pc_ch_0", "fl_ch_1", "mask"):
            for cell in group[product].group_keys():
                full, small = (group[f"{product}/{cell}/{level}"] for level in (0, 1))
                assert small.shape == (full.shape[0], full.shape[1] // 2, full.shape[2] // 2)
                assert small.dtype == "uint8"
                assert small[:].any()

    def test_metadata_says_which_cells_where_and_when(self, finished):
        ids, boxes, valid = (
            array(finished, f"cells.zarr/metadata/{n}") for n in ("cell_ids", "bboxes", "valid_frames")
        )
        assert (ids.dtype, boxes.dtype, valid.dtype) == ("int32", "int32", "bool")
        assert (boxes.shape, valid.shape) == ((len(ids), 10, 4), (len(ids), 10))
        table = traces(finished)
        assert ids.tolist() == sorted(set(table["cell"]))
        rows = {(ids[n], t): boxes[n, t].tolist() for n, t in zip(*np.nonzero(valid), strict=True)}
        assert rows == {
            (row.cell, row.frame): [row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1] for row in table.itertuples()
        }
        assert not boxes[~valid].any()

    def test_a_cell_that_is_away_for_some_frames_is_zero_there(self, tmp_path, small_pixels):
        """In frame 9 all is blank, so that no cell is seen."""
        data = small_pixels[:1].copy()
        data[:, 9] = 3000
        run(as_nd2(tmp_path / "gap.nd2", data), tmp_path / "out")
        valid = array(tmp_path / "out", "cells.zarr/metadata/valid_frames")
        assert len(valid)
        assert not valid[:, 9].any()
        group = zarr.open_group(tmp_path / "out" / "fov_000" / "cells.zarr", mode="r")
        for product in ("pc_ch_0", "fl_ch_1", "mask"):
            assert not any(group[f"{product}/{cell}/0"][9].any() for cell in group[product].group_keys())


# ------------------------------------------------------------------------------------------------- going on


def steps_done(todo):
    return Counter((task.kind, step) for task in todo.tasks for step in task.digests)


class TestGoingOn:
    def test_a_second_run_does_nothing(self, small_czi, copied):
        before = times_of_change(copied)
        scratch = times_of_change(copied / ".pyama_dask", {"ledger.jsonl", "log.txt", "plan.json", "report.json"})
        report = run(small_czi, copied)
        assert (report.tasks, report.exit_status) == (0, 0)
        assert [fov.status for fov in report.fovs] == ["done", "done"]
        assert [fov.cells for fov in report.fovs] != [None, None]
        assert times_of_change(copied) == before
        assert (
            times_of_change(copied / ".pyama_dask", {"ledger.jsonl", "log.txt", "plan.json", "report.json"}) == scratch
        )

    @pytest.mark.parametrize(
        ("changes", "tasks", "untouched"),
        [
            ({"params.segmentation_params": {"morph_iterations": 2}}, 16, ["pc_ch_0/0", "fl_ch_1/0"]),
            (
                {"params.background_weight": 0.5},
                16,
                ["pc_ch_0/0", "fl_ch_1/0", "seg_labeled_ch_0/0", "seg_tracked_ch_0/0"],
            ),
            (
                {"params.tracking_params": {"min_frames": 3, "border_margin": 5}},
                4,  # the same cells are kept, for other reasons
                ["pc_ch_0/0", "fl_ch_1/0", "seg_labeled_ch_0/0", "fl_background_ch_1/0"],
            ),
            ({"channels.pc.features": ["area"]}, 8, ["*"]),
            ({"params.time_mapping": {9: 99.0}}, 2, ["*"]),
            ({"params.crop_padding": 3}, 8, ["*"]),
            ({"params.fovs": "0"}, 0, ["*"]),
            ({"cluster.retries": 3}, 0, ["*"]),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_a_changed_key_redoes_only_what_depends_on_it(
        self, finished, small_czi, tmp_path, copied, changes, tasks, untouched
    ):
        before = times_of_change(copied)
        report = run(small_czi, copied, changes)
        assert report.exit_status == 0
        assert report.tasks == tasks
        kept = [
            f
            for f in before
            if "zarr.json" not in f and "images.zarr" in f and any(u == "*" or f"/{u}/" in f for u in untouched)
        ]
        after = times_of_change(copied)
        assert kept
        assert {f: after[f] for f in kept} == {f: before[f] for f in kept}
        if not tasks:
            assert differences(products(copied), products(finished)) == []
            return
        run(small_czi, tmp_path / "afresh", changes | {"params.fovs": "1"})
        mine = {name: value for name, value in products(copied).items() if name.startswith("fov_001")}
        assert differences(mine, products(tmp_path / "afresh")) == []

    @pytest.mark.parametrize(
        "changes", [{"storage.block_frames": 3, "storage.codec": "zstd"}, {"params.frames": "1-8"}]
    )
    def test_another_layout_replaces_everything(self, small_czi, tmp_path, copied, changes):
        report = run(small_czi, copied, changes)
        assert report.exit_status == 0
        run(small_czi, tmp_path / "afresh", changes)
        assert file_bytes(copied) == file_bytes(tmp_path / "afresh")

    def test_back_to_the_first_settings(self, finished, small_czi, copied):
        run(small_czi, copied, {"params.segmentation_params": {"morph_iterations": 2}})
        assert differences(products(copied), products(finished))
        run(small_czi, copied)
        assert differences(products(copied), products(finished)) == []

    def test_step_by_step_is_as_at_once(self, finished, small_czi, tmp_path):
        for step in ("copy", "segment", "background", "track", "extract", "crop", "cache", "summary"):
            report = run(small_czi, tmp_path / "out", steps=[step])
            assert report.tasks
            assert report.exit_status == 0, step
            assert [fov.status for fov in report.fovs] == ["done" if step == "summary" else "partial"] * 2
        assert [fov.status for fov in report.fovs] == ["done", "done"]
        assert differences(products(tmp_path / "out"), products(finished)) == []
        assert run(small_czi, tmp_path / "out").tasks == 0

    def test_steps_may_be_named_in_any_order(self, finished, small_czi, tmp_path):
        run(small_czi, tmp_path / "out", steps=USUAL[::-1])
        assert differences(products(tmp_path / "out"), products(finished)) == []

    @pytest.mark.parametrize("steps", [["segment"], ["copy", "track"], ["fly"]])
    def test_a_refused_step_leaves_nothing_behind(self, small_czi, tmp_path, steps):
        with pytest.raises(PlanError):
            run(small_czi, tmp_path / "out", steps=steps)
        assert listing(tmp_path) == set()

    @pytest.mark.parametrize(
        ("other", "stale", "then", "step"),
        [
            (
                {"params.segmentation_params": {"morph_iterations": 2}},
                "segment",
                {"channels.pc.features": []},
                "extract",
            ),
            ({"params.background_params": {"tile_size": 50}}, "background", {"params.crop_padding": 3}, "crop"),
            ({"params.tracking_params": {"min_frames": 9, "border_margin": 0}}, "track", {}, "crop"),
        ],
    )
    def test_a_step_is_not_done_on_what_was_made_with_other_settings(self, small_czi, copied, other, stale, then, step):
        run(small_czi, copied, other, steps=[stale])
        with pytest.raises(PlanError, match="add it to --steps"):
            run(small_czi, copied, then, steps=[step])

    def test_crops_whose_record_is_gone_are_made_again(self, finished, small_czi, copied):
        shutil.rmtree(copied / "fov_000" / "cells.zarr")
        with Ledger(copied / LEDGER) as ledger:
            ledger.void({"gather-fov000": ["crop"]})
        todo = []
        report = run(small_czi, copied, on_start=lambda plan, _: todo.append(plan))
        assert steps_done(todo[0]) == {("finish", "crop"): 3, ("gather", "crop"): 1}
        assert report.exit_status == 0
        assert differences(products(copied), products(finished)) == []

    def test_a_movie_that_was_moved_is_the_same_movie(self, finished, small_czi, tmp_path, copied):
        (tmp_path / "elsewhere").mkdir()
        moved = shutil.copy(small_czi, tmp_path / "elsewhere" / "movie.czi")
        assert run(moved, copied).tasks == 0

    def test_a_movie_that_was_renamed_leaves_one_table(self, small_czi, tmp_path, copied):
        renamed = shutil.copy(small_czi, tmp_path / "other.czi")
        run(renamed, copied, {"channels.pc.features": ["area"]})
        assert [p.name for p in (copied / "fov_000").glob("*.csv")] == ["other_fov_000_traces.csv"]


# ------------------------------------------------------------------------------------------------- failures


class TestFailures:
    @pytest.fixture
    def brittle(self, small_pixels, tmp_path, plugins):
        """Changes with which frame 3 of FOV 1 cannot be segmented while the flag is there; and the flag."""
        flag = tmp_path / "flag"
        flag.touch()
        params = {"poison": int(small_pixels[1, 3, 0].sum(dtype=np.int64)), "flag": str(flag)}
        changes = {"params.segmentation_method": f"{plugins}:brittle", "params.segmentation_params": params}
        return changes, flag

    @pytest.mark.parametrize("where", ["serial", "dask"])
    def test_a_failing_frame_fails_its_fov_alone_and_the_next_run_completes(
        self, finished, small_czi, tmp_path, brittle, where, request
    ):
        client = request.getfixturevalue("client") if where == "dask" else None
        changes, flag = brittle
        report = run(small_czi, tmp_path / "out", changes, client=client)
        assert report.exit_status == 3
        assert [fov.status for fov in report.fovs] == ["done", "failed"]
        for part in ("FOV 1, frame 3", "ValueError: bad frame"):
            assert part in report.fovs[1].reason
        assert report.fovs[1].cause == "algorithm"
        status = json.loads((tmp_path / "out" / ".pyama_dask" / "report.json").read_text())
        assert status["fovs"][1]["status"] == "failed"
        found = pyama_dask.open_output(tmp_path / "out").status()
        assert [fov["status"] for fov in found["fovs"]] == ["done", "failed"]
        assert "FOV 1, frame 3" in found["fovs"][1]["reason"]
        flag.unlink()
        report = run(small_czi, tmp_path / "out", changes, client=client)
        assert report.exit_status == 0
        assert 0 < report.tasks < 8
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_the_movies_own_number_of_the_frame_is_named(self, small_czi, tmp_path, brittle):
        changes, _ = brittle
        report = run(small_czi, tmp_path / "out", changes | {"params.frames": "2-9", "params.fovs": "1"})
        assert "FOV 1, frame 1 (frame 3 of the movie)" in report.fovs[0].reason

    def test_missing_frames_fail_their_fov_alone(self, tmp_path, small_pixels):
        skip = {(1, t, c, 0) for t in range(6, 10) for c in range(2)}
        movie = as_czi(tmp_path / "aborted.czi", small_pixels, skip=skip)
        report = run(movie, tmp_path / "out")
        assert report.exit_status == 3
        assert [fov.status for fov in report.fovs] == ["done", "failed"]
        assert "4 of its frames are missing in aborted.czi, the first is 6" in report.fovs[1].reason
        assert not (tmp_path / "out" / "fov_001").exists()
        assert run(movie, tmp_path / "out", {"params.frames": "0-5"}).exit_status == 0

    def test_what_cannot_be_displayed_is_a_warning_only(self, finished, small_czi, tmp_path, monkeypatch):
        def fail(*_):
            raise RuntimeError("no colours today")

        monkeypatch.setattr(display, "show_intensities", fail)
        monkeypatch.setattr(display, "show_labels", fail)
        report = run(small_czi, tmp_path / "out")
        assert [fov.status for fov in report.fovs] == ["done", "done"], report
        assert any("no colours today" in warning for warning in report.fovs[0].warnings)
        mine, whole = products(tmp_path / "out"), products(finished)
        assert [name for name in differences(mine, whole) if not name.endswith("/1")] == []

    def test_a_segmenter_that_gives_no_labels_of_a_frame_is_named(self, small_czi, small_pixels, tmp_path, plugins):
        params = {"poison": int(small_pixels[0, 0, 0].sum(dtype=np.int64))}
        changes = {"params.segmentation_method": f"{plugins}:no_labels", "params.segmentation_params": params}
        report = run(small_czi, tmp_path / "out", changes)
        assert [fov.status for fov in report.fovs] == ["failed", "done"]
        for part in (
            "FOV 0, frame 0: the segmenter",
            f":no_labels' ({plugins}, line",
            "returned float64 (200, 240), but must return whole-number",
        ):
            assert part in report.fovs[0].reason

    def test_too_little_memory_in_a_method_is_tried_again_with_fewer_frames(self, small_czi, tmp_path, plugins):
        changes = {"params.segmentation_method": f"{plugins}:hungry", "params.segmentation_params": {}}
        report = run(
            small_czi,
            tmp_path / "out",
            changes | {"params.fovs": "0", "storage": {"block_frames": 10, "chunks": "block"}},
        )
        assert re.match(r"FOV 0, frame 0: the segmenter .* failed: MemoryError: too much$", report.fovs[0].reason)
        assert report.fovs[0].cause == "memory"
        entries = (tmp_path / "out" / LEDGER).read_text().splitlines()
        assert len([entry for entry in entries if "failed" in json.loads(entry)]) == 3  # with 10, 2 and 1 at once

    def test_what_is_lost_or_was_cut_short_is_made_again(self, small_czi, copied, finished):
        for lost in ("fov_000/images.zarr/seg_labeled_ch_0/0/c.1.0.0", "fov_001/images.zarr/pc_ch_0/0/c.0.0.0"):
            (copied / lost).unlink()
        assert run(small_czi, copied).tasks == 2
        assert differences(products(copied), products(finished)) == []
        table = next((copied / "fov_001").glob("*.csv"))
        table.write_bytes(table.read_bytes()[:100])
        assert run(small_czi, copied).tasks > 0
        assert differences(products(copied), products(finished)) == []


# ---------------------------------------------------------------------------------------------- cancelling


class TestCancelling:
    @pytest.mark.parametrize("after", [1, 9])
    def test_what_is_done_stays_and_the_next_run_goes_on(self, finished, small_czi, tmp_path, after):
        cancel, events = threading.Event(), []

        def stop(event):
            events.append(event)
            if len(events) == after:
                cancel.set()

        report = run(small_czi, tmp_path / "out", cancel=cancel, progress=stop)
        assert (report.cancelled, report.exit_status) == (True, 130)
        assert "done" in {fov.status for fov in report.fovs} or report.fovs[0].status == "partial"
        again = run(small_czi, tmp_path / "out")
        assert again.exit_status == 0
        assert 0 < again.tasks < 16
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_on_workers(self, finished, small_czi, tmp_path, client):
        cancel = threading.Event()
        report = run(small_czi, tmp_path / "out", client=client, cancel=cancel, progress=lambda _: cancel.set())
        assert report.exit_status == 130
        assert run(small_czi, tmp_path / "out", client=client).exit_status == 0
        assert differences(products(tmp_path / "out"), products(finished)) == []

    def test_before_it_began(self, small_czi, tmp_path):
        cancel = threading.Event()
        cancel.set()
        assert run(small_czi, tmp_path / "out", cancel=cancel).exit_status == 130

    def test_an_error_in_progress_frees_the_output(self, finished, small_czi, tmp_path):
        def fail(event):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run(small_czi, tmp_path / "out", progress=fail)
        assert run(small_czi, tmp_path / "out").exit_status == 0
        assert differences(products(tmp_path / "out"), products(finished)) == []


def test_while_a_run_goes_on(small_czi, tmp_path):
    """Its events are complete, a plan can be made and read, a second run is refused, and logging stays as it is."""
    events, seen, log = [], [], logging.getLogger("pyama_dask")
    before = (list(log.handlers), log.level)

    def look(event):
        events.append(event)
        if event["step"] == "track" and not seen:
            seen.extend(pyama_dask.open_output(tmp_path / "out").status()["fovs"])
            plan_run(pyama_dask.Config.model_validate(config(small_czi, tmp_path / "out")))
            with pytest.raises(OutputError, match="is writing to it"):
                run(small_czi, tmp_path / "out")

    assert run(small_czi, tmp_path / "out", progress=look).exit_status == 0
    assert [fov["status"] for fov in seen] == ["partial", "pending"] or seen[0]["status"] == "partial"
    assert all(event.keys() == {"step", "fov", "frame", "total", "message"} for event in events)
    last = {(event["step"], event["fov"]): event for event in events}
    assert last.keys() == {(step, fov) for step in (*USUAL, "done") for fov in (0, 1)}
    assert all(event["frame"] == event["total"] == 10 for event in last.values())
    assert (list(log.handlers), log.level) == before
    assert "gather-fov001 done" in (tmp_path / "out" / ".pyama_dask" / "log.txt").read_text()


# ------------------------------------------------------------------------------------- what is left alone


def snapshot(directory):
    """All paths, with time of change and content of the files."""
    return {p: p.is_file() and (p.stat().st_mtime_ns, p.read_bytes()) for p in directory.rglob("*")}


class TestLeftAlone:
    def test_the_movie_and_everything_outside_of_the_output(self, small_czi, tmp_path, monkeypatch):
        (tmp_path / "data").mkdir()
        (tmp_path / "work").mkdir()
        movie = Path(shutil.copy(small_czi, tmp_path / "data" / "movie.czi"))
        monkeypatch.chdir(tmp_path / "work")
        before = (movie.stat(), hashlib.sha256(movie.read_bytes()).digest())
        run(movie, tmp_path / "out")
        after = (movie.stat(), hashlib.sha256(movie.read_bytes()).digest())
        assert after[1] == before[1]
        assert (after[0].st_mtime_ns, after[0].st_mode, after[0].st_size) == (
            before[0].st_mtime_ns, before[0].st_mode, before[0].st_size,
        )  # fmt: skip
        outside = {p for p in listing(tmp_path) if not p.startswith("out/")}
        assert outside == {"data", "data/movie.czi", "work", "out"}

    def test_a_movie_that_may_only_be_read(self, small_pixels, tmp_path):
        (tmp_path / "data").mkdir()
        movie = as_czi(tmp_path / "data" / "movie.czi", small_pixels[:1, :2])
        movie.chmod(0o444)
        (tmp_path / "data").chmod(0o555)
        try:
            assert run(movie, tmp_path / "out").exit_status == 0
        finally:
            (tmp_path / "data").chmod(0o755)


class TestRefusals:
    """Nothing is written when a run is refused."""

    @pytest.fixture
    def refuses(self, tmp_path):
        def check(error, match, movie, output, changes=None, **options):
            before = snapshot(tmp_path)
            with pytest.raises(error, match=match):
                run(movie, output, changes, **options)
            assert snapshot(tmp_path) == before

        return check

    def test_an_output_that_is_a_file(self, small_czi, tmp_path, refuses):
        (tmp_path / "out").write_text("mine")
        refuses(OutputError, "out is a file. Fix: choose another 'output'", small_czi, tmp_path / "out")
        refuses(
            OutputError, "out is a file. Fix: choose another 'output'", small_czi, tmp_path / "out" / "deeper" / "still"
        )

    def test_an_output_that_cannot_be_written(self, small_czi, tmp_path, refuses, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write everywhere
        refuses(OutputError, "is not writable. Fix: choose another 'output'", small_czi, tmp_path / "new" / "out")

    def test_the_output_of_another_movie(self, small_nd2, copied, refuses):
        refuses(OutputError, "holds the results of another movie.*choose another 'output'", small_nd2, copied)

    def test_fovs_that_nobody_recorded(self, small_czi, tmp_path, refuses):
        (tmp_path / "out" / "fov_000").mkdir(parents=True)
        refuses(OutputError, "holds results that are not recorded", small_czi, tmp_path / "out")

    def test_a_ledger_of_a_newer_version(self, small_czi, copied, refuses):
        with (copied / LEDGER).open("a") as file:
            content = '{"ledger":99'
            file.write(f'{content},"crc":"{google_crc32c.value(content.encode()):08x}"}}\n')
        refuses(OutputError, "newer version", small_czi, copied)

    @pytest.mark.parametrize(
        ("changes", "error", "match"),
        [
            ({"params.fovs": "7"}, ConfigError, r"params\.fovs: 7 is not in movie\.czi"),
            ({"channels.pc.channel": "Brightfield"}, ConfigError, r"channels\.pc\.channel: 'Brightfield' is not in"),
            (
                {"params.tracking_params": {"min_frame": 3}},
                ConfigError,
                r"tracking_params\.min_frame: is not a parameter",
            ),
            ({"params.colour": 3}, ConfigError, r"params\.colour: is not a key"),
            ({"cluster": {"kind": "local", "memory": "16MiB"}}, PlanError, r"would need \d+ MiB"),
            ({"input": "none.czi"}, SourceError, "none.czi"),
            ({"input": __file__}, SourceError, "is not a movie in a supported format"),
        ],
    )
    def test_a_config_that_does_not_fit(self, small_czi, tmp_path, refuses, changes, error, match):
        refuses(error, match, small_czi, tmp_path / "out", changes)

    def test_a_scheduler_that_does_not_answer(self, small_czi, tmp_path, refuses, monkeypatch):
        def client(*_, **__):
            raise OSError("timed out")

        monkeypatch.setattr("pyama_dask.launch.local.Client", client)
        changes = {"cluster": {"kind": "address", "address": "tcp://127.0.0.1:1"}}
        refuses(ConfigError, "no Dask scheduler answers at tcp://127.0.0.1:1", small_czi, tmp_path / "out", changes)

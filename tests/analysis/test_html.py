"""Displays of results in notebooks; `look.test_notebooks` looks at them in a browser."""

import base64
import io
import re
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import pyama_dask
from pyama_dask.analysis.compare import Comparison
from pyama_dask.analysis.export.export import ExportedMovie, ExportReport
from pyama_dask.analysis.fit import FitReport, FittedFile
from pyama_dask.analysis.fov import Cell, Image
from pyama_dask.analysis.html import WIDTH, fov_thumbnail, kept_cells
from pyama_dask.analysis.merge import MergedSample, MergeReport
from pyama_dask.analysis.plots import Drawn
from pyama_dask.analysis.quality import FLAGS, QualityReport, Thresholds
from pyama_dask.analysis.score import ScoreReport, Scores
from pyama_dask.files.html import LARGEST
from pyama_dask.files.palette import KEPT, rgb

SCORES = Scores("one", 2, 4, 3, 0.5, 0.25, 0.75, float("nan"))


def pictures(shown):
    """Decoded pictures of a display."""
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", shown)
    return [np.asarray(Pillow.open(io.BytesIO(base64.b64decode(one)))) for one in found]


@pytest.fixture
def output(finished):
    return pyama_dask.open_output(finished)


@pytest.mark.parametrize(
    ("report", "line", "held"),
    [
        (
            MergeReport(
                (Path("m/a.csv"),), Path("m/all.parquet"), (MergedSample("wt", (0, 1, 2), (3,), 8, 80),), ("<w>",)
            ),
            "<MergeReport: 1 sample, 8 cells; 1 table in m; 1 warning>",
            ["wt", "0-2", "3", "80", "&lt;w&gt;"],
        ),
        (
            FitReport("maturation", (FittedFile(Path("a.csv"), Path("f.csv"), 9, 7, {"good": 6}, {}),)),
            "<FitReport: maturation, 1 table, 7 of 9 cells converged>",
            ["f.csv", "9", "7", "6", "0"],
        ),
        (
            QualityReport(
                pd.DataFrame([[True, *[False] * 4, True]], columns=[*FLAGS, "flagged"]), Path("q.csv"), Thresholds(), ()
            ),
            "<QualityReport: 1 of 1 cell flagged; q.csv>",
            [*FLAGS, "1", "0"],
        ),
        (
            ScoreReport(Path("a"), Path("b"), (SCORES,), SCORES, 10, 0.8, ()),
            "<ScoreReport: SEG 0.500, F1 0.250 over 2 frames; 3 objects, 4 true>",
            ["one", "0.500", "nan"],
        ),
        (Comparison((Path("c/a.csv"),), {"x": None}), "<Comparison: medians of 1 feature; 1 file>", ["a.csv", "c"]),
        (
            ExportReport(Path("e"), "csv", (ExportedMovie("", (0, 1), (2,)),), ()),
            "<ExportReport: FOV 0-1 as csv in e>",
            ["2"],
        ),
        (Drawn((Path("p/a.png"), Path("p/b.png"))), "<Drawn: 2 files>", ["a.png", "b.png", "p"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reports_are_one_line_of_text_and_a_table_in_notebooks(report, line, held):
    assert repr(report) == line
    shown = report._repr_html_()
    assert all(f">{word}</td>" in shown for word in held)
    assert len(shown) < LARGEST


class TestDisplays:
    def test_an_output_shows_its_fovs_with_status_cells_and_size(self, output):
        shown = output._repr_html_()
        cells = [len(output[fov].cells) for fov in output.fovs]
        assert f"2 FOVs, {sum(cells)} cells, " in shown
        assert "MiB" in shown
        for fov, count in enumerate(cells):
            assert re.search(rf"FOV {fov}</td><td[^>]*>done</td><td[^>]*>{count}</td>", shown)
        assert len(pictures(shown)) == 2

    def test_a_fov_shows_its_channels_and_cells(self, output):
        shown = output[0]._repr_html_()
        assert f"<b>FOV 0</b>: {len(output[0].cells)} cell" in shown
        assert all(channel in shown for channel in output[0].channels)
        assert "10 x 200 x 240 uint16" in shown
        assert len(pictures(shown)) == 1

    @pytest.mark.parametrize("longest", [WIDTH, 100])
    def test_kept_cells_are_outlined_in_the_thumbnail(self, output, longest):
        fov = output[0]
        tracked = fov.image("seg_tracked_ch_0").data[5].compute()
        assert not np.isin(np.unique(tracked[tracked > 0]), fov.cells).all()  # others are there, too
        drawn = (fov_thumbnail(fov, longest) == rgb(KEPT)).all(axis=-1)
        where = ((np.argwhere(drawn) + 0.5) * np.divide(tracked.shape, drawn.shape)).astype(int)
        assert {int(tracked[y, x]) for y, x in where} == {*fov.cells}
        assert kept_cells(fov) == fov.cells

    def test_a_cell_shows_a_strip_of_crops_per_channel(self, output):
        shown = (cell := output[0].cell(output[0].cells[0]))._repr_html_()
        assert [picture.shape[0] == pictures(shown)[0].shape[0] for picture in pictures(shown)] == [True, True]
        assert "fl_ch_1" in shown
        assert f"in {cell.valid.sum()} of 10 frames" in shown

    @pytest.mark.parametrize("channel", ["pc_ch_0", "fl_background_ch_1", "seg_labeled_ch_0"])
    def test_an_image_shows_its_middle_frame(self, output, channel):
        shown = output[0].image(channel)._repr_html_()
        assert "10 x 200 x 240" in shown
        assert "10 min" in shown
        (picture,) = pictures(shown)
        assert picture.shape == (200, 240, 3)

    def test_texts_are_short(self, output):
        fov = output[0]
        cell = fov.cell(fov.cells[0])
        assert repr(fov.image("pc_ch_0")) == "<Image pc_ch_0: 10 x 200 x 240 uint16>"
        assert repr(cell) == f"<Cell {cell.id}: in {cell.valid.sum()} of 10 frames, crops fl_ch_1, mask, pc_ch_0>"


class TestSize:
    def test_displays_of_noise_are_small(self):
        noise = da.from_array(np.random.default_rng(0).integers(0, 2**16, (3, 2048, 1024), np.uint16))
        axes = {"t": "", "y": "", "x": ""}
        shown = Image("pc_ch_0", noise, dict.fromkeys(axes, 1.0), axes)._repr_html_()
        assert 4000 < len(shown) <= LARGEST
        assert "not calibrated" in shown
        crops = dict.fromkeys(("fl_ch_1", "mask", "pc_ch_0"), noise[:, :200, :200])
        boxes, seen = np.zeros((3, 4), np.int32), np.ones(3, bool)
        assert 4000 < len(Cell(1, boxes, seen, ~seen, crops)._repr_html_()) <= LARGEST

    def test_the_table_of_many_fovs_is_cut_and_failures_come_first(self, output, monkeypatch):
        states = [{"fov": k, "status": "done", "cells": 9, "reason": None} for k in range(500)]
        states[321] |= {"status": "failed", "reason": "<torn> " * 99, "cells": None}
        monkeypatch.setattr(output, "status", lambda: {"fovs": states})
        shown = output._repr_html_()
        assert len(shown) <= LARGEST
        assert shown.index("FOV 321") < shown.index("FOV 0<")
        assert "&lt;torn&gt;" in shown
        assert "... and 488 more" in shown


class TestDamage:
    def test_what_is_damaged_is_shown_as_text(self, copied):
        output = pyama_dask.open_output(copied)
        fov = output[0]
        cell, image = fov.cell(fov.cells[0]), fov.image("pc_ch_0")
        for shard in (copied / "fov_000").rglob("c.*"):
            shard.write_bytes(b"torn")
        for of in (fov, cell, image):
            assert f"{type(of).__name__}" in of._repr_html_()
            assert "cannot be shown" in of._repr_html_()
        shown = output._repr_html_()
        assert (len(pictures(shown)), "FOV 0 <img" in shown) == (1, True)
        (copied / ".pyama_dask" / "plan.json").write_text("{")
        assert "cannot be shown: " in output._repr_html_()

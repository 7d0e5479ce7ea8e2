"""Quality of traces: what is odd is flagged, what is not is left alone, and nothing else is touched."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.movies import file_bytes
from support.traces import record_traces, table, traces_path, write_output, write_plan

import pyama_dask
from pyama_dask.analysis import trace_tables
from pyama_dask.analysis.quality import FLAGS, Thresholds, cell_quality, merging_rows
from pyama_dask.errors import ConfigError, OutputError

SHAPE = (200, 300)


def cells(*tracks):
    """Traces of cells from 1, each as {frame: (x0, y0, x1, y1)}."""
    rows = [(0, cell, frame, *box) for cell, track in enumerate(tracks, 1) for frame, box in track.items()]
    names = ["fov", "cell", "frame", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]
    return pd.DataFrame(rows, columns=names).assign(good=True)


def still(x, y, frames=10, size=20):
    """A cell that stays where it is."""
    return dict.fromkeys(range(frames) if isinstance(frames, int) else frames, (x, y, x + size, y + size))


def quality(*tracks, shape=SHAPE, **limits):
    return cell_quality(cells(*tracks), shape, Thresholds(**limits)).set_index("cell")


def flags(found):
    return {cell: [flag for flag in FLAGS if row[flag]] for cell, row in found.iterrows()}


class TestOfACell:
    def test_nothing_is_odd_about_cells_that_stay_apart(self):
        found = quality(still(10, 10), still(50, 10), still(10, 50))
        assert flags(found) == {1: [], 2: [], 3: []}
        assert not found["flagged"].any()
        assert found.loc[2, ["first_frame", "last_frame", "frames", "missing"]].tolist() == [0, 9, 10, 0]
        assert found["largest_jump"].tolist() == [0, 0, 0]

    def test_short_traces(self):
        tracks = still(10, 10), still(50, 10, 5), still(90, 10, 4)
        assert flags(quality(*tracks)) == {1: [], 2: [], 3: ["short"]}
        assert flags(quality(*tracks, min_frames=6)) == {1: [], 2: ["short"], 3: ["short"]}

    def test_gaps(self):
        tracks = still(10, 10), still(50, 10, [0, 1, 2, 5, 6, 8])
        assert quality(*tracks)["missing"].tolist() == [0, 3]
        assert flags(quality(*tracks)) == {1: [], 2: ["gap"]}
        assert flags(quality(*tracks, max_missing=3)) == {1: [], 2: []}

    @pytest.mark.parametrize(("size", "jump"), [(40, 3), (10, 3), (20, 0), (22, 0.21)])
    def test_a_jump_is_as_large_up_as_down(self, size, jump):
        odd = still(10, 10) | {4: (10, 10, 10 + size, 10 + size)}
        found = quality(odd, still(100, 100))
        assert found["largest_jump"].tolist() == pytest.approx([jump, 0])
        assert flags(found) == {1: ["jump"] if jump > 0.5 else [], 2: []}

    def test_no_jump_across_a_gap(self):
        assert quality(still(10, 10, range(5)) | still(10, 10, range(6, 10), size=40))["largest_jump"].tolist() == [0]

    def test_areas_that_were_measured_count_more_than_boxes(self):
        traces = cells(still(10, 10), still(50, 10)).assign(area_ch_0=5.0)
        traces.loc[traces["frame"] == 3, "area_ch_0"] = [np.nan, 10.0]
        found = cell_quality(traces, SHAPE, Thresholds())
        assert found["largest_jump"].tolist() == [0, 1]
        traces["area_ch_0"] = np.nan
        assert cell_quality(traces, SHAPE, Thresholds())["largest_jump"].isna().all()

    @pytest.mark.parametrize("box", [(0, 9, 20, 29), (9, 0, 29, 20), (280, 9, 300, 29), (9, 180, 29, 200)])
    def test_each_border(self, box):
        found = quality(still(100, 100), still(50, 50) | {3: box, 4: box}, max_jump=9)
        assert found["border_frames"].tolist() == [0, 2]
        assert flags(found) == {1: [], 2: ["border"]}
        allowed = [flags(quality(still(50, 50) | {3: box, 4: box}, max_jump=9, max_border=most)) for most in (1, 2)]
        assert allowed == [{1: ["border"]}, {1: []}]

    def test_good_frames(self):
        traces = cells(still(10, 10), still(50, 10), still(90, 10))
        traces["good"] = (traces["cell"] == 1) | ((traces["cell"] == 2) & (traces["frame"] < 3))
        found = cell_quality(traces, SHAPE, Thresholds())
        assert found["good_frames"].tolist() == [10, 3, 0]
        assert found["good"].tolist() == [True, True, False]

    def test_order_of_the_rows_does_not_matter(self):
        traces = cells(still(10, 10), still(50, 10, [0, 1, 3]), still(12, 10, range(5, 10)))
        found = cell_quality(traces, SHAPE, Thresholds())
        shuffled = cell_quality(traces.sample(frac=1, random_state=1), SHAPE, Thresholds())
        pd.testing.assert_frame_equal(found, shuffled)

    def test_traces_without_rows(self):
        found = cell_quality(cells(still(10, 10)).iloc[:0], SHAPE, Thresholds())
        assert len(found) == 0
        assert list(found) == list(quality(still(10, 10)).reset_index()[list(found)])

    def test_what_cannot_be_known_is_empty(self):
        found = cell_quality(cells(still(0, 0)), None, Thresholds())
        assert found["border_frames"].isna().all()
        assert not found["border"].any()
        bare = cells(still(0, 0)).drop(columns=["bbox_x0", "bbox_x1", "bbox_y0", "bbox_y1"])
        found = cell_quality(bare, SHAPE, Thresholds())
        assert found[["border_frames", "merging_frames", "largest_jump"]].isna().all(axis=None)
        assert not found["flagged"].any()


class TestMerging:
    def test_boxes_that_overlap_in_some_frames(self):
        near = still(50, 50) | dict.fromkeys((4, 5), (18, 10, 38, 30))
        found = quality(still(10, 10), near, still(100, 100))
        assert found["merging_frames"].tolist() == [2, 2, 0]
        assert flags(quality(still(10, 10), near, max_overlap=0.7)) == {1: [], 2: []}

    def test_a_small_box_in_a_large_one(self):
        assert quality(still(10, 10, size=100), still(40, 40))["merging_frames"].tolist() == [10, 10]

    def test_the_same_place_in_other_frames_is_none(self):
        assert quality(still(10, 10, range(5)), still(10, 10, range(6, 10)))["merging_frames"].tolist() == [0, 0]

    def test_a_track_that_ends_in_the_box_of_another(self):
        """Two cells beside each other become one, with the id of the first."""
        grown = still(10, 10, range(5)) | dict.fromkeys(range(5, 10), (10, 10, 52, 30))
        found = quality(grown, still(32, 10, range(5)), max_jump=9)
        assert found["merging_frames"].tolist() == [1, 1]
        assert flags(quality(grown, still(32, 40, range(5)), max_jump=9)) == {1: [], 2: []}

    def test_a_cell_that_is_in_another_for_some_frames(self):
        away = still(32, 10, [0, 1, 2, 6, 7, 8, 9])
        found = quality(still(10, 10) | dict.fromkeys((3, 4, 5), (10, 10, 52, 30)), away, max_jump=9)
        assert found["merging_frames"].tolist() == [1, 1]

    def test_a_track_that_goes_on_by_another_name_is_none(self):
        assert quality(still(10, 10, range(5)), still(10, 10, range(5, 10)))["merging_frames"].tolist() == [0, 0]

    def test_tracks_that_end_with_the_movie_are_none(self):
        assert quality(still(10, 10), still(31, 10))["merging_frames"].tolist() == [0, 0]

    @given(data=st.data())
    def test_as_every_pair_says(self, data):
        """The sorted search finds what a look at every pair of rows finds."""
        corner = st.integers(0, 30)
        tracks = data.draw(
            st.lists(st.dictionaries(st.integers(0, 4), st.tuples(corner, corner), min_size=1), max_size=6)
        )
        sizes = [data.draw(st.integers(1, 20)) for _ in tracks]
        traces = cells(*(
            {t: (x, y, x + size, y + size) for t, (x, y) in track.items()}
            for track, size in zip(tracks, sizes, strict=True)
        )).sort_values(["cell", "frame"], ignore_index=True)  # fmt: skip
        rows = list(traces[["cell", "frame", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]].itertuples(index=False))
        expected, seen = set(), {(row.cell, row.frame): k for k, row in enumerate(rows)}
        for (i, a), (j, b) in itertools.permutations(enumerate(rows), 2):
            w = min(a.bbox_x1, b.bbox_x1) - max(a.bbox_x0, b.bbox_x0)
            h = min(a.bbox_y1, b.bbox_y1) - max(a.bbox_y0, b.bbox_y0)
            size = (a.bbox_x1 - a.bbox_x0) ** 2
            if a.cell == b.cell or w <= 0 or h <= 0 or w * h < 0.5 * size:
                continue
            if a.frame == b.frame and size <= (b.bbox_x1 - b.bbox_x0) ** 2:
                expected |= {i, j}
            if a.frame == b.frame - 1 and (a.cell, b.frame) not in seen and (b.cell, a.frame) in seen:
                expected |= {i, j}
        follows = np.array([(row.cell, row.frame - 1) in seen for row in rows], bool)
        boxes = traces.iloc[:, 3:7].to_numpy(float)
        found = merging_rows(traces["frame"].to_numpy(np.int64), boxes, follows, 0.5)
        assert set(np.flatnonzero(found).tolist()) == expected


class TestInspectTraces:
    @pytest.fixture
    def output(self, tmp_path):
        """Three FOVs with three still cells, of which one is odd in the second FOV."""
        output = write_output(tmp_path / "results", 3, frames=10)
        for fov in range(3):
            place = cells(still(10, 10), still(60, 10), still(110, 10))
            traces = table(fov, 3, 10)
            traces[place.columns[3:7]] = place[place.columns[3:7]].to_numpy()
            traces["area_ch_0"] = 400.0
            if fov == 1:
                traces.loc[(traces["cell"] == 2) & (traces["frame"] > 6), "area_ch_0"] = 900.0
                traces = traces[(traces["cell"] != 3) | ((traces["frame"] < 5) & (traces["frame"] != 2))]
            trace_tables.write_traces_csv(traces_path(output, fov), traces)
        record_traces(output)
        return output

    def test_a_table_of_all_cells(self, output):
        before = file_bytes(output)
        report = pyama_dask.inspect_traces(output)
        assert report.path == output / "quality.csv"
        assert report.counts == {"short": 1, "gap": 1, "jump": 1, "border": 0, "merging": 0}
        assert report.flagged[["fov", "cell"]].values.tolist() == [[1, 2], [1, 3]]
        read = pd.read_csv(report.path, dtype={"border_frames": "Int64", "merging_frames": "Int64"})
        pd.testing.assert_frame_equal(read, report.table, check_dtype=False)
        assert len(read) == 9
        after = file_bytes(output)
        del after["quality.csv"]
        assert after == before

    def test_of_a_run(self, copied):
        report = pyama_dask.inspect_traces(copied, min_frames=10)
        read = pyama_dask.open_output(copied).traces()
        assert report.warnings == ()
        assert report.table["frames"].sum() == len(read)
        assert report.table["border_frames"].sum() == 0
        (copied / "processing_config.yaml").unlink()
        again = pyama_dask.inspect_traces(copied, min_frames=10)  # the arrays know the size, too
        pd.testing.assert_frame_equal(again.table, report.table)

    def test_what_is_not_known_is_said_once(self, output):
        assert pyama_dask.inspect_traces(output).warnings == (
            "FOV 0-2: the size of its images is unknown, so cells that touch the border are not flagged",
        )

    def test_tables_without_boxes_and_areas(self, output):
        bare = ["fov", "cell", "frame", "time", "good"]
        traces = trace_tables.read_traces_csv(traces_path(output, 2))
        trace_tables.write_traces_csv(traces_path(output, 2), traces[[*bare, "intensity_total_ch_1"]])
        trace_tables.write_traces_csv(traces_path(output, 0), traces.assign(fov=0)[[*bare, "area_ch_0"]])
        record_traces(output)
        report = pyama_dask.inspect_traces(output)
        assert report.warnings[-3:] == (
            "FOV 0, 2: has no boxes, so cells that touch the border or merge are not flagged",
            "FOV 1: the size of its images is unknown, so cells that touch the border are not flagged",
            "FOV 2: has neither areas nor boxes, so jumps are not flagged",
        )
        assert report.table["largest_jump"].notna().tolist() == [True] * 6 + [False] * 3

    def test_fovs_without_traces_are_said(self, output):
        write_plan(output, 3, fov0={"problem": "is cut off"})
        report = pyama_dask.inspect_traces(output)
        assert "left out: FOV 0: failed: is cut off" in report.warnings
        assert set(report.table["fov"]) == {1, 2}

    def test_overrides_are_honoured(self, output):
        (output / "good.yaml").write_text(
            "overrides: [{fov: all, cells: 1, good: false}, {fov: 5, cells: 1, good: true}]"
        )
        report = pyama_dask.inspect_traces(output)
        assert set(report.table.loc[~report.table["good"], "cell"]) == {1}
        assert "good.yaml: overrides.1: the output has no FOV 5" in report.warnings

    def test_a_starting_file_for_a_person(self, output):
        good = output / "good.yaml"
        pyama_dask.inspect_traces(output, write_good=good)
        assert good.read_text() == (
            "overrides:\n"
            "- {fov: 1, cells: '2', good: false, note: jump}\n"
            "- {fov: 1, cells: '3', good: false, note: 'short, gap'}\n"
        )
        report = pyama_dask.merge_samples(output, {"samples": [{"name": "a", "fovs": "all"}]})
        assert (report.cells_set, report.samples[0].cells) == (2, 7)
        before = good.read_bytes()
        with pytest.raises(ConfigError, match="already exists"):
            pyama_dask.inspect_traces(output, write_good=good)
        assert good.read_bytes() == before

    def test_a_starting_file_when_nothing_is_flagged(self, output, tmp_path):
        limits = {"min_frames": 1, "max_missing": 9, "max_jump": 9}
        report = pyama_dask.inspect_traces(output, write_good=tmp_path / "g.yaml", **limits)
        assert report.good_file is None
        assert not (tmp_path / "g.yaml").exists()

    @pytest.mark.parametrize(
        ("limits", "said"),
        [({"min_frames": 0}, "min_frames: "), ({"max_jump": -1}, "max_jump: "), ({"max_overlap": 2}, "max_overlap: "),
         ({"max_gap": 2}, "max_gap: is not a key here")],
    )  # fmt: skip
    def test_thresholds_that_are_none(self, output, limits, said):
        with pytest.raises(ConfigError, match=re.escape(said)):
            pyama_dask.inspect_traces(output, **limits)
        assert not (output / "quality.csv").exists()

    def test_another_table_is_not_replaced(self, output):
        path = traces_path(output, 0)
        before = path.read_bytes()
        with pytest.raises(OutputError, match="was not written by pyama_dask"):
            pyama_dask.inspect_traces(output, path)
        assert path.read_bytes() == before
        assert pyama_dask.inspect_traces(output).path == pyama_dask.inspect_traces(output).path  # its own is

    def test_a_place_that_cannot_be_written_to(self, output, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match=r"file: File exists\. Fix: "):
            pyama_dask.inspect_traces(output, tmp_path / "file" / "quality.csv")

    def test_a_hundred_cells_a_frame(self):
        assert len(cell_quality(table(0, 100, 180), (2048, 2048), Thresholds())) == 100


class TestCommandLine:
    def test_in_words(self, call, copied, tmp_path):
        status, out, error = call("inspect-traces", copied, "--min-frames", "11", "-o", tmp_path / "q.csv")
        assert (status, error) == (0, "")
        assert re.match(r"\d cells of 2 FOVs, \d flagged\n  short:        \d   fewer than 11 frames\n", out)
        assert re.search(r"^FOV 1, cell \d+: short \(10 frames\)$", out, re.MULTILINE)
        assert out.endswith(f"Table: {tmp_path / 'q.csv'}\n")
        assert not (copied / "quality.csv").exists()

    def test_as_json(self, call, copied):
        status, out, _ = call("inspect-traces", copied, "--json", "--write-good", copied / "good.yaml")
        document = json.loads(out)
        assert (status, document["table"]) == (0, str(copied / "quality.csv"))
        assert len(document["cells"]) == len(pd.read_csv(copied / "quality.csv"))
        assert not (copied / "good.yaml").exists()

    def test_merge_says_what_was_set_by_hand(self, call, copied, tmp_path):
        (tmp_path / "g.yaml").write_text("overrides: [{fov: 0, cells: all, frames: 0-1, good: false}]")
        (tmp_path / "s.yaml").write_text("samples: [{name: a, fovs: all}]")
        status, out, _ = call("merge", copied, tmp_path / "s.yaml", "--good", tmp_path / "g.yaml")
        assert status == 0
        assert re.search(r"^Overrides: \d cells set by hand$", out, re.MULTILINE)

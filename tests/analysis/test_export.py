"""Export: what other programs read is what the traces say, it is whole or not there, and the output stays as it is."""

import json
import re
import shutil
import tracemalloc
import weakref

import geff_spec
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from geff_spec import GeffMetadata
from support.movies import file_bytes, listing
from support.shards import write_block
from support.traces import FEATURES, left, record_traces, table, traces_path, write_output, write_plan

import pyama_dask
from pyama_dask.analysis import tables, trace_tables
from pyama_dask.analysis.export import FORMATS, ctc
from pyama_dask.errors import ConfigError, OutputError, TableError
from pyama_dask.files.manifest import MANIFEST, read_manifest
from pyama_dask.store.arrays import create_array
from pyama_dask.store.layout import ArraySpec
from pyama_dask.store.trace_csv import BASE_COLUMNS

SAMPLES = {"samples": [{"name": "a", "fovs": "0"}, {"name": "b b", "fovs": "1"}]}


@pytest.fixture
def output(tmp_path):
    """An output of three FOVs with three cells in four frames, without images."""
    return write_output(tmp_path / "lab" / "results", 3)


def add_labels(output, fov, labels, dtype="uint16"):
    """Store tracked labels (T, H, W) of a FOV."""
    spec = ArraySpec("seg_tracked_ch_0", "tracks", 0, labels.shape, dtype, len(labels), "lz4")
    images = output / f"fov_{fov:03d}" / "images.zarr"
    create_array(images, spec)
    write_block(images, spec, 0, labels.astype(dtype))


def write_cells(output, fov, seen):
    """Write traces and labels of cells, each seen in some frames as one row of pixels of its own."""
    frames = max(max(frames) for frames in seen.values()) + 1
    labels = np.zeros((frames, len(seen), 8), np.uint32)
    rows = []
    for k, (cell, of) in enumerate(sorted(seen.items())):
        labels[list(of), k, 1:5] = cell
        rows += [(fov, cell, frame, frame * 10.0, True, 3.0, k + 0.5, 1, k, 5, k + 1, 4.0) for frame in of]
    traces = pd.DataFrame(rows, columns=[*BASE_COLUMNS, "area_ch_0"])
    trace_tables.write_traces_csv(traces_path(output, fov), traces)
    add_labels(output, fov, labels, "uint32" if max(seen) > 65535 else "uint16")
    return labels


class TestEveryFormat:
    @pytest.mark.parametrize("to", FORMATS)
    def test_what_is_in_the_output_stays_as_it_is(self, copied, tmp_path, to):
        before = file_bytes(copied, set()), listing(copied)
        report = pyama_dask.export_traces(copied, to)
        assert report.directory == copied / "exported" / to
        assert (report.fovs, report.left_out, report.exit_status, report.warnings) == ((0, 1), (), 0, ())
        record = json.loads((report.directory / "pyama_dask_export.json").read_text())
        files = {path.name for path in report.directory.iterdir()} - {"pyama_dask_export.json", MANIFEST}
        said = {"format": to, "output": copied.name, "fovs": "0-1", "time_units": "min", "files": sorted(files)}
        assert record == said
        (copied / "exported").rename(tmp_path / "exported")
        assert (file_bytes(copied, set()), listing(copied)) == before

    @pytest.mark.parametrize("to", FORMATS)
    def test_the_same_bytes_every_time_in_place_of_what_was_there(self, copied, tmp_path, to):
        found = []
        for _ in range(2):
            report = pyama_dask.export_traces(copied, to, tmp_path / "x")
            found.append(file_bytes(report.directory))
        assert found[0] == found[1]
        pyama_dask.export_traces(copied, to, tmp_path / "x", samples={"samples": [{"name": "a", "fovs": 0}]})
        assert not [name for name in listing(tmp_path / "x") if "fov_001" in name or "01_RES" in name]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "x"]

    @pytest.mark.parametrize("to", FORMATS)
    def test_samples(self, copied, tmp_path, to):
        report = pyama_dask.export_traces(copied, to, tmp_path / "x", samples=SAMPLES)
        names = {path.relative_to(report.directory).parts[0] for path in report.directory.rglob("*")}
        assert names - {"pyama_dask_export.json", MANIFEST} == ({"traces.parquet"} if to == "parquet" else {"a", "b b"})
        assert (
            all(name.startswith(("fov_001", "01_RES")) for name in listing(report.directory / "b b")) or to == "parquet"
        )

    @pytest.mark.parametrize("to", FORMATS)
    def test_fovs_that_are_not_done_are_left_out(self, copied, tmp_path, to):
        traces_path(copied, 1).unlink()
        report = pyama_dask.export_traces(copied, to, tmp_path / "x")
        assert (report.fovs, report.left_out, report.exit_status) == ((0,), (1,), 3)
        assert report.warnings == (
            "left out: FOV 1: its traces CSV is missing. Fix: run 'pyama-dask verify', then run again",
        )

    def test_of_nothing(self, output):
        write_plan(output, 3, fov0=left("extract"), fov1=left("extract"), fov2=left("extract"))
        with pytest.raises(OutputError, match="has no traces at all: FOV 0-2: is pending"):
            pyama_dask.export_traces(output, "parquet")
        with pytest.raises(OutputError, match="holds no run of pyama_dask"):
            pyama_dask.export_traces(output / "fov_000", "parquet")
        with pytest.raises(ConfigError, match="'xlsx': is not an export format"):
            pyama_dask.export_traces(output, "xlsx")
        assert listing(output.parent) == {"results", *(f"results/{name}" for name in listing(output))}

    def test_an_older_output(self, output):
        shutil.rmtree(output / ".pyama_dask")
        assert pyama_dask.export_traces(output, "geff").fovs == (0, 1, 2)


class TestPlace:
    def refused(self, output, said, directory, to="parquet"):
        before = file_bytes(output.parent, set())
        with pytest.raises(OutputError, match=re.escape(said)):
            pyama_dask.export_traces(output, to, directory)
        assert file_bytes(output.parent, set()) == before

    def test_what_is_no_export(self, output):
        place = output.parent / "thesis"
        place.mkdir()
        (place / "chapter.txt").touch()
        self.refused(output, "holds files that belong to no export, such as chapter.txt", place)
        self.refused(output, "chapter.txt: is not a folder", place / "chapter.txt")
        report = pyama_dask.export_traces(output, "parquet", place, force=True)
        assert listing(place) == {"chapter.txt", "traces.parquet", "pyama_dask_export.json", MANIFEST}
        assert report.warnings[-1] == f"{place}: these files are not part of the export and were kept: chapter.txt"

    def test_an_export_of_another_format(self, output):
        report = pyama_dask.export_traces(output, "parquet")
        self.refused(output, "holds an export as parquet", report.directory, "geff")
        (report.directory / "pyama_dask_export.json").write_text("[]")
        self.refused(output, "pyama_dask_export.json: was not written by pyama_dask, or was changed", report.directory)

    @pytest.mark.parametrize("to", ["csv-wide", "geff", "ctc"])
    def test_files_of_a_user_in_an_export_stay(self, copied, to):
        samples = {"samples": [{"name": "a", "fovs": 0}, {"name": "b", "fovs": 1}]}
        report = pyama_dask.export_traces(copied, to, samples=samples)
        folders = [report.directory, *(path for path in report.directory.rglob("*") if path.is_dir())]
        theirs = [folder / name for folder in folders for name in ("notes.txt", "mask999.tif", "x.partial")]
        for path in theirs:
            path.write_text(path.name)
        again = pyama_dask.export_traces(copied, to, samples={"samples": samples["samples"][:1]})
        assert all(path.read_text() == path.name for path in theirs)
        assert f"{len(theirs) - 3} more" in again.warnings[-1]
        known = {*read_manifest(report.directory), MANIFEST}
        there = {
            path.relative_to(report.directory).as_posix() for path in report.directory.rglob("*") if path.is_file()
        }
        assert there == known | {path.relative_to(report.directory).as_posix() for path in theirs}
        assert not any(name.startswith("b/") for name in known)

    def test_a_link_to_an_export_stays_one(self, output):
        report = pyama_dask.export_traces(output, "parquet")
        (output.parent / "link").symlink_to(report.directory)
        assert pyama_dask.export_traces(output, "parquet", output.parent / "link").exit_status == 0
        assert (output.parent / "link").is_symlink()
        assert sorted(path.name for path in output.parent.iterdir()) == ["link", "results"]

    def test_the_output_and_what_is_around_it(self, output):
        (output / "inside").symlink_to(output / "fov_000")
        for place in (output, output / "x", output / "inside" / "x", output.parent, output / "exported"):
            self.refused(output, "overlaps with the output", place)

    def test_what_is_there_stays_when_an_export_fails(self, output):
        report = pyama_dask.export_traces(output, "csv-wide")
        path = traces_path(output, 2)
        path.write_text(path.read_text()[:-40])
        before = file_bytes(output.parent, set())
        with pytest.raises(TableError, match="line 13"):
            pyama_dask.export_traces(output, "csv-wide")
        assert file_bytes(output.parent, set()) == before
        assert len(list(report.directory.iterdir())) == 8

    def test_a_place_that_cannot_be_written_to(self, output):
        (output.parent / "file").touch()
        with pytest.raises(OutputError, match=r"file/x: Not a directory. Fix: check its permissions"):
            pyama_dask.export_traces(output, "parquet", output.parent / "file" / "x")


class TestParquet:
    def test_all_traces_with_what_was_said_of_them(self, output):
        (output / "good.yaml").write_text("overrides: [{fov: 1, cells: 2, frames: 0-1, good: false}]")
        report = pyama_dask.export_traces(output, "parquet")
        read = pd.read_parquet(report.directory / "traces.parquet")
        expected = pd.concat([table(fov, 3, 4) for fov in range(3)], ignore_index=True)
        bad = (expected["fov"] == 1) & (expected["cell"] == 2) & (expected["frame"] < 2)
        pd.testing.assert_frame_equal(read, expected.assign(good=~bad), check_dtype=False)
        assert report.cells_set == 1

    def test_by_sample(self, output):
        both = {"samples": [{"name": "a", "fovs": "0-1"}, {"name": "b", "fovs": "1"}]}
        report = pyama_dask.export_traces(output, "parquet", samples=both)
        read = pd.read_parquet(report.directory / "traces.parquet")
        assert read.groupby("sample")["fov"].unique().map(list).to_dict() == {"a": [0, 1], "b": [1]}
        assert "FOV 2: in no sample" in report.warnings


class TestWide:
    def test_a_file_a_fov_and_feature(self, output):
        report = pyama_dask.export_traces(output, "csv-wide")
        assert listing(report.directory) == {
            MANIFEST, "pyama_dask_export.json", *(f"fov_{fov:03d}_{name}.csv" for fov in range(3) for name in FEATURES),
        }  # fmt: skip
        read = tables.read_analysis_csv(report.directory / "fov_002_intensity_total_ch_1.csv")
        values = trace_tables.read_traces_csv(traces_path(output, 2))[["time", "fov", "cell", "intensity_total_ch_1"]]
        pd.testing.assert_frame_equal(read, values.set_axis(list(tables.TIDY), axis="columns"), check_exact=True)

    def test_rows_that_are_good(self, output):
        (output / "good.yaml").write_text(
            "overrides: [{fov: 0, cells: 1, good: false}, {fov: 1, cells: all, good: false}]"
        )
        report = pyama_dask.export_traces(output, "csv-wide")
        assert set(tables.read_analysis_csv(report.directory / "fov_000_area_ch_0.csv")["cell"]) == {2, 3}
        assert tables.read_analysis_csv(report.directory / "fov_001_area_ch_0.csv").empty
        assert report.warnings == ("FOV 1: none of its rows is good",)


class TestGeff:
    def read(self, path):
        group = zarr.open_group(path, mode="r")
        props = {name: group[f"nodes/props/{name}/values"][:] for name in group["nodes/props"]}
        return GeffMetadata.read(path), group["nodes/ids"][:], group["edges/ids"][:], props

    def test_nodes_edges_and_what_is_said_of_them(self, copied):
        report = pyama_dask.export_traces(copied, "geff")
        meta, nodes, edges, props = self.read(report.directory / "fov_001.geff")
        traces = trace_tables.read_traces_csv(traces_path(copied, 1))
        assert np.array_equal(nodes, np.arange(len(traces)))
        assert meta.directed
        assert meta.geff_version == ".".join(geff_spec.__version__.split(".")[:2])
        assert [(axis.name, axis.type, axis.unit) for axis in meta.axes] == [
            ("t", "time", "minute"), ("y", "space", "micrometer"), ("x", "space", "micrometer"),
        ]  # fmt: skip
        assert [(axis.min, axis.max) for axis in meta.axes] == [
            (props[name].min(), props[name].max()) for name in "tyx"
        ]
        assert {name: of.dtype for name, of in meta.node_props_metadata.items()} == {
            name: values.dtype.name for name, values in props.items()
        }
        assert np.array_equal(props["t"], traces["time"])
        assert np.allclose(props["x"], traces["position_x"] * 0.65)
        assert np.allclose(props["y"], traces["position_y"] * 0.65)
        for name in ("cell", "frame", "good", "bbox_x0", "intensity_total_ch_1"):
            assert np.array_equal(props[name], traces[name])
        assert "fov" not in props
        assert len(edges) == len(traces) - traces["cell"].nunique()
        assert (props["cell"][edges[:, 0]] == props["cell"][edges[:, 1]]).all()
        assert (props["frame"][edges[:, 0]] + 1 == props["frame"][edges[:, 1]]).all()
        assert meta.track_node_props == {"tracklet": "cell", "lineage": "cell"}

    def test_pixels_gaps_and_rows_in_any_order(self, output):
        traces = table(0, 3, 4).drop(columns=["position_x", "position_y"])
        traces = traces[(traces["cell"] != 2) | (traces["frame"] != 1)].sample(frac=1, random_state=0)
        trace_tables.write_traces_csv(traces_path(output, 0), traces)
        (output / "good.yaml").write_text("overrides: [{fov: 0, cells: 3, good: false}]")
        report = pyama_dask.export_traces(output, "geff")
        meta, nodes, edges, props = self.read(report.directory / "fov_000.geff")
        assert [axis.unit for axis in meta.axes] == ["minute", "pixel", "pixel"]
        assert len(nodes) == 11
        assert len(edges) == 8
        assert props["frame"][edges][props["cell"][edges[:, 0]] == 2].tolist() == [[0, 2], [2, 3]]
        assert np.array_equal(props["good"], props["cell"] != 3)
        assert np.allclose(props["x"], (props["bbox_x0"] + props["bbox_x1"]) / 2)

    def test_a_fov_without_cells(self, output):
        trace_tables.write_traces_csv(traces_path(output, 1), table(1, 3, 4).iloc[:0])
        report = pyama_dask.export_traces(output, "geff")
        meta, nodes, edges, props = self.read(report.directory / "fov_001.geff")
        assert (nodes.shape, edges.shape) == ((0,), (0, 2))
        assert [axis.unit for axis in meta.axes] == ["minute", "pixel", "pixel"]
        assert set(props) == set(meta.node_props_metadata)

    def test_places_that_are_not_known(self, output):
        trace_tables.write_traces_csv(
            traces_path(output, 0), table(0, 3, 4).assign(position_x=[np.nan, *range(11)], position_y=np.nan)
        )
        group = pyama_dask.export_traces(output, "geff").directory / "fov_000.geff"
        said = json.loads((group / ".zattrs").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
        pixel = zarr.open_group(group)["nodes/props/x/values"][:]
        assert np.isnan(pixel[0])
        _, y, x = GeffMetadata(**said["geff"]).axes
        assert (y.min, y.max) == (None, None)
        assert (x.min, x.max) == (np.nanmin(pixel), np.nanmax(pixel))

    def test_traces_without_places(self, output):
        bare = table(1, 3, 4)[["fov", "cell", "frame", "time", "good", *FEATURES]]
        trace_tables.write_traces_csv(traces_path(output, 1), bare)
        record_traces(output)
        report = pyama_dask.export_traces(output, "geff")
        assert (report.fovs, report.left_out, report.exit_status) == ((0, 2), (1,), 3)
        assert report.warnings == ("left out: FOV 1: its traces have neither positions nor boxes",)


def read_ctc(folder):
    """Masks (T, H, W) and lines of a result, which must be as the format wants them."""
    masks = np.stack([tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))])
    lines = np.array([line.split() for line in (folder / "res_track.txt").read_text().splitlines()], int).reshape(-1, 4)
    assert masks.dtype == np.uint16
    there = {label: np.flatnonzero((masks == label).any(axis=(1, 2))).tolist() for label in np.unique(masks) if label}
    ends = {label: last for label, _, last, _ in lines}
    assert there == {label: list(range(first, last + 1)) for label, first, last, _ in lines}
    assert all(parent == 0 or ends[parent] < first for _, first, _, parent in lines)
    return masks, lines.tolist()


class TestCtc:
    def test_masks_are_the_tracked_labels_of_the_cells_that_were_kept(self, copied):
        report = pyama_dask.export_traces(copied, "ctc")
        for fov in (0, 1):
            traces = trace_tables.read_traces_csv(traces_path(copied, fov))
            labels = zarr.open_array(copied / f"fov_{fov:03d}" / "images.zarr" / "seg_tracked_ch_0" / "0")[:]
            kept = np.unique(traces["cell"])
            assert set(np.unique(labels)) - {0} > set(kept)  # some are dropped at the border
            masks, lines = read_ctc(report.directory / f"{fov:02d}_RES")
            assert np.array_equal(masks, np.where(np.isin(labels, kept), labels, 0))
            assert lines == [[cell, 0, 9, 0] for cell in kept]

    def test_a_cell_with_gaps_is_in_pieces(self, output):
        labels = write_cells(output, 0, {2: [0, 1, 4, 6, 7], 5: range(8), 7: [3]})
        report = pyama_dask.export_traces(output, "ctc")
        masks, lines = read_ctc(report.directory / "00_RES")
        assert lines == [[2, 0, 1, 0], [5, 0, 7, 0], [7, 3, 3, 0], [8, 4, 4, 2], [9, 6, 7, 8]]
        assert np.array_equal(masks > 0, labels > 0)

    def test_rows_that_are_not_good_are_left_out(self, output):
        write_cells(output, 0, {2: range(6), 5: range(6)})
        (output / "good.yaml").write_text(
            "overrides: [{fov: 0, cells: 2, frames: 2, good: false}, {fov: 0, cells: 5, good: false}]"
        )
        _, lines = read_ctc(pyama_dask.export_traces(output, "ctc").directory / "00_RES")
        assert lines == [[2, 0, 1, 0], [3, 3, 5, 2]]

    def test_a_fov_without_cells(self, output):
        labels = write_cells(output, 0, {2: range(3)})
        path = traces_path(output, 0)
        path.write_text(path.read_text().splitlines()[0] + "\n")
        masks, lines = read_ctc(pyama_dask.export_traces(output, "ctc").directory / "00_RES")
        assert (masks.shape, masks.max(), lines) == (labels.shape, 0, [])

    @pytest.mark.parametrize("cells", [{3: [0, 1], 70000: [0, 1, 3]}, {3: [0, 1], 65535: [0, 1, 3]}])
    def test_ids_that_are_too_large_are_numbered_anew(self, output, cells):
        labels = write_cells(output, 0, cells)
        report = pyama_dask.export_traces(output, "ctc")
        masks, lines = read_ctc(report.directory / "00_RES")
        assert lines == [[1, 0, 1, 0], [2, 0, 1, 0], [3, 3, 3, 2]]
        assert np.array_equal(masks > 0, labels > 0)
        assert (
            "FOV 0: its tracks have other labels than its cells, as the format allows at most 65535" in report.warnings
        )

    def test_ids_that_are_large_take_no_more_memory(self, output):
        write_cells(output, 0, {2**32 - 1: range(2)})
        tracemalloc.start()
        try:
            pyama_dask.export_traces(output, "ctc")
            assert tracemalloc.get_traced_memory()[1] < 2**28
        finally:
            tracemalloc.stop()

    def test_more_tracks_than_there_are_labels(self):
        cell, frame = np.repeat(np.arange(1, 40001), 2), np.tile([0, 2], 40000)
        tracks = ctc.Tracks.of(cell, frame)
        assert tracks.renumbered
        assert len(tracks.lines) == 80000
        assert tracks.lines[-1] == (80000, 2, 2, 79999)

    def test_many_fovs_and_frames_have_longer_names(self, tmp_path):
        output = write_output(tmp_path / "results", 1)
        (output / "fov_000").rename(output / "fov_100")
        (output / "fov_100" / "movie_fov_000_traces.csv").rename(traces_path(output, 100))
        shutil.rmtree(output / ".pyama_dask")
        write_cells(output, 100, {1: range(1001)})
        folder = pyama_dask.export_traces(output, "ctc").directory / "100_RES"
        assert (folder / "mask0000.tif").exists()
        assert read_ctc(folder)[1] == [[1, 0, 1000, 0]]

    def test_what_cannot_be_exported_is_left_out_with_the_reason(self, output):
        write_cells(output, 0, {2: range(3)})
        labels = write_cells(output, 1, {2: range(3)})
        add_labels(output, 1, np.where(np.arange(3)[:, None, None] == 1, 0, labels))
        write_cells(output, 2, {2: range(3)})
        (output / "fov_002" / "images.zarr" / "seg_tracked_ch_0" / "0" / "c.0.0.0").unlink()
        report = pyama_dask.export_traces(output, "ctc")
        assert (report.fovs, report.left_out, report.exit_status) == ((0,), (1, 2), 3)
        assert report.warnings[-2:] == (
            "left out: FOV 1: cell 2 is in its traces of frame 1, but not in its tracked labels",
            "left out: FOV 2: 3 frames of its tracked labels are missing",
        )
        assert {path.name for path in report.directory.iterdir()} == {"00_RES", "pyama_dask_export.json", MANIFEST}

    @pytest.mark.parametrize("name", ["c.0.0.0", "zarr.json"])
    def test_labels_that_are_damaged(self, output, name):
        for fov in (0, 1):
            write_cells(output, fov, {1: range(3)})
        (output / "fov_001" / "images.zarr" / "seg_tracked_ch_0" / "0" / name).write_bytes(b"{no")
        report = pyama_dask.export_traces(output, "ctc", samples={"samples": [{"name": "a", "fovs": "0-1"}]})
        assert (report.fovs, report.left_out) == ((0,), (1,))
        assert [path.name for path in (report.directory / "a").iterdir()] == ["00_RES"]
        assert any("FOV 1: its tracked labels cannot be read: " in said for said in report.warnings)

    def test_traces_that_go_on_beyond_the_labels(self, output):
        write_cells(output, 0, {2: range(3)})
        write_cells(output, 1, {2: range(5)})
        add_labels(output, 1, np.zeros((3, 1, 8)))
        said = pyama_dask.export_traces(output, "ctc").warnings
        assert "left out: FOV 1: its traces have frame 3, but its tracked labels end earlier" in said

    def test_an_output_without_images(self, output):
        with pytest.raises(OutputError, match=r"has nothing to export as ctc: .*no tracked labels"):
            pyama_dask.export_traces(output, "ctc")
        assert [path.name for path in output.parent.iterdir()] == ["results"]

    def test_one_frame_is_in_memory_at_a_time(self, output, monkeypatch):
        write_cells(output, 0, {2: range(30)})
        alive, most, read = set(), [0], ctc.read_frame

        def watched(*where):
            frame = read(*where).copy()
            alive.add(id(frame))
            weakref.finalize(frame, alive.discard, id(frame))
            most[0] = max(most[0], len(alive))
            return frame

        monkeypatch.setattr(ctc, "read_frame", watched)
        pyama_dask.export_traces(output, "ctc")
        assert 1 <= most[0] <= 2  # the one before, until it is replaced


class TestCommandLine:
    def test_in_words(self, call, copied, tmp_path):
        (tmp_path / "s.yaml").write_text("samples: [{name: a, fovs: 0-2}]")
        (tmp_path / "g.yaml").write_text("overrides: [{fov: 1, cells: all, frames: 0, good: false}]")
        status, out, error = call(
            "export", copied, "--to", "csv-wide", "-o", tmp_path / "x", "--samples", tmp_path / "s.yaml",
            "--good", tmp_path / "g.yaml",
        )  # fmt: skip
        assert (status, error) == (3, "")
        assert out.startswith(f"Exported as csv-wide: FOV 0-1, to {tmp_path / 'x'}\nOverrides: ")
        assert "warning: sample 'a': left out: FOV 2: is not in the output, which has 0-1" in out
        assert (tmp_path / "x" / "a" / "fov_001_area_ch_0.csv").exists()

    def test_what_is_no_format(self, call, copied):
        status, out, error = call("export", copied, "--to", "excel")
        assert (status, out) == (2, "")
        assert "'excel': is not an export format" in error

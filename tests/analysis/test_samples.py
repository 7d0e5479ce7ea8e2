"""Samples: what is merged is what the traces say, and nothing is left out without a word."""

import os
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from support.traces import FEATURES, left, table, traces_path, write_output, write_plan

import pyama_dask
from pyama_dask.analysis import tables, trace_tables
from pyama_dask.analysis.samples import load_samples, parse_samples
from pyama_dask.errors import ConfigError, OutputError, PyamaError, TableError
from pyama_dask.files.manifest import MANIFEST
from pyama_dask.store.trace_csv import BASE_COLUMNS


def samples(**fovs):
    return {"samples": [{"name": name, "fovs": of} for name, of in fovs.items()]}


@pytest.fixture
def output(tmp_path):
    """An output of four FOVs with three cells in four frames."""
    return write_output(tmp_path / "results", 4)


def edit(output, fov, change, name="_inspected"):
    """Write a changed copy of a FOV's traces beside them."""
    path = traces_path(output, fov)
    traces = trace_tables.read_traces_csv(path)
    trace_tables.write_traces_csv(path.with_name(f"{path.stem}{name}.csv"), change(traces))


class TestSamplesYaml:
    def test_ranges_and_lists(self, tmp_path):
        (tmp_path / "samples.yaml").write_text(
            'samples:\n- {name: control, fovs: "0-5, 7"}\n- {name: b, fovs: [8, 6]}\n'
        )
        read = load_samples(tmp_path / "samples.yaml")
        assert [(sample.name, sample.fovs) for sample in read.samples] == [("control", "0-5, 7"), ("b", "6, 8")]

    def test_names_with_their_fovs_are_the_same_as_a_list_of_samples(self, tmp_path):
        (tmp_path / "samples.yaml").write_text("control: 0-1\nb: [8, 6]\nc: 7\nrest: all\n")
        assert load_samples(tmp_path / "samples.yaml") == parse_samples(
            samples(control="0-1", b=[8, 6], c=7, rest="all")
        )

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"samples": []}, "samples: "),
            ({"samples": {"a": 0}}, "samples: must be a list, not {'a': 0}"),
            ({"sample": []}, "sample: must select at least one"),
            ({"sample": [{"name": "a", "fovs": 0}]}, "sample: must be 'all', or numbers and ranges"),
            ({"a": "0-1", "b": "5-2"}, "b: range '5-2' runs backwards"),
            ({"a": 0, "A": 1}, "2 samples are called 'a'"),
            ({"a/b": 0}, "a/b: holds '/'"),
            ({5: 0}, "5: "),
            ({"samples": [{"name": "a", "fovs": 0}], "b": 1}, "b: is not a key here"),
            ({}, "samples: "),
            ({"samples": [{"name": "a"}]}, "samples.0: needs either 'fovs' or 'wells'"),
            ({"samples": [{"name": "a", "fovs": 0, "wells": "B02"}]}, "samples.0: needs either 'fovs' or 'wells'"),
            ({"a": {"wells": "B2-B3"}}, "a.wells: 'B2-B3' is neither a well nor a range of wells"),
            ({"a": {"well": "B2"}}, "a.well: is not a key here"),
            ({"samples": [{"name": 5, "fovs": 0}]}, "samples.0.name: "),
            (samples(a="5-2"), "samples.0.fovs: range '5-2' runs backwards"),
            (samples(a="0;1"), "samples.0.fovs: must be 'all', or numbers and ranges"),
            (samples(a=[]), "samples.0.fovs: must select at least one"),
            ({"samples": [{"name": "a", "fovs": 0}, {"name": "A", "fovs": 1}]}, "2 samples are called 'a'"),
        ],
    )
    def test_what_is_not_valid_is_refused_by_key(self, document, said):
        with pytest.raises(ConfigError, match=re.escape(said)):
            parse_samples(document)

    def test_a_list_without_valid_items_is_not_called_short(self):
        with pytest.raises(ConfigError, match=r"0;1'$"):
            parse_samples(samples(a="0;1"))

    @pytest.mark.parametrize(
        "name", ["", " ", "a ", "a/b", "a\\b", "..", ".a", "a\n", "a\0", "a:b", "x" * 250, "ä" * 110]
    )
    def test_names_that_no_file_can_have(self, name):
        with pytest.raises(ConfigError, match=r"samples\.0\.name: "):
            parse_samples(samples(**{name: "0"}))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("- a", "must name samples and their FOVs"),
            ("a: b: c", "is not YAML"),
            (None, "cannot be read: No such file or directory"),
        ],
    )
    def test_what_is_no_such_file(self, tmp_path, text, said):
        path = tmp_path / "samples.yaml"
        if text:
            path.write_text(text)
        with pytest.raises(ConfigError, match=said) as error:
            load_samples(path)
        assert str(path) in str(error.value)


class TestMerge:
    def test_one_tidy_file_a_sample_and_feature(self, output):
        report = pyama_dask.merge_samples(output, samples(a="0, 2", b=[1, 3]))
        assert [path.name for path in report.files] == [f"{name}_{column}.csv" for name in "ab" for column in FEATURES]
        assert report.warnings == ()
        assert report.exit_status == 0
        assert [(s.name, s.fovs, s.left_out, s.cells, s.rows) for s in report.samples] == [
            ("a", (0, 2), (), 6, 24), ("b", (1, 3), (), 6, 24),
        ]  # fmt: skip
        traces = pd.concat(
            [trace_tables.read_traces_csv(traces_path(output, fov)) for fov in (0, 2)], ignore_index=True
        )
        for column in FEATURES:
            path = output / "merged" / f"a_{column}.csv"
            assert path.read_text().startswith("# Time units: min\ntime,fov,cell,value\n0,0,1,")
            expected = traces[["time", "fov", "cell", column]].set_axis(list(tables.TIDY), axis="columns")
            pd.testing.assert_frame_equal(tables.read_analysis_csv(path), expected, check_exact=True)

    def test_one_table_of_everything(self, output, tmp_path):
        edit(output, 1, lambda traces: traces.assign(good=traces["cell"] != 2))
        report = pyama_dask.merge_samples(output, samples(a="0", b="1"), tmp_path / "tables")
        assert report.table == tmp_path / "tables" / "all_samples.parquet"
        merged = pd.read_parquet(report.table)
        assert list(merged.columns) == ["sample", *BASE_COLUMNS, *FEATURES]
        for name, fov in (("a", 0), ("b", 1)):
            found = merged[merged["sample"] == name].drop(columns="sample").reset_index(drop=True)
            read = trace_tables.read_traces_csv(trace_tables.inspected(traces_path(output, fov)))
            pd.testing.assert_frame_equal(found, read, check_exact=True)
        assert set(merged.loc[~merged["good"], "cell"]) == {2}

    def test_of_a_run_by_the_command_line_s_own_way(self, copied):
        report = pyama_dask.merge_samples(copied, samples(all_of_it="all"))
        read = pyama_dask.open_output(copied).traces()
        assert report.samples[0].fovs == (0, 1)
        assert report.samples[0].rows == len(read)
        merged = tables.read_analysis_csv(copied / "merged" / "all_of_it_intensity_total_ch_1.csv")
        assert merged["value"].tolist() == read["intensity_total_ch_1"].tolist()
        assert pyama_dask.run(yaml_config(copied)).tasks == 0  # a run does not mind what is there

    def test_only_rows_that_are_good(self, output):
        edit(output, 0, lambda traces: traces.assign(good=traces["cell"] == 2))
        report = pyama_dask.merge_samples(output, samples(a="0-1", b="2-3"))
        merged = tables.read_analysis_csv(output / "merged" / "a_area_ch_0.csv")
        assert merged.groupby("fov")["cell"].unique().map(list).to_dict() == {0: [2], 1: [1, 2, 3]}
        assert report.samples[0].cells == 4

    def test_an_inspected_copy_of_an_older_program(self, output):
        """With times that are not in it, and a column that is no feature."""
        write_plan(output, 4)
        images = traces_path(output, 0).parent / "images.zarr"
        images.mkdir()
        (images / "zarr.json").write_text('{"attributes": {"times_min": [0.5, 9, 20, 30]}}')
        older = {"cell": "cell_id", "position_x": "x_centroid"}
        edit(output, 0, lambda traces: traces.drop(columns="time").rename(columns=older).assign(note="x"))
        report = pyama_dask.merge_samples(output, samples(a="0", b="1-3"))
        merged = tables.read_analysis_csv(output / "merged" / "a_area_ch_0.csv")
        assert merged["time"].tolist() == [0.5, 9, 20, 30] * 3
        assert [warning for warning in report.warnings if "'note'" in warning] == [
            "FOV 0: column 'note' of movie_fov_000_traces_inspected.csv is not a feature and is left out"
        ]

    def test_an_inspected_copy_of_traces_that_were_made_anew_since(self, output):
        edit(output, 0, lambda traces: traces.assign(cell=traces["cell"] + 1))
        report = pyama_dask.merge_samples(output, samples(a="0-3"))
        assert len(report.warnings) == 1
        assert "has rows that the regenerated traces lack" in report.warnings[0]

    def test_the_same_bytes_every_time(self, output):
        def merged():
            report = pyama_dask.merge_samples(output, samples(a="0-1", b="2-3"))
            return [path.read_bytes() for path in (*report.files, report.table)]

        assert merged() == merged()

    def test_a_gap_in_a_feature_stays_one(self, output):
        edit(output, 0, lambda traces: traces.assign(area_ch_0=traces["area_ch_0"].where(traces["frame"] != 1)))
        pyama_dask.merge_samples(output, samples(a="0-3"))
        merged = tables.read_analysis_csv(output / "merged" / "a_area_ch_0.csv")
        assert merged.loc[np.isnan(merged["value"]), ["time", "fov", "cell"]].values.tolist() == [
            [10, 0, k] for k in (1, 2, 3)
        ]


def yaml_config(output):
    """Config of a finished output, without what the program adds."""
    document = yaml.safe_load((output / "processing_config.yaml").read_text())
    return {name: value for name, value in document.items() if name != "metadata"} | {"output": str(output)}


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"problem": "frames are missing"}, "failed: frames are missing"),
            (left("segment", "extract"), "is pending (left: segment, extract). Fix: finish the run, then try again"),
        ],
    )
    def test_fovs_that_failed_or_are_not_done(self, output, change, said):
        write_plan(output, 4, fov1=change, fov2=change)
        report = pyama_dask.merge_samples(output, samples(a="0-3"))
        assert report.warnings == (f"sample 'a': left out: FOV 1-2: {said}",)
        assert report.samples[0].fovs == (0, 3)
        assert report.samples[0].left_out == (1, 2)
        assert report.exit_status == 3

    def test_tables_of_a_merge_before_that_had_other_samples(self, output):
        before = pyama_dask.merge_samples(output, samples(a="0-1"))
        report = pyama_dask.merge_samples(output, samples(b="0-1"))
        named = ", ".join(sorted(path.name for path in before.files)[:3])
        (said,) = [warning for warning in report.warnings if "earlier merges" in warning]
        assert said.startswith(f"{output}/merged: holds tables of earlier merges: {named}")
        assert all(path.exists() for path in before.files)

    def test_fovs_that_there_are_not(self, output):
        traces_path(output, 2).unlink()
        report = pyama_dask.merge_samples(output, samples(a="0-5"))
        assert report.warnings == (
            "sample 'a': left out: FOV 2: its traces CSV is missing. Fix: run 'pyama-dask verify', then run again",
            "sample 'a': left out: FOV 4-5: is not in the output, which has 0-3",
        )
        assert report.samples[0].left_out == (2, 4, 5)

    def test_fovs_of_two_samples_and_of_none(self, output):
        report = pyama_dask.merge_samples(output, samples(a="0-1", b="1"))
        assert report.warnings == (
            "FOV 1: in several samples, and in the tables of each: a, b",
            "FOV 2-3: in no sample",
        )
        assert report.exit_status == 0
        assert len(tables.read_analysis_csv(output / "merged" / "b_area_ch_0.csv")) == 12

    def test_other_settings_and_what_is_left_beside_the_traces(self, output):
        write_plan(output, 4, fov1={"settings": "b"}, fov2=left("cache"))
        report = pyama_dask.merge_samples(output, samples(a="all"))
        assert report.warnings == (
            "FOV 1: processed with other settings than the last run",
            "FOV 2: has traces, but these steps are unfinished: cache",
        )

    def test_fovs_without_cells_or_without_good_ones_or_without_a_feature(self, output):
        edit(output, 0, lambda traces: traces.iloc[:0])
        edit(output, 1, lambda traces: traces.assign(good=False))
        edit(output, 2, lambda traces: traces.drop(columns="area_ch_0"))
        report = pyama_dask.merge_samples(output, samples(a="0-3"))
        assert report.warnings == (
            "FOV 2: lacks area_ch_0, which other FOVs have",
            "FOV 0: has no cells",
            "FOV 1: none of its rows is good",
        )
        assert set(tables.read_analysis_csv(output / "merged" / "a_area_ch_0.csv")["fov"]) == {3}
        merged = pd.read_parquet(report.table)
        assert merged.loc[merged["fov"] == 2, "area_ch_0"].isna().all()

    @pytest.mark.parametrize("name", ["a/b_ch_1", "../../b_ch_1", "a:b_ch_1"])
    def test_columns_that_no_file_can_be_named_by_are_left_out(self, output, name):
        edit(output, 0, lambda traces: traces.assign(**{name: 1.0}))
        report = pyama_dask.merge_samples(output, samples(a="0-3"))
        (said,) = report.warnings
        assert f"column {name} of" in said.replace("'", "")
        assert {path.name for path in report.files} == {"a_area_ch_0.csv", "a_intensity_total_ch_1.csv"}
        assert not list(output.rglob("*b_ch_1*"))


class TestRefused:
    def refused(self, output, document, kind, said):
        with pytest.raises(kind, match=re.escape(said)):
            pyama_dask.merge_samples(output, document)
        assert not list(output.glob("merged/*"))

    def test_a_sample_without_any_trace(self, output):
        write_plan(output, 4, fov3={"problem": "is cut off"})
        said = "sample 'b' has no traces at all: FOV 3: failed: is cut off; FOV 7: is not in the output"
        self.refused(output, samples(a="0", b="3, 7"), OutputError, said)

    def test_a_sample_without_any_good_trace(self, output):
        edit(output, 2, lambda traces: traces.assign(good=False))
        self.refused(output, samples(a="0-1", b="2"), OutputError, "sample 'b' has no good rows in FOV 2")

    def test_what_is_no_output(self, tmp_path):
        self.refused(tmp_path, samples(a="0"), OutputError, "holds no run of pyama_dask")

    def test_a_table_that_is_damaged(self, output):
        path = traces_path(output, 3)
        path.write_text(path.read_text()[:-40])
        self.refused(output, samples(a="0-3"), TableError, f"{path}: line 13 has")

    def test_traces_without_times_anywhere(self, output):
        edit(output, 1, lambda traces: traces.drop(columns="time"))
        self.refused(output, samples(a="0-3"), TableError, "_inspected.csv: has no column 'time', and ")

    def test_traces_that_stand_in_the_wrong_folder(self, output):
        traces_path(output, 3).write_bytes(traces_path(output, 2).read_bytes())
        self.refused(output, samples(a="0-3"), TableError, "has rows of another FOV than 3")

    def test_two_samples_with_one_file(self, tmp_path):
        output = write_output(tmp_path / "results", 2, features=("total_ch_1", "x_total_ch_1"))
        self.refused(
            output,
            samples(a="0", a_x="1"),
            ConfigError,
            "would both have the file a_x_total_ch_1.csv",
        )

    def test_a_name_that_is_too_long_for_the_disk_with_its_feature(self, output, monkeypatch):
        monkeypatch.setattr(os, "pathconf", lambda _, name: {"PC_NAME_MAX": 143, "PC_PATH_MAX": 4096}[name])
        self.refused(output, samples(**{"x" * 135: "0"}), OutputError, "x_area_ch_0.csv: the name has 149 bytes")

    def test_a_place_that_cannot_be_written_to(self, output, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match=r"file/tables: Not a directory. Fix: .* choose another folder"):
            pyama_dask.merge_samples(output, samples(a="0-3"), tmp_path / "file" / "tables")

    def test_what_is_there_stays_when_a_merge_is_refused(self, output):
        report = pyama_dask.merge_samples(output, samples(a="0-3"))
        before = {path: path.read_bytes() for path in (*report.files, report.table)}
        traces_path(output, 3).write_text("fov,cell,frame,time\n3,1,x,0\n")
        with pytest.raises(PyamaError, match="'x' is not a number"):
            pyama_dask.merge_samples(output, samples(a="0-3"))
        assert {
            path: path.read_bytes() for path in sorted((output / "merged").iterdir()) if path.name != MANIFEST
        } == dict(sorted(before.items()))


def test_the_tables_that_tests_are_made_from_are_like_those_of_a_run(output):
    read = trace_tables.read_traces_csv(traces_path(output, 1))
    pd.testing.assert_frame_equal(read, table(1, 3, 4), check_dtype=False)

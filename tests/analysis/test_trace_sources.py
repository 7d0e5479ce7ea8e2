"""Traces of outputs of any kind: found, joined, in minutes, and never taken for something else."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from support.traces import FEATURES, record_traces, table, traces_path, write_output, write_plan

import pyama_dask
from pyama_dask.analysis import tables, trace_tables
from pyama_dask.analysis.find_traces import known_frames
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.errors import ConfigError, OutputError, TableError

ALL = {"samples": [{"name": "a", "fovs": "all"}]}


def older(folder, fovs=2, *, channels=(None,), **keys):
    """A folder as an older program left it: a table a channel, or one of all, and the list of them."""
    listed = {}
    for fov in range(fovs):
        (folder / f"fov_{fov:03d}").mkdir(parents=True)
        listed[str(fov)] = {"traces": [[k, str(write_older(folder, fov, k))] for k in channels]}
    if channels == (None,):
        listed = {fov: {"traces": of["traces"][0][1]} for fov, of in listed.items()}
    document = {"output_dir": str(folder), "channels": {"pc": 0, "fl": [1]}, "results_paths": listed}
    (folder / "processing_results.yaml").write_text(yaml.safe_dump(document | keys))
    return folder


def write_older(folder, fov, channel=None, change=lambda traces: traces):
    """Write the table of a FOV: with all features, or those of a channel without its number."""
    path = folder / f"fov_{fov:03d}" / f"m_fov_{fov:03d}_traces{'' if channel is None else f'_ch_{channel}'}.csv"
    whole = table(fov, 3, 4)
    if channel is not None:
        (mine,) = (name for name in FEATURES if name.endswith(f"_ch_{channel}"))
        whole = whole.drop(columns=[name for name in FEATURES if name != mine])
        whole = whole.rename(columns={mine: mine.removesuffix(f"_ch_{channel}")})
    trace_tables.write_traces_csv(path, change(whole))
    return path


def read(output, fov=0):
    return Sources(output).read(fov)


class TestOlder:
    @pytest.mark.parametrize("channels", [(None,), (0, 1)])
    def test_one_table_or_one_a_channel(self, tmp_path, channels):
        output = older(tmp_path / "old", channels=channels)
        pd.testing.assert_frame_equal(read(output, 1), table(1, 3, 4), check_dtype=False)
        report = pyama_dask.merge_samples(output, ALL)
        assert (report.exit_status, report.samples[0].fovs, report.warnings) == (0, (0, 1), ())
        merged = pd.read_parquet(report.table).drop(columns="sample")
        expected = pd.concat([table(fov, 3, 4) for fov in (0, 1)], ignore_index=True)
        pd.testing.assert_frame_equal(merged, expected, check_dtype=False)

    def test_tables_without_a_list_of_them(self, tmp_path):
        output = write_output(tmp_path / "run", 3)
        as_run = pyama_dask.merge_samples(output, ALL, tmp_path / "a")
        shutil.rmtree(output / ".pyama_dask")
        as_tables = pyama_dask.merge_samples(output, ALL, tmp_path / "b")
        assert [p.read_bytes() for p in as_tables.files] == [p.read_bytes() for p in as_run.files]
        assert as_tables.samples == as_run.samples

    def test_a_run_counts_more_than_what_lies_beside(self, tmp_path):
        output = older(tmp_path / "old")
        write_plan(output, 2, fov1={"problem": "is cut off"})
        assert Sources(output).problem(1) == "failed: is cut off"

    def test_fovs_whose_files_are_gone(self, tmp_path):
        output = older(tmp_path / "old", 3, channels=(0, 1))
        (output / "fov_001" / "m_fov_001_traces_ch_1.csv").unlink()
        report = pyama_dask.merge_samples(output, {"samples": [{"name": "a", "fovs": "0-3"}]})
        assert (report.exit_status, report.samples[0].fovs, report.samples[0].left_out) == (3, (0, 2), (1, 3))
        assert report.warnings == (
            "sample 'a': left out: FOV 1: files are missing: m_fov_001_traces_ch_1.csv",
            "sample 'a': left out: FOV 3: is not in the output, which has 0-2",
        )

    def test_an_inspected_copy_of_one_channel(self, tmp_path):
        output = older(tmp_path / "old", channels=(0, 1))
        path = output / "fov_000" / "m_fov_000_traces_ch_1.csv"
        looked_at = write_older(output, 0, 1, lambda traces: traces.assign(good=traces["cell"] != 2))
        looked_at.rename(path.with_stem(f"{path.stem}_inspected"))
        write_older(output, 0, 1)
        found = read(output)
        assert set(found.loc[~found["good"], "cell"]) == {2}
        assert len(found) == 12

    @pytest.mark.parametrize("units", ["min", "h"])
    def test_an_inspected_copy_with_times_only(self, tmp_path, units):
        output = older(tmp_path / "old", 1, time_units=units)
        path = write_older(output, 0, None, lambda traces: traces.drop(columns="frame"))
        copy = write_older(output, 0, None, lambda traces: traces.drop(columns="frame").query("cell != 2"))
        copy.rename(path.with_stem(f"{path.stem}_inspected"))
        write_older(output, 0, None, lambda traces: traces.drop(columns="frame"))
        sources = Sources(output)
        assert 2 not in set(sources.read(0)["cell"])
        assert sources.warnings == []

    def test_a_folder_that_is_none(self, tmp_path):
        (tmp_path / "fov_a").mkdir()
        (tmp_path / "fov_a" / "m_traces.csv").touch()
        with pytest.raises(OutputError, match="holds no run of pyama_dask"):
            Sources(tmp_path)


class TestJoined:
    def test_rows_of_one_channel_only(self, tmp_path):
        output = older(tmp_path / "old", channels=(0, 1))
        write_older(output, 0, 1, lambda traces: traces[traces["frame"] != 2])
        found = read(output)
        assert len(found) == 12
        assert found["area_ch_0"].notna().all()
        assert found.loc[found["intensity_total_ch_1"].isna(), "frame"].tolist() == [2, 2, 2]
        assert found["good"].dtype == bool

    @pytest.mark.parametrize("column", ["time", "bbox_x0", "position_y"])
    def test_what_they_do_not_agree_on_is_refused(self, tmp_path, column):
        output = older(tmp_path / "old", channels=(0, 1))
        change = {column: lambda traces: traces[column].where((traces["cell"] != 2) | (traces["frame"] != 3), 7777)}
        path = write_older(output, 0, 1, lambda traces: traces.assign(**change))
        with pytest.raises(TableError, match=f"cell 2, frame 3: {column} is 7777") as error:
            read(output)
        assert str(error.value).startswith(str(path))

    def test_tables_of_frames_and_of_times(self, tmp_path):
        output = older(tmp_path / "old", channels=(0, 1), params={"frame_interval": 1})
        write_older(output, 0, 0, lambda traces: traces.drop(columns="frame"))
        assert read(output)["frame"].tolist() == [0, 1, 2, 3] * 3  # both have times: those are what they share


class TestTimes:
    def without_times(self, output):
        write_older(output, 0, None, lambda traces: traces.drop(columns="time"))
        return output

    def test_minutes_between_frames(self, tmp_path):
        output = self.without_times(older(tmp_path / "old", params={"frame_interval": 2.5}))
        assert read(output)["time"].tolist() == [0, 2.5, 5, 7.5] * 3

    def test_images_know_better(self, tmp_path):
        output = self.without_times(older(tmp_path / "old", params={"frame_interval": 2.5}))
        images = output / "fov_000" / "images.zarr"
        images.mkdir()
        (images / "zarr.json").write_text('{"attributes": {"times_min": [0.5, 9, 20, 30]}}')
        assert read(output)["time"].tolist() == [0.5, 9, 20, 30] * 3
        (images / "zarr.json").write_text('{"attributes": {"times_min": null}}')
        assert read(output)["time"].tolist() == [0, 2.5, 5, 7.5] * 3

    def test_units_of_the_column(self, tmp_path):
        output = older(tmp_path / "old", time_units="h", params={"frame_interval": 2.5})
        assert read(output)["time"].tolist() == [0, 600, 1200, 1800] * 3

    def test_refused_with_the_key_that_would_say_it(self, tmp_path):
        output = self.without_times(older(tmp_path / "old", time_units="min"))
        with pytest.raises(TableError, match=r"set params\.frame_interval in "):
            read(output)

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"time_units": "frames"}, "time_units: 'frames' is not a unit of time"),
            ({"params": {"frame_interval": "10 min"}}, "params.frame_interval: must be minutes"),
            ({"params": {"frame_interval": True}}, "params.frame_interval: must be minutes"),
            ({"params": {"frame_interval": -1}}, "params.frame_interval: must be minutes"),
        ],
    )
    def test_keys_that_are_not_right(self, tmp_path, keys, said):
        with pytest.raises(TableError, match=re.escape(f"processing_results.yaml: {said}")):
            Sources(older(tmp_path / "old", **keys))


class TestOverrides:
    @pytest.fixture
    def output(self, tmp_path):
        return write_output(tmp_path / "results", 3)

    def said(self, output, *overrides):
        (output / "good.yaml").write_text(yaml.safe_dump({"overrides": list(overrides)}))
        return Sources(output)

    def test_cells_and_frames_and_the_later_one_counts(self, output):
        sources = self.said(
            output,
            {"fov": "all", "cells": "1-2", "good": False, "note": "debris"},
            {"fov": 1, "cells": 2, "frames": "0, 2-3", "good": True},
            {"fov": 2, "cells": "all", "frames": 1, "good": False},
        )
        bad = {fov: sources.read(fov).query("not good")[["cell", "frame"]].values.tolist() for fov in range(3)}
        whole = [[cell, frame] for cell in (1, 2) for frame in range(4)]
        assert bad == {0: whole, 1: [*whole[:4], [2, 1]], 2: [*whole, [3, 1]]}
        assert sources.warnings == []
        assert len(sources.cells_set) == 7

    def test_they_go_over_originals_and_inspected_copies(self, output):
        path = traces_path(output, 1)
        before = path.read_bytes()
        trace_tables.write_traces_csv(path.with_stem(f"{path.stem}_inspected"), table(1, 3, 4).assign(good=False))
        report_of = self.said(output, {"fov": "0-1", "cells": 3, "good": True}, {"fov": 0, "cells": 1, "good": False})
        assert set(report_of.read(0).query("good")["cell"]) == {2, 3}
        assert set(report_of.read(1).query("good")["cell"]) == {3}
        assert path.read_bytes() == before

    def test_merging_honours_them_and_says_so(self, output, tmp_path):
        self.said(output, {"fov": 0, "cells": 1, "good": False})
        report = pyama_dask.merge_samples(output, ALL)
        assert (report.cells_set, report.samples[0].cells) == (1, 8)
        merged = tables.read_analysis_csv(output / "merged" / "a_area_ch_0.csv")
        assert (0, 1) not in set(zip(merged["fov"], merged["cell"], strict=True))
        (tmp_path / "other.yaml").write_text("overrides: []")
        report = pyama_dask.merge_samples(output, ALL, good=tmp_path / "other.yaml")
        assert (report.cells_set, report.samples[0].cells) == (0, 9)

    def test_what_is_named_and_not_there_is_said(self, output):
        traces = table(0, 3, 4)
        trace_tables.write_traces_csv(traces_path(output, 0), traces[(traces["cell"] != 3) | (traces["frame"] > 1)])
        record_traces(output)
        self.said(
            output,
            {"fov": "1, 7-8", "cells": 1, "good": False},
            {"fov": 0, "cells": "2, 12, 15", "frames": "3-5", "good": False},
            {"fov": 0, "cells": 3, "frames": "0-1", "good": False},
            {"fov": "all", "cells": 99, "good": False},
        )
        report = pyama_dask.merge_samples(output, ALL)
        assert report.warnings == (
            "good.yaml: overrides.0: the output has no FOV 7-8",
            "good.yaml: overrides.1: FOV 0 has no cell 12, 15",
            "good.yaml: overrides.1: FOV 0 has no frame 4-5",
            "good.yaml: overrides.2: FOV 0 has no rows of cell 3 in frame 0-1",
        )
        assert report.cells_set == 2

    def test_tables_with_times_only(self, output):
        path = traces_path(output, 0)
        trace_tables.write_traces_csv(path, table(0, 3, 4).drop(columns="frame"))
        sources = self.said(output, {"fov": 0, "cells": 2, "frames": 1, "good": False})
        assert sources.read(0).query("not good")[["cell", "time"]].values.tolist() == [[2, 10]]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("- a", "must hold 'overrides:'"),
            ("a: b: c", "is not YAML"),
            ("overrides: [{fov: 1, cells: 2}]", "overrides.0.good: is needed"),
            ("overrides: [{fov: 1, cells: 2, good: no_}]", "overrides.0.good: "),
            ("overrides: [{fov: 1, cells: 5-2, good: false}]", "overrides.0.cells: range '5-2' runs backwards"),
            ("overrides: [{fov: 1, cell: 2, good: false}]", "cell: is not a key here; did you mean overrides.cells?"),
            ("overrides: 5", "overrides: "),
            ("{}", "overrides: is needed"),
        ],
    )
    def test_what_is_not_valid_is_one_error(self, output, text, said):
        (output / "good.yaml").write_text(text)
        with pytest.raises(ConfigError, match=re.escape(said)) as error:
            pyama_dask.merge_samples(output, ALL)
        assert str(output / "good.yaml") in str(error.value)

    def test_a_file_that_is_named_and_not_there(self, output, tmp_path):
        with pytest.raises(ConfigError, match="No such file"):
            pyama_dask.merge_samples(output, ALL, good=tmp_path / "good.yaml")


def test_what_is_known_of_the_images(finished, tmp_path):
    assert known_frames(finished).shapes == {0: (200, 240), 1: (200, 240)}
    assert known_frames(finished).pixel_size_um == pytest.approx(0.65)
    assert known_frames(older(tmp_path / "old")).shapes == {}
    (tmp_path / "processing_config.yaml").write_text("metadata: {fovs: [{fov: 0, shape: 5}]}")
    assert known_frames(tmp_path).shapes == {}
    assert np.isfinite(list(read(older(tmp_path / "older"))["time"])).all()

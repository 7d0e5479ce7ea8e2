"""Merged tables of plates: wells and sites, samples by well, plate maps, and one row per well."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from support.traces import FEATURES, left, record_traces, traces_path, write_output, write_plan, write_plate_output

import pyama_dask
from pyama_dask.analysis import figures
from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.merge import merge_samples
from pyama_dask.analysis.overrides import load_overrides, set_override
from pyama_dask.analysis.plate_map import load_plate_map
from pyama_dask.analysis.tables import read_analysis_csv
from pyama_dask.analysis.trace_tables import read_traces_csv
from pyama_dask.cli.text import describe_quality
from pyama_dask.errors import ConfigError, OutputError, PyamaError
from pyama_dask.napari.cells import Cells
from pyama_dask.runs.plate import fov_named
from pyama_dask.store.trace_csv import BASE_COLUMNS, write_traces

WELLS = {"B02": 2, "B03": 1, "C02": 1}
MAP = "well,drug,dose\nb2,DMSO,0\nB03,A/1,2.5\nC02,A/1,2.5\nD11,,\n"


@pytest.fixture
def output(tmp_path):
    """An output of three wells with three cells per site."""
    return write_plate_output(tmp_path / "results", WELLS)


@pytest.fixture
def plate_map(tmp_path):
    (tmp_path / "map.csv").write_text(MAP)
    return tmp_path / "map.csv"


def csv(report, name):
    return next(path for path in report.files if path.name == name)


def traces(output, fovs):
    return pd.concat([read_traces_csv(traces_path(output, fov)) for fov in fovs], ignore_index=True)


class TestWellAndSite:
    def test_traces_are_read_with_them(self, output):
        table = read_traces_csv(traces_path(output, 1))
        assert list(table.columns[-2:]) == ["well", "site"]
        assert (table["well"].unique().tolist(), table["site"].unique().tolist()) == (["B02"], [2])
        assert table["site"].dtype == np.int64
        assert Cells(table).features == list(FEATURES)

    def test_merged_tables_have_them(self, output):
        report = merge_samples(output, {"a": "0-1, 3", "b": 2})
        assert report.warnings == ()
        path = csv(report, "a_area_ch_0.csv")
        assert path.read_text().startswith("# Time units: min\ntime,fov,cell,value,well,site\n")
        tidy, expected = read_analysis_csv(path), traces(output, [0, 1, 3])
        assert list(tidy.columns) == ["time", "fov", "cell", "value", "well", "site"]
        for name, column in {"value": "area_ch_0", "well": "well", "site": "site"}.items():
            assert tidy[name].tolist() == expected[column].tolist()
        merged = pd.read_parquet(report.table)
        assert list(merged.columns) == ["sample", "well", "site", *BASE_COLUMNS, *FEATURES]
        assert merged.groupby("fov")["well"].first().tolist() == ["B02", "B02", "B03", "C02"]

    def test_an_inspected_copy_without_them_gets_them(self, output):
        path = traces_path(output, 1)
        copy = path.with_name(f"{path.stem}_inspected.csv")
        read_traces_csv(path).drop(columns=["well", "site"]).to_csv(copy, index=False)
        merged = pd.read_parquet(merge_samples(output, {"a": "all"}).table)
        assert merged.loc[merged["fov"] == 1, ["well", "site"]].drop_duplicates().to_numpy().tolist() == [["B02", 2]]

    def test_stitched_wells_have_the_tile_of_each_row(self, output):
        path = traces_path(output, 2)
        tiled = read_traces_csv(path).drop(columns="site").assign(tile=lambda table: table["frame"] % 2 + 1)
        write_traces(path, tiled)
        write_plan(output, 4, fov2={"name": "B03", "well": "B03"})
        record_traces(output)
        assert read_traces_csv(path)["tile"].dtype == np.int64
        report = merge_samples(output, {"a": "B03"})
        tidy = read_analysis_csv(csv(report, "a_area_ch_0.csv"))
        assert list(tidy.columns[3:]) == ["value", "well", "tile"]
        assert tidy["tile"].tolist() == [1, 2] * 6
        assert pd.read_csv(report.wells)["cells"].tolist() == [3]

    def test_flagged_cells_are_named(self, output):
        text = describe_quality(pyama_dask.inspect_traces(output, max_jump=0.01))
        assert "\nFOV 1 (B02 s2), cell 1: " in text

    def test_tables_without_wells_stay_as_they_were(self, tmp_path):
        report = merge_samples(write_output(tmp_path / "results", 2), {"a": "all"})
        assert csv(report, "a_area_ch_0.csv").read_text().startswith("# Time units: min\ntime,fov,cell,value\n0,0,1,")
        assert list(pd.read_parquet(report.table).columns) == ["sample", *BASE_COLUMNS, *FEATURES]
        assert report.wells is None
        assert not list(report.table.parent.glob("*wells*"))

    def test_exports_keep_them(self, output):
        pyama_dask.export_traces(output, "parquet")
        table = pd.read_parquet(output / "exported" / "parquet" / "traces.parquet")
        assert list(table.columns) == ["well", "site", *BASE_COLUMNS, *FEATURES]
        pyama_dask.export_traces(output, "geff")
        folder = output / "exported" / "geff"
        assert zarr.open_group(folder / "fov_001.geff").attrs["geff"]["extra"] == {"well": "B02", "site": 2}
        record = json.loads((folder / "pyama_dask_export.json").read_text())
        assert record["names"] == {"0": "B02 s1", "1": "B02 s2", "2": "B03 s1", "3": "C02 s1"}

    def test_quality_keeps_them(self, output):
        table = pyama_dask.inspect_traces(output).table
        assert list(table.columns[-2:]) == ["well", "site"]
        assert table.drop_duplicates("fov")["well"].tolist() == ["B02", "B02", "B03", "C02"]


class TestSamplesByWell:
    @pytest.mark.parametrize(
        ("sample", "fovs"),
        [
            ({"wells": "B02:B03"}, (0, 1, 2)),
            ({"wells": "col:2"}, (0, 1, 3)),
            ("B02", (0, 1)),
            ("B02 s2, C02", (1, 3)),
            ("3, B03 s1", (2, 3)),
        ],
    )
    def test_wells_and_names(self, output, sample, fovs):
        report = merge_samples(output, {"a": sample})
        assert report.samples[0].fovs == fovs

    @pytest.mark.parametrize(
        ("sample", "said"),
        [
            ({"wells": "B02:B03, C03"}, "sample 'a': wells: well C03 is not on the plate; the nearest is "),
            ("B02 s3", "sample 'a': fovs: 'B02 s3' is not in "),
            ("B02 s1, 9", "sample 'a': fovs: 9 is not in "),
        ],
    )
    def test_what_is_not_in_the_output(self, output, sample, said):
        with pytest.raises(ConfigError, match=re.escape(said)):
            merge_samples(output, {"a": sample})

    def test_an_output_without_wells(self, tmp_path):
        with pytest.raises(ConfigError, match="sample 'a': wells: no well of the plate is in 'B02'"):
            merge_samples(write_output(tmp_path / "results", 1), {"a": {"wells": "B02"}})


class TestPlateMap:
    def test_conditions_become_samples_and_columns(self, output, plate_map):
        report = merge_samples(output, plate_map=plate_map)
        assert [(of.name, of.fovs) for of in report.samples] == [("DMSO_dose0", (0, 1)), ("A-1_dose2.5", (2, 3))]
        assert report.warnings == ()
        tidy = read_analysis_csv(csv(report, "A-1_dose2.5_area_ch_0.csv"))
        assert list(tidy.columns[3:]) == ["value", "well", "site", "drug", "dose"]
        assert tidy[["drug", "dose"]].drop_duplicates().to_numpy().tolist() == [["A/1", 2.5]]
        columns = ["sample", "well", "site", "drug", "dose", *BASE_COLUMNS, *FEATURES]
        assert list(pd.read_parquet(report.table).columns) == columns

    def test_samples_of_their_own(self, output, plate_map):
        report = merge_samples(output, {"all": "all"}, plate_map=plate_map)
        merged = pd.read_parquet(report.table)
        assert merged.groupby("fov")[["drug", "dose"]].first().to_numpy().tolist() == [
            ["DMSO", 0], ["DMSO", 0], ["A/1", 2.5], ["A/1", 2.5],
        ]  # fmt: skip

    def test_wells_that_one_side_lacks(self, output, tmp_path):
        (tmp_path / "map.csv").write_text("Well,drug,dose\nB02,None,\nB03,x,1\nG07,y,2\n")
        report = merge_samples(output, plate_map=tmp_path / "map.csv")
        assert [(of.name, of.fovs) for of in report.samples] == [("None", (0, 1)), ("x_dose1", (2,))]
        assert report.warnings == (
            "map.csv: has wells that are not in the output: G07",
            "map.csv: has no conditions for these wells of the output: C02",
            "FOV 3: in no sample",
        )
        merged = pq.read_table(merge_samples(output, {"a": "all"}, plate_map=tmp_path / "map.csv").table).to_pandas()
        found = merged.groupby("well")[["drug", "dose"]].first()
        assert found["drug"].fillna("").tolist() == ["None", "x", ""]
        assert found["dose"].isna().tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("well,drug\nB02,a\nb2,b\n", "line 3, column 'well': 'b2' has a line already"),
            ("well,drug\nB02,a\n12,b\n", "line 3, column 'well': '12' is not a well such as 'B02'. Fix: correct"),
            ("well,drug\n,a\n", "line 2, column 'well': '' is not a well"),
            ("well\nB02\n", "has no conditions"),
            ("drug\na\n", "has no column 'well'"),
            ("well;drug\nB02;a\n", "uses semicolons"),
            ("well,drug\nB02,a,b\n", "line 2 has 3 values for 2 columns"),
            ("well,drug\nB02,a", "line 2 has no line break at its end"),
            ("well,site\nB02,1\n", "a condition cannot be called 'site'"),
            ("well,area_ch_0\nB02,1\n", "a condition cannot be called 'area_ch_0'"),
            ("well,\nB02,1\n", "a condition cannot be called ''"),
            ("well,drug,drug\nB02,1,2\n", "has the column 'drug' more than once"),
            ("", "is empty"),
            ("well,drug\nG02,a\n", "has conditions of no well of the output, which has B02, B03, C02"),
            ("well,a,b\nB02,x_y,z\nB03,x,y_z\n", "2 samples are called 'x_y_z'"),
        ],
    )
    def test_odd_files_are_one_message(self, output, tmp_path, text, said):
        (tmp_path / "map.csv").write_text(text)
        with pytest.raises(PyamaError, match=re.escape(said)) as error:
            merge_samples(output, plate_map=tmp_path / "map.csv")
        assert "map.csv" in str(error.value)
        assert not (output / "merged").exists()

    def test_neither_samples_nor_a_map(self, output):
        with pytest.raises(ConfigError, match=r"pass a samples\.yaml, or a plate map"):
            merge_samples(output)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(PyamaError, match=r"map\.csv: cannot be read"):
            load_plate_map(tmp_path / "map.csv")


class TestOneRowPerWell:
    def test_values(self, output, plate_map):
        path = traces_path(output, 0)
        good = read_traces_csv(path)
        good["good"] = (good["cell"] != 3) & (good["frame"] < 3)
        good.to_csv(path.with_name(f"{path.stem}_inspected.csv"), index=False)
        report = merge_samples(output, plate_map=plate_map)
        table = pd.read_csv(report.wells)
        assert list(table.columns[:8]) == [
            "sample", "well", "drug", "dose", "sites", "sites_left_out", "cells", "good_cells",
        ]  # fmt: skip
        assert list(table.columns[8:11]) == ["area_ch_0_median", "area_ch_0_sd", "area_ch_0_last"]
        counts = table[["well", "sites", "sites_left_out", "cells", "good_cells"]].to_numpy().tolist()
        assert counts == [["B02", 2, 0, 6, 5], ["B03", 1, 0, 3, 3], ["C02", 1, 0, 3, 3]]
        rows = pd.concat([good[good["good"]], traces(output, [1])])
        by_cell = rows.groupby(["fov", "cell"])["area_ch_0"]
        expected = [by_cell.mean().median(), by_cell.mean().std(), by_cell.last().median()]
        np.testing.assert_allclose(
            table.loc[0, ["area_ch_0_median", "area_ch_0_sd", "area_ch_0_last"]].tolist(), expected
        )

    def test_wells_whose_cells_died_are_results(self, output, plate_map):
        for fov in (0, 1):
            path = traces_path(output, fov)
            read_traces_csv(path).head(0).to_csv(path.with_name(f"{path.stem}_inspected.csv"), index=False)
        report = merge_samples(output, plate_map=plate_map)
        assert "sample 'DMSO_dose0': has no good rows" in report.warnings
        table = pd.read_csv(report.wells)
        assert table[["well", "sites", "cells"]].to_numpy().tolist() == [["B02", 2, 0], ["B03", 1, 3], ["C02", 1, 3]]

    def test_samples_without_traces_have_rows(self, output, plate_map):
        sites = [("B02", 1), ("B02", 2), ("B03", 1), ("C02", 1)]
        places = {f"fov{k}": {"well": well, "site": site} for k, (well, site) in enumerate(sites)}
        lost = {fov: of | {"problem": "lost"} for fov, of in places.items()}
        write_plan(output, 4, **places | {fov: lost[fov] for fov in ("fov0", "fov1")})
        report = merge_samples(output, plate_map=plate_map)
        assert report.exit_status == 3
        assert [(of.name, of.fovs, of.cells) for of in report.samples] == [
            ("DMSO_dose0", (), 0), ("A-1_dose2.5", (2, 3), 6),
        ]  # fmt: skip
        assert pd.read_csv(report.wells)["cells"].tolist() == [0, 3, 3]
        write_plan(output, 4, **lost)
        with pytest.raises(OutputError, match="has no traces at all"):
            merge_samples(output, plate_map=plate_map)

    def test_wells_without_traces_have_a_row(self, tmp_path):
        output = write_plate_output(tmp_path / "results", WELLS)
        sites = {"fov0": ("B02", 1), "fov1": ("B02", 2), "fov2": ("B03", 1), "fov3": ("C02", 1)}
        places = {fov: {"name": f"{well} s{site}", "well": well, "site": site} for fov, (well, site) in sites.items()}
        places["fov1"] |= left("extract")
        places["fov2"] |= {"problem": "frames are missing"}
        write_plan(output, 4, **places)
        report = merge_samples(output, {"a": "all"})
        assert report.exit_status == 3
        table = pd.read_csv(report.wells)
        assert table[["well", "sites", "sites_left_out", "cells"]].to_numpy().tolist() == [
            ["B02", 1, 1, 3], ["B03", 0, 1, 0], ["C02", 1, 0, 3],
        ]  # fmt: skip
        assert table["area_ch_0_median"].isna().tolist() == [False, True, False]


class TestNames:
    def test_overrides_may_name_fovs(self, output):
        rows = "- {fov: B02 s2, cells: 1, good: false}\n- {fov: C02, cells: 2, good: false}\n"
        (output / "good.yaml").write_text(f"overrides:\n{rows}")
        merged = pd.read_parquet(merge_samples(output, {"a": "all"}).table)
        bad = merged.loc[~merged["good"], ["fov", "cell"]].drop_duplicates()
        assert bad.to_numpy().tolist() == [[1, 1], [3, 2]]
        set_override(output / "good.yaml", 0, 3, False)
        assert [item.fov for item in load_overrides(output).items] == ["1", "3", "0"]
        assert "B02 s2" in (output / "good.yaml").read_text()

    def test_overrides_of_fovs_that_are_not_there(self, output):
        (output / "good.yaml").write_text("overrides:\n- {fov: B02 s3, cells: 1, good: false}\n")
        with pytest.raises(ConfigError, match=r"good\.yaml: fov: 'B02 s3' is not in results. Fix: .*'B02 s2'"):
            merge_samples(output, {"a": "all"})

    def test_a_fov_of_an_output(self, output):
        assert [fov_named(output, name) for name in (2, "2", "B02 s2", "b3")] == [2, 2, 1, 2]
        with pytest.raises(OutputError, match="'B02' means 2 FOVs"):
            fov_named(output, "B02")
        (output / "processing_config.yaml").touch()
        opened = pyama_dask.open_output(output)
        assert opened["C02"].index == 3
        assert opened.titles[1] == "FOV 1 (B02 s2)"


class TestFitsAndFigures:
    @pytest.fixture
    def merged(self, output, plate_map):
        return merge_samples(output, {"a": "all"}, plate_map=plate_map).table.parent

    def test_fits_keep_wells_and_conditions(self, merged):
        (file,) = pyama_dask.fit_traces([merged / "a_area_ch_0.csv"], {"model": "trivial"}).files
        table = pyama_dask.read_fitted(file.path).table
        assert list(table.columns[:7]) == ["fov", "cell", "well", "site", "drug", "dose", "model"]
        of_one = table.loc[table["fov"] == 1, ["well", "site", "drug", "dose"]].drop_duplicates()
        assert of_one.to_numpy().tolist() == [["B02", 2, "DMSO", 0]]

    def test_fits_have_no_tiles(self):
        table = pd.DataFrame({"time": [0.0, 1], "fov": 0, "cell": 1, "value": 1.0, "well": "B02", "tile": 2})
        assert Traces.of(table).labels.keys() == {"well"}
        assert Traces.of(table.assign(well=["B02", "B03"])).labels == {}

    def test_a_condition_called_like_a_parameter_is_left_out(self, output, tmp_path):
        (tmp_path / "map.csv").write_text("well,slope\nB02,1\n")
        merged = merge_samples(output, plate_map=tmp_path / "map.csv").table.parent
        report = pyama_dask.fit_traces([merged / "slope1_area_ch_0.csv"], {"model": "trivial"})
        assert ["column 'slope' is left out of the fits" in warning for warning in report.warnings] == [True]

    @pytest.fixture
    def drawn(self, monkeypatch):
        kept = {}
        monkeypatch.setattr(figures, "save_figure", lambda figure, stem, formats: kept.update({stem.name: figure}))
        return kept

    def test_a_panel_per_well_and_titles_with_it(self, merged, drawn):
        pyama_dask.plot_fits([merged / "a_area_ch_0.csv"])
        assert sorted(drawn) == ["a_area_ch_0_traces", "area_ch_0_wells"]
        titles = [axes.get_title(loc="left") for sub in drawn["a_area_ch_0_traces"].subfigs for axes in sub.axes]
        assert "FOV 1 (B02 s2), cell 1" in titles
        (axes,) = drawn["area_ch_0_wells"].axes
        frames, bands, lines = axes.collections
        ticks = [label.get_text() for label in (*axes.get_yticklabels(), *axes.get_xticklabels())]
        assert ticks == ["B", "C", "2", "3"]
        assert [len(of.get_paths()) for of in (frames, bands, lines)] == [3, 3, 3]
        assert axes.get_title(loc="left") == "a: 12 cells in 3 wells, median and quartiles"
        assert axes.get_xlabel().startswith("each panel: time (min) 0 to 30,\narea (pixels) ")
        median = read_analysis_csv(merged / "a_area_ch_0.csv").query("well == 'B03'").groupby("time")["value"].median()
        found = -lines.get_segments()[1][:, 1]
        assert np.corrcoef(found, median)[0, 1] == pytest.approx(1)

    def test_samples_share_the_plate_and_have_colours(self, output, plate_map, drawn):
        folder = merge_samples(output, plate_map=plate_map).table.parent
        pyama_dask.plot_fits([folder], feature="area")
        assert [name for name in drawn if name.endswith("wells")] == ["area_ch_0_wells"]
        (legend,) = drawn["area_ch_0_wells"].legends
        assert [text.get_text() for text in legend.get_texts()] == ["A-1_dose2.5", "DMSO_dose0"]
        lines = drawn["area_ch_0_wells"].axes[0].collections[2]
        assert len({*map(tuple, lines.get_colors())}) == 2

    def test_a_single_well_has_no_such_figure(self, output, drawn):
        pyama_dask.plot_fits([merge_samples(output, {"a": "B02"}).table.parent / "a_area_ch_0.csv"])
        assert sorted(drawn) == ["a_area_ch_0_traces"]

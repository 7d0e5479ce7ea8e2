"""Comparison of samples: medians over time, tests of parameters, warnings and files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import pyama_dask
from pyama_dask.analysis import figures as files
from pyama_dask.analysis.compare import compare_samples
from pyama_dask.analysis.fit import fit_traces
from pyama_dask.analysis.tables import write_analysis_csv
from pyama_dask.errors import ConfigError, OutputError

MINUTES = np.arange(12) * 20.0
LINE = {"model": "trivial"}


def write_table(folder, sample, slope=1.0, fovs=5, cells=4, minutes=MINUTES, fov=0):
    """Write lines with noise, whose slope varies from cell to cell and from FOV to FOV."""
    rng, parts = np.random.default_rng(len(sample) + fov), []
    for number in range(fovs):
        shift = rng.normal() / 10
        for cell in range(cells):
            values = 10 + (slope + shift + rng.normal() / 10) * minutes / 60 + rng.normal(size=minutes.size) / 50
            parts.append(pd.DataFrame({"time": minutes, "fov": fov + number, "cell": cell, "value": values}))
    folder.mkdir(exist_ok=True)
    write_analysis_csv(folder / f"{sample}_intensity_total_ch_1.csv", pd.concat(parts))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Fits of two samples with five FOVs each, of which one is steeper."""
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder, "control")
    write_table(folder, "drug", 2.0, fov=5)
    fit_traces([folder], LINE)
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    """A copy of `fitted` to write into."""
    return Path(shutil.copytree(fitted, tmp_path / "tables"))


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are drawn, by name, without being written."""
    kept = {}
    monkeypatch.setattr(files, "save_figure", lambda figure, stem, formats: kept.update({stem.name: figure}))
    return kept


def compare(*paths, **options):
    return compare_samples(paths, **{"draws": 100} | options)


def test_it_writes_tables_and_figures_and_the_same_ones_again(folder):
    report = pyama_dask.compare_samples([folder], draws=100, formats=["svg"])
    assert [path.relative_to(folder).as_posix() for path in report.files] == [
        f"comparison/intensity_total_ch_1_{name}"
        for name in (
            "medians.csv", "trivial_tests.csv", "medians.svg", "trivial_effects.svg"
        )
    ]  # fmt: skip
    assert report.warnings == ()
    read = pd.read_csv(report.files[1], comment="#", keep_default_na=False)
    pd.testing.assert_frame_equal(read, report.tests["intensity_total_ch_1_trivial"], check_dtype=False)
    before = [path.read_bytes() for path in report.files]
    assert [path.read_bytes() for path in compare(folder, formats=["svg"]).files] == before


def test_another_seed_gives_other_intervals(folder, figures):
    (first,), (second,) = (compare(folder, seed=seed).medians.values() for seed in (0, 1))
    assert (first["median"] == second["median"]).all()
    assert (first["low"] != second["low"]).any()


def test_medians_are_those_of_the_cells_and_in_their_bands(folder, figures):
    (table,) = compare(folder).medians.values()
    control = pd.read_csv(folder / "control_intensity_total_ch_1.csv", comment="#")
    found = table[table["sample"] == "control"]
    np.testing.assert_allclose(found["time"], MINUTES / 60)
    np.testing.assert_allclose(found["median"], control.groupby("time")["value"].median())
    assert (found["cells"] == 20).all()
    assert ((found["low"] <= found["median"]) & (found["median"] <= found["high"])).all()
    (axes,) = figures["intensity_total_ch_1_medians"].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (h)", "total intensity, channel 1 (grey levels)")
    assert [line.get_label() for line in axes.lines] == ["control\n20 cells, 5 FOVs", "drug\n20 cells, 5 FOVs"]


def test_results_of_a_sample_do_not_depend_on_the_order_or_on_others(folder, figures):
    write_table(folder, "other", fov=20)
    fit_traces([folder / "other_intensity_total_ch_1.csv"], LINE)
    (table,) = compare(folder).medians.values()
    fits = sorted(folder.glob("*_fitted_trivial.csv"))[1::-1]
    (again,) = compare(*fits).medians.values()
    for sample in ("control", "drug"):
        first, second = (of[of["sample"] == sample].reset_index(drop=True) for of in (table, again))
        pd.testing.assert_frame_equal(first, second)


def test_a_difference_is_found_where_there_is_one(folder, figures):
    (table,) = compare(folder).tests.values()
    by_name = table.set_index("parameter")
    slope, intercept = by_name.loc["slope"], by_name.loc["intercept"]
    assert (slope["sample_a"], slope["sample_b"], slope["tested"]) == ("control", "drug", "fov")
    assert (slope["cliffs_delta"], slope["unit"]) == (1, "1/h")
    assert 0.8 < slope["difference_low"] <= slope["difference"] <= slope["difference_high"] < 1.2
    assert slope["p"] == pytest.approx(2 / 252)  # 5 of 10 FOVs, without overlap
    assert slope["p_holm"] == pytest.approx(2 * slope["p"])
    assert abs(intercept["cliffs_delta"]) < 0.6
    (axes,) = figures["intensity_total_ch_1_trivial_effects"].axes
    assert axes.get_title("left") == "drug - control"
    assert [text.get_text() for text in axes.get_yticklabels()] == table["parameter"].tolist()


def test_tables_of_one_sample_in_several_folders_are_one_sample_with_their_own_fovs(tmp_path, figures):
    for folder in ("first", "second"):
        write_table(tmp_path / folder, "control", fovs=2)
        write_table(tmp_path / folder, "drug", fovs=2)
    (table,) = compare(tmp_path / "first", tmp_path / "second").medians.values()
    assert set(table["cells"]) == {16}
    assert set(table["fovs"]) == {4}


def write_plate(folder, sites, *samples):
    """Write lines whose slope varies from well to well, in wells of a number of FOVs, and fit them."""
    rng, fov = np.random.default_rng(3), 0
    folder.mkdir()
    for sample, wells, slope in samples:
        rows = []
        for well in wells:
            shift = rng.normal() / 5
            for _ in range(sites):
                for cell in range(4):
                    values = 10 + (slope + shift + rng.normal() / 50) * MINUTES / 60 + rng.normal(size=12) / 50
                    rows += [f"{t},{fov},{cell},{value},{well}" for t, value in zip(MINUTES, values, strict=True)]
                fov += 1
        head = "# Time units: min\ntime,fov,cell,value,well\n"
        (folder / f"{sample}_intensity_total_ch_1.csv").write_text(head + "\n".join(rows) + "\n")
    fit_traces([folder], LINE)
    return folder


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Fits of four and five wells of three FOVs each."""
    samples = ("control", ("B02", "B03", "B04", "B05"), 1.0), ("drug", ("C02", "C03", "C04", "C05", "C06"), 1.1)
    return write_plate(tmp_path_factory.mktemp("plate") / "merged", 3, *samples)


class TestWells:
    """Sites of one well are alike, so that wells are drawn and tested where there are enough of them."""

    def test_four_wells_in_each_sample_are_the_unit(self, plate, tmp_path, figures):
        report = compare(plate, directory=tmp_path / "out")
        (medians,), (tests,) = report.medians.values(), report.tests.values()
        assert list(medians.columns) == ["sample", "time", "cells", "fovs", "wells", "median", "low", "high"]
        assert medians.groupby("sample")[["fovs", "wells"]].first().to_numpy().tolist() == [[12, 4], [15, 5]]
        row = tests.iloc[1]  # the slope
        assert row[["fovs_a", "fovs_b", "wells_a", "wells_b", "tested"]].tolist() == [12, 15, 4, 5, "well"]
        fits = [pd.read_csv(file, comment="#") for file in sorted(plate.glob("*_fitted_trivial.csv"))]
        slopes = [of.groupby("well")[row["parameter"]].median() for of in fits]
        assert row["p"] == scipy.stats.mannwhitneyu(*slopes).pvalue
        for file in (tmp_path / "out").glob("*.csv"):
            assert "bootstrap of wells and of the cells in each, 100 draws, seed 0\n" in file.read_text()

    def test_intervals_of_wells_are_wider_than_those_of_their_sites(self, plate, tmp_path, figures):
        widths = {}
        for unit in ("well", "fov"):
            report = compare(plate, directory=tmp_path / unit, unit=unit, draws=400)
            (medians,), (tests,) = report.medians.values(), report.tests.values()
            slope, last = tests.iloc[1], medians.iloc[-1]
            widths[unit] = np.array([slope["difference_high"] - slope["difference_low"], last["high"] - last["low"]])
            assert set(tests["tested"]) == {unit}
            warned = [warning for warning in report.warnings if "p treats FOVs as independent" in warning]
            assert len(warned) == (unit == "fov")
        assert (widths["well"] > 1.2 * widths["fov"]).all()

    def test_few_wells_are_tested_by_fov_and_it_is_said(self, tmp_path, figures):
        folder = write_plate(tmp_path / "merged", 2, ("control", ("B02", "B03"), 1.0), ("drug", ("C02", "C03"), 2.0))
        report = compare(folder)
        (tests,) = report.tests.values()
        assert set(tests["tested"]) == {"fov"}
        assert any("those of one well are alike. Fix: compare at least 4 wells" in of for of in report.warnings)
        (tests,) = compare(folder, unit="well", force=True).tests.values()
        assert tests["p"].isna().all()
        assert tests["note"].str.contains("fewer than 3 wells in a sample: not tested").all()

    def test_the_same_well_in_two_plates_is_two_wells(self, tmp_path, figures):
        samples = ("control", ("B02", "B03"), 1.0), ("drug", ("C02", "C03"), 2.0)
        folders = [write_plate(tmp_path / f"day_{day}", 1, *samples) for day in (1, 2)]
        (tests,) = compare(*folders).tests.values()
        assert set(tests["wells_a"]) == set(tests["wells_b"]) == {4}
        assert set(tests["tested"]) == {"well"}


def test_few_fovs_are_tested_by_cell_and_it_is_said(tmp_path, figures):
    write_table(tmp_path, "control", fovs=1)
    write_table(tmp_path, "drug", fovs=2, fov=5)
    fit_traces([tmp_path], LINE)
    report = compare(tmp_path)
    (table,) = report.tests.values()
    assert set(table["tested"]) == {"cell"}
    assert set(table["note"]) == {"one FOV in a sample: intervals lack the variation between FOVs"}
    assert "p treats cells as independent" in " ".join(report.warnings)
    assert "sample control: has one FOV" in " ".join(report.warnings)
    (table,) = compare(tmp_path, unit="fov").tests.values()
    assert table["p"].isna().all()
    assert table["note"].str.contains("fewer than 3 FOVs in a sample: not tested").all()


def test_cells_that_are_too_few_have_medians_without_bands_and_no_test(tmp_path, figures):
    write_table(tmp_path, "control")
    write_table(tmp_path, "drug", fovs=1, cells=2)
    fit_traces([tmp_path], LINE)
    report = compare(tmp_path)
    (medians,), (tests,) = report.medians.values(), report.tests.values()
    assert medians[medians["sample"] == "drug"][["low", "high"]].isna().all(axis=None)
    assert tests[["p", "delta_low"]].isna().all(axis=None)
    assert (tests["note"] == "fewer than 3 cells in a sample: not tested").all()
    assert "sample drug: has fewer than 3 cells, so its median has no band" in report.warnings


def test_equal_values_bounds_and_fits_that_failed_are_said(tmp_path, figures):
    write_table(tmp_path, "control")
    write_table(tmp_path, "drug", fov=5)
    paths = sorted(tmp_path.glob("*.csv"))
    table = pd.read_csv(paths[1], comment="#")
    write_analysis_csv(paths[1], table[(table["cell"] > 0) | (table["time"] == 0)])
    fit_traces([tmp_path], LINE | {"parameters": {"slope": {"low": 3, "start": 4}}})
    report = compare(tmp_path)
    slope = next(iter(report.tests.values())).set_index("parameter").loc["slope"]
    assert (slope["at_bound_a"], slope["at_bound_b"], slope["cells_b"]) == (20, 15, 15)
    assert slope["note"] == "all values are equal: not tested; more than half of the values are at a bound"
    assert "5 of 20 fits of sample drug did not converge and are left out" in " ".join(report.warnings)


def test_other_bounds_and_other_times_are_warned_of(tmp_path, figures):
    write_table(tmp_path, "control")
    write_table(tmp_path, "drug", minutes=np.arange(10) * 10.0)
    first, second = sorted(tmp_path.glob("*.csv"))
    fit_traces([first], LINE)
    fit_traces([second], LINE | {"parameters": {"slope": {"high": 50}}})
    said = " ".join(compare(tmp_path).warnings)
    assert "samples were fitted with different models, bounds or losses" in said
    assert "frame intervals differ: control 20 min, drug 10 min. Values are averaged in steps of 20 min" in said
    assert "times differ: control 0 to 3.67 h, drug 0 to 1.5 h" in said


def test_several_samples_are_compared_in_pairs_or_with_a_reference(folder, figures):
    write_table(folder, "other", fov=20)
    fit_traces([folder], LINE)
    (table,) = compare(folder, parameters=["slope"]).tests.values()
    assert list(zip(table["sample_a"], table["sample_b"], strict=True)) == [
        ("control", "drug"), ("control", "other"), ("drug", "other"),
    ]  # fmt: skip
    report = compare(folder, reference="other")
    (table,) = report.tests.values()
    assert set(zip(table["sample_a"], table["sample_b"], strict=True)) == {("other", "control"), ("other", "drug")}
    assert len(figures["intensity_total_ch_1_trivial_effects"].axes) == 2
    with pytest.raises(ConfigError, match="reference: 'b' is not a sample"):
        compare(folder, reference="b")
    write_table(folder, "a_fourth", fov=30)
    fit_traces([folder], LINE)
    assert "12 tests of so few FOVs cannot give an adjusted p below 0.095" in " ".join(compare(folder).warnings)


def test_samples_without_cells_or_values_are_said(tmp_path, figures):
    for sample in ("control", "drug", "empty", "missing"):
        write_table(tmp_path, sample)
    for sample, change in (
        ("empty", lambda table: table.head(0)),
        ("missing", lambda table: table.assign(value=np.nan)),
    ):
        path = tmp_path / f"{sample}_intensity_total_ch_1.csv"
        write_analysis_csv(path, change(pd.read_csv(path, comment="#")))
    said = compare(tmp_path).warnings
    assert f"{tmp_path}/empty_intensity_total_ch_1.csv: has no cells and is left out" in said
    assert "sample missing: has no values" in said
    assert [line.get_label()[:4] for line in figures["intensity_total_ch_1_medians"].axes[0].lines] == ["cont", "drug"]


class TestRefused:
    def test_one_sample(self, tmp_path):
        write_table(tmp_path, "control")
        with pytest.raises(ConfigError, match="only one sample for each feature: control"):
            compare(tmp_path)
        assert not (tmp_path / "comparison").exists()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"reference": "none"}, "reference: 'none' is not a sample. Fix: choose one of control, drug"),
            ({"unit": "plate"}, "unit: must be one of auto, well, fov, cell, not 'plate'"),
            ({"unit": "well"}, "unit: sample control has cells without a well. Fix: use fov"),
            ({"draws": 5}, "draws: must be from 100 to 100000, not 5"),
            ({"seed": -1}, "seed: must be from 0 to"),
            ({"parameters": ["km"]}, "parameters: no fits of 'km'. Fix: choose from "),
        ],
    )
    def test_options(self, folder, options, said):
        with pytest.raises(ConfigError, match=said):
            compare(folder, **options)

    def test_a_file_in_the_way(self, folder):
        (folder / "comparison").mkdir()
        (folder / "comparison" / "intensity_total_ch_1_medians.csv").write_text("mine")
        with pytest.raises(OutputError, match=r"medians\.csv: was not written by pyama_dask"):
            compare(folder)


def test_the_command(folder, call):
    status, told, _ = call("compare", folder, "--draws", 100, "--parameter", "slope", "--reference", "drug")
    assert status == 0
    assert told.startswith("intensity_total_ch_1_trivial, tested by fov:\n  parameter     samples         medians")
    assert "slope (1/h)   drug, control" in told
    assert "-1.00 (-1.00 to -1.00)   0.0079\n" in told
    assert f"Tables and figures in {folder}/comparison:\n  intensity_total_ch_1_medians.csv, .png, .svg\n" in told

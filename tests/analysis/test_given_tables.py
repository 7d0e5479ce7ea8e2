"""Files, folders and outputs that are passed to fit, plot and compare."""

import json

import pytest
from support.traces import write_output

from pyama_dask.analysis.fit import fit_traces
from pyama_dask.analysis.given_tables import results_in, tables_to_fit
from pyama_dask.analysis.merge import merge_samples
from pyama_dask.analysis.plots import plot_fits
from pyama_dask.analysis.tables import read_analysis_csv
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.manifest import MANIFEST


@pytest.fixture
def output(tmp_path):
    """An output of four FOVs with three cells in four frames."""
    return write_output(tmp_path / "results", 4)


@pytest.fixture
def merged(output):
    """Its folder of merged tables of two samples."""
    return merge_samples(output, {"a": "0, 2", "b": [1, 3]}).table.parent


def names(given):
    return [path.name for path in given.files]


def test_files_are_taken_as_they_are_and_once(tmp_path):
    given = tables_to_fit([tmp_path / "b.csv", str(tmp_path / "a.csv"), tmp_path / "b.csv"])
    assert (names(given), given.warnings) == (["b.csv", "a.csv"], ())


def test_one_path_needs_no_list(tmp_path, merged):
    assert names(tables_to_fit(str(tmp_path / "b.csv"))) == ["b.csv"]
    assert names(results_in(merged)) == names(results_in([merged]))


@pytest.mark.parametrize("of_the_run", [True, False])
def test_a_folder_gives_its_tables_of_total_intensity_and_an_output_those_that_were_merged(merged, of_the_run):
    given = tables_to_fit([merged.parent if of_the_run else merged])
    assert names(given) == ["a_intensity_total_ch_1.csv", "b_intensity_total_ch_1.csv"]
    assert given.warnings == ()


def test_another_feature_or_all_can_be_chosen(merged):
    assert names(tables_to_fit([merged], "area")) == ["a_area_ch_0.csv", "b_area_ch_0.csv"]
    assert set(names(tables_to_fit([merged], "all"))) == {path.name for path in merged.glob("*.csv")}


def test_an_output_that_was_not_merged_is_one_sample_and_it_is_said(output):
    given = tables_to_fit([output])
    assert names(given) == ["all_fovs_intensity_total_ch_1.csv"]
    (said,) = given.warnings
    assert said.endswith(f"so all its FOVs are one sample, with its tables in {output}/all_fovs")
    assert set(read_analysis_csv(given.files[0])["fov"]) == {0, 1, 2, 3}
    written = json.loads((output / "all_fovs" / MANIFEST).read_text())["files"]
    assert written["all_fovs_intensity_total_ch_1.csv"]["by"] == "merge"
    assert tables_to_fit([output]) == given


def test_fits_come_before_traces_and_are_never_fitted(merged):
    fits = [file.path.name for file in fit_traces([merged], {"model": "trivial"}).files]
    assert len(fits) == 2
    assert names(results_in([merged])) == fits
    assert names(results_in([merged], "area")) == ["a_area_ch_0.csv", "b_area_ch_0.csv"]
    assert set(fits) < set(names(results_in([merged], "intensity_total")))
    assert not set(fits) & set(names(tables_to_fit([merged], "all")))


def test_tables_without_a_feature_in_their_names_are_taken(tmp_path):
    for name, head in (
        ("mine.csv", "time,fov,cell,value"),
        ("wide.csv", "time,1,2"),
        ("quality.csv", "fov,cell,flagged"),
    ):
        (tmp_path / name).write_text(f"# Time units: min\n{head}\n")
    assert names(tables_to_fit([tmp_path])) == ["mine.csv", "wide.csv"]


class TestRefused:
    def test_a_folder_without_tables(self, tmp_path):
        (tmp_path / "quality.csv").write_text("fov,cell,flagged\n")
        for use in (tables_to_fit, results_in, plot_fits, fit_traces):
            with pytest.raises(ConfigError, match="holds no tables of traces, and is not the output of a run"):
                use([tmp_path])

    def test_a_feature_that_is_not_there(self, merged):
        with pytest.raises(ConfigError, match=r"has no tables of blur\. Fix: choose --feature all, or one of area, "):
            tables_to_fit([merged], "blur")

    def test_an_output_without_traces(self, tmp_path):
        (tmp_path / "processing_config.yaml").write_text("{}")
        with pytest.raises(OutputError, match=str(tmp_path)):
            tables_to_fit([tmp_path])

    def test_an_output_with_one_sample_where_several_are_needed(self, output):
        with pytest.raises(ConfigError, match=r"has no merged tables\. Fix: assign its FOVs to samples"):
            results_in([output], merge=False)
        assert not (output / "all_fovs").exists()

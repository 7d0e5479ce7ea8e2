"""Outputs of several movies together: a cell is one cell by movie, FOV and number, wherever it is counted."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from support.traces import FEATURES, record_traces, table, traces_path, write_output, write_plan, write_plate_output

import pyama_dask
from pyama_dask.analysis import tables, trace_tables
from pyama_dask.analysis.fit_tables import read_fitted
from pyama_dask.analysis.given_outputs import given_outputs
from pyama_dask.analysis.given_tables import tables_to_fit
from pyama_dask.analysis.result_tables import read_results
from pyama_dask.analysis.samples import parse_samples
from pyama_dask.errors import ConfigError, OutputError, TableError
from pyama_dask.runs.status import PLAN
from pyama_dask.store.trace_csv import BASE_COLUMNS

NIGHTS = ("night1", "night2", "night3")
SAMPLES = {"a": "0", "b": "1"}


@pytest.fixture
def nights(tmp_path):
    """A folder of three outputs, each of two FOVs with three cells in four frames, whose values differ."""
    folder = tmp_path / "nights"
    for k, name in enumerate(NIGHTS):
        write_output(folder / name, 2)
        for fov in range(2):
            path = traces_path(folder / name, fov)
            traces = table(fov, 3, 4)
            traces[list(FEATURES)] *= k + 1
            trace_tables.write_traces_csv(path, traces)
        record_traces(folder / name)
    (folder / "notes.txt").touch()
    return folder


def cells_of(table):
    return set(table[["movie", "fov", "cell"]].itertuples(index=False, name=None))


def test_merged_tables_are_those_of_each_output_one_below_the_other(nights):
    report = pyama_dask.merge_samples(nights, SAMPLES)
    assert {path.parent for path in report.files} == {nights / "merged"}
    each = {name: pyama_dask.merge_samples(nights / name, SAMPLES) for name in NIGHTS}
    for path in report.files:
        below = [tables.read_analysis_csv(nights / name / "merged" / path.name).assign(movie=name) for name in NIGHTS]
        pd.testing.assert_frame_equal(tables.read_analysis_csv(path), pd.concat(below, ignore_index=True))
    merged = pd.read_parquet(report.table)
    assert list(merged.columns) == ["sample", "movie", *BASE_COLUMNS, *FEATURES]
    below = pd.concat([pd.read_parquet(one.table).assign(movie=name) for name, one in each.items()])
    below = below.sort_values("sample", kind="stable", ignore_index=True)[merged.columns]
    pd.testing.assert_frame_equal(merged, below)
    assert [(of.name, of.movie, of.cells) for of in report.samples] == [
        (sample, name, 3) for sample in "ab" for name in NIGHTS
    ]
    assert (report.exit_status, report.warnings) == (0, ())


def test_a_single_output_has_no_column_of_movies(nights):
    pyama_dask.merge_samples([nights / "night1"], SAMPLES)
    text = (nights / "night1" / "merged" / "a_area_ch_0.csv").read_text()
    assert text.startswith("# Time units: min\ntime,fov,cell,value\n")
    assert given_outputs(nights / "night1").movies == {"": nights / "night1"}


def test_samples_choose_other_fovs_in_each_output(nights):
    samples = {"control": {"outputs": {"night1": "0", "night3": "all"}}, "rest": {"outputs": {"night2": 1}}}
    assert parse_samples(samples) == parse_samples({"samples": [{"name": name, **of} for name, of in samples.items()]})
    report = pyama_dask.merge_samples([nights / name for name in NIGHTS], samples)
    assert [(of.name, of.movie, of.fovs) for of in report.samples] == [
        ("control", "night1", (0,)), ("control", "night3", (0, 1)), ("rest", "night2", (1,)),
    ]  # fmt: skip
    assert "night1: FOV 1: in no sample" in report.warnings
    with pytest.raises(
        ConfigError, match=r"sample 'control': outputs: 'night3' is not given, only night1, night2\. Fix"
    ):
        pyama_dask.merge_samples([nights / name for name in NIGHTS[:2]], samples)
    with pytest.raises(ConfigError, match=r"samples\.0: needs either 'fovs' or 'wells', or 'outputs'"):
        parse_samples({"samples": [{"name": "a", "fovs": 0, "outputs": {"night1": 0}}]})


def test_what_is_left_out_or_differs_names_the_movie(nights):
    write_plan(nights / "night2", 2, fov1={"problem": "is cut off"})
    for fov in range(2):
        path = traces_path(nights / "night3", fov)
        trace_tables.write_traces_csv(path, trace_tables.read_traces_csv(path).drop(columns="area_ch_0"))
    report = pyama_dask.merge_samples(nights, {"a": "all"})
    assert "night2: sample 'a': left out: FOV 1: failed: is cut off" in report.warnings
    assert "night3: lacks area_ch_0, which other movies have" in report.warnings
    assert report.exit_status == 3


def test_other_frame_intervals_are_told_with_those_of_each_movie(nights):
    for name, minutes in zip(NIGHTS, (10.0, 10.05, 5.0), strict=True):
        images = nights / name / "fov_000" / "images.zarr"
        images.mkdir()
        times = [0.0, minutes, float("nan"), 3 * minutes, 4 * minutes]
        (images / "zarr.json").write_text(json.dumps({"attributes": {"times_min": times}}))
    told = "frame intervals differ: 10 min in night1, 10.1 min in night2, 5 min in night3. Fix: compare values by"
    assert any(warning.startswith(told) for warning in pyama_dask.merge_samples(nights, {"a": "all"}).warnings)
    alike = pyama_dask.merge_samples([nights / name for name in NIGHTS[:2]], {"a": "all"}, nights / "two").warnings
    assert not any("frame intervals" in warning for warning in alike)


def test_traces_of_a_sample_have_all_columns_below_their_origin(nights):
    report = pyama_dask.merge_samples(nights, SAMPLES, traces=True)
    assert [path.name for path in report.traces] == ["a_traces.csv", "b_traces.csv"]
    head = [line for line in report.traces[0].read_text().splitlines() if line.startswith("#")]
    assert head == [
        "# Sample: a", *(f"# Movie: {name}, FOVs 0, settings a" for name in NIGHTS), "# Time units: min",
        f"# Written by: pyama_dask {pyama_dask.__version__}",
    ]  # fmt: skip
    read = trace_tables.read_traces_csv(report.traces[0])
    below = [trace_tables.read_traces_csv(traces_path(nights / name, 0)).assign(movie=name) for name in NIGHTS]
    pd.testing.assert_frame_equal(read, pd.concat(below, ignore_index=True), check_like=True)
    assert all(path.name not in {"a_traces.csv", "b_traces.csv"} for path in tables_to_fit(nights).files)
    (said,) = [line for line in pyama_dask.merge_samples(nights, SAMPLES).warnings if "earlier merges" in line]
    assert "a_traces.csv, b_traces.csv" in said


def test_movies_of_one_config_have_one_digest_of_the_settings_whatever_their_frames(nights):
    for name, frames, block, z in zip(NIGHTS, ("0-9", "0-3", "0-9"), (8, 4, 8), (None, None, 1), strict=True):
        path = nights / name / PLAN
        settings = {"params": {"frames": frames, "z": z}, "storage": {"block_frames": block}}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"a": settings}}))
    report = pyama_dask.merge_samples(nights, SAMPLES, traces=True)
    head = report.traces[0].read_text()
    first, second, third = re.findall(r"^# Movie: .*, settings ([0-9a-f]{24})$", head, re.MULTILINE)
    assert first == second != third
    assert "night3: processed with other settings than night2" in report.warnings


def test_fits_and_figures_take_each_cell_by_movie(nights, tmp_path):
    pyama_dask.merge_samples(nights, {"a": "all"})
    (table,) = tables_to_fit(nights, "area").files
    (fitted,) = pyama_dask.fit_traces(table, {"model": "trivial"}, tmp_path).files
    found = read_fitted(fitted.path).table
    assert list(found.columns[:3]) == ["fov", "cell", "movie"]
    assert cells_of(found) == {(name, fov, cell) for name in NIGHTS for fov in range(2) for cell in (1, 2, 3)}
    values = found.set_index(["movie", "fov", "cell"])["intercept"]
    np.testing.assert_allclose(values["night3"], 3 * values["night1"], rtol=1e-6)
    (tmp_path / table.name).write_bytes(table.read_bytes())
    (drawn,) = read_results([fitted.path])
    assert drawn.traces.labels["movie"].tolist() == found["movie"].tolist()
    assert {path.suffix for path in pyama_dask.plot_fits(fitted.path, tmp_path / "plots").files} == {".png", ".svg"}
    with pytest.raises(TableError, match="cells of several movies do not fit in one wide table"):
        tables.as_wide(tables.read_analysis_csv(table))
    areas = pyama_dask.area_under_curve(tables.read_analysis_csv(table))
    assert (len(areas), list(areas.columns[:3])) == (18, ["movie", "fov", "cell"])


def test_outputs_that_were_not_merged_are_fitted_together(nights):
    given = tables_to_fit([nights / name for name in NIGHTS])
    assert [path.relative_to(nights).as_posix() for path in given.files] == [
        "all_fovs/all_fovs_intensity_total_ch_1.csv"
    ]
    assert tables.read_analysis_csv(given.files[0])["movie"].unique().tolist() == list(NIGHTS)
    pyama_dask.merge_samples(nights / "night1", SAMPLES)
    alone = tables_to_fit([nights / "night1", nights / "night2"]).files
    assert {path.parent.name for path in alone} == {"merged", "all_fovs"}


def test_quality_and_overrides_take_each_cell_by_movie(nights):
    report = pyama_dask.inspect_traces(nights, write_good=nights / "good.yaml", max_jump=1e-6)
    assert report.path == nights / "quality.csv"
    assert report.table.columns[0] == "movie"
    assert len(cells_of(report.table)) == 18
    written = yaml.safe_load((nights / "good.yaml").read_text())["overrides"]
    assert {item["movie"] for item in written} == set(NIGHTS)
    (nights / "good.yaml").write_text("overrides:\n- {movie: night2, fov: 0, cells: 2, good: false}\n")
    (nights / "night1" / "good.yaml").write_text("overrides:\n- {fov: 1, cells: 3, good: false}\n")
    pyama_dask.merge_samples(nights, {"a": "all"})
    merged = tables.read_analysis_csv(nights / "merged" / "a_area_ch_0.csv")
    everything = {(name, fov, cell) for name in NIGHTS for fov in range(2) for cell in (1, 2, 3)}
    assert everything - cells_of(merged) == {("night2", 0, 2), ("night1", 1, 3)}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            "{fov: 0, cells: 2, good: false}",
            "overrides.0: needs 'movie', as there are several outputs. Fix: name one of",
        ),
        ("{movie: night9, fov: 0, cells: 2, good: false}", "'night9' is not one of these outputs: night1, night2"),
    ],
)
def test_overrides_of_several_outputs_name_their_movie(nights, tmp_path, item, said):
    (tmp_path / "good.yaml").write_text(f"overrides:\n- {item}\n")
    if "movie" in item:
        assert said in "\n".join(pyama_dask.merge_samples(nights, {"a": "all"}, good=tmp_path / "good.yaml").warnings)
    else:
        with pytest.raises(ConfigError, match=re.escape(said)):
            pyama_dask.merge_samples(nights, {"a": "all"}, good=tmp_path / "good.yaml")


def test_exports_keep_the_movies_apart(nights):
    report = pyama_dask.export_traces(nights, "parquet")
    exported = pd.read_parquet(report.directory / "traces.parquet")
    assert len(cells_of(exported)) == 18
    assert report.contents == "night1 FOV 0-1; night2 FOV 0-1; night3 FOV 0-1"
    record = json.loads((report.directory / "pyama_dask_export.json").read_text())
    assert record["movies"] == [{"output": name, "fovs": "0-1"} for name in NIGHTS]
    wide = pyama_dask.export_traces(nights, "csv-wide", samples={"a": {"outputs": {"night1": 0, "night2": 0}}})
    found = sorted(path.relative_to(wide.directory).as_posix() for path in wide.directory.rglob("*area*.csv"))
    assert found == ["a/night1/fov_000_area_ch_0.csv", "a/night2/fov_000_area_ch_0.csv"]


def test_wells_of_two_plates_stay_apart(tmp_path):
    for name in ("one", "two"):
        write_plate_output(tmp_path / name, {"B02": 2, "B03": 1})
    report = pyama_dask.merge_samples(tmp_path, {"a": {"wells": "B02"}, "b": "all"})
    wells = pd.read_csv(report.wells)
    assert wells[["sample", "movie", "well", "sites"]].values.tolist() == [
        ["a", "one", "B02", 2], ["a", "two", "B02", 2], ["b", "one", "B02", 2], ["b", "one", "B03", 1],
        ["b", "two", "B02", 2], ["b", "two", "B03", 1],
    ]  # fmt: skip
    figures = pyama_dask.plot_fits(tmp_path, feature="area", formats=("png",)).files
    assert {path.stem for path in figures if "wells" in path.stem} == {"area_ch_0_one_wells", "area_ch_0_two_wells"}


def test_outputs_that_cannot_be_told_apart_are_refused(nights, tmp_path):
    write_output(tmp_path / "more" / "night1", 1)
    with pytest.raises(
        ConfigError, match=r"are both called 'night1', so their cells cannot be told apart\. Fix: rename"
    ):
        pyama_dask.merge_samples([nights, tmp_path / "more" / "night1"], SAMPLES)
    (tmp_path / "more" / "night1").rename(tmp_path / "more" / "night4")
    with pytest.raises(ConfigError, match=r"the outputs are in different folders\. Fix: choose where to write with -o"):
        pyama_dask.merge_samples([nights / "night1", tmp_path / "more" / "night4"], {"a": "0"})
    with pytest.raises(OutputError, match="holds no run of pyama_dask"):
        pyama_dask.merge_samples(tmp_path / "nowhere", SAMPLES)


def test_commands_take_the_folder_or_the_outputs(call, nights, tmp_path):
    (tmp_path / "samples.yaml").write_text("a: all\n")
    status, said, _ = call("merge", nights, tmp_path / "samples.yaml", "--traces")
    assert status == 0
    assert "a, night2: 6 cells with 24 rows, FOV 0-1" in said
    assert f"Traces: {nights / 'merged' / 'a_traces.csv'}" in said
    status, said, _ = call("inspect-traces", *(nights / name for name in NIGHTS), "--max-jump", "1e-6")
    assert (status, "18 cells of 6 FOVs" in said) == (0, True)
    assert "night1, FOV 0, cell 1: " in said
    assert (nights / "quality.csv").exists()  # beside the outputs, but no table to fit
    assert [path.parent.name for path in tables_to_fit([nights]).files] == ["merged"]
    status, said, _ = call("export", nights, "--to", "csv-wide")
    assert (status, "night1 FOV 0-1; night2 FOV 0-1" in said) == (0, True)
    status, said, _ = call("status", nights / "night1", nights / "night2")
    assert (status, said.count("2 FOVs")) == (0, 2)

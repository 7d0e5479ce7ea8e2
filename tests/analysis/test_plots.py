"""Figures: what is drawn, of which cells, and that the files are whole."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from pyama_dask.analysis import figures as files
from pyama_dask.analysis import plot_parameters, plot_traces, result_tables
from pyama_dask.analysis.fit import fit_traces
from pyama_dask.analysis.fit_tables import read_fitted, write_fitted
from pyama_dask.analysis.plots import plot_fits
from pyama_dask.analysis.tables import write_analysis_csv
from pyama_dask.errors import ConfigError, OutputError, TableError
from pyama_dask.fitting import MODELS

MINUTES = np.arange(40) * 10.0
NAMES = ("traces", "parameters", "quality")


def write_table(path, cells=6, broken=0):
    """Lines with noise, of which the last ones have too few points to be fitted."""
    rng = np.random.default_rng(0)
    parts = []
    for cell in range(1, cells + 1):
        values = 3 * cell + cell * MINUTES / 60 + rng.normal(size=MINUTES.size) * cell**2 / 9
        count = 1 if cell > cells - broken else MINUTES.size
        parts.append(pd.DataFrame({"time": MINUTES, "fov": 2, "cell": cell, "value": values}).head(count))
    write_analysis_csv(path, pd.concat(parts))
    return path


@pytest.fixture
def fits(tmp_path):
    """Files of fits of two samples."""
    tables = [
        write_table(tmp_path / "control_intensity_total_ch_1.csv"),
        write_table(tmp_path / "treated_intensity_total_ch_1.csv", 5, broken=2),
    ]
    return [file.path for file in fit_traces(tables, {"model": "trivial"}).files]


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are drawn, by name, without being written."""
    kept = {}

    monkeypatch.setattr(files, "save_figure", lambda figure, stem, formats: kept.update({stem.name: figure}))
    return kept


def test_each_file_has_its_traces_and_all_together_their_parameters_and_quality(fits):
    drawn = plot_fits(fits)
    names = {path.relative_to(fits[0].parent).as_posix() for path in drawn.files}
    assert names == {
        f"plots/{name}.{kind}"
        for name in (
            "control_intensity_total_ch_1_fitted_trivial_traces",
            "treated_intensity_total_ch_1_fitted_trivial_traces",
            "intensity_total_ch_1_trivial_parameters",
            "intensity_total_ch_1_trivial_quality",
        )
        for kind in ("png", "svg")
    }
    assert drawn.warnings == ()
    for path in drawn.files:
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_the_same_files_give_the_same_bytes(fits):
    first = {path.name: path.read_bytes() for path in plot_fits(fits[:1]).files}
    assert {path.name: path.read_bytes() for path in plot_fits(fits[:1]).files} == first


def test_cells_are_drawn_from_the_best_to_the_worst_with_their_curves(fits, figures):
    plot_fits(fits[:1], cells=3)
    overview, *cells = figures["control_intensity_total_ch_1_fitted_trivial_traces"].axes
    assert overview.get_title("left") == "control: 6 cells"
    assert overview.get_ylabel() == "total intensity, channel 1 (grey levels)"
    (lines,) = [one for one in overview.collections if isinstance(one, LineCollection)]
    assert len(lines.get_segments()) == 6
    quality = [float(axes.get_title("left").rpartition("= ")[2]) for axes in cells]
    assert quality == sorted(quality, reverse=True)
    table = read_fitted(fits[0]).table
    assert [quality[0], quality[-1]] == pytest.approx([table["r_squared"].max(), table["r_squared"].min()], abs=6e-4)
    for axes in cells:
        samples, curve = axes.lines
        row = table[table["cell"] == int(axes.get_title("left").split("\n")[0].rpartition(" ")[2])].iloc[0]
        assert len(samples.get_xdata()) == 40
        np.testing.assert_allclose(curve.get_ydata(), row["intercept"] + row["slope"] * curve.get_xdata())


def test_cells_have_the_same_scale_and_labels_with_units(fits, tmp_path, figures):
    table = tmp_path / "control_intensity_total_ch_1.csv"
    table.write_text(table.read_text().replace("\ntime", "\n# Channel: GFP\ntime", 1))
    plot_fits([table], cells=5)
    overview, *cells = figures["control_intensity_total_ch_1_traces"].axes
    assert len({axes.get_xlim() for axes in cells}) == len({axes.get_ylim() for axes in cells}) == 1
    low, high = cells[0].get_ylim()
    assert all(low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high for axes in cells for line in axes.lines)
    assert overview.get_ylabel() == "total intensity, GFP (grey levels)"
    assert overview.get_xlabel() == "time (h)"
    shown = [axes.xaxis.get_tick_params()["labelbottom"] for axes in cells]
    assert shown == [False, True, True, True, True]  # the lowest cell of each column has labels


def test_short_movies_are_drawn_in_minutes(tmp_path, figures):
    table = pd.DataFrame({"time": [0.0, 5, 10], "fov": 0, "cell": 1, "value": [1.0, 2, 3]})
    write_analysis_csv(tmp_path / "short.csv", table)
    plot_fits([tmp_path / "short.csv"])
    overview, cell = figures["short_traces"].axes
    assert overview.get_xlabel() == "time (min)"
    np.testing.assert_allclose(cell.lines[0].get_xdata(), [0, 5, 10])


def test_parameters_at_a_bound_are_marked(tmp_path, figures):
    table = write_table(tmp_path / "control_area_ch_0.csv")
    config = {"model": "trivial", "parameters": {"slope": {"low": 0, "high": 3.5}}}
    (file,) = fit_traces([table], config).files
    plot_fits([file.path], cells=6)
    found = read_fitted(file.path).table
    bound = found.loc[found["at_bound"] == "slope"]
    assert 0 < len(bound) < 6
    slope = next(axes for axes in figures["area_ch_0_trivial_parameters"].axes if "slope" in axes.get_title())
    assert slope.get_xticklabels()[0].get_text() == f"control\nn = 6\n{len(bound)} at bound"
    dots, triangles, line, *_ = slope.lines
    assert (len(dots.get_ydata()), triangles.get_ydata().tolist()) == (6 - len(bound), [3.5] * len(bound))
    assert line.get_ydata() == [3.5, 3.5]
    titles = [axes.get_title("left") for axes in figures["control_area_ch_0_fitted_trivial_traces"].axes[1:]]
    assert sum(title.endswith("slope at bound") for title in titles) == len(bound)


def test_what_did_not_converge_is_said_and_has_no_curve(fits, figures):
    plot_fits(fits)
    axes = figures["treated_intensity_total_ch_1_fitted_trivial_traces"].axes[-1]
    assert axes.get_title("left").endswith("not converged")
    assert len(axes.lines) == 1


def test_parameters_are_those_that_converged_by_sample(fits, figures):
    plot_fits(fits)
    intercept, slope = figures["intensity_total_ch_1_trivial_parameters"].axes
    assert (intercept.get_title(), slope.get_title()) == ("intercept", "slope (1/h)")
    assert [tick.get_text() for tick in slope.get_xticklabels()] == ["control\nn = 6", "treated\nn = 3"]


def test_many_samples_are_drawn_below_each_other(fits, figures, monkeypatch):
    monkeypatch.setattr(plot_parameters, "FEW", 1)
    plot_fits(fits)
    intercept, slope = figures["intensity_total_ch_1_trivial_parameters"].axes
    assert intercept.get_position().y0 > slope.get_position().y1
    assert slope.get_xticklabels()[0].get_rotation() == 90


def test_the_median_stands_where_its_samples_are(fits, figures):
    plot_fits(fits)
    overview = figures["control_intensity_total_ch_1_fitted_trivial_traces"].axes[0]
    median, *_ = overview.lines
    np.testing.assert_allclose(median.get_xdata(), MINUTES / 60)


def test_fits_of_a_table_that_was_made_anew_are_warned_of(fits, tmp_path, figures):
    table = tmp_path / "control_intensity_total_ch_1.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert plot_fits(fits).warnings == (
        f"{fits[0].name}: {table.name} has changed since it was fitted. Fix: fit it again",
    )


def test_quality_adds_up(fits, figures):
    plot_fits(fits)
    (axes,) = figures["intensity_total_ch_1_trivial_quality"].axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    np.testing.assert_allclose(widths.sum(0), 1)
    assert widths[2, 1] == pytest.approx(2 / 5)


def test_traces_without_fits(tmp_path, figures):
    plot_fits([write_table(tmp_path / "some.csv", 30)], cells=5)
    assert list(figures) == ["some_traces"]
    overview, *cells = figures["some_traces"].axes
    assert len(cells) == 5
    assert overview.get_ylabel() == "value"


def test_a_table_is_drawn_once_with_its_fits(fits, tmp_path, figures):
    plot_fits([*fits, *tmp_path.glob("*_ch_1.csv")])
    assert len([name for name in figures if name.endswith("traces")]) == 2


def test_a_table_without_cells(tmp_path, figures):
    table = tmp_path / "none.csv"
    write_analysis_csv(table, pd.DataFrame({"time": [], "fov": [], "cell": [], "value": []}))
    plot_fits([table, *[file.path for file in fit_traces([table]).files]])
    assert list(figures) == ["none_fitted_maturation_traces"]


def test_many_cells_are_drawn_in_part_and_it_is_said(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(plot_traces, "DRAWN", 4)
    plot_fits([write_table(tmp_path / "some.csv", 30)])
    assert figures["some_traces"].axes[0].get_title("left") == "some: 4 of 30 cells"


def test_curves_are_those_of_the_cells_in_whatever_order_the_fits_are(fits, figures):
    plot_fits(fits[:1], cells=6)
    name = "control_intensity_total_ch_1_fitted_trivial_traces"

    def curves():
        return {axes.get_title("left"): axes.lines[1].get_ydata().tolist() for axes in figures[name].axes[1:]}

    before = curves()
    fitted = read_fitted(fits[0])
    write_fitted(fits[0], replace(fitted, table=fitted.table.iloc[::-1]))  # as a spreadsheet may sort them
    plot_fits(fits[:1], cells=6)
    assert curves() == before


def test_names_are_drawn_as_they_are(tmp_path):
    assert plot_fits([write_table(tmp_path / r"5 % $\frac$ für_area_ch_0.csv")], formats=["svg"]).files[0].exists()


class TestModels:
    @pytest.fixture
    def of_a_file(self, tmp_path):
        (tmp_path / "mine.py").write_text("from pyama_dask.fitting import MODELS\nLINE = MODELS['trivial']\n")
        table = write_table(tmp_path / "a_area_ch_0.csv")
        return [file.path for file in fit_traces([table], {"model": f"{tmp_path}/mine.py:LINE"}).files]

    def test_a_model_that_was_changed_is_warned_of(self, of_a_file, tmp_path, figures):
        assert plot_fits(of_a_file).warnings == ()
        with (tmp_path / "mine.py").open("a") as file:
            file.write("# more\n")
        (said,) = plot_fits(of_a_file).warnings
        assert "mine.py:LINE has changed since these fits" in said

    def test_one_whose_curve_fails_is_named(self, fits, figures, monkeypatch):
        def fails(times, parameters):
            raise ZeroDivisionError("between samples")

        monkeypatch.setattr(result_tables, "find_model", lambda name: replace(MODELS[name], curve=fails))
        with pytest.raises(ConfigError, match=r"fitted_trivial\.csv: the curve of model 'trivial' \(.*ZeroDivision"):
            plot_fits(fits)
        assert not figures

    def test_one_that_is_gone_leaves_its_curves_out(self, of_a_file, tmp_path, figures):
        (tmp_path / "mine.py").unlink()
        (said,) = plot_fits(of_a_file).warnings
        assert "drawn without the curves of its fits" in said
        assert len(figures["a_area_ch_0_fitted_trivial_traces"].axes[1].lines) == 1

    def test_one_with_other_parameters_too(self, of_a_file, tmp_path, figures):
        (tmp_path / "mine.py").write_text("from pyama_dask.fitting import MODELS\nLINE = MODELS['exponential_decay']\n")
        assert "has different parameters now" in plot_fits(of_a_file).warnings[0]

    def test_one_whose_name_holds_the_sign_before_its_digest(self, tmp_path, figures):
        (tmp_path / "me@work").mkdir()
        (tmp_path / "me@work" / "mine.py").write_text(
            "from pyama_dask.fitting import MODELS\nLINE = MODELS['trivial']\n"
        )
        table = write_table(tmp_path / "a_area_ch_0.csv")
        (file,) = fit_traces([table], {"model": f"{tmp_path}/me@work/mine.py:LINE"}).files
        assert plot_fits([file.path]).warnings == ()


class TestRefused:
    def test_fits_of_other_cells_than_the_table_has_now(self, fits, tmp_path):
        write_table(tmp_path / "control_intensity_total_ch_1.csv", 5)
        with pytest.raises(TableError, match=r"control_.*\.csv has other cells now"):
            plot_fits(fits)

    def test_two_files_of_one_name(self, fits, tmp_path):
        (tmp_path / "more").mkdir()
        for path in (fits[0], tmp_path / "control_intensity_total_ch_1.csv"):
            (tmp_path / "more" / path.name).write_bytes(path.read_bytes())
        with pytest.raises(ConfigError, match=r"control_.*: two files have this name"):
            plot_fits([fits[0], tmp_path / "more" / fits[0].name])

    def test_models_of_one_name_with_other_parameters(self, fits):
        fitted = read_fitted(fits[1])
        write_fitted(
            fits[1], replace(fitted, table=fitted.table.rename(columns=lambda name: name.replace("slope", "k")))
        )
        with pytest.raises(ConfigError, match="its trivial has different parameters from other files"):
            plot_fits(fits)

    def test_a_table_of_traces_that_is_gone(self, fits, tmp_path):
        (tmp_path / "control_intensity_total_ch_1.csv").unlink()
        with pytest.raises(TableError, match="is missing from this folder"):
            plot_fits(fits)
        assert not (tmp_path / "plots").exists()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"formats": []}, "formats: has no format"),
            ({"formats": ["jpg"]}, "'jpg' is not a format"),
            ({"cells": 0}, "cells: must be from 1 to 400"),
            ({"cells": 401}, "cells: must be from 1 to 400"),
            ({"files": []}, "no table to draw"),
        ],
    )
    def test_what_is_asked_for(self, fits, options, said):
        with pytest.raises(ConfigError, match=said):
            plot_fits(**{"files": fits} | options)

    def test_a_folder_that_cannot_be_written(self, fits, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"file: File exists\. Fix: "):
            plot_fits(fits[:1], tmp_path / "file")


def test_the_command(fits, tmp_path, call):
    status, told, _ = call("plot", fits[0], "-o", tmp_path / "figures", "--cells", 2)
    assert status == 0
    assert told.splitlines()[0] == f"Figures, as PNG and SVG, in {tmp_path}/figures:"
    assert len(list((tmp_path / "figures").iterdir())) == 6 + 1  # the record of them

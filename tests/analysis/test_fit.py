"""Fits of tables: what is read, what is written, and that it is the same wherever it is done."""

import threading

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

import pyama_dask
from pyama_dask.analysis import fit
from pyama_dask.analysis.fit import fit_traces
from pyama_dask.analysis.fit_config import load_fit_config, parse_fit_config
from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.fit_tables import Fitted, fitted_columns, is_fitted, read_fitted, source_of, write_fitted
from pyama_dask.analysis.tables import as_wide, write_analysis_csv, write_wide_csv
from pyama_dask.cli.text import describe_fits
from pyama_dask.errors import CancelledError, ConfigError, OutputError, TableError
from pyama_dask.execute.batch_map import SerialMap
from pyama_dask.files.manifest import MANIFEST
from pyama_dask.fitting import MODELS

HOURS = np.arange(60) / 3
SERIAL = {"cluster": {"kind": "serial"}}


def truth(cells, seed=0):
    rng = np.random.default_rng(seed)
    parameters = np.tile([p.default for p in MODELS["maturation"].parameters], (cells, 1))
    parameters[:, 0] = rng.uniform(0.1, 0.8, cells)
    parameters[:, 1] = rng.uniform(500, 5000, cells)
    parameters[:, 2] = rng.uniform(0.05, 0.5, cells)
    return parameters


def tidy(parameters, noise=10.0, hours=HOURS, model="maturation"):
    """Table of cells with these parameters, three a FOV, in minutes."""
    values = MODELS[model].curve(hours[None], parameters)
    values = values + np.random.default_rng(1).normal(size=values.shape) * noise
    cells = np.arange(len(parameters))
    return pd.DataFrame(
        {
            "time": np.tile(hours * 60, len(cells)),
            "fov": np.repeat(cells // 3, len(hours)),
            "cell": np.repeat(cells % 3 + 1, len(hours)),
            "value": values.ravel(),
        }
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "control_intensity_total_ch_1.csv"
    write_analysis_csv(path, tidy(truth(7)))
    return path


class TestFits:
    def test_the_true_parameters_are_found_and_written_beside_the_table(self, table):
        (file,) = fit_traces([table]).files
        assert file.path == table.with_name("control_intensity_total_ch_1_fitted_maturation.csv")
        assert (file.cells, file.converged, file.grades) == (7, 7, {"good": 7, "fair": 0, "poor": 0, "at bound": 0})
        found = read_fitted(file.path)
        assert found.table[["fov", "cell"]].to_numpy().tolist() == [[k // 3, k % 3 + 1] for k in range(7)]
        assert list(found.table.columns) == fitted_columns(MODELS["maturation"].names)
        assert found.table["points"].tolist() == [60] * 7
        for k, name in enumerate(("t0", "ktl", "delta")):
            away = (found.table[name] - truth(7)[:, k]).abs() / found.table[f"{name}_error"]
            assert (away < 4).all()
        assert np.allclose(found.table["residual_rms"], 10, rtol=0.5)

    def test_what_was_fitted_stands_in_front(self, table):
        config = {"parameters": {"delta": {"start": 0.2, "high": 2.0}, "km": {"fixed": 1.5}}, "loss": "soft_l1"}
        (file,) = fit_traces([table], config).files
        about = read_fitted(file.path).about
        assert (about["input"], about["model"], about["loss"]) == (table.name, "maturation", "soft_l1")
        assert about["parameters"]["delta"] == {"start": 0.2, "low": 1e-5, "high": 2.0, "unit": "1/h"}
        assert about["parameters"]["km"] == {"fixed": 1.5, "unit": "1/h"}
        assert read_fitted(file.path).fixed == {"km": 1.5, "beta": 5.22e-3, "scale": 1.0}
        assert source_of(file.path, read_fitted(file.path)) == table

    @pytest.mark.parametrize("units", ["ms", "s", "min", "h", "d"])
    def test_times_are_converted_from_the_units_of_the_table(self, tmp_path, table, units):
        before = read_fitted(fit_traces([table]).files[0].path).table
        other = tmp_path / "other.csv"
        scale = {"ms": 60_000, "s": 60, "min": 1, "h": 1 / 60, "d": 1 / 1440}[units]
        changed = tidy(truth(7))
        write_analysis_csv(other, changed.assign(time=changed["time"] * scale), units)
        found = read_fitted(fit_traces([other]).files[0].path).table
        np.testing.assert_allclose(found["delta"], before["delta"], rtol=1e-5)

    def test_a_wide_table_gives_the_same_as_a_tidy_one(self, tmp_path, table):
        wide = tmp_path / "wide.csv"
        write_wide_csv(wide, as_wide(tidy(truth(7))))
        one, other = (read_fitted(file.path).table for file in fit_traces([table, wide]).files)
        pd.testing.assert_frame_equal(one, other)

    def test_units_that_are_not_said_must_be(self, tmp_path, table):
        bare = tmp_path / "bare.csv"
        bare.write_text(table.read_text().partition("\n")[2])
        with pytest.raises(TableError, match="does not state the units of its times"):
            fit_traces([bare])
        assert fit_traces([bare], {"time_units": "min"}).files[0].converged == 7

    def test_what_cannot_be_fitted_is_a_row(self, tmp_path):
        rows = tidy(truth(4))
        rows.loc[rows["fov"] == 1, "value"] = np.nan
        rows = rows[(rows["cell"] != 2) | (rows["time"] < 70)]
        rows.loc[(rows["fov"] == 0) & (rows["cell"] == 3) & (rows["time"] == 0), "value"] = np.inf
        path = tmp_path / "odd.csv"
        write_analysis_csv(path, rows)
        (file,) = fit_traces([path]).files
        found = read_fitted(file.path).table
        assert found["success"].tolist() == [True, False, False, False]
        assert found["points"].tolist() == [60, 4, 60, 0]
        assert found["message"][1] == "too few points: 4 for 4 parameters; at least 5 are needed"
        assert found["message"][2] == "a value or its time is infinite"
        assert file.grades == {"good": 1, "fair": 0, "poor": 3, "at bound": 0}

    def test_a_table_without_cells(self, tmp_path):
        path = tmp_path / "empty.csv"
        write_analysis_csv(path, tidy(truth(1)).head(0))
        report = fit_traces([path])
        assert report.files[0].cells == 0
        assert report.warnings == (f"{path}: has no cells",)
        assert read_fitted(report.files[0].path).table.empty

    def test_a_fit_with_a_parameter_at_its_bound_is_graded_as_such(self, table):
        report = fit_traces([table], {"parameters": {"delta": {"low": 0.6, "start": 0.7}}})
        (file,) = report.files
        assert file.at_bounds["delta"] == file.converged == 7
        assert file.grades == {"good": 0, "fair": 0, "poor": 0, "at bound": 7}
        said = describe_fits(report).splitlines()
        assert said[1].split()[1:] == ["7", "100.0%", "0%", "0%", "0%", "100%"]
        assert "delta in 7 cells at a bound. Fix: widen the bounds, as with --set parameters." in said[-1]
        found = read_fitted(file.path).table
        assert (found["delta_error"] > 0).all()
        assert (found["r_squared"] > 0.7).any()
        assert found["grade"].tolist() == ["at bound"] * 7
        assert all("delta" in names.split() for names in found["at_bound"])
        assert found["grade"].tolist() == read_fitted(file.path).grades.tolist()

    def test_fits_that_an_earlier_version_wrote_are_graded(self, table):
        path = fit_traces([table], {"parameters": {"delta": {"low": 0.3, "start": 0.7}}}).files[0].path
        found = read_fitted(path)
        assert set(found.grades) == {"good", "at bound"}
        older = path.with_name("older.csv")
        write_fitted(older, Fitted(found.table.drop(columns=["grade", "at_bound"]), found.about))
        pd.testing.assert_frame_equal(read_fitted(older).table, found.table)
        about = dict(found.about, parameters={"delta": 5})
        write_fitted(older, Fitted(found.table.drop(columns="grade"), about))
        with pytest.raises(TableError, match="lack bounds of a parameter"):
            read_fitted(older)

    def test_fits_among_the_tables_are_left_out(self, table):
        first = fit_traces([table]).files[0]
        report = fit_traces([table, first.path])
        assert [file.source for file in report.files] == [table]
        assert report.warnings == (f"{first.path}: holds fits and is left out",)

    def test_a_table_that_is_given_twice_is_fitted_once(self, table, monkeypatch):
        monkeypatch.chdir(table.parent)
        (table.parent / "link").symlink_to(table.parent)
        assert len(fit_traces([table.name, table, table.parent / "link" / table.name]).files) == 1

    def test_values_whose_squares_are_no_numbers_are_not_taken_for_exact(self, table):
        rows = tidy(truth(3), noise=0.0)
        write_analysis_csv(table, rows.assign(value=rows["value"] * 1e155))
        found = read_fitted(fit_traces([table]).files[0].path).table
        assert not found["success"].any()

    def test_progress_counts_cells(self, table, monkeypatch):
        monkeypatch.setattr(fit, "SAMPLES", 120)
        events = []
        fit_traces([table], SERIAL, progress=events.append)
        events = [event for event in events if event["step"] != "compile"]
        assert [event["frame"] for event in events] == [2, 4, 6, 7]
        assert events[0] == {"step": "fit", "fov": -1, "frame": 2, "total": 7, "message": table.name}


class TestWhereever:
    """Bytes of the fits, by how and where they are made."""

    @pytest.fixture
    def two(self, tmp_path, table, monkeypatch):
        """Two tables, in which FOVs have times of their own, in batches of 5 cells."""
        monkeypatch.setattr(fit, "SAMPLES", 300)
        moved = tidy(truth(19, seed=2))
        moved["time"] += moved["fov"] * 0.37
        other = tmp_path / "treated.csv"
        write_analysis_csv(other, moved)
        return [table, other]

    def fitted(self, two, name, config, **options):
        report = fit_traces(two, config, two[0].parent / name, **options)
        return [file.path.read_bytes() for file in report.files]

    def test_bytes_do_not_depend_on_the_workers(self, two, monkeypatch, client):
        here = self.fitted(two, "here", SERIAL)
        assert self.fitted(two, "on workers", {}, client=client) == here
        monkeypatch.setattr(fit, "SAMPLES", 10**6)
        assert self.fitted(two, "at once", SERIAL) == here

    def test_a_worker_that_is_lost_costs_time_only(self, two, tmp_path):
        here = self.fitted(two, "here", SERIAL)
        (tmp_path / "deadly.py").write_text(DEADLY.format(flag=tmp_path / "flag"))
        config = {"model": f"{tmp_path}/deadly.py:DEADLY"}
        with (
            LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            there = self.fitted(two, "there", config, client=client)
        assert (tmp_path / "flag").exists()
        assert [content.partition(b"fov,")[2] for content in there] == [
            content.partition(b"fov,")[2] for content in here
        ]

    def test_files_come_in_the_order_of_the_tables(self, two, monkeypatch):
        def backwards(self, name, function, items, cancel):
            yield from reversed([(number, function(item)) for number, item in enumerate(items)])

        monkeypatch.setattr(SerialMap, "map", backwards)
        assert [file.source for file in fit_traces(two, SERIAL).files] == list(two)

    @pytest.mark.slow
    def test_jobs_of_a_queue(self, slurm, two):
        from chaos.slurm import JOBS

        here = self.fitted(two, "here", SERIAL)
        assert self.fitted(two, "queue", {"cluster": JOBS | {"jobs": 2}}) == here

    def test_what_is_through_is_written_when_it_is_cancelled(self, two, tmp_path):
        cancel = threading.Event()

        def stop(event):
            if event["message"] == "treated.csv":
                cancel.set()

        with pytest.raises(CancelledError, match="1 of 2 tables were fitted and written"):
            fit_traces(two, SERIAL, tmp_path / "some", progress=stop, cancel=cancel)
        assert {path.name for path in (tmp_path / "some").iterdir()} == {
            "control_intensity_total_ch_1_fitted_maturation.csv", MANIFEST,
        }  # fmt: skip


DEADLY = """
import os, signal
from pathlib import Path
from pyama_dask.fitting import MODELS, Model
from pyama_dask.fitting.maturation import maturation, maturation_slopes


def curve(times, parameters):
    flag = Path("{flag}")
    if not flag.exists() and is_worker():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return maturation(times, parameters)


def is_worker():
    from distributed import worker
    return bool(worker.Worker._instances)


M = MODELS["maturation"]
DEADLY = Model("maturation", M.source, M.parameters, curve, maturation_slopes)
"""


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"model": "maturing"}, "'maturing' is not a model; known are: maturation"),
            ({"parameters": {"gamma": {"start": 1.0}}}, "maturation has no parameter 'gamma'; it has: t0, ktl"),
            ({"parameters": {"t0": {"start": 9.0}}}, "t0: 9 must be a number from -1 to 1"),
            ({"parameters": {"t0": {"begin": 9.0}}}, r"parameters\.t0\.begin: is not a key here"),
            ({"parameters": {n: {"fixed": True} for n in MODELS["maturation"].names}}, "all of maturation are"),
            ({"parameters": {"t0": {"fixed": "no"}}}, r"parameters\.t0\.fixed"),
            ({"params": {}}, r"params: is not a key here; did you mean parameters\?"),
            ({"loss": "huber"}, "loss: .*'linear' or 'soft_l1'"),
            ({"loss_scale": 0}, "loss_scale: .*greater than 0"),
            ({"time_units": "weeks"}, "time_units: is not a unit of time"),
            ({"cluster": {"kind": "locale"}}, r"cluster\.kind"),
        ],
    )  # fmt: skip
    def test_configs(self, table, config, said):
        with pytest.raises(ConfigError, match=said):
            fit_traces([table], config)
        assert len(list(table.parent.iterdir())) == 1

    def test_a_cell_with_two_values_at_a_time(self, tmp_path):
        path = tmp_path / "twice.csv"
        rows = tidy(truth(2))
        write_analysis_csv(path, pd.concat([rows, rows.iloc[[63]]]))
        with pytest.raises(TableError, match=r"twice\.csv: FOV 0, cell 2 has two values at time 1\."):
            fit_traces([path])

    def test_a_bad_table_among_good_ones_loses_nothing(self, tmp_path, table):
        bad = tmp_path / "bad.csv"
        bad.write_text("# Time units: min\ntime,fov,cell,value\n0,0,1,x\n")
        with pytest.raises(TableError, match=r"bad\.csv: line 3, column 'value': 'x' is not a number"):
            fit_traces([table, bad])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", table.name]

    def test_a_file_of_another_kind_is_not_overwritten(self, table):
        place = table.with_name(f"{table.stem}_fitted_maturation.csv")
        place.write_text("mine")
        with pytest.raises(OutputError, match="was not written by pyama_dask, or was changed since"):
            fit_traces([table])
        assert place.read_text() == "mine"
        fit_traces([table], force=True)
        fit_traces([table])
        assert is_fitted(place)

    def test_tables_whose_fits_would_be_one_file(self, tmp_path, table):
        (tmp_path / "b").mkdir()
        other = tmp_path / "b" / table.name
        other.write_bytes(table.read_bytes())
        with pytest.raises(ConfigError, match="two tables would have their fits in this file"):
            fit_traces([table, other], None, tmp_path / "c")
        with pytest.raises(ConfigError, match="no table to fit"):
            fit_traces([])
        with pytest.raises(ConfigError, match="all files hold fits"):
            fit_traces([fit_traces([table], {"model": "trivial"}).files[0].path])

    def test_a_folder_that_cannot_be_written(self, table, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"File exists. Fix: .* choose another folder"):
            fit_traces([table], None, tmp_path / "file")


class TestConfig:
    def test_a_file_with_a_model_beside_it_and_changes(self, tmp_path):
        (tmp_path / "fit.yaml").write_text("model: growth.py:LINE\nparameters:\n  slope: {start: 2}\n")
        (tmp_path / "growth.py").write_text("from pyama_dask.fitting import MODELS\nLINE = MODELS['trivial']\n")
        config = load_fit_config(tmp_path / "fit.yaml", {"parameters.slope.high": 3.5})
        assert config.chosen().parameters[1].default == 2
        assert config.chosen().parameters[1].high == 3.5
        other = load_fit_config(tmp_path / "fit.yaml", {"model": "maturation", "parameters.ktl.high": 1e7})
        assert set(other.parameters) == {"ktl"}

    def test_a_model_in_a_file_is_found_by_workers_in_other_folders(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        where = str(tmp_path / "growth.py:LINE")
        assert parse_fit_config({"model": "growth.py:LINE"}).model == where
        assert load_fit_config(None, {"model": "growth.py:LINE"}).model == where

    @pytest.mark.parametrize(
        ("given", "meant"), [({"losss": "linear"}, "loss"), ({"cluster": {"worker": 2}}, "cluster.workers")]
    )
    def test_keys_that_are_meant_are_those_of_fits(self, given, meant):
        with pytest.raises(ConfigError, match=rf"did you mean (\w+ or )*{meant}\?"):
            parse_fit_config(given)

    @pytest.mark.parametrize(
        ("fixed", "expected"), [(True, (0.01, True)), (2.5, (2.5, True)), (3, (3, True)), (False, (0.01, False))]
    )
    def test_fixed_is_a_switch_or_a_value(self, fixed, expected):
        delta = parse_fit_config({"parameters": {"delta": {"fixed": fixed}}}).chosen().parameters[2]
        assert (delta.default, delta.fixed) == expected

    def test_what_is_fixed_can_be_freed(self):
        model = parse_fit_config({"parameters": {"km": {"fixed": False}}}).chosen()
        assert [model.names[k] for k in model.fitted] == ["t0", "ktl", "delta", "offset", "km"]

    def test_files_that_are_no_config(self, tmp_path):
        (tmp_path / "list.yaml").write_text("- 1")
        with pytest.raises(ConfigError, match="must hold keys such as 'model:'"):
            load_fit_config(tmp_path / "list.yaml")


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 9), st.floats(-10, 10)),
        unique_by=lambda row: row[:3],
    )
)
def test_traces_are_the_rows_by_cell_and_time(rows):
    table = pd.DataFrame(rows, columns=["fov", "cell", "time", "value"]).astype({"time": float, "value": float})
    found = Traces.of(table)
    hours = np.broadcast_to(found.hours, found.values.shape)
    there = ~np.isnan(hours)
    again = [
        (fov, cell, time, value)
        for fov, cell, times, values, seen in zip(found.fovs, found.cells, hours, found.values, there, strict=True)
        for time, value in zip(times[seen], values[seen], strict=True)
    ]
    assert again == sorted(rows)


class TestTables:
    def test_what_is_written_is_read_back_equal(self, tmp_path):
        names = ("a", "b")
        rng = np.random.default_rng(0)
        numbers = {name: rng.normal(size=3) / 3 for name in fitted_columns(names)}
        numbers["a_error"] = np.array([np.inf, np.nan, 1e-300])
        table = pd.DataFrame(numbers).assign(
            fov=[0, 1, 12], cell=[3, 4, 5], points=[9, 0, 7], model="m", success=[True, False, True],
            grade=["good", "poor", "at bound"], at_bound=["", "", "a b"],
            message=["converged", 'too few points: 3 for 4, "all"', "so"],
        )  # fmt: skip
        written = Fitted(
            table[fitted_columns(names)], {"input": "a.csv", "model": "m", "parameters": {"a": {"low": 1e-5}}}
        )
        write_fitted(tmp_path / "f.csv", written)
        read = read_fitted(tmp_path / "f.csv")
        pd.testing.assert_frame_equal(read.table, written.table)
        assert read.about == written.about
        assert read.parameters == names

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda text: text[2:], "holds no fits"),
            (lambda text: text.replace("# ", "#"), "holds no fits"),
            (
                lambda text: text.replace("# model:", "# name:", 1),
                "which describe the fit, are incomplete",
            ),
            (lambda text: text.replace("True", "maybe", 1), "column 'success': 'maybe' is neither True nor False"),
            (lambda text: text.replace(",points", ",dots", 1), "has no column 'points'"),
            (lambda text: text[:-2], "has no line break at its end"),
            (lambda text: text.replace("converged", '"converged', 1), "a '\"' that does not match"),
        ],
    )
    def test_what_is_no_file_of_fits(self, table, change, said):
        path = fit_traces([table]).files[0].path
        path.write_text(change(path.read_text()))
        with pytest.raises(TableError, match=said):
            read_fitted(path)

    def test_a_table_of_traces_that_is_gone(self, table):
        path = fit_traces([table]).files[0].path
        table.unlink()
        with pytest.raises(TableError, match=r"its table 'control_.*' is missing from this folder"):
            source_of(path, read_fitted(path))


def test_the_command(table, call):
    arguments = ["--model", "trivial", "--set", "parameters.slope.low=-5", "--cluster", "serial"]
    status, told, _ = call("fit", table, *arguments)
    assert status == 0
    assert "control_intensity_total_ch_1      7      100.0%" in told
    place = table.with_name(f"{table.stem}_fitted_trivial.csv")
    assert f"Fits: {place}" in told
    assert read_fitted(place).about["parameters"]["slope"]["low"] == -5


def test_the_names_of_the_package():
    assert pyama_dask.fit_traces is fit_traces

"""Tables in and out: what is written is read back equal, what older programs wrote is understood, all else refused."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.analysis import tables, trace_tables
from pyama_dask.errors import TableError
from pyama_dask.files.checked_csv import LARGEST
from pyama_dask.store.trace_csv import BASE_COLUMNS, write_traces

HEAD = "fov,cell,frame,time,good,position_x,position_y,bbox_x0,bbox_y0,bbox_x1,bbox_y1,area_ch_0,intensity_total_ch_1"
ROW = "3,7,0,0.0,True,100.5,200.5,85,165,116,236,450,1234.5"
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.floats() | st.integers(-(10**6), 10**6).map(float)
PIXELS = st.floats(-LARGEST, LARGEST) | st.just(np.nan)
CELLS = st.tuples(st.integers(0, 5000), st.integers(0, 10**6))


def written(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One directory for all examples of a property, each of which writes its files anew."""
    return tmp_path_factory.mktemp("tables")


@st.composite
def traces(draw):
    """Tables of traces: some base columns, and features."""
    places = draw(st.lists(st.tuples(*[st.integers(0, LARGEST)] * 3), unique=True, max_size=6))
    fov, cell, frame = np.array(places, np.int64).reshape(-1, 3).T
    columns = {"fov": fov, "cell": cell, "frame": frame}
    if draw(st.booleans()):
        columns["time"] = draw(many(NUMBERS, len(places)))
    columns["good"] = np.array(draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places))), bool)
    features = draw(st.lists(st.from_regex(r"[a-z_]{1,9}_ch_\d{1,2}", fullmatch=True), unique=True, max_size=3))
    base = [name for name in BASE_COLUMNS[5:] if draw(st.booleans())]
    columns |= {name: draw(many(PIXELS, len(places))) for name in base}
    columns |= {name: draw(many(VALUES, len(places))) for name in features}
    return pd.DataFrame(columns)


def many(values, count):
    return st.lists(values, min_size=count, max_size=count).map(lambda found: np.array(found, float))


@st.composite
def tidy(draw):
    """Analysis tables: one value a cell and time, some of them NaN or infinite."""
    keys = draw(st.lists(st.tuples(NUMBERS, CELLS), unique_by=lambda key: (key[0] + 0.0, key[1]), max_size=8))
    fov, cell = np.array([cell for _, cell in keys], np.int64).reshape(-1, 2).T
    time = np.array([time for time, _ in keys], float)
    return pd.DataFrame({"time": time, "fov": fov, "cell": cell, "value": draw(many(VALUES, len(keys)))})


class TestTraces:
    @given(table=traces())
    def test_what_is_written_is_read_back_equal(self, folder, table):
        trace_tables.write_traces_csv(folder / "traces.csv", table)
        pd.testing.assert_frame_equal(trace_tables.read_traces_csv(folder / "traces.csv"), table, check_exact=True)

    def test_of_a_run(self, finished, tmp_path):
        (path,) = (finished / "fov_000").glob("*_traces.csv")
        table = trace_tables.read_traces_csv(path)
        pd.testing.assert_frame_equal(table, pd.read_csv(path), check_dtype=False)
        write_traces(tmp_path / "again.csv", table)
        assert trace_tables.read_columns(path) == list(table.columns)
        pd.testing.assert_frame_equal(trace_tables.read_traces_csv(tmp_path / "again.csv"), table)

    def test_types(self, tmp_path):
        table = trace_tables.read_traces_csv(written(tmp_path / "t.csv", f"{HEAD}\n{ROW}\n"))
        assert list(table.columns) == HEAD.split(",")
        assert [dtype.kind for dtype in table.dtypes] == list("iiifb" + "f" * 8)
        assert table.iloc[0].tolist() == [3, 7, 0, 0.0, True, 100.5, 200.5, 85, 165, 116, 236, 450, 1234.5]

    def test_a_table_without_rows_has_the_same_types(self, tmp_path):
        table = trace_tables.read_traces_csv(written(tmp_path / "t.csv", f"{HEAD}\n"))
        assert len(table) == 0
        assert [dtype.kind for dtype in table.dtypes] == list("iiifb" + "f" * 8)

    @pytest.mark.parametrize(("minutes", "times"), [(None, None), (2.5, [0, 2.5]), ({0: 1.0, 1: 9.0}, [1, 9])])
    def test_without_time(self, tmp_path, minutes, times):
        path = written(
            tmp_path / "t.csv", "fov,cell,frame,good,position_x,position_y\n0,1,0,True,1,2\n0,1,1,True,1,2\n"
        )
        table = trace_tables.read_traces_csv(path, minutes=minutes)
        assert ("time" in table) == (times is not None)
        if times:
            assert table["time"].tolist() == times
            assert list(table.columns)[:5] == list(BASE_COLUMNS[:5])

    def test_a_time_in_the_file_is_kept(self, tmp_path):
        path = written(tmp_path / "t.csv", "fov,cell,frame,time\n0,1,1,7.5\n")
        assert trace_tables.read_traces_csv(path, minutes=10)["time"].tolist() == [7.5]

    def test_older_names_fov_in_the_file_name_and_features_of_one_channel(self, tmp_path):
        text = "cell_id,frame,intensity_total,area,x_centroid,y_centroid,note\n4,2,10.5,,1,2,good one\n"
        table = trace_tables.read_traces_csv(written(tmp_path / "movie_fov0012_traces_ch_1.csv", text), channel=1)
        assert table.to_dict("records") == [{
            "fov": 12, "cell": 4, "frame": 2, "good": True, "position_x": 1.0, "position_y": 2.0,
            "intensity_total_ch_1": 10.5, "area_ch_1": pytest.approx(np.nan, nan_ok=True), "note": "good one",
        }]  # fmt: skip

    def test_time_in_place_of_frames(self, tmp_path):
        table = trace_tables.read_traces_csv(
            written(tmp_path / "t.csv", "fov,cell,time,intensity_total\n0,1,0,5\n0,1,10,6\n")
        )
        assert list(table.columns) == ["fov", "cell", "time", "good", "intensity_total"]

    def test_out_of_a_spreadsheet(self, tmp_path):
        text = "\ufefffov,cell,frame,good\r\n\r\n0,1,0,TRUE\r\n0,1,1,FALSE\r\n0,1,2,1\r\n\r\n"
        assert trace_tables.read_traces_csv(written(tmp_path / "t.csv", text))["good"].tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            ("fov,frame\n0,1\n", "has no column 'cell'; it has 'fov, frame'"),
            ("fov,cell\n0,1\n", "neither a column 'frame' nor 'time'"),
            ("cell,frame\n0,1\n", "has no column 'fov' and no FOV in its name"),
            ("fov,cell,cell_id,frame\n0,1,1,0\n", "column 'cell' more than once"),
            ("fov;cell;frame\n0;1;0\n", "save it with commas"),
            ("fov,cell,frame\n0,1,0\n\n0,1,x\n", "line 4, column 'frame': 'x' is not a number"),
            ("# a\n \nfov,cell,frame\n \n0,1,0\n\t\n\n0,1\n", "line 8 has 2 values for 3 columns"),
            ("# a\n \nfov,cell,frame\n \n0,1,0\n\t\n\n0,1,y\n", "line 8, column 'frame': 'y' is not a number"),
            ("fov,cell,frame\n0,1.5,0\n", "line 2, column 'cell': '1.5' is not a whole number from 0"),
            ("fov,cell,frame\n0,-1,0\n", "line 2, column 'cell': '-1' is not a whole number from 0"),
            ("fov,cell,frame\n0,1,\n", "line 2, column 'frame': '' is not a number"),
            ("fov,cell,time\n0,1,inf\n", "line 2, column 'time': 'inf' is not a number"),
            ("fov,cell,frame,good\n0,1,0,True\n0,1,1,maybe\n", "line 3, column 'good': 'maybe' is neither"),
            ("fov,cell,frame,area_ch_0\n0,1,0,big\n", "line 2, column 'area_ch_0': 'big' is not a number"),
            ("fov,cell,frame\n0,1,0\n0,2,0\n0,1,0\n", "line 4, column 'frame': '0' appears twice"),
            ("fov,cell,frame,area_ch_0\n0,1,0,5\n0,1,1", "line 3 has 3 values for 4 columns; the file is cut off"),
            ("fov,cell,frame\n0,1,0,4\n", "line 2 has 4 values for 3 columns"),
            ("fov,cell,frame\n0,1,0\n0,1,1", "line 3 has no line break at its end"),
            ("fov,cell,frame", "line 1 has no line break at its end"),
            ('fov,cell,frame\n0,1,0\n0,"1,0\n', "line 3 has a '\"' that does not match"),
            ('fov,cell,frame,area_ch_0\n0,1,0,"1"2\n', "line 2 has a '\"' that does not match"),
            ('fov,cell,frame,note\n0,1,"0\n1,1",0\n', "line 2 has a '\"' that does not match"),
            ('fov,cell,frame,note,area_ch_0\n0,1,0,"a, b",5\n\n0,1,1\n', "line 4 has 3 values for 5 columns"),
            ("fov,cell,frame,area_ch_0\n0,1,0,5\n0,1,1,1e999\n", "line 3, column 'area_ch_0': '1e999' is not a num"),
            (f"fov,cell,frame\n0,{10**18},0\n", f"'{10**18}' is not a whole number from 0 to 4294967295"),
            (
                "fov,cell,frame,bbox_x1\n0,1,0,\n0,1,1,1e18\n",
                "line 3, column 'bbox_x1': '1e18' is not a position in an",
            ),
            ("fov,cell,frame,position_y\n0,1,1,-inf\n", "column 'position_y': '-inf' is not a position in an image"),
            ("fov,cell,time\n0,1,2024-01-01 10:00\n", "column 'time': '2024-01-01 10:00' is not a number"),
            ("fov,cell,frame\n0,1,\0\0\n", "column 'frame': '\\x00\\x00' is not a number"),
        ],
    )
    def test_what_is_not_right_is_refused_by_line_and_column(self, tmp_path, text, said):
        with pytest.raises(TableError, match=re.escape(said)) as error:
            trace_tables.read_traces_csv(written(tmp_path / "table.csv", text))
        assert str(error.value).startswith(str(tmp_path / "table.csv"))

    def test_columns_that_are_not_known(self, tmp_path):
        rows = '0,1,0,True,"a, ""b""",2024-01-01, 5 \n0,1,1,False,,NA,1e3\n'
        table = trace_tables.read_traces_csv(written(tmp_path / "t.csv", f"fov,cell,frame,seen,note,day,size\n{rows}"))
        assert table["seen"].tolist() == [1.0, 0.0]
        assert table["note"].fillna("").tolist() == ['a, "b"', ""]
        assert table["day"].fillna("").tolist() == ["2024-01-01", ""]
        assert table["size"].tolist() == [5.0, 1000.0]

    def test_a_frame_whose_time_is_not_known(self, tmp_path):
        path = written(tmp_path / "t.csv", "fov,cell,frame\n0,1,0\n0,1,5\n")
        with pytest.raises(TableError, match="line 3, column 'frame': '5' is a frame without a known time"):
            trace_tables.read_traces_csv(path, minutes={0: 0.0})

    @pytest.mark.parametrize("content", [None, b"fov,cell\n0,\xff\n"])
    def test_a_file_that_is_not_there_or_no_text(self, tmp_path, content):
        if content:
            (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(TableError, match=r"line 2 is not text in UTF-8" if content else "No such file"):
            trace_tables.read_traces_csv(tmp_path / "t.csv")
        if content is None:
            with pytest.raises(TableError, match="No such file"):
                trace_tables.read_columns(tmp_path / "t.csv")

    def test_an_inspected_copy_is_preferred(self, tmp_path):
        path = written(tmp_path / "movie_fov_000_traces.csv", HEAD)
        assert trace_tables.inspected(path) == path
        copy = written(tmp_path / "movie_fov_000_traces_inspected.csv", HEAD)
        assert trace_tables.inspected(path) == copy


class TestAnalysis:
    @given(table=tidy(), units=st.sampled_from(["min", "h", "s"]))
    def test_what_is_written_is_read_back_equal(self, folder, table, units):
        tables.write_analysis_csv(folder / "a.csv", table, units)
        assert (folder / "a.csv").read_text().startswith(f"# Time units: {units}\ntime,fov,cell,value\n")
        pd.testing.assert_frame_equal(tables.read_analysis_csv(folder / "a.csv", units), table, check_exact=True)

    @given(table=tidy())
    def test_wide_form_is_read_back_equal(self, folder, table):
        wide = tables.as_wide(table)
        tables.write_wide_csv(folder / "w.csv", wide)
        read = tables.read_wide_csv(folder / "w.csv")
        pd.testing.assert_frame_equal(read, wide, check_exact=True)
        there = table.dropna().sort_values(["fov", "cell", "time"], ignore_index=True)
        pd.testing.assert_frame_equal(tables.as_tidy(wide), there, check_exact=True)
        pd.testing.assert_frame_equal(tables.read_analysis_csv(folder / "w.csv"), there, check_exact=True)

    def test_wide_form_as_it_looks(self, tmp_path):
        table = pd.DataFrame({"time": [0, 10.0, 0], "fov": [3, 3, 0], "cell": [12, 12, 1], "value": [1.5, 2, 0.1]})
        tables.write_wide_csv(tmp_path / "w.csv", tables.as_wide(table))
        assert (tmp_path / "w.csv").read_text().splitlines() == [
            "# Time units: min", "time,fov_000_cell_1,fov_003_cell_12", "0.0,0.1,1.5", "10.0,,2.0",
        ]  # fmt: skip

    @pytest.mark.parametrize("name", ["fov_003_cell_12", "3_12", "fov_3_12"])
    def test_names_of_cells_in_wide_form(self, tmp_path, name):
        path = written(tmp_path / "w.csv", f"# time unit: Hours\n,{name},7\n0.5,1,2\n")
        assert tables.read_analysis_csv(path).values.tolist() == [[30, 0, 7, 2], [30, 3, 12, 1]]

    @pytest.mark.parametrize(
        ("said", "units", "time"), [("h", "min", 90), ("s", "min", 0.025), ("min", "h", 0.025), ("d", "h", 36)]
    )
    def test_times_are_converted_from_the_units_in_the_head(self, tmp_path, said, units, time):
        path = written(
            tmp_path / "a.csv", f"# made by hand\n# Time units: {said}\ntime,fov,cell,value,more\n1.5,0,1,,5\n"
        )
        table = tables.read_analysis_csv(path, units)
        assert table["time"].tolist() == pytest.approx([time])
        assert np.isnan(table["value"]).all()
        assert table["more"].tolist() == [5]

    @pytest.mark.parametrize("said", ["min,,,", "min ,", "min", "min\n# Time units: minutes"])
    def test_units_in_a_head_that_a_spreadsheet_has_filled_up_with_commas(self, tmp_path, said):
        path = written(tmp_path / "a.csv", f"# Time units: {said}\ntime,fov,cell,value\n1,0,1,2\n")
        assert tables.read_analysis_csv(path)["time"].tolist() == [1]

    def test_a_file_that_is_cut_off_anywhere_in_a_row_is_refused(self, tmp_path):
        table = pd.DataFrame({"time": [0, 10.25, 20.5], "fov": 0, "cell": 1, "value": [1.5, 1234.5678, 2345.678]})
        tables.write_analysis_csv(tmp_path / "a.csv", table)
        tables.write_wide_csv(tmp_path / "w.csv", tables.as_wide(table))
        for path in (tmp_path / "a.csv", tmp_path / "w.csv"):
            whole = path.read_text()
            for length in range(whole.index("\n") + 1, len(whole)):
                path.write_text(whole[:length])
                if whole[length - 1] != "\n":
                    with pytest.raises(TableError):
                        tables.read_analysis_csv(path)

    def test_units_that_a_file_does_not_say(self, tmp_path):
        path = written(tmp_path / "a.csv", "time,fov,cell,value\n1,0,1,2\n")
        assert tables.read_analysis_csv(path, default_units="h")["time"].tolist() == [60]
        with pytest.raises(TableError, match="begin it with a line '# Time units: min'"):
            tables.read_analysis_csv(path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("# Time units: weeks\ntime,fov,cell,value\n1,0,1,2\n", "has times in 'weeks'"),
            ("# Time units: h\n# time unit: min\ntime,fov,cell,value\n1,0,1,2\n", "contradicting lines '# Time units"),
            ("# Time units: min\ntime,cell,value\n1,1,2\n", "has no column 'fov'"),
            ("# Time units: min\ntime,fov,cell,value\n1,0,1,2\n,0,1,2\n", "line 4, column 'time'"),
            ("# Time units: min\ntime,fov,cell,value\n1,0,1,two\n", "line 3, column 'value': 'two' is not a number"),
            ("# Time units: min\ntime,GFP\n1,0\n", "column 'GFP' is not a cell"),
            ("# Time units: min\ntime,1,0_1\n1,0,0\n", "columns 1, 0_1 are the same cell"),
            ("# Time units: min\nsample,1\n1,0\n", "begins with a column 'sample'"),
            ("# Time units: min\ntime,1\n1,x\n", "line 3, column '1': 'x' is not a number"),
        ],
    )
    def test_what_is_not_right_is_refused(self, tmp_path, text, said):
        with pytest.raises(TableError, match=re.escape(said)):
            tables.read_analysis_csv(written(tmp_path / "a.csv", text))

    def test_units_that_are_none(self, tmp_path):
        table = pd.DataFrame({"time": [0.0], "fov": [0], "cell": [1], "value": [1.0]})
        with pytest.raises(TableError, match="not a unit of time"):
            tables.write_analysis_csv(tmp_path / "a.csv", table, "weeks")
        assert not (tmp_path / "a.csv").exists()

    def test_two_values_at_a_time_have_no_wide_form(self):
        table = pd.DataFrame({"time": [0.0, 0.0], "fov": [2, 2], "cell": [1, 1], "value": [1.0, 2.0]})
        with pytest.raises(TableError, match=r"FOV 2, cell 1 has two values at time 0"):
            tables.as_wide(table)


def test_paths_may_be_text(tmp_path):
    tables.write_analysis_csv(f"{tmp_path}/a.csv", pd.DataFrame({"time": [0.5], "fov": 1, "cell": 2, "value": 3.5}))
    assert tables.read_analysis_csv(f"{tmp_path}/a.csv")["value"].tolist() == [3.5]

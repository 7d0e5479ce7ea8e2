"""CSV of traces, against that of pandas."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pyama_dask.store.trace_csv import place_of, trace_columns, write_traces


def written(path, table):
    write_traces(path, table)
    return path.read_bytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint16", "uint64", "bool"])
def test_numbers_have_the_bytes_of_pandas(tmp_path, dtype):
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 256, 4000 * np.dtype(dtype).itemsize, np.uint8)
    values = rng.integers(0, 2, 4000).astype(bool) if dtype == "bool" else bits.view(dtype)
    if values.dtype.kind == "f":
        values[:12] = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 0.1, 1 / 3, 1234.5, 6e4, 1e-4, -1e-5]
    columns = {"cell": np.arange(len(values)), "value": values}
    assert written(tmp_path / "ours.csv", columns) == written(tmp_path / "pandas.csv", pd.DataFrame(columns))


@pytest.mark.parametrize("rows", [0, 3])
def test_texts_have_the_bytes_of_pandas(tmp_path, rows):
    block = {"cell": np.arange(rows), "frame": np.arange(rows) % 2, "bbox": np.ones((rows, 4), np.int32)}
    odd = ["area, 'µm²'", 'said "twice"', "two\nlines", "ä"]
    values = {name: np.linspace(0, 1e7, rows) for name in odd}
    place = place_of('B"02, left', 3)
    columns = trace_columns([block | values], 2, np.array([0.0, 10.25]), odd, {1: 2}, place, np.array([[0, 0.5]] * 2))
    assert written(tmp_path / "ours.csv", columns) == written(tmp_path / "pandas.csv", pd.DataFrame(columns))
    assert written(tmp_path / "ours.csv", columns).count(b"left") == rows


def test_pandas_is_not_imported_for_the_part_that_writes_them():
    code = "import sys, pyama_dask.steps.extract; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

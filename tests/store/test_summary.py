"""A summary of a FOV is read as it was written."""

from dataclasses import fields, replace

import numpy as np
import pytest
from support.summaries import made_summary

from pyama_dask.errors import StoreError
from pyama_dask.store import intermediate
from pyama_dask.store.summary import AREA_EDGES, FovSummary, load_summary, save_summary, summary_file

UNKNOWN = {"found": np.full(6, -1), "lost": np.full(6, np.nan), "sharpness": np.full(6, np.nan)}


@pytest.mark.parametrize(
    "summary",
    [made_summary(), made_summary(1), made_summary(channels=(2,), features=()), made_summary(**UNKNOWN)],
    ids=["usual", "one frame", "one channel without features", "unknown counts"],
)
def test_it_is_read_as_it_was_written(tmp_path, summary):
    save_summary(tmp_path, summary)
    read = load_summary(tmp_path)
    for of in fields(FovSummary):
        np.testing.assert_array_equal(getattr(read, of.name), getattr(summary, of.name), err_msg=of.name, strict=True)


def test_equal_summaries_are_equal_files(tmp_path):
    first = save_summary(tmp_path, made_summary()).read_bytes()
    assert save_summary(tmp_path, made_summary()).read_bytes() == first
    assert save_summary(tmp_path, replace(made_summary(), short=2)).read_bytes() != first


def test_none_where_there_is_none_or_another_version_wrote_it(tmp_path):
    assert load_summary(tmp_path) is None
    held = intermediate.load(save_summary(tmp_path, made_summary()))
    for without in held:
        intermediate.save(summary_file(tmp_path), **{name: of for name, of in held.items() if name != without})
        assert load_summary(tmp_path) is None
    intermediate.save(summary_file(tmp_path), **{**held, "counts": held["counts"][:-1]})
    assert load_summary(tmp_path) is None


def test_a_damaged_file_is_an_error(tmp_path):
    file = save_summary(tmp_path, made_summary())
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(StoreError, match="damaged"):
        load_summary(tmp_path)


def test_bins_of_areas_begin_at_one_pixel_and_hold_any_frame():
    assert (AREA_EDGES[0], AREA_EDGES[4], AREA_EDGES[-1]) == (1, 2, 2**24)

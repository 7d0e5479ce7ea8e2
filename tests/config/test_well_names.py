import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.config.well_names import parse_well, row_name, well_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("b2", "B02"), (" B02 ", "B02"), ("B002", "B02"), ("h12", "H12"), ("aa3", "AA03"), ("AF48", "AF48")],
)
def test_names_are_normalised(text, name):
    assert well_name(*parse_well(text)) == name


@pytest.mark.parametrize(
    "text", ["", "B", "2", "B0", "B00", "2B", "B123", "AAA1", "B-2", "B2 s1", "ß2", "B²", "B\u0662"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a well\. Fix"):
        parse_well(text)


@given(st.integers(0, 701), st.integers(0, 98))
def test_a_name_leads_back_to_its_place(row, column):
    assert parse_well(well_name(row, column)) == (row, column)


def test_places_sort_as_wells():
    names = ["AA01", "B10", "B02", "Z01", "A12"]
    assert sorted(names, key=parse_well) == ["A12", "B02", "B10", "Z01", "AA01"]


def test_rows_after_z_have_two_letters():
    assert [row_name(row) for row in (0, 25, 26, 31, 701)] == ["A", "Z", "AA", "AF", "ZZ"]

"""Selections of wells, and plates as text."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.config.wells import FORMATS, draw_plate, parse_wells, plate_format, select_wells

INNER = [well_name(row, column) for row, column in product(range(1, 7), range(1, 11))]
"""Inner 60 wells of a plate with 96."""
places = st.tuples(st.integers(0, 31), st.integers(0, 47))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", INNER),
        ("ALL", INNER),
        ("b2", ["B02"]),
        ("D03, b2,B02", ["B02", "D03"]),
        ("C03:D05", ["C03", "C04", "C05", "D03", "D04", "D05"]),
        ("F11:H12", ["F11", "G11"]),
        ("row:E", [f"E{n:02}" for n in range(2, 12)]),
        ("Row:f-h", [f"{row}{n:02}" for row in "FG" for n in range(2, 12)]),
        ("col:1-3", [f"{row}{n:02}" for row in "BCDEFG" for n in (2, 3)]),
        ("COL: 03", [f"{row}03" for row in "BCDEFG"]),
        ("row:B, all", INNER),
    ],
)
def test_selections(text, chosen):
    assert select_wells(text, INNER) == chosen
    assert select_wells(text, INNER[::-1]) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B12", "well B12 is not on the plate; the nearest is B11. Fix: choose a well of the plate"),
        ("C05, h12", "well H12 is not on the plate; the nearest is G11. Fix: "),
        ("A1:A12", "no well of the plate is in 'A1:A12'. Fix: "),
        ("B02, row:H", "no well of the plate is in 'row:H'. Fix: "),
        ("col:12-24", "no well of the plate is in 'col:12-24'. Fix: "),
        ("D05:C03", "range 'D05:C03' runs backwards. Fix: "),
        ("C05:D03", "range 'C05:D03' runs backwards. Fix: "),
        ("col:6-1", "range 'col:6-1' runs backwards. Fix: "),
        ("row:AA-B", "range 'row:AA-B' runs backwards. Fix: "),
        ("", "'' is neither a well nor a range of wells. Fix: "),
        ("B02,", "'' is neither a well nor a range of wells. Fix: "),
        ("row:", "'row:' is neither a well nor a range of wells. Fix: "),
        ("col:0", "'col:0' is neither a well nor a range of wells. Fix: "),
        ("row:2", "'row:2' is neither a well nor a range of wells. Fix: "),
        ("B02-B05", "'B02-B05' is neither a well nor a range of wells. Fix: "),
        ("B0", "'B0' is not a well. Fix: "),
        ("0-5", "'0-5' is neither a well nor a range of wells. Fix: "),
    ],
)
def test_faulty_selections_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        select_wells(text, INNER)


def test_a_plate_without_wells_has_none_to_choose():
    with pytest.raises(ValueError, match="no well of the plate is in 'all'"):
        select_wells("all", [])


def test_names_of_the_plate_are_kept_as_they_are():
    assert select_wells("B02", ["b2", "B3"]) == ["b2"]


@given(st.sets(places, min_size=1), places, places)
def test_a_rectangle_chooses_the_wells_inside(plate, one, other):
    (top, bottom), (left, right) = (sorted(ends) for ends in zip(one, other, strict=True))
    inside = sorted(place for place in plate if top <= place[0] <= bottom and left <= place[1] <= right)
    text = f"{well_name(top, left)}:{well_name(bottom, right)}"
    wells = [well_name(*place) for place in plate]
    if inside:
        assert [parse_well(name) for name in select_wells(text, wells)] == inside
    [block] = parse_wells(text)
    assert all(block.holds(*place) == (place in inside) for place in plate)


# ------------------------------------------------------------------------------------------------------ maps


@given(st.sets(places, min_size=1))
def test_the_format_is_the_smallest_that_holds_all_wells(plate):
    rows, columns = plate_format(well_name(*place) for place in plate)
    assert (rows, columns) in FORMATS
    holding = [size for size in FORMATS if all(row < size[0] and column < size[1] for row, column in plate)]
    assert (rows, columns) == holding[0]


def test_the_plate_that_a_movie_states_is_taken_if_it_has_all_wells():
    assert plate_format(["B02"], (8, 12)) == (8, 12)
    assert plate_format(["B02"], [5, 5]) == (5, 5)
    assert plate_format(["J02"], (8, 12)) == (16, 24)
    assert len(draw_plate({"B02": "o"}, stated=(8, 12)).splitlines()) == 9


def test_wells_beyond_all_formats_make_a_larger_plate():
    assert plate_format(["A01", "AH50"]) == (34, 50)


def test_a_plate_is_drawn_with_its_legend():
    marks = {"a1": "o", "B03": "x", "C02": "o"}
    meanings = {"o": "complete", "x": "failed", "?": "missing", ".": "not imaged"}
    assert draw_plate(marks, legend=meanings).splitlines() == [
        "     1  2  3  4",
        " A   o  .  .  .",
        " B   .  .  x  .",
        " C   .  o  .  .",
        "   o complete   x failed   . not imaged",
    ]


@given(st.dictionaries(places, st.sampled_from("ox+"), min_size=1), st.sampled_from([None, (32, 48)]))
def test_every_well_is_drawn_at_its_place_in_80_columns(marks, shape):
    drawing = draw_plate({well_name(*place): mark for place, mark in marks.items()}, stated=shape).splitlines()
    rows, columns = shape or plate_format(well_name(*place) for place in marks)
    body = drawing[-rows:]
    assert max(map(len, drawing)) <= 80
    for place in product(range(rows), range(columns)):
        at = 3 + place[1] if columns > 24 else 5 + 3 * place[1]
        assert body[place[0]][at] == marks.get(place, ".")


def test_wide_plates_have_their_numbers_in_two_lines():
    tens, ones, first, *_ = draw_plate({"AF48": "o"}).splitlines()
    assert (tens[3 + 47], ones[3 + 47]) == ("4", "8")
    assert (tens[3 + 8 :][:2], ones[3 + 8 :][:2]) == (" 1", "90")
    assert first == " A " + 48 * "."

"""The table of positions: what is wrong in it is said by line, and what is right is read back."""

import pytest

from pyama_dask.errors import TableError
from pyama_dask.runs.positions import Position, positions_text, read_positions

SITES = {"B02": {1: 0, 2: 1}, "C03": {1: 2}}
ROWS = [Position("B02", 1, 0, 0.25, "register", 0.91), Position("B02", 2, 1.5, 90, "stage", 0.0)]


def written(tmp_path, text):
    path = tmp_path / "positions.csv"
    path.write_text(text)
    return path


def test_what_is_written_is_read(tmp_path):
    path = written(tmp_path, positions_text({"B02": ROWS[::-1], "C03": [Position("C03", 1, 0, 0, "stage")]}))
    assert read_positions(path, SITES) == {"B02": ROWS, "C03": [Position("C03", 1, 0, 0, "stage")]}
    assert read_positions(tmp_path / "none.csv", SITES) == {}


def test_a_table_by_hand_needs_four_columns(tmp_path):
    path = written(tmp_path, "x,y,site,well\n90,-3,2,B02\n")
    assert read_positions(path, SITES) == {"B02": [Position("B02", 2, -3, 90, "stage")]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("well,site,y\n", "has no column 'x'"),
        ("well;site;y;x\nB02;1;0;0\n", "uses semicolons"),
        ("well,site,y,x\nB02,1,0\n", "line 2 has 3 values for 4 columns"),
        ("well,site,y,x\nB02,1,0,0\nB3,1,0,0\n", "line 3, column 'well': 'B3' is not in the movie. Fix"),
        ("well,site,y,x\nB02,1,0,0\nb2,1,0,0\n", "line 3, column 'site': '1' is there twice"),
        ("well,site,y,x\nC03,2,0,0\n", "line 2, column 'site': '2' is not a site of the well. Fix"),
        ("well,site,y,x\nB02,1,0,0\nB02,1,0,0\n", "line 3, column 'site': '1' is there twice"),
        ("well,site,y,x\nB02,1,zero,0\n", "line 2, column 'y': 'zero' is not a number"),
        ("well,site,y,x\nB02,1,0,inf\n", "line 2, column 'x': 'inf' is not a number"),
        ("well,site,y,x\nB02,1,0,1e7\n", "line 2, column 'x': '1e7' is more than 1000000 pixels away"),
        ("well,site,y,x,source\nB02,1,0,0,me\n", "line 2, column 'source': 'me' is neither stage nor register"),
    ],
)
def test_a_wrong_table_is_one_clear_message(tmp_path, text, said):
    with pytest.raises(TableError) as refused:
        read_positions(written(tmp_path, text), SITES)
    assert said in str(refused.value)
    assert "positions.csv" in str(refused.value)

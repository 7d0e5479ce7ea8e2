"""Files of overrides: edited cell by cell, and otherwise left as they are."""

import pytest

from pyama_dask.analysis.overrides import load_overrides, set_override, write_overrides
from pyama_dask.errors import ConfigError

WRITTEN = """# checked by hand
overrides:
- {fov: 3, cells: '12, 15', good: false, note: two cells}
# the next one is doubtful
- {fov: 3, cells: 7, good: false, note: "dim, late"}
- {fov: 4, cells: 7, frames: 0-20, good: false}
"""


def items(path):
    found = load_overrides(path.parent, path).items
    return [(item.fov, item.cells, item.frames, item.good, item.note) for item in found]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "good.yaml"
    file.write_text(WRITTEN)
    return file


def test_a_file_is_created(tmp_path):
    set_override(tmp_path / "good.yaml", 3, 12, good=False)
    assert items(tmp_path / "good.yaml") == [("3", "12", "all", False, "")]


def test_a_cell_is_added_at_the_end_where_it_takes_precedence(path):
    set_override(path, 3, 12, good=True)
    assert path.read_text() == WRITTEN + "- {fov: 3, cells: 12, good: true}\n"


def test_the_line_of_a_cell_is_replaced_and_keeps_its_note(path):
    set_override(path, 3, 7, good=True)
    assert items(path)[-1] == ("3", "7", "all", True, "dim, late")
    assert len(items(path)) == 3
    assert "# the next one is doubtful" in path.read_text()


def test_the_line_of_a_cell_is_removed(path):
    set_override(path, 3, 7, good=None)
    assert path.read_text() == "".join(
        line for line in WRITTEN.splitlines(keepends=True) if "cells: 7, good" not in line
    )
    before = path.read_text()
    set_override(path, 3, 99, good=None)
    assert path.read_text() == before


def test_marking_and_taking_back_ends_where_it_began(path, tmp_path):
    for file in (path, tmp_path / "other.yaml"):
        if file != path:
            write_overrides(file, [])
        before = items(file)
        for good in (True, False, False, None):
            set_override(file, 0, 1, good=good)
        assert items(file) == before


@pytest.mark.parametrize(
    "text",
    [
        "# mine\noverrides: [{fov: 3, cells: 12, good: false, note: a}]\n",
        "# mine\noverrides:\n  - fov: 3\n    cells: 12\n    good: false\n    note: a\n",
        "# mine\noverrides:\n    - {fov: 3, cells: 12, good: false, note: a}",
    ],
)
def test_overrides_in_any_style_are_kept(tmp_path, text):
    file = tmp_path / "good.yaml"
    file.write_text(text)
    set_override(file, 3, 5, good=False)
    set_override(file, 3, 12, good=True)
    assert items(file) == [("3", "5", "all", False, ""), ("3", "12", "all", True, "a")]
    assert file.read_text().startswith("# mine\n")


def test_an_invalid_file_is_refused_and_left_alone(path):
    path.write_text("overrides: [{fov: 3}]")
    with pytest.raises(ConfigError, match="cells"):
        set_override(path, 3, 5, good=False)
    assert path.read_text() == "overrides: [{fov: 3}]"

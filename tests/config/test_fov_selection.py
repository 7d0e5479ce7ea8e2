"""Selection of FOVs by number, name and well."""

import pytest
from pydantic import TypeAdapter, ValidationError

from pyama_dask.config.fov_selection import FovPlace, FovSelection, WellSelection, chosen_fov, chosen_fovs

PLATE = [
    FovPlace(0, "B02 s1", "B02", 1),
    FovPlace(1, "B02 s2", "B02", 2),
    FovPlace(2, "D06 s1", "D06", 1),
    FovPlace(3, "left, upper", None),
]
normalised = TypeAdapter(FovSelection).validate_python


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("all", "all"),
        ("3, 0-1", "0-1, 3"),
        ([2, 0], "0, 2"),
        (7, "7"),
        (" B02 s1 ", "B02 s1"),
        ("2, B02 s1", "2, B02 s1"),
        (["D6", 1], "D6, 1"),
    ],
)
def test_the_config_keeps_names(given, kept):
    assert normalised(given) == kept


@pytest.mark.parametrize("given", ["", "1-", "3-1", "1;2", True, -1, [], [True], {}])
def test_what_is_neither_numbers_nor_names_is_refused(given):
    with pytest.raises(ValidationError):
        normalised(given)


@pytest.mark.parametrize(
    ("selection", "fovs"),
    [
        ("all", [0, 1, 2, 3]),
        ("1-2", [1, 2]),
        ("B02 s2", [1]),
        ("b2", [0, 1]),
        ("D6, 0", [0, 2]),
        ("left, upper", [3]),
    ],
)
def test_names_stand_for_fovs_and_wells(selection, fovs):
    assert chosen_fovs(selection, PLATE, "plate") == fovs


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("2-4", "4 is not in plate, whose FOVs are 0-3"),
        ("B02 s3", r"'B02 s3' is not in plate\. Fix: .*'B02 s[12]'"),
        ("E07", "'E07' is not in plate"),
        ("1-", "must be 'all', or numbers and ranges"),
    ],
)
def test_others_are_refused_with_the_nearest(selection, said):
    with pytest.raises(ValueError, match=said):
        chosen_fovs(selection, PLATE, "plate")


@pytest.mark.parametrize(("name", "fov"), [("2", 2), ("B02 s2", 1), (" D06 s1 ", 2), ("d6", 2), ("left, upper", 3)])
def test_one_fov(name, fov):
    assert chosen_fov(name, PLATE, "plate") == fov


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("B02", "'B02' means 2 FOVs of plate. Fix: choose one of them, such as B02 s1, B02 s2"),
        ("0-2", "'0-2' means 3 FOVs of plate"),
        ("7", "7 is not in plate, whose FOVs are 0-3"),
        ("C02", "'C02' is not in plate"),
    ],
)
def test_several_or_none_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        chosen_fov(name, PLATE, "plate")


def test_titles_name_sites_of_wells():
    assert [place.title for place in PLATE[2:]] == ["FOV 2 (D06 s1)", "FOV 3"]


def test_wells_may_be_a_list():
    selection = TypeAdapter(WellSelection)
    assert selection.validate_python(["B02", "C03:D05"]) == "B02, C03:D05"
    for value in (1e3, None, ["B02", 3], {"a": 1}):
        with pytest.raises(ValidationError, match=r"names wells by .* Fix: write 'all', or wells and ranges"):
            selection.validate_python(value)

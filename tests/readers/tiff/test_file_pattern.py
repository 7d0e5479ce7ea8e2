"""Patterns of file names match what they say, and faults in them are explained."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.errors import ConfigError
from pyama_dask.readers.tiff.pattern import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "texts"),
    [
        ("img_p{fov:03}_t{frame:03}_c{channel}.tif", "img_p001_t020_c1.tif",
         {"fov": "001", "frame": "020", "channel": "1"}),
        ("img_p{fov:03}_t{frame:03}_c{channel}.tif", "img_p001_t1020_cGFP_2.tif",
         {"fov": "001", "frame": "1020", "channel": "GFP_2"}),
        ("img_p{fov:03}_t{frame:03}.tif", "img_p01_t020.tif", None),
        ("img_p{fov:03}_t{frame:03}.tif", "img_p0001_t020.tif", None),
        ("img_p{fov:03}_t{frame:03}.tif", "img_p001_t020.tiff", None),
        ("img_p{fov:03}_t{frame:03}.tif", "img_p001_t020_c1.tif", None),
        ("img_p{fov}.tif", "img_pA.tif", None),
        ("{well}/s{site:1}_z{z}.TIF", "b2/s12_z003.TIF", {"well": "b2", "site": "12", "z": "003"}),
        ("{well}_s{site}.tif", "Run7_C12_s3.tif", None),
        ("Run*_{well}_s{site}.tif", "Run7_A1_C12_s3.tif", {"well": "C12", "site": "3"}),
        ("{well}/{well}_*.tif", "B02/B02_1.tif", {"well": "B02"}),
        ("{well}/{well}_*.tif", "B02/B03_1.tif", None),
        ("a.b_{frame}+(1).tif", "a.b_7+(1).tif", {"frame": "7"}),
        ("a.b_{frame}.tif", "acb_7.tif", None),
        ("*_{frame}.tif", "sub/x_7.tif", None),
        ("{well}.tif", "B0.tif", None),
        ("{frame}.tif", "1234567890.tif", None),
    ],
)  # fmt: skip
def test_pattern_matches_the_whole_path(pattern, name, texts):
    match = compile_pattern(pattern).whole.fullmatch(name)
    assert (match and match.groupdict()) == texts


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1, 8))
def test_numbers_are_those_that_a_format_has_written(fov, frame, width):
    pattern = f"p{{fov:0{width}}}_t{{frame}}.tif"
    match = compile_pattern(pattern).whole.fullmatch(pattern.format(fov=fov, frame=frame))
    assert (int(match["fov"]), int(match["frame"])) == (fov, frame)


def test_letters_before_fields_are_kept():
    assert compile_pattern("{well}/x_pos{site}_{frame}-ch{channel}.tif").letters == {
        "well": "", "site": "pos", "frame": "", "channel": "ch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", r"^'' is not a path below the folder. Fix: start"),
        ("/data/{fov}.tif", "is not a path below"),
        ("../{fov}.tif", "is not a path below"),
        ("a//{fov}.tif", "is not a path below"),
        ("**/{fov}.tif", r"Fix: start at the folder, and write '\*' once per folder"),
        ("{fov}.png", "does not end in .tif or .tiff. Fix: add"),
        ("a.tif", r"has no field. Fix: write '{frame}'"),
        ("{position}_{frame}.tif", "field {position}. Fix: use {fov}, {well}, {site}, {frame}, {channel}, {z}"),
        ("{}_{frame}.tif", r"unknown field {}"),
        ("{fov:3d}.tif", "form, {fov:3d}. Fix: give a width only to {fov}, {site}, {frame}, {z}, as in {fov:03}"),
        ("{channel:02}.tif", "in another form, {channel:02}"),
        ("{fov!r}.tif", "in another form, {fov!r}"),
        ("{fov.tif", "has a brace without its partner. Fix: write each field as '{frame}'"),
        ("fov}_{frame}.tif", "has a brace without"),
        ("{{fov}}.tif", "has a brace without"),
        ("{fov}{frame}.tif", "has no text between {fov} and {frame}. Fix: put a character"),
        ("*{frame}.tif", r"has no text between \* and {frame}"),
        ("{well}_{fov}.tif", r"has {fov} and {well}. Fix: write {site}"),
        ("{site}_{frame}.tif", r"has {site}, but no {well}. Fix: add {well}, or write {fov}"),
    ],
)  # fmt: skip
def test_faults_are_explained(pattern, message):
    with pytest.raises(ConfigError, match=message):
        compile_pattern(pattern)


def test_many_stars_are_refused():
    with pytest.raises(ConfigError, match=r"has more than 4 '\*' in a name\. Fix: let one of them stand for more"):
        compile_pattern("p{fov}_" + "*x" * 20 + ".tif")

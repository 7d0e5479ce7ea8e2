"""Descriptions of ImageXpress plates."""

import pytest

from pyama_dask.readers.imagexpress.htd import PlateDescription, is_description, parse_description

TEXT = """\
"HTSInfoFile", Version 1.0
"Description", "steps of 2 \u00b5m, "quoted", "
"TimePoints", 6
"ZSeries", TRUE
"ZSteps", 3
"XWells", 3
"YWells", 2
"WellsSelection1", FALSE, TRUE, TRUE
"WellsSelection2", TRUE, FALSE, FALSE
"Sites", TRUE
"XSites", 2
"YSites", 2
"SiteSelection1", TRUE, FALSE
"SiteSelection2", TRUE, TRUE
"NWavelengths", 3
"WaveName1", "DAPI, 5%"
"WaveName2", "Texas Red"
"WaveName3", ""
"EndFile"
""".replace("\n", "\r\n")
KNOWN = PlateDescription(
    frames=6,
    z_planes=3,
    plate_shape=(2, 3),
    wells=("A02", "A03", "B01"),
    sites=3,
    channels=3,
    names={1: "DAPI, 5%", 2: "Texas Red"},
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252", "latin-1"])
def test_description_in_any_encoding(encoding):
    assert is_description(TEXT.encode(encoding)[:64])
    assert parse_description(TEXT.encode(encoding)) == KNOWN


def test_control_characters_of_code_pages_do_not_matter():
    """MetaXpress ends lines of the description with a byte that some code pages lack; others end lines in Unicode."""
    text = TEXT.encode("latin-1").replace(b"steps of", b"z:\x81\x85\x0b\x0c\xa0\x00steps\r of")
    assert parse_description(text) == KNOWN


def test_absent_and_odd_values_have_defaults():
    assert parse_description(b"") == PlateDescription()
    odd = (
        '"TimePoints", many\n"ZSeries", FALSE\n"ZSteps", 0\n"Sites", TRUE\n"XSites", 3\n"YSites", 2\n"NWavelengths", \n'
    )
    assert parse_description(odd.encode()) == PlateDescription(sites=6)
    assert not is_description(b"<html>")


@pytest.mark.parametrize("number", ["999999999999", "9" * 5000])
def test_absurd_numbers_have_defaults(number):
    """Lists of so many channels or sites would fill the memory."""
    text = f'"NWavelengths", {number}\n"Sites", TRUE\n"XSites", {number}\n"YSites", 2\n'
    assert parse_description(text.encode()) == PlateDescription(sites=2)

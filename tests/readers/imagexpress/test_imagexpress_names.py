"""Names of files and folders in ImageXpress plates, read from right to left."""

import pytest

from pyama_dask.readers.imagexpress.names import ImageName, parse_folder_name, parse_image_name

GUID = "19DACB95-CB7D-4899-9AB4-D4E10B44145D"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("9987_B02.TIF", ("9987", "B02", 1, 1, False)),
        ("9987_B02_s2_w3.tif", ("9987", "B02", 2, 3, False)),
        ("9987_B02_w3.tiff", ("9987", "B02", 1, 3, False)),
        ("9987_B02_s12.TIFF", ("9987", "B02", 12, 1, False)),
        ("9987_AA10_s1_w1.TIF", ("9987", "AA10", 1, 1, False)),
        ("B02_s1_w1.TIF", ("", "B02", 1, 1, False)),
        # the first digits of a GUID follow those of the site or the wave
        (f"P_E07_s2{GUID}.tif", ("P", "E07", 2, 1, False)),
        (f"P_E07_s1_w3{GUID}.tif", ("P", "E07", 1, 3, False)),
        (f"P_E07_s11_w13{GUID.lower()}.tif", ("P", "E07", 11, 13, False)),
        (f"P_E07{GUID}.tif", ("P", "E07", 1, 1, False)),
        (f"P_E07_s1_[{GUID}].tif", ("P", "E07", 1, 1, False)),
        (f"P_E07_s1_w3_thumb{GUID}.tif", ("P", "E07", 1, 3, True)),
        (f"P_E07_s1_thumb_[{GUID}].tif", ("P", "E07", 1, 1, True)),
        ("P_E07_s1_thumb.tif", ("P", "E07", 1, 1, True)),
        # plates that look like wells and sites
        ("9987_A01_B02_s1_w2.TIF", ("9987_A01", "B02", 1, 2, False)),
        ("9987_A01_B02.TIF", ("9987_A01", "B02", 1, 1, False)),
        ("Run7_C12_s3_B02_s1.TIF", ("Run7_C12_s3", "B02", 1, 1, False)),
        ("w1_s1_B02_s1_w2.TIF", ("w1_s1", "B02", 1, 2, False)),
        (f"P-{GUID}_B02_s1{GUID}.TIF", (f"P-{GUID}", "B02", 1, 1, False)),
    ],
)
def test_parts_of_an_image_name(name, parts):
    assert parse_image_name(name) == ImageName(*parts)


@pytest.mark.parametrize(
    "name",
    [
        "s_C001.tif",
        "9987_B2_s1.TIF",
        "9987_b02_s1.TIF",
        "9987_B00_s1.TIF",
        "9987_B02_s1_w2.png",
        "9987_B02_s1_w2_mask.TIF",
        f"9987_B02_s1{GUID[:-1]}.TIF",
        "._9987_B02_s1.TIF",
        "9987.HTD",
    ],
)
def test_other_files_are_no_images(name):
    assert parse_image_name(name) is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("TimePoint_2", ("timepoint", 2)),
        ("TimePoint12", ("timepoint", 12)),
        ("timepoint_03", ("timepoint", 3)),
        ("ZStep_0", ("zstep", 0)),
        ("ZStep7", ("zstep", 7)),
        ("ZStep_", None),
        ("Thumbs", None),
    ],
)
def test_parts_of_a_folder_name(name, parts):
    assert parse_folder_name(name) == parts

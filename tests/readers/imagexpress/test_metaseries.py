"""Heads of TIFF files of MetaMorph, wherever their parts lie."""

import math
import struct

import numpy as np
import pytest
import tifffile
from support.plates import metaseries, write_image

from pyama_dask.readers.imagexpress.metaseries import read_head

TEXT = metaseries(time=75.25, z_position="9000")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bigtiff", [False, True])
def test_head_in_both_byte_orders_and_in_bigtiff(tmp_path, order, bigtiff):
    path = write_image(tmp_path / "a.tif", description=TEXT, options={"byteorder": order, "bigtiff": bigtiff})
    head = read_head(path)
    assert (head.shape, head.dtype, head.samples, head.is_metamorph) == ((6, 8), "uint16", 1, True)
    assert head.seconds % 86400 == 10 * 3600 + 75.25
    assert head.pixel_size_um == 0.65
    assert head.pair("stage-position-x", "stage-position-y") == (5380, 2240.5)
    assert (head.value("image-name"), head.value("no such"), head.number("image-name")) == ("GFP", None, None)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_pixel_types(tmp_path, kind):
    assert read_head(write_image(tmp_path / "a.tif", dtype=kind)).dtype == np.dtype(kind).name


def test_colours_are_seen(tmp_path):
    path = write_image(tmp_path / "a.tif", shape=(6, 8, 3), dtype=np.uint8, options={"photometric": "rgb"})
    assert read_head(path).samples == 3


def tagged(path, tags, data=b"", gap=40_000, after=b""):
    """Write a little-endian TIFF file with its directory behind the pixels; `data` follows the directory."""
    at = 8 + gap
    end = at + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, kind, n, end + place if far else place) for tag, kind, n, place, far in tags
    )
    head = struct.pack("<2sHI", b"II", 42, at) + bytes(gap)
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4) + data + after)
    return path


SIZE = [(256, 3, 1, 8, 0), (257, 3, 1, 6, 0), (258, 3, 1, 16, 0), (259, 3, 1, 1, 0), (262, 3, 1, 1, 0)]
STRIP = [(273, 4, 1, 8, 0), (277, 3, 1, 1, 0), (279, 4, 1, 96, 0)]


@pytest.mark.parametrize("padding", [0, 30_000])
def test_directory_and_description_at_the_end(tmp_path, padding):
    """Exported files begin with the pixels; a long description may end beyond what is read with the directory."""
    text = (TEXT + " " * padding).encode() + b"\0"
    path = tagged(tmp_path / "a.tif", [*SIZE, (270, 2, len(text), 0, 1), *STRIP], text)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.description.rstrip() == TEXT
    head = read_head(path)
    assert (head.shape, head.dtype, len(head.text)) == ((6, 8), "uint16", len(text))
    assert head.seconds % 86400 == 10 * 3600 + 75.25


def test_tags_of_stk_files(tmp_path):
    """Files before MetaSeries: calibration in UIC1, time in UIC2, stage position in UIC4."""
    julian = 2461042  # 2026-01-01
    uic2 = struct.pack("<6I", 0, 1, julian, 36_075_250, julian, 0)
    fraction, unit = struct.pack("<2I", 13, 20), struct.pack("<I", 3) + b"um\0"
    uic4 = struct.pack("<H4IH", 28, 5380, 1, 4481, 2, 0)
    place = 8 + 40_000 + 2 + 12 * 11 + 4
    at = [len(uic2), len(uic2) + 24]
    uic1 = struct.pack("<6I", 3, 1, 4, place + at[1], 6, place + at[1] + len(fraction))
    tags = [*SIZE, *STRIP, (33628, 4, 3, at[0], 1), (33629, 5, 1, 0, 1), (33631, 4, 1, at[1] + 8 + len(unit), 1)]
    head = read_head(tagged(tmp_path / "a.tif", tags, uic2 + uic1 + fraction + unit + uic4))
    assert (head.shape, head.dtype, head.is_metamorph) == ((6, 8), "uint16", True)
    assert head.pixel_size_um == 0.65
    assert head.pair("stage-position-x", "stage-position-y") == (5380, 2240.5)
    assert head.seconds % 86400 == 10 * 3600 + 75.25


def test_values_that_are_absent_or_odd(tmp_path):
    head = read_head(write_image(tmp_path / "a.tif", description="<MetaData><PlaneInfo></PlaneInfo></MetaData>"))
    assert math.isnan(head.seconds)
    assert (head.pixel_size_um, head.pair("stage-position-x", "stage-position-y")) == (None, None)
    odd = {"acquisition_time_local": "yesterday", "stage_position_x": "inf", "spatial_calibration_x": "0"}
    head = read_head(write_image(tmp_path / "a.tif", **odd))
    assert math.isnan(head.seconds)
    assert (head.pixel_size_um, head.number("stage-position-x")) == (None, None)
    assert read_head(write_image(tmp_path / "a.tif", spatial_calibration_state="off")).pixel_size_um is None
    assert read_head(write_image(tmp_path / "a.tif", spatial_calibration_units="nm")).pixel_size_um == pytest.approx(
        0.65e-3
    )
    assert read_head(write_image(tmp_path / "a.tif", image_name="5 &#37; &lt;")).value("image-name") == "5 % <"
    assert not read_head(write_image(tmp_path / "a.tif", description="some other program")).is_metamorph
    assert not read_head(write_image(tmp_path / "a.tif", description="")).is_metamorph


def test_files_that_cannot_be_read_have_no_head(tmp_path):
    whole = write_image(tmp_path / "a.tif", description=TEXT).read_bytes()
    for cut in (0, 3, 9, 60):
        (tmp_path / "b.tif").write_bytes(whole[:cut])
        assert read_head(tmp_path / "b.tif") is None
    (tmp_path / "b.tif").write_bytes(b"something else" * 100)
    assert read_head(tmp_path / "b.tif") is None
    assert read_head(tmp_path / "c.tif") is None
    assert read_head(tmp_path) is None

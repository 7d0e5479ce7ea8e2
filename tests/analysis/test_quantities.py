"""Names of quantities, from names and heads of tables."""

import pytest

from pyama_dask.analysis.quantities import TableHead, name_parts, value_label


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("control_intensity_total_ch_1", ("control", "intensity_total_ch_1")),
        ("my_drug_5nM_area_ch_0", ("my_drug_5nM", "area_ch_0")),
        ("a_b_blur_ch_2", ("a_b", "blur_ch_2")),
        ("something", ("something", "")),
    ],
)
def test_names_are_taken_apart(stem, parts):
    assert name_parts(stem) == parts


@pytest.mark.parametrize(
    ("measured", "channel", "label"),
    [
        ("intensity_total_ch_1", "GFP", "total intensity, GFP (grey levels)"),
        ("intensity_variance_ch_2", "", "variance of intensity, channel 2 (grey levels²)"),
        ("area_ch_0", "Phase", "area (pixels)"),
        ("aspect_ratio_ch_0", "Phase", "aspect ratio"),
        ("lipid_drops_ch_3", "Nile red", "lipid drops, Nile red"),
        ("", "", "value"),
    ],
)
def test_labels_have_channel_and_unit_where_they_are_known(measured, channel, label):
    assert value_label(measured, channel) == label


@pytest.mark.parametrize(
    ("text", "channel", "has_traces"),
    [
        ("# Time units: min\n# Channel: GFP 488\ntime,fov,cell,value\n", "GFP 488", True),
        ("\ufeff# Time units: h\r\ntime,1,fov_002_cell_3\r\n", "", True),
        ("# Channel: A\ntime,GFP\n", "A", False),
        ("fov,cell,flagged\n", "", False),
        ("", "", False),
    ],
)
def test_heads_of_tables(tmp_path, text, channel, has_traces):
    (tmp_path / "a.csv").write_bytes(text.encode())
    head = TableHead.read(tmp_path / "a.csv")
    assert (head.channel, head.has_traces) == (channel, has_traces)


def test_a_file_that_cannot_be_read_has_no_head(tmp_path):
    assert TableHead.read(tmp_path) == TableHead.read(tmp_path / "none.csv") == TableHead((), ())

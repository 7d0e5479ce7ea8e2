"""Figures as SVG: they are well-formed, everything is inside, and gaps and single frames are drawn."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pyama_dask.report.figures import HEIGHT, WIDTH, Line, band, bars, traces
from pyama_dask.report.maps import heat, timeline

T = np.arange(6.0)
NAN = np.nan


def parsed(svg):
    return ET.fromstring(str(svg))


def numbers(svg, kind):
    """Coordinates of all paths of a class."""
    return [
        [float(value) for value in re.findall(r"-?[\d.]+", path.get("d"))]
        for path in parsed(svg).iter("path")
        if kind in path.get("class", "").split()
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 6])
def test_bands_of_any_length_stay_inside(size):
    y = np.linspace(3, 900, size)
    svg = band(T[:size], [Line(y, ((y - 2, y + 200),))], "time / min", "<a> & b")
    for path in numbers(svg, "line") + numbers(svg, "band"):
        assert all(-1 <= value <= max(WIDTH, HEIGHT) for value in path)
    assert len(numbers(svg, "line")) == (size > 0)
    assert parsed(svg).get("aria-label") == "<a> & b"


def test_unknown_values_leave_gaps():
    svg = band(T, [Line(np.array([1, 2, NAN, 4, NAN, 6]))], "t", "gaps")
    assert len(numbers(svg, "line")) == 3
    assert len(numbers(band(T, [Line(np.full(6, NAN))], "t", "unknown"), "line")) == 0


def test_bars_are_as_high_as_their_counts():
    svg = parsed(bars(np.arange(4.0), [("a", 0, np.array([10.0, 0, 5])), ("b", 1, np.array([0, 0, 5.0]))], "x", "bars"))
    heights = [float(bar.get("height")) for bar in svg.iter("rect")]
    assert heights[0] == pytest.approx(heights[1] + heights[2], abs=0.11)
    assert heights[1] == pytest.approx(heights[2], abs=0.11)
    assert [bar.find("title").text for bar in svg.iter("rect")] == ["10 a", "5 a", "5 b"]


def test_traces_draw_every_cell_and_their_median():
    every = np.array([[1, 2, 3, 4, 5, 6.0], [3, NAN, NAN, 6, 7, 8]])
    svg = traces(T, every, "t", "traces")
    assert str(svg).count("M", str(svg).index("thin")) >= 3
    assert len(numbers(svg, "line")) == 1
    assert numbers(traces(T, np.zeros((0, 6)), "t", "empty"), "line") == []


def test_maps_and_timelines_hold_a_picture_within_axes():
    values = np.array([[1, 2, NAN], [0.5, 1, 4]])
    for svg in (heat(values, [3, 7], [0, 1, 2], "map"), heat(values, [3, 7], [0, 1, 2], "map", relative=True)):
        assert len(list(parsed(svg).iter("image"))) == 2  # the map, and its scale
        assert {"3", "7"} <= {text.text for text in parsed(svg).iter("text")}
    svg = timeline([("a", 0, 5, 0), ("b", 2, 9, 1)], ["#000000", "#ffffff"], str.upper, "timeline")
    assert {"A", "B"} <= {text.text for text in parsed(svg).iter("text")}
    parsed(heat(np.zeros((0, 0)), [], [], "nothing"))
    parsed(timeline([], ["#000000"], str, "nothing"))

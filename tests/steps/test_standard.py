"""What a config asks for, as the table of parts sees it."""

import pytest

from pyama_dask.config.load import parse_config
from pyama_dask.methods.tracker_parameters import tracking_parameters
from pyama_dask.steps.standard import fills_gaps

TRACKER = """
from pyama_dask.kernels.tracking import link

def follow(boxes, *, fill_gaps: bool = True):
    return link(boxes)
"""


def config(method, given):
    params = {"tracking_method": method, "tracking_params": tracking_parameters(method, given)}
    return parse_config({"input": "a.nd2", "output": "b", "channels": {"pc": {"channel": 0}}, "params": params})


@pytest.mark.parametrize(
    ("method", "given", "filled"),
    [("lap", {}, True), ("lap", {"fill_gaps": False}, False), ("iou", {}, False), ("iou", {"fill_gaps": True}, True)],
)
def test_gaps_are_filled_if_the_config_says_so(method, given, filled):
    assert fills_gaps(config(method, given)) is filled


def test_a_parameter_of_the_tracker_itself_fills_nothing(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(TRACKER)
    assert not fills_gaps(config(f"{file}:follow", {}))

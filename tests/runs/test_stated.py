"""What the config states about a movie counts instead of what the file states."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.configs import PLAIN

from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError
from pyama_dask.plan.resolve import frame_times
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import Channel, FovInfo
from pyama_dask.runs.stated import as_stated, contradicted

MOVIE = Metadata(
    Path("m.nd2"), "ND2", (FovInfo("a", (8, 8)), FovInfo("b", (8, 8))), 4, (Channel("p", "uint16"),), pixel_size_um=0.65
)
STAMPED = replace(MOVIE, times_min=np.array([[0.0, 10, 20, 31], [1.0, 11, 21, 32]]), time_source="clock")
IN_WELLS = replace(MOVIE, fovs=tuple(FovInfo(well, (8, 8), well=well) for well in ("B02", "H12")), plate_shape=(8, 12))


def stating(**facts):
    return parse_config(PLAIN | {"input": {"file": "m.nd2"} | facts})


def test_nothing_stated_leaves_all_as_it_is():
    assert as_stated(STAMPED, stating()) is STAMPED
    assert not [*contradicted(STAMPED, stating())]


def test_the_pixel_size():
    assert as_stated(MOVIE, stating(pixel_size=1.3)).pixel_size_um == 1.3
    assert [*contradicted(MOVIE, stating(pixel_size=0.6501))] == []
    assert [*contradicted(MOVIE, stating(pixel_size=1.3))] == [
        "input.pixel_size is 1.3 um; m.nd2 states 0.65 um, which is not used"
    ]


@pytest.mark.parametrize(
    ("movie", "said"),
    [
        (STAMPED, ["input.frame_interval is 5 min; m.nd2 states 10 min (clock), which is not used"]),
        (
            replace(MOVIE, interval_min=6.0),
            ["input.frame_interval is 5 min; m.nd2 states 6 min (nominal interval), which is not used"],
        ),
        (replace(MOVIE, interval_min=5.01), []),
        (MOVIE, []),
    ],
)
def test_the_interval_counts_instead_of_time_stamps(movie, said):
    given = stating(frame_interval=5)
    times = frame_times(given, as_stated(movie, given), 1, (1, 3))
    assert (times.minutes.tolist(), times.source, times.warning) == ([5, 15], "input.frame_interval, 5 min", None)
    assert [*contradicted(movie, given)] == said


def test_the_plate():
    assert as_stated(IN_WELLS, stating(plate=384)).plate_shape == (16, 24)
    assert [*contradicted(IN_WELLS, stating(plate=384))] == [
        "input.plate is 384; m.nd2 states 8 rows and 12 columns, which are not used"
    ]
    assert not [*contradicted(IN_WELLS, stating(plate=96))]


@pytest.mark.parametrize(
    ("movie", "wells", "said"),
    [(MOVIE, 96, "m.nd2 has no wells"), (IN_WELLS, 48, "well H12 of m.nd2 is not on a plate with 48 wells")],
)
def test_a_plate_that_cannot_be_is_refused(movie, wells, said):
    with pytest.raises(ConfigError, match=rf"input\.plate: {said}.* Fix: "):
        as_stated(movie, stating(plate=wells))

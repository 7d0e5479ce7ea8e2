"""Ticks of axes, and numbers in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.report.axes import axis, number, share

FINITE = st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-6 else 0.0)


@given(st.lists(FINITE, max_size=9), st.booleans(), st.booleans())
def test_every_axis_holds_its_values_and_has_few_distinct_ticks(values, zero, exact):
    found = axis(values, zero=zero, exact=exact)
    assert found.low < found.high
    assert all(-1e-6 <= found.place(value) <= 1 + 1e-6 for value in values)
    assert len(found.ticks) <= 6
    assert len({*found.ticks}) == len(found.ticks)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0, 1e6), ("0", "0.5M", "1.0M")),
        ((0, 16), ("0", "5", "10", "15", "20")),
        ((0, 230_000), ("0", "100k", "200k", "300k")),
        ((0.81, 0.94), ("0.80", "0.85", "0.90", "0.95")),
        ((-900, 1100), ("-1000", "-500", "0", "500", "1000", "1500")),
    ],
)
def test_ticks_are_round_and_share_a_suffix(values, labels):
    assert axis(values).labels == labels


def test_counts_and_frames_have_ticks_at_whole_numbers():
    assert axis([0, 1], exact=True, most=6, whole=True).labels == ("0", "1")
    assert axis([-0.5, 1.5], exact=True, most=6, whole=True).labels == ("0", "1")
    assert axis([0, 90], most=6, whole=True).labels == axis([0, 90], most=6).labels


def test_equal_values_get_an_axis_from_zero():
    assert axis([16, 16]).low == 0
    assert axis([-3.0]).high == 0
    assert (axis([]).low, axis([np.nan]).high) == (0, 1)


def test_times_that_begin_a_little_late_still_have_their_first_tick():
    assert axis([0.03, 150.0], exact=True, most=6).ticks[0] == 0


def test_numbers_are_short():
    assert [number(value) for value in (None, np.nan, 0, 1234, 1234567.8, 0.123456, 12.3456)] == [
        "\N{EN DASH}", "\N{EN DASH}", "0", "1,234", "1,234,568", "0.1235", "12.35",
    ]  # fmt: skip
    assert [share(value) for value in (0.0, 0.0123, 0.61, np.nan)] == ["0%", "1.2%", "61%", "\N{EN DASH}"]

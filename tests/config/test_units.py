"""Selections of FOVs and frames, and amounts of memory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import selections

from pyama_dask.config.units import as_ranges, memory_bytes, parse_selection, percent


class TestSelection:
    @given(selections)
    def test_ranges_read_back_as_the_same_numbers(self, numbers):
        text = as_ranges(sorted(numbers))
        assert parse_selection(text) == sorted(numbers)
        assert as_ranges(parse_selection(text)) == text

    @given(st.lists(st.integers(0, 99), min_size=1))
    def test_a_list_in_any_order_and_with_repeats_selects_its_numbers(self, numbers):
        assert parse_selection(numbers) == sorted(set(numbers))

    @given(selections)
    def test_neighbours_are_written_as_one_range(self, numbers):
        parts = [[int(end) for end in part.split("-")] for part in as_ranges(sorted(numbers)).split(", ")]
        assert all(before[-1] + 1 < after[0] for before, after in itertools.pairwise(parts))

    @pytest.mark.parametrize(
        ("text", "numbers"), [("0-5, 7", [0, 1, 2, 3, 4, 5, 7]), (" 3 ", [3]), ("7,0-1", [0, 1, 7]), (3, [3])]
    )
    def test_text(self, text, numbers):
        assert parse_selection(text) == numbers

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("5-3", "runs backwards"),
            ("a", "must be 'all'"),
            ("", "must be 'all'"),
            ("1,,2", "must be 'all'"),
            ("-1", "must be 'all'"),
            ("1.5", "must be 'all'"),
            (1.5, "must be 'all'"),
            (True, "must be 'all'"),
            (-1, "must be 'all'"),
            ([0, -1], "must be 'all'"),
            ([], "must select at least one"),
            (None, "must be 'all'"),
        ],
    )
    def test_what_is_none_is_refused(self, value, says):
        with pytest.raises(ValueError, match=says):
            parse_selection(value)


class TestMemory:
    @pytest.mark.parametrize(("text", "size"), [("512MiB", 2**29), ("2 GiB", 2**31), ("1.5GiB", 3 * 2**29)])
    def test_amounts(self, text, size):
        assert memory_bytes(text) == size

    @pytest.mark.parametrize("text", ["2", "2GB", "2G", "-1GiB", "GiB", "2 gib", "", "1e3MiB"])
    def test_bare_and_ambiguous_amounts_are_refused(self, text):
        with pytest.raises(ValueError, match="MiB or GiB"):
            memory_bytes(text)


def test_percent_has_a_decimal_below_one():
    shares = [0.0, 0.0004, 0.0006, 0.004, 0.00994, 0.00996, 0.614, 1.0]
    assert [percent(share) for share in shares] == ["0%", "<0.1%", "0.1%", "0.4%", "1.0%", "1%", "61%", "100%"]

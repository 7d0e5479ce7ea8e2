"""Events, areas, onsets and values an area: against their definitions, written out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from pyama_dask.analysis.tables import write_analysis_csv
from pyama_dask.analysis.trace_features import area_under_curve, detect_events, normalised_by_area, onset_times
from pyama_dask.errors import ConfigError, TableError
from pyama_dask.kernels.cusum import cusum, noise


def tidy(*traces, step=10.0):
    """Table of traces as cells 1, 2, ... of FOV 3, rows in no order."""
    parts = [
        pd.DataFrame({"time": np.arange(len(trace)) * step, "fov": 3, "cell": cell, "value": np.asarray(trace, float)})
        for cell, trace in enumerate(traces, 1)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def plain_cusum(values, threshold, drift, baseline):
    """The definition, one sum at a time."""
    found, start, scale = [], 0, noise(values)
    while scale > 0 and len(values) - start > baseline:
        reference, known, sums, begun = np.median(values[start : start + baseline]), baseline, [0.0, 0.0], [None, None]
        for k in range(start + 1, len(values)):
            away = (values[k] - reference) / scale
            sums = [max(0.0, sums[0] + away - drift), max(0.0, sums[1] - away - drift)]
            begun = [None if s == 0 else (k if b is None else b) for s, b in zip(sums, begun, strict=True)]
            if k >= start + baseline and sums == [0, 0]:
                known += 1
                reference += (values[k] - reference) / known
            if max(sums) > threshold:
                change = begun[0] if sums[0] > sums[1] else begun[1]
                level = np.median(values[change : change + baseline])
                closer = (j for j in range(change, k + 99) if abs(values[j] - level) <= abs(values[j] - reference))
                found.append((next(closer), level - reference, max(sums)))
                break
        else:
            break
        start = found[-1][0]
    return found


class TestEvents:
    @given(st.integers(0, 2**32 - 1), st.integers(0, 80), st.floats(0, 2), st.integers(1, 12))
    def test_they_are_those_of_the_definition(self, seed, length, drift, baseline):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=length) + np.cumsum(rng.integers(-6, 7, length) * (rng.random(length) < 0.05))
        found = list(zip(*cusum(values, threshold=6.0, drift=drift, baseline=baseline), strict=True))
        np.testing.assert_allclose(
            found, np.reshape(plain_cusum(values, 6.0, drift, baseline), (-1, 3)).tolist() or found
        )
        assert len(found) == len(plain_cusum(values, 6.0, drift, baseline))

    def test_a_rise_and_a_fall_are_found_where_they_are(self):
        rng = np.random.default_rng(1)
        level = np.repeat([0.0, 50.0, 20.0], 40)
        found = detect_events(tidy(level + rng.normal(size=120), rng.normal(size=120)))
        assert found[["fov", "cell"]].to_numpy().tolist() == [[3, 1], [3, 1]]
        assert found["time"].tolist() == [400.0, 800.0]
        np.testing.assert_allclose(found["size"], [50, -30], atol=1.5)
        assert (found["sum"] > 10).all()

    def test_a_step_without_noise(self):
        found = detect_events(tidy([1.0] * 30 + [2.0] * 30))
        assert found[["time", "size"]].to_numpy().tolist() == [[300.0, 1.0]]

    @pytest.mark.parametrize("trace", [[], [1.0], [5.0] * 100, [np.nan] * 50])
    def test_nothing_happens_in_what_never_changes(self, trace):
        assert detect_events(tidy(trace)).empty

    def test_noise_alone_gives_few(self):
        """As the docstring says: 2 % of traces."""
        rng = np.random.default_rng(4)
        assert len(set(detect_events(tidy(*rng.normal(size=(500, 200))))["cell"])) <= 25


class TestAreas:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
    def test_it_is_the_trapezoidal_rule(self, trace):
        found = area_under_curve(tidy(trace, step=2.5))
        assert found["area"][0] == pytest.approx(integrate.trapezoid(trace, dx=2.5), rel=1e-9, abs=1e-6)
        assert found[["time", "points"]].to_numpy().tolist() == [[2.5 * (len(trace) - 1), len(trace)]]

    def test_within_some_time_and_without_what_is_not_there(self):
        found = area_under_curve(tidy([1, 1, np.nan, 1, 100], [4.0]), start=10, stop=30)
        assert found["area"][0] == 20
        assert found["points"].tolist() == [2, 0]
        assert np.isnan(found["area"][1])


class TestOnsets:
    def test_it_is_where_the_level_is_crossed(self):
        noisy = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
        found = onset_times(tidy([*noisy, 50, 100, 150, 200], [*noisy, 50, 0, 0, 0, 0], [0, 1, 0]))
        level = 0 + 5 * noise(np.array([*noisy, 50, 100, 150, 200], float))
        assert found["level"][0] == pytest.approx(level)
        assert found["time"][0] == pytest.approx(90 + 10 * (level - 1) / 49)
        assert np.isnan(found["time"][1:]).all()

    def test_one_that_is_above_from_the_beginning(self):
        assert onset_times(tidy([9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0]), baseline=12, hold=2).empty is False
        found = onset_times(tidy([9, 9, 9, 0, 0, 0, 0, 0, 0]), sigmas=0, hold=2, baseline=7)
        assert found["time"].tolist() == [0.0]


class TestByArea:
    def test_values_are_divided_row_by_row(self):
        values, areas = tidy([10, 20, 30], [1, 2, 3]), tidy([2, 4, 0], [1, np.nan, 3]).sample(frac=1, random_state=3)
        found = normalised_by_area(values, areas).sort_values(["cell", "time"])["value"]
        np.testing.assert_array_equal(found, [5, 5, np.nan, 1, np.nan, 1])
        assert values["value"].max() == 30

    def test_tables_of_other_cells_are_refused(self):
        with pytest.raises(
            TableError, match=r"FOV 3, cell 2 has no area at time 0\. Fix: pass the areas of the same sample"
        ):
            normalised_by_area(tidy([1.0], [1.0]), tidy([1.0]))
        with pytest.raises(TableError, match="areas: a cell has two values at one time"):
            normalised_by_area(tidy([1.0]), pd.concat([tidy([1.0])] * 2))


def test_two_values_at_one_time_are_refused():
    twice = pd.concat([tidy([1.0, 2.0])] * 2)
    for measure in (detect_events, area_under_curve, onset_times):
        with pytest.raises(TableError, match="FOV 3, cell 1 has two values at time 0"):
            measure(twice)


def test_a_file_is_read_with_its_units(tmp_path):
    from pyama_dask.analysis.tables import read_analysis_csv

    write_analysis_csv(tmp_path / "a.csv", tidy([1.0, 1.0, 1.0]))
    assert area_under_curve(read_analysis_csv(tmp_path / "a.csv", units="h"))["area"][0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("measure", "given"),
    [(detect_events, {"baseline": 0}), (detect_events, {"drift": -1}), (onset_times, {"hold": 0})],
)
def test_numbers_that_make_no_sense_are_refused(measure, given):
    with pytest.raises(ConfigError, match=f"{next(iter(given))} {next(iter(given.values()))}"):
        measure(tidy([1.0, 2.0]), **given)

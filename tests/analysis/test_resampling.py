"""Bootstrap of cells in FOVs, effect sizes and tests, against scipy, repeated values and known results."""

import numpy as np
import pytest
from scipy import stats

from pyama_dask.analysis.resampling import (
    cliffs_delta,
    holm,
    interval,
    rank_test,
    resampled,
    resampled_deltas,
    resampled_medians,
)

FOVS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_clusters_are_drawn_whole(rng):
    counts = resampled(FOVS, 400, rng)
    by_fov = np.stack([counts[:, fov == FOVS].sum(1) for fov in range(3)], axis=1) / np.bincount(FOVS)
    assert (by_fov == by_fov.round()).all()  # each draw of a FOV has as many cells as the FOV
    assert (by_fov.sum(1) == 3).all()
    assert by_fov.mean(0) == pytest.approx([1, 1, 1], abs=0.15)
    assert (counts[by_fov[:, 0] == 1][:, :3].std(0) > 0).all()  # and its cells are drawn, too


def test_cells_of_a_single_fov_are_drawn(rng):
    counts = resampled(np.zeros(6), 300, rng)
    assert (counts.sum(1) == 6).all()
    assert counts.mean(0) == pytest.approx(np.ones(6), abs=0.2)
    assert resampled([], 3, rng).shape == (3, 0)


def test_intervals_cover_as_often_as_they_say_where_fovs_differ(rng):
    """Resampling cells alone would cover in about half of the cases."""
    fovs, hits = np.repeat(np.arange(10), 8), 0
    for _ in range(100):
        values = rng.normal(size=10)[fovs] + rng.normal(size=80)
        low, high = interval(resampled_medians(values, resampled(fovs, 200, rng)))
        hits += low < 0 < high
    assert hits >= 88


def test_medians_are_those_of_repeated_values(rng):
    values = rng.normal(size=9).round(1)
    values[[2, 5]] = np.nan
    counts = resampled(FOVS, 50, rng)
    counts[0] = 0
    counts[0, [2, 5]] = 4  # only missing values
    expected = [np.nanmedian(np.repeat(values, of)) if of[~np.isnan(values)].any() else np.nan for of in counts]
    np.testing.assert_array_equal(resampled_medians(values, counts), expected)
    assert np.isnan(resampled_medians(np.full(9, np.nan), counts)).all()


def test_cliffs_delta_has_known_values():
    assert cliffs_delta(np.array([1.0, 2, 3]), np.array([4.0, 5])) == 1
    assert cliffs_delta(np.array([4.0, 5]), np.array([1.0, 2, 3])) == -1
    assert cliffs_delta(np.array([1.0, 1]), np.array([1.0])) == 0
    assert np.isnan(cliffs_delta(np.array([]), np.array([1.0])))


def test_cliffs_delta_is_that_of_all_pairs_and_of_scipy_s_u(rng):
    first, second = rng.integers(0, 9, 40).astype(float), rng.integers(2, 12, 30).astype(float)
    delta = cliffs_delta(first, second)
    assert delta == pytest.approx(np.sign(second[:, None] - first).mean())
    assert delta == pytest.approx(2 * stats.mannwhitneyu(second, first).statistic / (40 * 30) - 1)


def test_deltas_of_resamples_are_those_of_repeated_values(rng):
    first, second = rng.integers(0, 6, 9).astype(float), rng.integers(1, 7, 5).astype(float)
    counts = resampled(FOVS, 20, rng), resampled(np.array([0, 0, 1, 1, 1]), 20, rng)
    found = resampled_deltas(first, second, *counts)
    for delta, a, b in zip(found, *counts, strict=True):
        assert delta == pytest.approx(cliffs_delta(np.repeat(first, a), np.repeat(second, b)))


def test_rank_tests():
    first, second = np.arange(4.0), np.arange(4.0) + 10
    assert rank_test(first, second) == pytest.approx(2 / 70)  # 4 of 8 in 70 ways
    assert np.isnan(rank_test(first[:2], second))
    assert np.isnan(rank_test(np.ones(5), np.ones(6)))


def test_holm_is_that_of_the_textbook():
    given = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(holm(given), [0.03, 0.06, np.nan, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert np.isnan(holm(np.array([np.nan]))).all()

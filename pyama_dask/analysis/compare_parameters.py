"""Tests of fitted parameters between samples, with effect sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.analysis.compared_samples import (
    FEWEST_UNITS,
    Clusters,
    FitsOf,
    Settings,
    count,
    groups_of,
    noun,
    unit_of,
)
from pyama_dask.analysis.resampling import (
    FEWEST,
    Array,
    cliffs_delta,
    holm,
    interval,
    rank_test,
    resampled_deltas,
    resampled_medians,
)

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""Largest adjusted p of a significant difference."""
COLUMNS = (
    "parameter", "unit", "sample_a", "sample_b", "cells_a", "cells_b", "fovs_a", "fovs_b", "wells_a", "wells_b",
    "at_bound_a", "at_bound_b", "median_a", "median_b", "difference", "difference_low", "difference_high",
    "cliffs_delta", "delta_low", "delta_high", "tested", "p", "p_holm", "note",
)  # fmt: skip


def tests_of(samples: Sequence[FitsOf], settings: Settings, name: str, warnings: list[str]) -> pd.DataFrame:
    """Compare each fitted parameter between pairs of samples, b with a; converged fits only.

    Parameters
    ----------
    samples
        Fits of one feature and model.
    settings
        Reference, unit of the test, number of draws, and seed.
    name
        Feature and model, for warnings.
    warnings
        New warnings are added: few cells, FOVs or wells, different settings of the fits.

    Returns
    -------
    Table with `COLUMNS`, without those of wells unless all cells have one: ``difference`` is median_b - median_a;
    ``cliffs_delta`` is above 0 if b is larger; ``tested`` is ``well`` (medians of wells), ``fov`` (of FOVs) or
    ``cell``; ``p`` is of a two-sided Mann-Whitney U test, and ``p_holm`` adjusted for all tests in the table. NaN where
    there are too few values, with a note.

    Raises
    ------
    ConfigError
        If wells are the unit, and a cell has none.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    by_name = {of.name: of for of in samples}
    unit = unit_of(samples, settings)
    warnings += _doubts(samples, unit, name)
    rows = [
        _row(parameter, by_name[first], by_name[second], settings, unit)
        for parameter in settings.chosen(samples[0].parameters)
        for first, second in settings.pairs(list(by_name))
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_holm"] = holm(table["p"].to_numpy(float))
    tested = table[table["p"].notna()]
    if len(tested) and unit != "cell" and (least := _least_p(tested, unit)) > SIGNIFICANT:
        warnings.append(
            f"{name}: {len(tested)} tests of so few {noun(unit)}s cannot give an adjusted p below {least:.2g}. Fix: "
            "test fewer parameters (--parameter), chosen beforehand, or compare with one --reference, or more "
            f"{noun(unit)}s"
        )
    return table if all(of.wells is not None for of in samples) else table.drop(columns=["wells_a", "wells_b"])


def _least_p(tested: pd.DataFrame, unit: str) -> float:
    """Smallest possible p of the tests of wells or FOVs, adjusted: that of samples without overlap."""
    sizes = zip(tested[f"{unit}s_a"], tested[f"{unit}s_b"], strict=True)
    return min(1.0, len(tested) * min(2 / math.comb(a + b, a) for a, b in sizes))


def _doubts(samples: Sequence[FitsOf], unit: str, name: str) -> Iterator[str]:
    """Warnings about the fits of a model."""
    if unit == "cell":
        yield (
            f"{name}: p treats cells as independent, which makes it too small if cells of one FOV are alike. "
            f"Fix: compare at least {FEWEST_UNITS} FOVs of each sample, or replicates"
        )
    if unit == "fov" and any(count(of, "well") < count(of, "fov") for of in samples if of.wells is not None):
        yield (
            f"{name}: p treats FOVs as independent, which makes it too small if those of one well are alike. "
            f"Fix: compare at least {FEWEST_UNITS} wells of each sample"
        )
    fits = [fit for of in samples for fit in of.fits]
    settings = [{key: fit.about.get(key) for key in ("model", "loss", "parameters")} for fit in fits]
    if any(of != settings[0] for of in settings):
        yield f"{name}: samples were fitted with different models, bounds or losses. Fix: fit them together"
    for of in samples:
        converged = [bool(flag) for fit in of.fits for flag in fit.table["success"]]
        if left := len(converged) - sum(converged):
            yield f"{name}: {left} of {len(converged)} fits of sample {of.name} did not converge and are left out"


def _row(parameter: str, first: FitsOf, second: FitsOf, settings: Settings, unit: str) -> dict[str, Any]:
    """Comparison of a parameter in two samples."""
    (a, used_a, bound_a), (b, used_b, bound_b) = first.of(parameter), second.of(parameter)
    groups_a, groups_b = groups_of(first, unit)[used_a], groups_of(second, unit)[used_b]
    about: Mapping[str, Any] = first.fits[0].about["parameters"].get(parameter, {})
    row: dict[str, Any] = {
        "parameter": parameter, "unit": about.get("unit", ""), "sample_a": first.name, "sample_b": second.name,
        "cells_a": len(a), "cells_b": len(b),
        "fovs_a": len(np.unique(first.fovs[used_a])), "fovs_b": len(np.unique(second.fovs[used_b])),
        "wells_a": len(np.unique(groups_of(first, "well")[used_a])),
        "wells_b": len(np.unique(groups_of(second, "well")[used_b])),
        "at_bound_a": bound_a, "at_bound_b": bound_b, "tested": unit, "p": np.nan,
        "note": "; ".join(_notes(a, b, groups_a, groups_b, bound_a + bound_b, unit)),
    }  # fmt: skip
    if min(len(a), len(b)) == 0:
        return row
    row |= {"median_a": np.median(a), "median_b": np.median(b), "cliffs_delta": cliffs_delta(a, b)}
    row["difference"] = row["median_b"] - row["median_a"]
    if min(len(a), len(b)) >= FEWEST:
        drawn_a, drawn_b = settings.resample(first.name, groups_a), settings.resample(second.name, groups_b)
        differences = resampled_medians(b, drawn_b) - resampled_medians(a, drawn_a)
        row["difference_low"], row["difference_high"] = interval(differences)
        row["delta_low"], row["delta_high"] = interval(resampled_deltas(a, b, drawn_a, drawn_b))
        tested = (a, b) if unit == "cell" else (_by_group(a, groups_a), _by_group(b, groups_b))
        row["p"] = rank_test(*tested)
    return row


def _by_group(values: Array, groups: Clusters) -> Array:
    """Median of each well or FOV."""
    return np.array([np.median(values[groups == group]) for group in np.unique(groups)])


def _notes(a: Array, b: Array, groups_a: Clusters, groups_b: Clusters, bound: int, unit: str) -> Iterator[str]:
    """Reasons to doubt a comparison."""
    if min(len(a), len(b)) < FEWEST:
        yield f"fewer than {FEWEST} cells in a sample: not tested"
        return
    groups, name = min(len(np.unique(groups_a)), len(np.unique(groups_b))), noun(unit)
    if np.ptp(np.concatenate([a, b])) == 0:
        yield "all values are equal: not tested"
    elif unit != "cell" and groups < FEWEST:
        yield f"fewer than {FEWEST} {name}s in a sample: not tested"
    if groups == 1:
        yield f"one {name} in a sample: intervals lack the variation between {name}s"
    elif groups < FEWEST_UNITS:
        yield f"few {name}s: intervals may be too narrow"
    if 2 * bound > len(a) + len(b):
        yield "more than half of the values are at a bound"

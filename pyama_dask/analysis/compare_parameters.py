"""Tests of fitted parameters between samples, with effect sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.analysis.compared_samples import Clusters, FitsOf, Settings
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

UNITS = ("auto", "fov", "cell")
FEWEST_FOVS = 4
"""Smallest number of FOVs in each sample for a test of FOVs that can give p < 0.05."""
SIGNIFICANT = 0.05
"""Largest adjusted p of a significant difference."""
COLUMNS = (
    "parameter", "unit", "sample_a", "sample_b", "cells_a", "cells_b", "fovs_a", "fovs_b", "at_bound_a", "at_bound_b",
    "median_a", "median_b", "difference", "difference_low", "difference_high", "cliffs_delta", "delta_low",
    "delta_high", "tested", "p", "p_holm", "note",
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
        New warnings are added: few cells or FOVs, different settings of the fits.

    Returns
    -------
    Table with `COLUMNS`: ``difference`` is median_b - median_a; ``cliffs_delta`` is above 0 if b is larger; ``tested``
    is ``fov`` (medians of FOVs) or ``cell``; ``p`` is of a two-sided Mann-Whitney U test, and ``p_holm`` adjusted for
    all tests in the table. NaN where there are too few values, with a note.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    by_name = {of.name: of for of in samples}
    fovs = min(len(np.unique(of.clusters)) for of in samples)
    unit = settings.unit if settings.unit != "auto" else "fov" if fovs >= FEWEST_FOVS else "cell"
    warnings += _doubts(samples, unit, name)
    rows = [
        _row(parameter, by_name[first], by_name[second], settings, unit)
        for parameter in settings.chosen(samples[0].parameters)
        for first, second in settings.pairs(list(by_name))
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_holm"] = holm(table["p"].to_numpy(float))
    tested = table[table["p"].notna()]
    if len(tested) and unit == "fov" and (least := _least_p(tested)) > SIGNIFICANT:
        warnings.append(
            f"{name}: {len(tested)} tests of so few FOVs cannot give an adjusted p below {least:.2g}. Fix: test fewer "
            "parameters (--parameter), chosen beforehand, or compare with one --reference, or more FOVs"
        )
    return table


def _least_p(tested: pd.DataFrame) -> float:
    """Smallest possible p of the tests of FOVs, adjusted: that of samples without overlap."""
    sizes = zip(tested["fovs_a"], tested["fovs_b"], strict=True)
    return min(1.0, len(tested) * min(2 / math.comb(a + b, a) for a, b in sizes))


def _doubts(samples: Sequence[FitsOf], unit: str, name: str) -> Iterator[str]:
    """Warnings about the fits of a model."""
    if unit == "cell":
        yield (
            f"{name}: p treats cells as independent, which makes it too small if cells of one FOV are alike. "
            f"Fix: compare at least {FEWEST_FOVS} FOVs of each sample, or replicates"
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
    (a, fovs_a, bound_a), (b, fovs_b, bound_b) = first.of(parameter), second.of(parameter)
    about: Mapping[str, Any] = first.fits[0].about["parameters"].get(parameter, {})
    row: dict[str, Any] = {
        "parameter": parameter, "unit": about.get("unit", ""), "sample_a": first.name, "sample_b": second.name,
        "cells_a": len(a), "cells_b": len(b), "fovs_a": len(np.unique(fovs_a)), "fovs_b": len(np.unique(fovs_b)),
        "at_bound_a": bound_a, "at_bound_b": bound_b, "tested": unit, "p": np.nan,
        "note": "; ".join(_notes(a, b, fovs_a, fovs_b, bound_a + bound_b, unit)),
    }  # fmt: skip
    if min(len(a), len(b)) == 0:
        return row
    row |= {"median_a": np.median(a), "median_b": np.median(b), "cliffs_delta": cliffs_delta(a, b)}
    row["difference"] = row["median_b"] - row["median_a"]
    if min(len(a), len(b)) >= FEWEST:
        drawn_a, drawn_b = settings.resample(first.name, fovs_a), settings.resample(second.name, fovs_b)
        differences = resampled_medians(b, drawn_b) - resampled_medians(a, drawn_a)
        row["difference_low"], row["difference_high"] = interval(differences)
        row["delta_low"], row["delta_high"] = interval(resampled_deltas(a, b, drawn_a, drawn_b))
        tested = (_by_fov(a, fovs_a), _by_fov(b, fovs_b)) if unit == "fov" else (a, b)
        row["p"] = rank_test(*tested)
    return row


def _by_fov(values: Array, fovs: Clusters) -> Array:
    """Median of each FOV."""
    return np.array([np.median(values[fovs == fov]) for fov in np.unique(fovs)])


def _notes(a: Array, b: Array, fovs_a: Clusters, fovs_b: Clusters, bound: int, unit: str) -> Iterator[str]:
    """Reasons to doubt a comparison."""
    if min(len(a), len(b)) < FEWEST:
        yield f"fewer than {FEWEST} cells in a sample: not tested"
        return
    fovs = min(len(np.unique(fovs_a)), len(np.unique(fovs_b)))
    if np.ptp(np.concatenate([a, b])) == 0:
        yield "all values are equal: not tested"
    elif unit == "fov" and fovs < FEWEST:
        yield f"fewer than {FEWEST} FOVs in a sample: not tested"
    if fovs == 1:
        yield "one FOV in a sample: intervals lack the variation between FOVs"
    elif fovs < FEWEST_FOVS:
        yield "few FOVs: intervals may be too narrow"
    if 2 * bound > len(a) + len(b):
        yield "more than half of the values are at a bound"

"""Samples that are compared: their cells from all tables, each with its FOV, and its well if there are wells."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fit_tables import Fitted, at_bounds
from pyama_dask.analysis.resampling import Array, Counts, resampled
from pyama_dask.analysis.result_tables import ResultTable
from pyama_dask.errors import ConfigError

Clusters = npt.NDArray[np.int64]
UNITS = ("auto", "well", "fov", "cell")
FEWEST_UNITS = 4
"""Smallest number of wells or FOVs in each sample for a test of them that can give p < 0.05."""


@dataclass(frozen=True)
class Settings:
    """Options of a comparison."""

    reference: str | None = None
    unit: str = "auto"
    draws: int = 1000
    seed: int = 0
    parameters: tuple[str, ...] = ()
    """Parameters to test; empty for all that are fitted."""

    def resample(self, sample: str, clusters: Clusters) -> Counts:
        """Draw cells of a sample; the draws do not depend on the other samples or their order."""
        return resampled(clusters, self.draws, np.random.default_rng([self.seed, zlib.crc32(sample.encode())]))

    def about(self, unit: str) -> str:
        """Origin of the intervals, for the head of a table."""
        of = f"bootstrap of {noun(unit)}s and of the cells in each"
        return f"Intervals: 95 %, {of}, {self.draws} draws, seed {self.seed}"

    def chosen(self, parameters: Sequence[str]) -> list[str]:
        """Parameters to test, of those of a model."""
        return [name for name in parameters if not self.parameters or name in self.parameters]

    def pairs(self, samples: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs to compare: each sample with the reference, or all."""
        if self.reference in samples:
            return [(str(self.reference), other) for other in samples if other != self.reference]
        return [(first, second) for k, first in enumerate(samples) for second in samples[k + 1 :]]


@dataclass(frozen=True)
class TracesOf:
    """Traces of a sample."""

    name: str
    hours: tuple[Array, ...]
    """By table: (cells, times)."""
    values: tuple[Array, ...]
    """By table: (cells, times); NaN if missing."""
    fovs: Clusters
    """(cells,) FOV of each cell; FOVs of different tables have different numbers."""
    wells: Clusters | None
    """(cells,) well of each cell, likewise; None if some cells have none."""
    channel: str = ""

    @classmethod
    def by_sample(cls, tables: Sequence[ResultTable]) -> list[TracesOf]:
        """Samples of some tables of one feature, in order of appearance; those without cells are left out."""
        return [
            cls(
                name,
                tuple(np.broadcast_to(one.traces.hours, one.traces.values.shape) for one in of),
                tuple(one.traces.values for one in of),
                _clusters([one.traces.apart(one.traces.fovs) for one in of]),
                _wells(of),
                next((one.channel for one in of if one.channel), ""),
            )
            for name, of in _named(tables).items()
        ]


@dataclass(frozen=True)
class FitsOf:
    """Fits of a sample."""

    name: str
    fits: tuple[Fitted, ...]
    """By table."""
    fovs: Clusters
    """(cells,) FOV of each cell; FOVs of different tables have different numbers."""
    wells: Clusters | None
    """(cells,) well of each cell, likewise; None if some cells have none."""

    @classmethod
    def by_sample(cls, tables: Sequence[ResultTable]) -> list[FitsOf]:
        """Samples of some tables with fits of one model, in order of appearance."""
        return [
            cls(
                name,
                tuple(one.fitted for one in of if one.fitted),
                _clusters([one.traces.apart(one.traces.fovs) for one in of]),
                _wells(of),
            )
            for name, of in _named(tables).items()
        ]

    @property
    def parameters(self) -> list[str]:
        """Names of the fitted parameters."""
        return [name for name in self.fits[0].parameters if name not in self.fits[0].fixed]

    def of(self, parameter: str) -> tuple[Array, npt.NDArray[np.bool_], int]:
        """Values of the converged fits, (cells,) mask of these, and the number of values at a bound."""
        converged = np.concatenate([of.table["success"].to_numpy(bool) for of in self.fits])
        values = np.concatenate([of.table[parameter].to_numpy(float) for of in self.fits])
        used = converged & np.isfinite(values)
        bounds = [at_bounds(of.table, of.about["parameters"]).get(parameter) for of in self.fits]
        return values[used], used, sum(int(bound.sum()) for bound in bounds if bound is not None)


def _named(tables: Sequence[ResultTable]) -> dict[str, list[ResultTable]]:
    """Tables with cells by sample."""
    found = defaultdict[str, list[ResultTable]](list)
    for table in tables:
        if len(table.traces.cells):
            found[table.sample].append(table)
    return dict(found)


def unit_of(samples: Sequence[TracesOf | FitsOf], settings: Settings) -> str:
    """Choose what is resampled and tested: wells if each sample has enough of them, else FOVs, else cells.

    Raises
    ------
    ConfigError
        If wells are asked for, and a cell has none.
    """
    without = next((of.name for of in samples if of.wells is None), None)
    if settings.unit == "well" and without is not None:
        raise ConfigError(
            f"unit: sample {without} has cells without a well. Fix: use fov, or tables that were merged from a plate"
        )
    if settings.unit != "auto":
        return settings.unit
    if without is None and min(count(of, "well") for of in samples) >= FEWEST_UNITS:
        return "well"
    return "fov" if min(count(of, "fov") for of in samples) >= FEWEST_UNITS else "cell"


def groups_of(sample: TracesOf | FitsOf, unit: str) -> Clusters:
    """(cells,) number of the well of each cell if wells are the unit, else of its FOV."""
    return sample.wells if unit == "well" and sample.wells is not None else sample.fovs


def count(sample: TracesOf | FitsOf, unit: str) -> int:
    """Number of wells, or of FOVs, of a sample."""
    return len(np.unique(groups_of(sample, unit)))


def noun(unit: str) -> str:
    """Word for what is resampled."""
    return "well" if unit == "well" else "FOV"


def _wells(tables: Sequence[ResultTable]) -> Clusters | None:
    """Number the wells of several tables; None if some cells have none."""
    names = [of.traces.labels.get("well") for of in tables]
    known = [
        table.traces.apart(of)
        for table, of in zip(tables, names, strict=True)
        if of is not None and all(isinstance(name, str) and name for name in of.tolist())
    ]
    return _clusters(known) if len(known) == len(names) else None


def _clusters(fovs: Sequence[npt.NDArray[Any]]) -> Clusters:
    """Number the FOVs or wells of several tables."""
    numbers, offset = list[Clusters](), 0
    for of in fovs:
        names, number = np.unique(of, return_inverse=True)
        numbers.append(number.astype(np.int64) + offset)
        offset += len(names)
    return np.concatenate(numbers)

"""Samples that are compared: their cells from all tables, each with its FOV."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fit_tables import Fitted, at_bounds
from pyama_dask.analysis.resampling import Array, Counts, resampled
from pyama_dask.analysis.result_tables import ResultTable

Clusters = npt.NDArray[np.int64]


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

    @property
    def about(self) -> str:
        """Origin of the intervals, for the head of a table."""
        return f"Intervals: 95 %, bootstrap of FOVs and of the cells in each, {self.draws} draws, seed {self.seed}"

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
    clusters: Clusters
    """(cells,) FOV of each cell; FOVs of different tables have different numbers."""
    channel: str = ""

    @classmethod
    def by_sample(cls, tables: Sequence[ResultTable]) -> list[TracesOf]:
        """Samples of some tables of one feature, in order of appearance; those without cells are left out."""
        return [
            cls(
                name,
                tuple(np.broadcast_to(one.traces.hours, one.traces.values.shape) for one in of),
                tuple(one.traces.values for one in of),
                _clusters([one.traces.fovs for one in of]),
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
    clusters: Clusters
    """(cells,) FOV of each cell; FOVs of different tables have different numbers."""

    @classmethod
    def by_sample(cls, tables: Sequence[ResultTable]) -> list[FitsOf]:
        """Samples of some tables with fits of one model, in order of appearance."""
        return [
            cls(name, tuple(one.fitted for one in of if one.fitted), _clusters([one.traces.fovs for one in of]))
            for name, of in _named(tables).items()
        ]

    @property
    def parameters(self) -> list[str]:
        """Names of the fitted parameters."""
        return [name for name in self.fits[0].parameters if name not in self.fits[0].fixed]

    def of(self, parameter: str) -> tuple[Array, Clusters, int]:
        """Values of the converged fits, the FOV of each, and the number of values at a bound."""
        converged = np.concatenate([of.table["success"].to_numpy(bool) for of in self.fits])
        values = np.concatenate([of.table[parameter].to_numpy(float) for of in self.fits])
        used = converged & np.isfinite(values)
        bounds = [at_bounds(of.table, of.about["parameters"]).get(parameter) for of in self.fits]
        return values[used], self.clusters[used], sum(int(bound.sum()) for bound in bounds if bound is not None)


def _named(tables: Sequence[ResultTable]) -> dict[str, list[ResultTable]]:
    """Tables with cells by sample."""
    found = defaultdict[str, list[ResultTable]](list)
    for table in tables:
        if len(table.traces.cells):
            found[table.sample].append(table)
    return dict(found)


def _clusters(fovs: Sequence[npt.NDArray[np.int64]]) -> Clusters:
    """Number the FOVs of several tables."""
    numbers, offset = list[Clusters](), 0
    for of in fovs:
        names, number = np.unique(of, return_inverse=True)
        numbers.append(number.astype(np.int64) + offset)
        offset += len(names)
    return np.concatenate(numbers)

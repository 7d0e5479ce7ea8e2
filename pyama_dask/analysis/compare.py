"""Comparison of samples: medians over time with confidence bands, and tests of fitted parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from pyama_dask.analysis.compare_medians import medians_of
from pyama_dask.analysis.compare_parameters import tests_of
from pyama_dask.analysis.compared_samples import UNITS, FitsOf, Settings, TracesOf, unit_of
from pyama_dask.analysis.figures import FORMATS, check_formats, write_results
from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.given_tables import results_in
from pyama_dask.analysis.plot_comparison import effects_figure, medians_figure
from pyama_dask.analysis.quantities import value_label
from pyama_dask.analysis.result_tables import ResultTable, fits_by_model, read_results
from pyama_dask.config.units import many
from pyama_dask.errors import ConfigError
from pyama_dask.files.html import InTables

if TYPE_CHECKING:
    import pandas as pd

COMPARISON = "comparison"
"""Default folder beside the tables."""
MOST_DRAWS = 100_000


@dataclass(frozen=True, repr=False)
class Comparison(InTables):
    """Compared samples: tables, written files and warnings."""

    files: tuple[Path, ...]
    medians: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By feature with channel: one row per sample and time, see `compare_medians.medians_of`."""
    tests: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By feature and model: one row per parameter and pair of samples, see `compare_parameters.tests_of`."""
    warnings: tuple[str, ...] = ()

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        line = f"medians of {many(len(self.medians), 'feature')}; {many(len(self.files), 'file')}"
        rows = [(path.name, "" if k else path.parent) for k, path in enumerate(self.files)]
        return line, ("file", "folder"), rows


def compare_samples(
    files: Paths,
    directory: str | Path | None = None,
    *,
    feature: str | None = None,
    reference: str | None = None,
    parameters: Sequence[str] = (),
    unit: str = "auto",
    draws: int = 1000,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
    force: bool = False,
) -> Comparison:
    """Compare samples: medians over time with 95 % confidence bands, and a rank test of each fitted parameter.

    Tables of the same sample in different folders, such as replicates, are one sample; their FOVs and wells stay apart.
    Intervals come from a bootstrap of FOVs, or wells, and of the cells in each, with a fixed seed, so that the same
    tables give the same results.

    Parameters
    ----------
    files
        Fits, with the tables of traces beside them; tables of traces without fits; folders of both; and outputs of
        runs, of which the merged tables are taken.
    directory
        Folder for tables and figures; by default ``comparison`` beside the first file.
    feature
        Feature whose fits and tables are taken from folders, or ``all``; by default all fits, or, without any, the
        tables of ``intensity_total``.
    reference
        Sample with which the others are compared; by default, every pair is compared.
    parameters
        Parameters to test; by default all that were fitted. Each further test raises the adjusted p of the others.
    unit
        ``well`` to resample wells and test their medians, ``fov`` for FOVs, ``cell`` to resample FOVs and test cells as
        if they were independent; ``auto`` for the first of them of which every sample has at least
        `compared_samples.FEWEST_UNITS`.
    draws
        Number of resamples.
    seed
        Seed of the resamples.
    formats
        ``png``, ``svg`` or both.
    force
        True to overwrite files that no comparison has written, or that were changed since.

    Raises
    ------
    ConfigError, TableError
        If a table or an option cannot be used, or there are not two samples; nothing was written.
    OutputError
        If a file cannot be written, or would overwrite another file.
    """
    check_formats(formats)
    _in_range("seed", seed, 0, 2**32 - 1)
    _in_range("draws", draws, 100, MOST_DRAWS)
    settings = Settings(reference, _checked(unit), draws, seed, tuple(parameters))
    given = results_in(files, feature, merge=False)
    tables = read_results(given.files)
    warnings = [*given.warnings, *(warning for table in tables for warning in table.warnings)]
    traces, fits = _grouped(tables, warnings, reference)
    _check_parameters(settings, fits)
    medians = {name: medians_of(of, settings, warnings) for name, of in traces.items()}
    tests = {name: tests_of(of, settings, name, warnings) for name, of in fits.items()}
    place = Path(directory) if directory is not None else tables[0].path.parent / COMPARISON
    figures: dict[str, Callable[[], Figure]] = {}
    texts: dict[str, str] = {}
    for name, table in medians.items():
        label = value_label(name, next((of.channel for of in traces[name] if of.channel), ""))
        figures[_joined(name, "medians")] = partial(medians_figure, table, label)
        about = settings.about(unit_of(traces[name], settings))
        texts[_joined(name, "medians.csv")] = f"# Time units: h\n# {about}\n" + _as_csv(table)
    for name, table in tests.items():
        figures[f"{name}_effects"] = partial(effects_figure, table)
        texts[f"{name}_tests.csv"] = f"# {settings.about(unit_of(fits[name], settings))}\n" + _as_csv(table)
    written = write_results(place, texts, figures, formats, "compare", force=force)
    return Comparison(written, medians, tests, tuple(dict.fromkeys(warnings)))


def _grouped(
    tables: Sequence[ResultTable], warnings: list[str], reference: str | None
) -> tuple[dict[str, list[TracesOf]], dict[str, list[FitsOf]]]:
    """Samples with their traces by feature, and with their fits by feature and model; at least two of each."""
    by_feature = defaultdict[str, dict[Path, ResultTable]](dict)
    for table in tables:
        by_feature[table.measured].setdefault(table.source.resolve(), table)
    warnings += [f"{table.path}: has no cells and is left out" for table in tables if not len(table.traces.cells)]
    traces = {name: TracesOf.by_sample(list(of.values())) for name, of in by_feature.items()}
    fits = {name: FitsOf.by_sample(of) for name, of in fits_by_model(tables).items()}
    if reference is not None and not any(of.name == reference for group in traces.values() for of in group):
        known = ", ".join(sorted({of.name for group in traces.values() for of in group}))
        raise ConfigError(f"reference: {reference!r} is not a sample. Fix: choose one of {known}")
    several_traces = {name: group for name, group in traces.items() if len(group) > 1}
    if not several_traces:
        only = ", ".join(sorted({of.name for group in traces.values() for of in group}))
        raise ConfigError(
            f"only one sample for each feature: {only or 'no table'}. Fix: pass tables of two or more samples of the "
            "same feature"
        )
    warnings += [f"{name}: only sample {group[0].name} has it, so it is left out" for name, group in traces.items()
                 if len(group) == 1]  # fmt: skip
    warnings += [f"{name}: sample {reference} has no fits, so every pair is compared" for name, group in fits.items()
                 if reference and all(of.name != reference for of in group)]  # fmt: skip
    several_fits = {name: group for name, group in fits.items() if len(group) > 1}
    warnings += [f"{name}: only sample {group[0].name} has fits, so they are not tested" for name, group in fits.items()
                 if len(group) == 1]  # fmt: skip
    return several_traces, several_fits


def _check_parameters(settings: Settings, fits: Mapping[str, Sequence[FitsOf]]) -> None:
    """Refuse names of parameters that no model has."""
    known = list(dict.fromkeys(name for group in fits.values() for name in group[0].parameters))
    if unknown := [name for name in settings.parameters if name not in known]:
        others = f"choose from {', '.join(known)}" if known else "fit the tables first, with 'pyama-dask fit'"
        raise ConfigError(f"parameters: no fits of {unknown[0]!r}. Fix: {others}")


def _checked(unit: str) -> str:
    if unit not in UNITS:
        raise ConfigError(f"unit: must be one of {', '.join(UNITS)}, not {unit!r}")
    return unit


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}: must be from {low} to {high}, not {value}")


def _joined(name: str, ending: str) -> str:
    return f"{name}_{ending}" if name else ending


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n", na_rep="")

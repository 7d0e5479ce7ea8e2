"""Merging traces by sample."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyama_dask.analysis.fit_tables import is_fitted
from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.merged_tables import TABLE, MergedSample, write_tables
from pyama_dask.analysis.outputs import Fovs, Outputs
from pyama_dask.analysis.plate_map import load_plate_map
from pyama_dask.analysis.sample_traces import TRACES, write_traces
from pyama_dask.analysis.samples import Samples, load_samples, parse_samples, wanted_fovs
from pyama_dask.analysis.well_table import WELLS
from pyama_dask.config.units import as_ranges, many
from pyama_dask.errors import ConfigError
from pyama_dask.files.atomic import check_names, writable
from pyama_dask.files.html import InTables
from pyama_dask.files.manifest import check_free, writing_into

MERGED = "merged"
"""Default folder in the output for merged tables."""


@dataclass(frozen=True, repr=False)
class MergeReport(InTables):
    """Merged tables, and what was left out."""

    files: tuple[Path, ...]
    """Tidy CSVs, one per sample, channel and feature."""
    table: Path
    """Parquet file with all merged traces."""
    samples: tuple[MergedSample, ...]
    warnings: tuple[str, ...]
    cells_set: int = 0
    """Cells whose rows were set good or bad by overrides."""
    wells: Path | None = None
    """CSV with one row per well; None without wells."""
    traces: tuple[Path, ...] = ()
    """CSVs with all columns of the traces, one per sample; only if they were asked for."""

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if any(sample.left_out for sample in self.samples) else 0

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        cells = many(sum(sample.cells for sample in self.samples), "cell")
        rows = [
            (of.name, *([of.movie] if of.movie else []), as_ranges(of.fovs), as_ranges(of.left_out), of.cells, of.rows)
            for of in self.samples
        ]
        samples = many(len({of.name for of in self.samples}), "sample")
        line = f"{samples}, {cells}; {many(len(self.files), 'table')} in {self.table.parent}"
        movie = ["movie"] if any(of.movie for of in self.samples) else []
        return line, ("sample", *movie, "FOVs", "left out", "cells", "rows"), rows


def merge_samples(
    output: Paths,
    samples: str | Path | Samples | Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    good: str | Path | None = None,
    *,
    plate_map: str | Path | None = None,
    filled: bool = True,
    traces: bool = False,
    force: bool = False,
) -> MergeReport:
    """Merge the traces of an output by sample, or those of several outputs.

    For every sample, channel and feature, a tidy CSV ``{sample}_{feature}_ch_{channel}.csv`` with the columns
    ``time,fov,cell,value`` (time in minutes) is written, with good rows only; and one Parquet file with all traces,
    preceded by a column ``sample``. Comments at the top of a CSV state the units of its times, and the name of its
    channel in the movie. Tables of plates have the columns ``well`` and ``site``, and those of the plate map, after
    ``sample`` or ``value``; and a separate table has one row per well. Where gaps are filled, a last column
    ``filled`` of the CSVs marks those rows. Tables of several outputs have a column ``movie``, the name of the folder
    of the output, as cells of different movies may have the same numbers. An inspected copy ``*_traces_inspected.csv``
    replaces the trace file beside it, and ``good.yaml`` overrides both. One FOV is in memory at a time; the files are
    moved into place when all are complete.

    Parameters
    ----------
    output
        Output directory of a run or an older program: with a ``processing_results.yaml``, or with trace tables only; or
        several, or a folder above several.
    samples
        Path of a ``samples.yaml``, or its contents; see `load_samples`. None for one sample for each combination of
        conditions in the plate map.
    directory
        Folder for the tables; by default ``merged`` in the output, or in the folder above several.
    good
        YAML file of overrides; by default ``good.yaml`` in the output, if it exists. For several outputs, each override
        names its ``movie``.
    plate_map
        CSV file with the conditions of wells, which become columns; see `load_plate_map`.
    filled
        False to leave out rows of frames in which the tracker has filled a gap.
    traces
        True to write ``{sample}_traces.csv``, too: all columns and rows of the traces, below comments that name the
        movies, FOVs and settings.
    force
        True to overwrite files that no merge has written, or that were changed since.

    Raises
    ------
    ConfigError
        If the samples, the plate map or overrides are invalid, or two samples would have the same file.
    OutputError
        If `output` is not the output of a run, a sample has no traces at all, or `directory` is not writable or
        contains other files with these names.
    TableError
        If a table of traces or the plate map cannot be read.
    """
    chosen = given_samples(samples) if samples is not None else None
    conditions = load_plate_map(Path(plate_map)) if plate_map is not None else None
    if chosen is None and conditions is None:
        raise ConfigError("no samples. Fix: pass a samples.yaml, or a plate map with --plate-map")
    outputs = Outputs(output, good, filled=filled)
    if conditions is not None:
        outputs.say(conditions.notes(outputs.wells))
        chosen = chosen or conditions.samples(outputs.wells)
    wanted = wanted_fovs(chosen, outputs)
    place = Path(directory) if directory is not None else outputs.given.place(MERGED)
    files = _files(outputs, wanted, place)
    of_traces = {sample: place / f"{sample}{TRACES}" for sample in wanted} if traces else {}
    paths = [path for of in files.values() for path in of.values()]
    names = [TABLE, *([WELLS] if outputs.wells else []), *(path.name for path in (*paths, *of_traces.values()))]
    check_names(place, names)
    with writable(place):
        check_free(place, names, force=force)
        with writing_into(place, "merge", force=force) as folder:
            merged = write_tables(outputs, wanted, files, folder, conditions)
            for sample, path in of_traces.items():
                write_traces(outputs, sample, wanted[sample], folder / path.name)
    outputs.say(_of_before(place, {*paths, *of_traces.values()}))
    return MergeReport(
        tuple(paths),
        place / TABLE,
        tuple(merged),
        tuple(outputs.warnings),
        outputs.cells_set,
        place / WELLS if outputs.wells else None,
        tuple(of_traces.values()),
    )


def _of_before(place: Path, files: Collection[Path]) -> Iterator[str]:
    """Notes on tables from earlier merges, such as those of a renamed sample."""
    tables = sorted({*place.glob("*_ch_*.csv"), *place.glob(f"*{TRACES}")})
    others = [path.name for path in tables if path not in files and not is_fitted(path)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield f"{place}: holds tables of earlier merges: {', '.join(others[:3])}{more}. Fix: remove them"


def given_samples(samples: str | Path | Samples | Mapping[str, Any]) -> Samples:
    """Samples, from a file or its contents."""
    if isinstance(samples, Samples):
        return samples
    return parse_samples(samples) if isinstance(samples, Mapping) else load_samples(Path(samples))


def _files(outputs: Outputs, wanted: Mapping[str, Fovs], place: Path) -> dict[str, dict[str, Path]]:
    """File of every sample and column; refuses equal names."""
    found: dict[str, dict[str, Path]] = {}
    owners: dict[str, str] = {}
    for sample, fovs in wanted.items():
        found[sample] = {column: place / f"{sample}_{column}.csv" for column in outputs.features(fovs)}
        for path in found[sample].values():
            other = owners.setdefault(path.name.casefold(), sample)
            if other != sample:
                raise ConfigError(
                    f"samples {other!r} and {sample!r} would both have the file {path.name}. Fix: rename one"
                )
    return found

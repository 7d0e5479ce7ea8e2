"""Merging traces by sample."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyama_dask.analysis.fit_tables import is_fitted
from pyama_dask.analysis.samples import Samples, load_samples, parse_samples, wanted_fovs
from pyama_dask.analysis.tables import TIDY, analysis_head, analysis_rows
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.analysis.trace_tables import ParquetFile
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import check_names, writable
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.store.trace_csv import BASE_COLUMNS

MERGED = "merged"
"""Folder of the output for what is merged, unless another one is named."""


TABLE = "all_samples.parquet"
"""File with everything that was merged."""


@dataclass(frozen=True)
class MergedSample:
    """What became of a sample."""

    name: str
    fovs: tuple[int, ...]
    """FOVs whose traces are in its tables."""
    left_out: tuple[int, ...]
    """FOVs that it should have had; the warnings say why."""
    cells: int
    """With rows that are good."""
    rows: int
    """That are good."""


@dataclass(frozen=True)
class MergeReport:
    """What was merged, and what was not."""

    files: tuple[Path, ...]
    """One tidy CSV a sample, channel and feature."""
    table: Path
    """Parquet file of everything."""
    samples: tuple[MergedSample, ...]
    warnings: tuple[str, ...]
    cells_set: int = 0
    """Cells of which overrides have set rows good or not."""

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if any(sample.left_out for sample in self.samples) else 0


def merge_samples(
    output: str | Path,
    samples: str | Path | Samples | Mapping[str, Any],
    directory: str | Path | None = None,
    good: str | Path | None = None,
    *,
    force: bool = False,
) -> MergeReport:
    """Put the traces of an output together by sample.

    For every sample, channel and feature a tidy CSV ``{sample}_{feature}_ch_{channel}.csv`` is written, with the
    columns ``time,fov,cell,value`` (time in minutes) and only the rows that are good; and one Parquet file of
    everything, with the columns of the traces after one of the ``sample``. A copy ``*_traces_inspected.csv`` beside a
    trace file is taken in its place, and what ``good.yaml`` says goes over either. One FOV is in memory at a time, and
    files take their places when all of them are whole.

    Parameters
    ----------
    output
        Output directory of a run, or of an older program: with a ``processing_results.yaml``, or tables of traces only.
    samples
        ``samples.yaml``, or what is in it; see `load_samples`.
    directory
        Where the tables go; ``merged`` in the output unless it is named.
    good
        YAML of overrides; ``good.yaml`` in the output, if there is one, unless another one is named.
    force
        Whether to overwrite files that no merge has written, or that were changed since.

    Raises
    ------
    ConfigError
        If the samples or overrides are not valid, or two samples would have the same file.
    OutputError
        If `output` is none of a run, a sample has no traces at all, or `directory` cannot be written to, or has other
        files of these names.
    TableError
        If a table of traces cannot be read.
    """
    chosen = given_samples(samples)
    sources = Sources(Path(output), Path(good) if good is not None else None)
    wanted = wanted_fovs(chosen, sources)
    place = Path(directory) if directory is not None else sources.output / MERGED
    files = _files(sources, wanted, place)
    paths = [path for of in files.values() for path in of.values()]
    names = [TABLE, *(path.name for path in paths)]
    check_names(place, names)
    with writable(place):
        check_free(place, names, force=force)
        with writing_into(place, "merge", force=force) as folder:
            merged = _write(sources, wanted, files, folder)
    sources.say(_of_before(place, paths))
    return MergeReport(
        tuple(paths),
        place / TABLE,
        tuple(merged),
        tuple(sources.warnings),
        len(sources.cells_set),
    )


def _of_before(place: Path, files: Collection[Path]) -> Iterator[str]:
    """Words for tables that are there, but not of this merge: of samples that had another name, for instance."""
    others = [path.name for path in sorted(place.glob("*_ch_*.csv")) if path not in files and not is_fitted(path)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield f"{place}: has tables that are not of this merge: {', '.join(others[:3])}{more}; remove them"


def given_samples(samples: str | Path | Samples | Mapping[str, Any]) -> Samples:
    """Samples, from their file or what is in it."""
    if isinstance(samples, Samples):
        return samples
    return parse_samples(samples) if isinstance(samples, Mapping) else load_samples(Path(samples))


def _files(sources: Sources, wanted: Mapping[str, list[int]], place: Path) -> dict[str, dict[str, Path]]:
    """File of every sample and column; refuses names that are the same."""
    found: dict[str, dict[str, Path]] = {}
    owners: dict[str, str] = {}
    for sample, fovs in wanted.items():
        found[sample] = {column: place / f"{sample}_{column}.csv" for column in sources.features(fovs)}
        for path in found[sample].values():
            other = owners.setdefault(path.name.casefold(), sample)
            if other != sample:
                raise ConfigError(f"samples {other!r} and {sample!r} would both have {path.name}; rename one")
    return found


def _write(
    sources: Sources, wanted: Mapping[str, list[int]], files: Mapping[str, Mapping[str, Path]], folder: Path
) -> list[MergedSample]:
    """Write all tables to a folder."""
    fovs = sorted({fov for of in wanted.values() for fov in of})
    merged = []
    columns = ("sample", *BASE_COLUMNS, *sources.features(fovs))
    with ParquetFile.writing(folder / TABLE, columns) as everything:
        for sample, of in files.items():
            paths = {column: folder / path.name for column, path in of.items()}
            merged.append(_merge_one(sources, sample, wanted[sample], paths, everything))
    return merged


def _merge_one(
    sources: Sources, sample: str, wanted: list[int], paths: Mapping[str, Path], everything: ParquetFile
) -> MergedSample:
    """Write the tables of one sample, FOV by FOV."""
    for path in paths.values():
        path.write_bytes(analysis_head("min"))
    fovs = sources.usable(wanted)
    cells = rows = 0
    for fov in fovs:
        table = sources.read(fov)
        good = table[table["good"]]
        cells, rows = cells + good["cell"].nunique(), rows + len(good)
        for column in sources.fovs[fov].features:
            with paths[column].open("ab") as file:
                file.write(analysis_rows(good[[*TIDY[:3], column]].set_axis(TIDY, axis="columns")))
        everything.add(table.assign(sample=sample))
    if not rows:
        raise OutputError(
            f"{sources.output}: sample {sample!r} has no trace that is good, in FOV {as_ranges(fovs)}; take it out"
        )
    return MergedSample(sample, tuple(fovs), tuple(fov for fov in wanted if fov not in fovs), cells, rows)

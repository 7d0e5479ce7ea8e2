"""Merged tables as they are written: traces by sample, and one row per well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyama_dask.analysis.outputs import Fovs, Outputs
from pyama_dask.analysis.plate_map import PlateMap
from pyama_dask.analysis.tables import TIDY, analysis_head, analysis_rows
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.analysis.trace_tables import ParquetFile
from pyama_dask.analysis.well_table import WELLS, cell_means, well_rows
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import write_bytes
from pyama_dask.store.trace_csv import BASE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

TABLE = "all_samples.parquet"
"""Name of the file with all merged traces."""


@dataclass(frozen=True)
class MergedSample:
    """Counts of one merged sample; of several outputs, those in one of them."""

    name: str
    fovs: tuple[int, ...]
    """FOVs whose traces are in the sample's tables."""
    left_out: tuple[int, ...]
    """FOVs that are missing; the warnings give the reasons."""
    cells: int
    """Cells with good rows."""
    rows: int
    """Good rows."""
    movie: str = ""
    """Movie among several; '' for a single output."""


def write_tables(
    outputs: Outputs,
    wanted: Mapping[str, Fovs],
    files: Mapping[str, Mapping[str, Path]],
    folder: Path,
    conditions: PlateMap | None,
) -> list[MergedSample]:
    """Write all merged tables.

    Parameters
    ----------
    outputs
        Sources of the traces.
    wanted
        FOVs of every sample.
    files
        Names of the CSVs by sample and feature.
    folder
        Folder for the tables.
    conditions
        Conditions of wells, if there is a plate map.
    """
    with MergedTables.writing(outputs, joined(wanted), folder, conditions) as tables:
        merged = [part for sample, of in files.items() for part in tables.add(sample, wanted[sample], of)]
    if outputs.wells:
        tables.write_wells(wanted)
    return merged


def joined(wanted: Mapping[str, Fovs]) -> dict[str, list[int]]:
    """FOVs of all samples, by movie."""
    found: dict[str, set[int]] = {}
    for of in wanted.values():
        for movie, fovs in of.items():
            found.setdefault(movie, set()).update(fovs)
    return {movie: sorted(fovs) for movie, fovs in found.items()}


@dataclass
class MergedTables:
    """Writer of merged tables, sample by sample and FOV by FOV."""

    outputs: Outputs
    folder: Path
    conditions: PlateMap | None
    everything: ParquetFile
    cells: dict[tuple[str, str, int], pd.DataFrame] = field(default_factory=dict)
    """One row per cell, by sample, movie and FOV; of plates only."""

    @classmethod
    @contextmanager
    def writing(cls, outputs: Outputs, fovs: Fovs, folder: Path, conditions: PlateMap | None) -> Iterator[MergedTables]:
        """Yield the writer of the tables of some FOVs."""
        columns = (
            "sample", *labels_of(outputs, fovs, conditions), *BASE_COLUMNS, *outputs.features(fovs),
            *outputs.track_columns(fovs),
        )  # fmt: skip
        text = conditions.text_columns if conditions else ()
        with ParquetFile.writing(folder / TABLE, columns, text) as everything:
            yield cls(outputs, folder, conditions, everything)

    def add(self, sample: str, wanted: Fovs, files: Mapping[str, Path]) -> list[MergedSample]:
        """Write the tables of one sample; `files` are by feature."""
        outputs, paths = self.outputs, {column: self.folder / path.name for column, path in files.items()}
        marked = ["filled"] if "filled" in outputs.track_columns(wanted) else []
        others = [*labels_of(outputs, wanted, self.conditions), *marked]
        for column, path in paths.items():
            path.write_bytes(analysis_head("min", others, outputs.channel_of(column)))
        parts = []
        for sources, of in outputs.of(wanted):
            fovs, cells, rows = sources.usable(of), 0, 0
            for fov in fovs:
                table = self._read(sources, fov)
                good = table[table["good"]]
                cells, rows = cells + good["cell"].nunique(), rows + len(good)
                for column in sources.fovs[fov].features:
                    values = good.reindex(columns=[*TIDY[:3], column, *others]).fillna(dict.fromkeys(marked, False))
                    with paths[column].open("ab") as file:
                        file.write(analysis_rows(values.set_axis([*TIDY, *others], axis="columns"), others))
                self.everything.add(table.assign(sample=sample))
                self._note_cells(sample, sources, fov, table)
            left_out = tuple(fov for fov in of if fov not in fovs)
            parts.append(MergedSample(sample, tuple(fovs), left_out, cells, rows, sources.movie))
        self._check_rows(sample, parts)
        return parts

    def _check_rows(self, sample: str, parts: Sequence[MergedSample]) -> None:
        """Refuse a sample without good rows; of a plate that is a result: cells of a well may all have died."""
        if any(part.rows for part in parts):
            return
        if self.outputs.wells:
            self.outputs.say([f"sample {sample!r}: has no good rows"])
            return
        where = "; ".join(" ".join(filter(None, (part.movie, f"FOV {as_ranges(part.fovs)}"))) for part in parts)
        raise OutputError(f"{self.outputs.name}: sample {sample!r} has no good rows in {where}. Fix: remove it")

    def _read(self, sources: Sources, fov: int) -> pd.DataFrame:
        """Traces of a FOV, with the conditions of its well."""
        table = sources.read(fov)
        return table.assign(**self.conditions.of(sources.place(fov).get("well"))) if self.conditions else table

    def _note_cells(self, sample: str, sources: Sources, fov: int, table: pd.DataFrame) -> None:
        if sources.place(fov):
            self.cells[sample, sources.movie, fov] = cell_means(table, sources.fovs[fov].features)

    def write_wells(self, wanted: Mapping[str, Fovs]) -> None:
        """Write the table of wells."""
        conditions = {well: self.conditions.of(well) for well in self.outputs.wells} if self.conditions else {}
        table = well_rows(self.outputs, wanted, self.cells, conditions)
        write_bytes(self.folder / WELLS, table.to_csv(index=False, lineterminator="\n").encode())


def labels_of(outputs: Outputs, fovs: Fovs, conditions: PlateMap | None) -> list[str]:
    """Columns that say where cells are and what they were given: movie, well, site, and those of a plate map."""
    return [*outputs.place_columns(fovs), *(conditions.columns if conditions else ())]

"""Merged tables as they are written: traces by sample, and one row per well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Counts of one merged sample."""

    name: str
    fovs: tuple[int, ...]
    """FOVs whose traces are in the sample's tables."""
    left_out: tuple[int, ...]
    """FOVs that are missing; the warnings give the reasons."""
    cells: int
    """Cells with good rows."""
    rows: int
    """Good rows."""


def write_tables(
    sources: Sources,
    wanted: Mapping[str, list[int]],
    files: Mapping[str, Mapping[str, Path]],
    folder: Path,
    conditions: PlateMap | None,
) -> list[MergedSample]:
    """Write all merged tables.

    Parameters
    ----------
    sources
        Traces of the output.
    wanted
        FOVs of every sample.
    files
        Names of the CSVs by sample and feature.
    folder
        Folder for the tables.
    conditions
        Conditions of wells, if there is a plate map.
    """
    fovs = sorted({fov for of in wanted.values() for fov in of})
    with MergedTables.writing(sources, fovs, folder, conditions) as tables:
        merged = [tables.add(sample, wanted[sample], of) for sample, of in files.items()]
    if sources.wells:
        tables.write_wells(wanted)
    return merged


@dataclass
class MergedTables:
    """Writer of merged tables, sample by sample and FOV by FOV."""

    sources: Sources
    folder: Path
    conditions: PlateMap | None
    everything: ParquetFile
    cells: dict[tuple[str, int], pd.DataFrame] = field(default_factory=dict)
    """One row per cell, by sample and FOV; of plates only."""

    @classmethod
    @contextmanager
    def writing(
        cls, sources: Sources, fovs: Sequence[int], folder: Path, conditions: PlateMap | None
    ) -> Iterator[MergedTables]:
        """Yield the writer of the tables of some FOVs."""
        columns = (
            "sample", *labels_of(sources, fovs, conditions), *BASE_COLUMNS, *sources.features(fovs),
            *sources.track_columns(fovs),
        )  # fmt: skip
        text = conditions.text_columns if conditions else ()
        with ParquetFile.writing(folder / TABLE, columns, text) as everything:
            yield cls(sources, folder, conditions, everything)

    def add(self, sample: str, wanted: list[int], files: Mapping[str, Path]) -> MergedSample:
        """Write the tables of one sample; `files` are by feature."""
        sources, paths = self.sources, {column: self.folder / path.name for column, path in files.items()}
        fovs = sources.usable(wanted)
        marked = ["filled"] if "filled" in sources.track_columns(fovs) else []
        others = [*labels_of(sources, fovs, self.conditions), *marked]
        for column, path in paths.items():
            path.write_bytes(analysis_head("min", others, sources.channel_of(column)))
        cells = rows = 0
        for fov in fovs:
            table = self._read(fov)
            good = table[table["good"]]
            cells, rows = cells + good["cell"].nunique(), rows + len(good)
            for column in sources.fovs[fov].features:
                values = good.reindex(columns=[*TIDY[:3], column, *others]).fillna(dict.fromkeys(marked, False))
                with paths[column].open("ab") as file:
                    file.write(analysis_rows(values.set_axis([*TIDY, *others], axis="columns"), others))
            self.everything.add(table.assign(sample=sample))
            self._note_cells(sample, fov, table)
        if not rows and not sources.wells:
            raise OutputError(
                f"{sources.output}: sample {sample!r} has no good rows in FOV {as_ranges(fovs)}. Fix: remove it"
            )
        if not rows:  # a result: cells of a well may all have died
            sources.say([f"sample {sample!r}: has no good rows"])
        return MergedSample(sample, tuple(fovs), tuple(fov for fov in wanted if fov not in fovs), cells, rows)

    def _read(self, fov: int) -> pd.DataFrame:
        """Traces of a FOV, with the conditions of its well."""
        table = self.sources.read(fov)
        return table.assign(**self.conditions.of(self.sources.place(fov).get("well"))) if self.conditions else table

    def _note_cells(self, sample: str, fov: int, table: pd.DataFrame) -> None:
        if self.sources.place(fov):
            self.cells[sample, fov] = cell_means(table, self.sources.fovs[fov].features)

    def write_wells(self, wanted: Mapping[str, list[int]]) -> None:
        """Write the table of wells."""
        conditions = {well: self.conditions.of(well) for well in self.sources.wells} if self.conditions else {}
        table = well_rows(self.sources, wanted, self.cells, conditions)
        write_bytes(self.folder / WELLS, table.to_csv(index=False, lineterminator="\n").encode())


def labels_of(sources: Sources, fovs: Sequence[int], conditions: PlateMap | None) -> list[str]:
    """Columns that say where cells are and what they were given: well, site, and the conditions of a plate map."""
    return [*sources.place_columns(fovs), *(conditions.columns if conditions else ())]

"""One export, from an output to a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.merge import given_samples
from pyama_dask.analysis.merged_tables import joined
from pyama_dask.analysis.outputs import Fovs, Outputs
from pyama_dask.analysis.samples import Samples, wanted_fovs
from pyama_dask.analysis.trace_sources import Sources, grouped
from pyama_dask.analysis.trace_tables import ParquetFile
from pyama_dask.config.units import as_ranges, quoted
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import check_names, files_below, writable, write_bytes
from pyama_dask.files.html import InTables
from pyama_dask.files.manifest import MANIFEST, check_free, read_manifest, writing_into
from pyama_dask.store.trace_csv import BASE_COLUMNS
from pyama_dask.workflow.task import fov_name

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("parquet", "csv-wide", "geff", "ctc")
"""Formats of an export."""
EXPORTED = "exported"
"""Default folder in the output for exports, with one folder per format."""
RECORD = "pyama_dask_export.json"
"""File that describes an export."""
TABLE = "traces.parquet"
"""File of all traces in an export to Parquet."""
_MODULES: Mapping[str, str] = {"csv-wide": "wide", "geff": "geff", "ctc": "ctc"}

WriteFov = Callable[[Sources, int, "pd.DataFrame", Path], str | None]
"""Writes the traces of a FOV to a folder; returns the reason if it cannot, else None."""


@dataclass(frozen=True)
class ExportedMovie:
    """FOVs of a movie in an export."""

    movie: str
    """Name among several; '' for a single output."""
    fovs: tuple[int, ...]
    left_out: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class ExportReport(InTables):
    """Contents of an export, and what was left out."""

    directory: Path
    format: str
    movies: tuple[ExportedMovie, ...]
    """FOVs by movie; one without a name for a single output."""
    warnings: tuple[str, ...]
    cells_set: int = 0
    """Cells whose rows were set good or bad by overrides."""

    @property
    def fovs(self) -> tuple[int, ...]:
        """FOVs that were exported, of one movie after the other."""
        return tuple(fov for movie in self.movies for fov in movie.fovs)

    @property
    def left_out(self) -> tuple[int, ...]:
        """FOVs that are missing, of one movie after the other; the warnings give the reasons."""
        return tuple(fov for movie in self.movies for fov in movie.left_out)

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if self.left_out else 0

    @property
    def contents(self) -> str:
        """Exported FOVs in words."""
        named = [f"{movie.movie} " if movie.movie else "" for movie in self.movies]
        fovs = [f"FOV {as_ranges(movie.fovs)}" if movie.fovs else "no FOV" for movie in self.movies]
        return "; ".join(map("".join, zip(named, fovs, strict=True)))

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        rows = [
            (*([movie.movie] if movie.movie else []), as_ranges(movie.left_out))
            for movie in self.movies
            if movie.left_out
        ]
        head = ("movie", "left out") if rows and len(rows[0]) > 1 else ("left out",)
        return f"{self.contents} as {self.format} in {self.directory}", head, rows


def export_traces(
    output: Paths,
    to: str,
    directory: str | Path | None = None,
    *,
    samples: str | Path | Samples | Mapping[str, Any] | None = None,
    good: str | Path | None = None,
    filled: bool = True,
    force: bool = False,
) -> ExportReport:
    """Export the traces of an output to a format of other programs; one FOV is in memory at a time.

    Parameters
    ----------
    output
        Output directory of a run or an older program; it stays unchanged, apart from the exports in it. Or several, or
        a folder above several: the table of ``parquet`` then has a column ``movie``, and other formats have a folder
        for each movie.
    to
        ``parquet``: one table of all traces. ``csv-wide``: one CSV per FOV and feature, times down and cells across.
        ``geff``: tracks as graphs, one per FOV. ``ctc``: labels and tracks as in the Cell Tracking Challenge.
    directory
        Folder of the export; by default one in the output, or in the folder above several, such as ``exported/geff``.
        Files of an earlier export to
        the same format are replaced once the new ones are complete; other files stay, and the warnings name them.
    samples
        Path of a ``samples.yaml``, or its contents: export only these FOVs, with a sample column or a folder each.
    good
        YAML file of overrides; by default ``good.yaml`` in the output, if it exists.
    filled
        False to leave out rows of frames in which the tracker has filled a gap.
    force
        True to export to a folder that holds other files, and to overwrite files that were changed since.

    Raises
    ------
    ConfigError
        If the format is unknown, or the samples or overrides are invalid.
    OutputError
        If `output` is not the output of a run or has nothing to export, or `directory` holds something else, is part
        of the output, or is not writable.
    TableError
        If a table of traces is unreadable.
    """
    if to not in FORMATS:
        raise ConfigError(f"{quoted(to)}: is not an export format. Fix: choose one of {', '.join(FORMATS)}")
    chosen = given_samples(samples) if samples is not None else None
    outputs = Outputs(output, good, filled=filled)
    wanted = wanted_fovs(chosen, outputs)
    place, by = _place(outputs, to, directory), f"export {to}"
    _check_place(place, by, force)
    check_names(place, _longest_names(wanted, outputs))
    with writable(place), writing_into(place, by, force=force, replace_all=True) as folder:
        refused = _write_parquet(outputs, wanted, folder) if to == "parquet" else _write(to, outputs, wanted, folder)
        movies = [_exported(sources, of, refused) for sources, of in outputs.of(joined(wanted))]
        if not any(movie.fovs for movie in movies):
            raise OutputError(f"{outputs.name}: has nothing to export as {to}: {'; '.join(outputs.warnings)}")
        _describe(folder, to, outputs, movies)
    outputs.say(_other_files(place))
    return ExportReport(place, to, tuple(movies), tuple(outputs.warnings), outputs.cells_set)


def _exported(sources: Sources, wanted: Sequence[int], refused: Mapping[tuple[str, int], str]) -> ExportedMovie:
    """FOVs of a movie that were exported; warns about those that could not be written."""
    reasons = {fov: refused[sources.movie, fov] for fov in wanted if (sources.movie, fov) in refused}
    sources.say(f"left out: {reason}" for reason in grouped(reasons.items()))
    exported = tuple(fov for fov in sources.usable(wanted) if fov not in reasons)
    return ExportedMovie(sources.movie, exported, tuple(fov for fov in wanted if fov not in exported))


def _place(outputs: Outputs, to: str, directory: str | Path | None) -> Path:
    """Folder for an export; refuses one with other contents, or one that overlaps with an output."""
    place = Path(directory) if directory is not None else outputs.given.place(EXPORTED) / to
    there = Path(os.path.realpath(place))
    for sources in outputs.movies.values():
        here = Path(os.path.realpath(sources.output))
        is_of_output = there.is_relative_to(here) and (here / EXPORTED) not in there.parents
        if is_of_output or here.is_relative_to(there):
            raise OutputError(
                f"{place}: overlaps with the output, which an export must not change. Fix: choose another folder"
            )
    return there if place.is_symlink() else place


def _check_place(place: Path, by: str, force: bool) -> None:
    """Refuse a folder that does not hold an earlier export to the same format, or holds a changed one."""
    if place.exists() and not place.is_dir():
        raise OutputError(f"{place}: is not a folder. Fix: choose another one")
    exports = {entry.by for entry in read_manifest(place).values() if entry.by.startswith("export ")}
    if other := sorted(exports - {by}):
        raise OutputError(f"{place}: holds an {other[0].replace(' ', ' as ')}. Fix: choose another folder")
    if not exports and not force and place.is_dir() and (files := sorted(path.name for path in place.iterdir())):
        raise OutputError(
            f"{place}: holds files that belong to no export, such as {files[0]}. "
            "Fix: choose another folder, or add the export to them with --force (force=True)"
        )
    check_free(place, force=force)


def _longest_names(wanted: Mapping[str, Fovs], outputs: Outputs) -> Iterator[str]:
    """Names like those of an export's files, none longer than the longest of them."""
    feature = max(outputs.features(joined(wanted)), key=lambda name: len(os.fsencode(name)), default="")
    for sample, of in wanted.items():
        for movie, fovs in of.items():
            yield f"{sample}/{movie}/{fov_name(max(fovs, default=0))}.geff/nodes/props/{feature}.csv/values/.zarray"


def _other_files(place: Path) -> Iterator[str]:
    """Warn about files in the folder of an export that do not belong to it."""
    known = {MANIFEST, *read_manifest(place)}
    others = sorted({file.relative_to(place).as_posix() for file in files_below(place)} - known)
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield f"{place}: these files are not part of the export and were kept: {', '.join(others[:3])}{more}"


def _describe(folder: Path, to: str, outputs: Outputs, movies: Sequence[ExportedMovie]) -> None:
    """Write the description of an export."""
    each = [_about(outputs.movies[of.movie], of) for of in movies]
    names = {} if outputs.are_several or "names" not in each[0] else {"names": each[0].pop("names")}
    document = {
        "format": to, **({"movies": each} if outputs.are_several else each[0]), "time_units": "min",
        "files": sorted(path.name for path in folder.iterdir()), **names,
    }  # fmt: skip
    write_bytes(folder / RECORD, json.dumps(document, indent=1).encode())


def _about(sources: Sources, of: ExportedMovie) -> dict[str, Any]:
    """Output and FOVs of a movie in the description of an export."""
    names = {str(fov): place.name for fov in of.fovs if (place := sources.fovs[fov].place) and place.well is not None}
    about = {"output": Path(os.path.realpath(sources.output)).name, "fovs": as_ranges(of.fovs)}
    return about | ({"names": names} if names else {})


def _write(to: str, outputs: Outputs, wanted: Mapping[str, Fovs], folder: Path) -> dict[tuple[str, int], str]:
    """Write FOV by FOV, in one folder per sample and movie; return the reasons for FOVs that could not be written."""
    write_fov: WriteFov = import_module(f"pyama_dask.analysis.export.{_MODULES[to]}").write_fov
    refused: dict[tuple[str, int], str] = {}
    for sample, of in wanted.items():
        for sources, fovs in outputs.of(of):
            place = folder / sample / sources.movie
            place.mkdir(parents=True, exist_ok=True)
            for fov in sources.usable(fovs):
                if reason := write_fov(sources, fov, sources.read(fov), place):
                    refused[sources.movie, fov] = reason
    return refused


def _write_parquet(outputs: Outputs, wanted: Mapping[str, Fovs], folder: Path) -> dict[tuple[str, int], str]:
    """Write one table of all FOVs, with a sample column if there are samples."""
    fovs = joined(wanted)
    columns = (*outputs.place_columns(fovs), *BASE_COLUMNS, *outputs.features(fovs), *outputs.track_columns(fovs))
    has_samples = list(wanted) != [""]
    with ParquetFile.writing(folder / TABLE, ("sample", *columns) if has_samples else columns) as file:
        for sample, of in wanted.items():
            for sources, some in outputs.of(of):
                for fov in sources.usable(some):
                    table = sources.read(fov)
                    file.add(table.assign(sample=sample) if has_samples else table)
    return {}

"""One export, from an output to a folder that is whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files import replacing_folder, writable, write_bytes
from pyama_dask.quantities import as_ranges, quoted
from pyama_dask.samples import Samples, given_samples, wanted_fovs
from pyama_dask.sources import Sources, grouped
from pyama_dask.tables import ParquetFile
from pyama_dask.traces import BASE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("parquet", "csv-wide", "geff", "ctc")
"""What an output can be exported as."""
EXPORTED = "exported"
"""Folder of the output for exports, a folder a format, unless another one is named."""
RECORD = "pyama_dask_export.json"
"""File in an export that says what it is; a folder without it is not replaced."""
TABLE = "traces.parquet"
"""File of all traces in an export to Parquet."""
_MODULES: Mapping[str, str] = {"csv-wide": "wide", "geff": "geff", "ctc": "ctc"}

WriteFov = Callable[[Sources, int, "pd.DataFrame", Path], str | None]
"""Writes the traces of a FOV to a folder; gives the reason if it cannot."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and what was not."""

    directory: Path
    format: str
    fovs: tuple[int, ...]
    left_out: tuple[int, ...]
    """FOVs that it should have had; the warnings say why."""
    warnings: tuple[str, ...]
    cells_set: int = 0
    """Cells of which overrides have set rows good or not."""

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs were left out."""
        return 3 if self.left_out else 0


def export_traces(
    output: str | Path,
    to: str,
    directory: str | Path | None = None,
    *,
    samples: str | Path | Samples | Mapping[str, Any] | None = None,
    good: str | Path | None = None,
) -> ExportReport:
    """Write the traces of an output in a format of other programs; one FOV is in memory at a time.

    Parameters
    ----------
    output
        Output directory of a run, or of an older program; what is there stays as it is.
    to
        ``parquet``: one table of all traces. ``csv-wide``: a CSV a FOV and feature, times down and cells across.
        ``geff``: tracks as graphs, one a FOV. ``ctc``: labels and tracks as in the Cell Tracking Challenge.
    directory
        Folder for it; such as ``exported/geff`` in the output, unless it is named. An export to the same format that is
        there is replaced when the new one is whole.
    samples
        ``samples.yaml``, or what is in it: only their FOVs, with a column of the sample, or in a folder of each.
    good
        YAML of overrides; ``good.yaml`` in the output, if there is one, unless another one is named.

    Raises
    ------
    ConfigError
        If there is no such format, or the samples or overrides are not valid.
    OutputError
        If `output` is none of a run or has nothing to export, or `directory` is something else already, is part of
        the output, or cannot be written to.
    TableError
        If a table of traces cannot be read.
    """
    if to not in FORMATS:
        raise ConfigError(f"{quoted(to)}: is no format that is known; known are {', '.join(FORMATS)}")
    chosen = given_samples(samples) if samples is not None else None
    sources = Sources(Path(output), Path(good) if good is not None else None)
    wanted = wanted_fovs(chosen, sources)
    place = _place(sources.output, to, directory)
    with writable(place), replacing_folder(place) as folder:
        refused = _write_parquet(sources, wanted, folder) if to == "parquet" else _write(to, sources, wanted, folder)
        everything = sorted({fov for fovs in wanted.values() for fov in fovs})
        exported = tuple(fov for fov in sources.usable(everything) if fov not in refused)
        sources.say(f"left out: {reason}" for reason in grouped(refused.items()))
        if not exported:
            raise OutputError(f"{output}: has nothing to export as {to}: {'; '.join(sources.warnings)}")
        _record(folder, to, sources, exported)
    left_out = tuple(fov for fov in everything if fov not in exported)
    return ExportReport(place, to, exported, left_out, tuple(sources.warnings), len(sources.cells_set))


def _place(output: Path, to: str, directory: str | Path | None) -> Path:
    """Folder for an export; refuses one that is something else, or has to do with the output."""
    here = Path(os.path.realpath(output))
    place = Path(directory) if directory is not None else here / EXPORTED / to
    there = Path(os.path.realpath(place))
    is_of_output = there.is_relative_to(here) and (here / EXPORTED) not in there.parents
    if is_of_output or here.is_relative_to(there):
        raise OutputError(f"{place}: is part of the output, or holds it, which an export leaves as it is; name another")
    place = there if place.is_symlink() else place
    if (place / RECORD).exists():
        _check_replaceable(place, to)
    elif place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise OutputError(f"{place}: is something else than an export already; name another folder")
    return place


def _check_replaceable(place: Path, to: str) -> None:
    """Refuse to replace an export of another format, or one that a person has put something into."""
    try:
        record = json.loads((place / RECORD).read_bytes())
        found, files = record["format"], {RECORD, *record["files"]}
    except (ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{place / RECORD}: is damaged; remove the folder, or name another one") from error
    if found != to:
        raise OutputError(f"{place}: is an export as {found} already; name another folder")
    if more := sorted({path.name for path in place.iterdir()} - files):
        raise OutputError(f"{place / more[0]}: is no part of the export that is there; move it, or name another folder")


def _record(folder: Path, to: str, sources: Sources, fovs: tuple[int, ...]) -> None:
    """Say what an export is, and what is in it."""
    document = {
        "format": to, "output": Path(os.path.realpath(sources.output)).name, "fovs": as_ranges(fovs),
        "time_units": "min", "files": sorted(path.name for path in folder.iterdir()),
    }  # fmt: skip
    write_bytes(folder / RECORD, json.dumps(document, indent=1).encode())


def _write(to: str, sources: Sources, wanted: Mapping[str, list[int]], folder: Path) -> dict[int, str]:
    """Write FOV by FOV, in a folder of each sample; gives those that could not be written, with the reason."""
    write_fov: WriteFov = import_module(f"pyama_dask.export.{_MODULES[to]}").write_fov
    refused: dict[int, str] = {}
    for sample, fovs in wanted.items():
        (folder / sample).mkdir(exist_ok=True)
        for fov in sources.usable(fovs):
            if reason := write_fov(sources, fov, sources.read(fov), folder / sample):
                refused[fov] = reason
    return refused


def _write_parquet(sources: Sources, wanted: Mapping[str, list[int]], folder: Path) -> dict[int, str]:
    """Write one table of all FOVs, with a column of the sample if there are any."""
    fovs = [fov for of in wanted.values() for fov in of]
    columns = (*BASE_COLUMNS, *sources.features(fovs))
    has_samples = list(wanted) != [""]
    with ParquetFile.writing(folder / TABLE, ("sample", *columns) if has_samples else columns) as file:
        for sample, of in wanted.items():
            for fov in sources.usable(of):
                table = sources.read(fov)
                file.add(table.assign(sample=sample) if has_samples else table)
    return {}

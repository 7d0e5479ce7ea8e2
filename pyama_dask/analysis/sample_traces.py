"""All columns of the traces of a sample as one CSV, which says at its top where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyama_dask
from pyama_dask.analysis.outputs import MOVIE, Fovs, Outputs
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import read_file
from pyama_dask.runs.plan_settings import without_frames
from pyama_dask.runs.status import read_plan
from pyama_dask.store.trace_csv import BASE_COLUMNS, PLACE_COLUMNS, TRACK_COLUMNS
from pyama_dask.workflow.task import digest

TRACES = "_traces.csv"
"""End of the file's name, after the sample."""


def write_traces(outputs: Outputs, sample: str, wanted: Fovs, path: Path) -> None:
    """Write all rows and columns of the traces of a sample, with overrides applied; one FOV is in memory at a time.

    Parameters
    ----------
    outputs
        Sources of the traces.
    sample
        Name of the sample.
    wanted
        Its FOVs.
    path
        The file: comments with the sample, and for each movie its FOVs and the digest of its settings; then the column
        ``movie`` if there are several, and the columns of the traces. A column that a FOV lacks is empty there.
    """
    columns = _columns(outputs, wanted)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("".join(f"# {' '.join(line.split())}\n" for line in _about(outputs, sample, wanted)))
        file.write(f"{','.join(columns)}\n")
        for sources, of in outputs.of(wanted):
            for fov in sources.usable(of):
                rows = sources.read(fov).reindex(columns=columns)
                file.write(rows.to_csv(index=False, header=False, lineterminator="\n"))


def _columns(outputs: Outputs, wanted: Fovs) -> list[str]:
    """Columns in the order of the traces of a FOV, those that only some FOVs have too."""
    found = [*([MOVIE] if outputs.are_several else []), *BASE_COLUMNS[:5]]
    for sources, of in outputs.of(wanted):
        found += [name for fov in sources.usable(of) for name in sources.fovs[fov].columns]
    tracks, places = outputs.track_columns(wanted), [name for name in outputs.place_columns(wanted) if name != MOVIE]
    left_out = {*TRACK_COLUMNS, *PLACE_COLUMNS}
    return list(dict.fromkeys([*(name for name in found if name not in left_out), *tracks, *places]))


def _about(outputs: Outputs, sample: str, wanted: Fovs) -> Iterator[str]:
    """Origin of the traces in words."""
    yield f"Sample: {sample}"
    for sources, of in outputs.of(wanted):
        settings = ", ".join(_settings(sources, sources.usable(of)))
        yield (
            f"Movie: {outputs.names[sources.movie]}, FOVs {as_ranges(sources.usable(of)) or 'none'}, "
            f"settings {settings or 'unknown'}"
        )
    yield "Time units: min"
    yield f"Written by: pyama_dask {pyama_dask.__version__}"


def _settings(sources: Sources, fovs: Sequence[int]) -> list[str]:
    """Digests of the settings of some FOVs without their frames, each once; of an older program, that of its config."""
    try:
        plan = read_plan(sources.output)
    except OutputError:
        config = sources.output / "processing_config.yaml"
        return [hashlib.sha256(read_file(config)).hexdigest()[:16]] if config.is_file() else []
    used = {fov["fov"]: fov["settings"] for fov in plan["fovs"]}
    alike = {name: digest(without_frames(of)) for name, of in plan["settings"].items()}
    return list(dict.fromkeys(str(alike.get(used[fov], used[fov])) for fov in fovs if fov in used))

"""Finding the trace tables of an output."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyama_dask.analysis.pyama_files import read_processing_config, read_processing_results
from pyama_dask.analysis.tables import FEATURE, MINUTES
from pyama_dask.analysis.trace_files import Source, TraceFile
from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.config.units import quoted
from pyama_dask.errors import PyamaError, TableError
from pyama_dask.files.atomic import read_file
from pyama_dask.files.checksums import MISSING, fault
from pyama_dask.runs.status import LEDGER, read_status, recorded_traces
from pyama_dask.steps.flow import TRACES as OWN_COLUMNS
from pyama_dask.steps.standard import GRAPH, TRACES
from pyama_dask.store.layout import is_group
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.trace_csv import BASE_COLUMNS, PLACE_COLUMNS, TRACK_COLUMNS
from pyama_dask.workflow.task import WORK, fov_name

RESULTS = "processing_results.yaml"
"""File with which older programs describe the contents of an output."""


def find_sources(output: Path) -> dict[int, Source]:
    """Find the traces of all FOVs: of a run, of an older program's list, or of a folder with tables only.

    Raises
    ------
    OutputError
        If there are no traces.
    """
    if (output / WORK).exists():
        found = _of_run(output)
    elif (output / RESULTS).exists():
        found = _of_older(output)
    else:
        found = _of_tables(output) or _of_run(output)  # raises if there are no results
    return {source.fov: source for source in found}


def _of_run(output: Path) -> list[Source]:
    states, ledger, names = read_status(output)["fovs"], Ledger(output / LEDGER), columns_of_steps(output)
    return [replace(_of_fov(output, state, ledger, names), place=FovPlace.of(state)) for state in states]


def columns_of_steps(output: Path) -> dict[str, str]:
    """Names, as of features, of the columns that steps with ``to: traces`` give, such as ``spots_ch_1`` of ``spots``.

    The channel is the first one that the step gets, or that of phase contrast for functions of traces.
    """
    try:
        document = read_processing_config(output / "processing_config.yaml")
        channels = document["channels"]
        every = [*([channels["pc"]] if channels.get("pc") else []), *(channels.get("fl") or ())]
        steps = [step for pipeline in document.get("pipelines") or () for step in pipeline["steps"]]
        found: dict[str, str] = {}
        for step in (step for step in steps if step.get("to") == OWN_COLUMNS and step.get("found")):
            got = [str(name) for name in (*step.get("of", ()), *_listed(step.get("channels")))]
            channel = next((name for name in got if name.isdigit()), str(every[0]["channel"]))
            texts = step["found"].get("texts", ())  # which are no features
            columns = [str(name) for name in step["found"]["columns"] if name not in texts]
            found |= {name: f"{name}_ch_{channel}" for name in columns if not _is_known(name)}
    except (PyamaError, LookupError, TypeError, AttributeError):  # none, or of an older program
        return {}
    return found


def _listed(channels: Any) -> list[Any]:
    return channels if isinstance(channels, list) else []


def _is_known(name: str) -> bool:
    return name in (*BASE_COLUMNS, *TRACK_COLUMNS, *PLACE_COLUMNS) or FEATURE.fullmatch(name) is not None


def _of_fov(output: Path, state: Mapping[str, Any], ledger: Ledger, names: Mapping[str, str]) -> Source:
    """Traces of a run's FOV, by its status."""
    fov, left = state["fov"], state["left"]
    directory = output / fov_name(fov)
    is_left = GRAPH.parts[TRACES].step in left
    if state["status"] == "failed" and (is_left or not left):
        return Source(fov, directory, problem=f"failed: {state['reason']}")
    if is_left:
        problem = f"is {state['status']} (left: {', '.join(left)}). Fix: finish the run, then try again"
        return Source(fov, directory, problem=problem)
    recorded = recorded_traces(ledger, fov)
    found = MISSING if recorded is None else fault(output / recorded[0], recorded[1], deep=True)
    if recorded is None or found == MISSING:
        return Source(fov, directory, problem="its traces CSV is missing. Fix: run 'pyama-dask verify', then run again")
    remedy = "to restore it, run 'pyama-dask verify --deep', then run again"
    notes = [f"its traces CSV has changed since the run: {found}. Fix: {remedy}"] if found else []
    if state["other_frames"]:
        notes.append(f"processed from frames {state['other_frames']}, not those of the last run")
    elif state["other_settings"]:
        notes.append("processed with other settings than the last run")
    notes += [f"has traces, but these steps are unfinished: {', '.join(left)}"] if left else []
    return Source(fov, directory, (TraceFile.of(output / recorded[0], names=names),), notes=tuple(notes))


def _of_older(output: Path) -> list[Source]:
    """Traces listed in a `RESULTS` file."""
    path = output / RESULTS
    results = read_processing_results(path)
    interval, units = results.params.get("frame_interval"), results.time_units or "min"
    is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
    if interval is not None and not (is_number and 0 < interval < float("inf")):
        raise TableError(f"{path}: params.frame_interval: must be minutes, such as 10, not {quoted(interval)}")
    if str(units).lower() not in MINUTES:
        raise TableError(f"{path}: time_units: {quoted(units)} is not a unit of time. Fix: use one of ms, s, min, h, d")
    remedy = f"set params.frame_interval in {path} to the minutes between frames, or add the column"
    found = []
    for fov in results.files:
        files = [TraceFile.of(file, channel) for channel, file in results.originals(fov)]
        gone = [file.path.name for file in files if not file.path.exists()]
        problem = (
            f"{RESULTS} lists no traces for it"
            if not files
            else f"files are missing: {', '.join(gone)}"
            if gone
            else None
        )
        found.append(
            Source(
                fov, output / fov_name(fov), tuple(files), problem, interval=interval,
                units=MINUTES[str(units).lower()], remedy=remedy,
            )
        )  # fmt: skip
    return found


def _of_tables(output: Path) -> list[Source]:
    """Traces found by folder name alone, without metadata."""
    by_folder = defaultdict[Path, list[Path]](list)
    for path in sorted(output.glob("fov_*/*_traces.csv")):
        if re.fullmatch(r"fov_\d{1,9}", path.parent.name):
            by_folder[path.parent].append(path)
    return [
        Source(int(folder.name[4:]), folder, (TraceFile.of(paths[0]),)) for folder, paths in sorted(by_folder.items())
    ]


@dataclass(frozen=True)
class Frames:
    """Metadata of the images in which traces were measured."""

    shapes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """(H, W) in pixels by FOV."""
    pixel_size_um: float | None = None
    channels: tuple[str, ...] = ()
    """Names of the movie's channels, by number; empty if unknown."""


def known_frames(output: Path) -> Frames:
    """Image sizes, pixel size and channel names from the run's config, if it has them."""
    try:
        document = read_processing_config(output / "processing_config.yaml")
        metadata = document["metadata"]
        channels = tuple(str(channel.get("name", "")) for channel in metadata.get("channels") or ())
        if document.get("pipelines"):  # steps may have changed the size of frames and pixels
            return Frames(channels=channels)
        shapes = {fov["fov"]: (int(fov["shape"][0]), int(fov["shape"][1])) for fov in metadata["fovs"]}
        size = metadata.get("pixel_size_um")
        return Frames(shapes, float(size) if size else None, channels)
    except (PyamaError, LookupError, TypeError, ValueError, AttributeError):  # none, or of an older program
        return Frames()


def _stored_shape(images: Path) -> tuple[int, int] | None:
    """(H, W) of a FOV's first array at full resolution."""
    for document in sorted(images.glob("*/0/zarr.json")):
        if not is_group(document.parents[1].name):
            continue
        try:
            _, height, width = json.loads(read_file(document))["shape"]
        except (OSError, ValueError, LookupError, TypeError):  # damaged; the next one may not be
            continue
        return int(height), int(width)
    return None

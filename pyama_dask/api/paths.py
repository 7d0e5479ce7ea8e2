"""Paths of the results per FOV, for scripts and in ``processing_results.yaml``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.pyama_files import Files, ProcessingResults, read_processing_results, write_processing_results
from pyama_dask.api.context import ResultsPathsPerFOV
from pyama_dask.config.models import Config
from pyama_dask.errors import PyamaError
from pyama_dask.runs.status import LEDGER, read_status, recorded_traces
from pyama_dask.store.layout import IMAGES, channel_indices, channel_of
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import fov_name

log = logging.getLogger("pyama_dask")

RESULTS = "processing_results.yaml"


def paths_of(output: Path, fov: int, ledger: Ledger, left: Collection[Step] = ()) -> ResultsPathsPerFOV:
    """Find the existing results of a FOV, with the ledger of the output; those of steps that are left are not listed.

    All arrays of a FOV are created when its first step begins.
    """
    directory, traces = output.absolute() / fov_name(fov), recorded_traces(ledger, fov)
    groups = sorted(Fov(directory).channels, key=channel_of)

    def arrays(kind: str, step: Step) -> list[tuple[int, Path]]:
        if step in left:
            return []
        paths = {channel_of(group): directory / IMAGES / group / "0" for group in groups if group.startswith(kind)}
        return [(channel, path) for channel, path in paths.items() if path.exists()]

    def array(kind: str, step: Step) -> tuple[int, Path] | None:
        return next(iter(arrays(kind, step)), None)

    return ResultsPathsPerFOV(
        pc=array("pc_ch_", "copy"),
        fl=arrays("fl_ch_", "copy"),
        seg=array("seg_labeled_ch_", "segment"),
        seg_labeled=array("seg_tracked_ch_", "track"),
        fl_background=arrays("fl_background_ch_", "background"),
        traces_csv=[(None, output.absolute() / traces[0])] if traces else [],
    )


def write_results(config: Config, mine: Mapping[int, ResultsPathsPerFOV]) -> None:
    """Write ``processing_results.yaml`` with all completed FOVs of an output.

    Parameters
    ----------
    config
        Resolved config of the last run.
    mine
        FOVs of that run; other FOVs keep their entries in the file, or are searched for.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path, output = config.output / RESULTS, config.output.absolute()
    before = _earlier(path)
    done = [fov["fov"] for fov in read_status(output)["fovs"] if fov["status"] == "done"]
    listed = {fov: files for fov, files in before.files.items() if fov not in mine and _are_there(files)}
    ledger = Ledger(output / LEDGER)
    missing = [fov for fov in done if fov not in listed]
    found = {fov: _as_files(mine[fov] if fov in mine else paths_of(output, fov, ledger)) for fov in missing}
    pc, fl = channel_indices(config)
    params = config.model_dump(mode="json", exclude={"params": {"fovs"}})["params"]
    files = {fov: found.get(fov) or listed[fov] for fov in done}
    results = ProcessingResults(output, pc=pc, fl=fl, files=files, params=params, time_units="min", more=before.more)
    write_processing_results(path, results)


def _earlier(path: Path) -> ProcessingResults:
    """Contents of the existing file; empty if it is missing or unreadable."""
    if path.exists():
        try:
            return read_processing_results(path)
        except PyamaError as error:
            log.warning("%s; it is rewritten with the completed FOVs of its folder", error)
    return ProcessingResults(path.parent)


def _are_there(files: Files) -> bool:
    return all(path.exists() for of in files.values() for _, path in of)


def _as_files(paths: ResultsPathsPerFOV) -> Files:
    """Paths by product; a table of all channels is called ``traces``, as in later versions of PyAMA."""
    products: dict[str, Any] = {
        "pc": [paths.pc], "fl": paths.fl, "seg": [paths.seg], "seg_labeled": [paths.seg_labeled],
        "fl_corrected": paths.fl_corrected, "fl_background": paths.fl_background,
        "traces": [one for one in paths.traces_csv if one[0] is None],
        "traces_csv": [one for one in paths.traces_csv if one[0] is not None],
    }  # fmt: skip
    given = {name: [one for one in of if one] for name, of in products.items()}
    return {name: tuple((channel, Path(path).absolute()) for channel, path in of) for name, of in given.items() if of}

"""Entry point for scripts: turns their arguments into a config and runs it with `pyama_dask.run`."""

from __future__ import annotations

import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyama_dask.api.configs import cluster_of, config_of
from pyama_dask.api.context import (
    MicroscopyMetadata,
    ProcessingContext,
    ResultsPathsPerFOV,
    as_in_file,
    fov_range,
)
from pyama_dask.api.paths import RESULTS, paths_of, write_results
from pyama_dask.api.registries import register_preprocessor
from pyama_dask.api.services import BaseProcessingService, Reporter, check_services, kept_going, run_services
from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import SettingsWarning
from pyama_dask.runs.driver import run
from pyama_dask.runs.output_dir import read_config
from pyama_dask.runs.status import LEDGER, RunReport
from pyama_dask.store.ledger import Ledger

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SettingsWarning", "register_preprocessor", "run_complete_workflow"]

log = logging.getLogger("pyama_dask")


def run_complete_workflow(
    metadata: MicroscopyMetadata,
    context: ProcessingContext,
    fov_start: int | None = None,
    fov_end: int | None = None,
    batch_size: int | None = None,
    n_workers: int | None = None,
    cancel_event: threading.Event | None = None,
    *,
    progress: Reporter | None = None,
    services: Sequence[BaseProcessingService] = (),
    cluster: Mapping[str, Any] | None = None,
    client: Client | None = None,
) -> bool:
    """Process a movie with `pyama_dask.run`, or resume an earlier run.

    ``processing_results.yaml`` in the output lists all completed FOVs, also of earlier runs.

    Parameters
    ----------
    metadata
        Metadata of the movie, from `load_microscopy_file` or made by hand.
    context
        Output, channels and settings; missing channels are guessed. The run fills in `results_paths`.
    fov_start, fov_end
        First and last FOV (included); None or -1 for the first or last FOV of the movie.
    batch_size
        FOVs in flight at once; 2 by default. With `cluster` or `client`, twice the workers, and more if FOVs are small.
    n_workers
        Worker processes on this machine, 2 by default; 1 runs everything in this process.
    cancel_event
        Set it to stop the run early; the next one resumes.
    progress
        Called with a dict ``step, fov, frame, total, message``, as in `pyama_dask.run`, and by services. Its
        first exception is logged, and the run continues.
    services
        Custom steps, run in this process for each completed FOV, one by one. They are not recorded, so they run every
        time.
    cluster
        Where the work runs, such as a queue: ``cluster`` of a config.
    client
        Dask client to run on.

    Returns
    -------
    True if all these FOVs are complete and no service failed; otherwise the log gives the reasons.

    Warns
    -----
    SettingsWarning
        For each setting without an equivalent.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run is refused before any work; the first and the last are ValueErrors, the others OSErrors.
    """
    movie = as_in_file(metadata)
    fovs = fov_range(len(movie.fovs), fov_start, fov_end)
    check_services(services)
    where = cluster_of(batch_size, n_workers, cluster, has_client=client is not None)
    config = config_of(movie, metadata, context, fovs, where)
    report_to, cancel = kept_going(progress) if progress else None, cancel_event or threading.Event()
    report = run_alone(config, client=client, progress=report_to, cancel=cancel)
    good, resolved = _ended_well(report), read_config(config.output) or config
    mine = noted(report, context)
    good &= run_services(services, metadata, context, mine, report_to, cancel)
    return _recorded(resolved, {fov: context.results_paths.get(fov, of) for fov, of in mine.items()}) and good


def run_alone(config: Config, **options: Any) -> RunReport:
    """Run a config, once no other thread of the script runs one into the same output.

    Parameters
    ----------
    config
        Config of the run.
    options
        As for `pyama_dask.run`.
    """
    with (
        _TURNS[config.output.absolute()],
        nullcontext() if config.cluster.kind == "serial" else script_left_alone(),
    ):
        return run(config, **options)


_TURNS: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""One lock for each output: an output has one run at a time."""


def noted(
    report: RunReport, context: ProcessingContext, status: Collection[str] = ("done",)
) -> dict[int, ResultsPathsPerFOV]:
    """Paths of the results of the FOVs of a run with some status, which the context gets instead of those it had."""
    ledger = Ledger(report.output / LEDGER)
    mine = {fov.fov: paths_of(report.output, fov.fov, ledger, fov.left) for fov in report.fovs if fov.status in status}
    context.time_units = "min"
    for fov in report.fovs:
        context.results_paths.pop(fov.fov, None)
    context.results_paths.update(mine)
    return mine


@contextmanager
def script_left_alone() -> Iterator[None]:
    """Keep processes started in this block from importing the script, which would run it again in each of them.

    Tasks do not need it, and scripts for the older API call `run_complete_workflow` at their top level. Several threads
    may be inside at once: the script is restored when the last one leaves.
    """
    with _HIDING:
        if not _HIDDEN:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
        else:
            script = _HIDDEN[-1]
        _HIDDEN.append(script)
    try:
        yield
    finally:
        with _HIDING:
            _HIDDEN.pop()
            if not _HIDDEN:
                sys.modules["__main__"] = script


_HIDING = threading.Lock()
_HIDDEN: list[ModuleType] = []
"""The script, once for each run that hides it."""


def _ended_well(report: RunReport) -> bool:
    """Log the reasons for incomplete FOVs; return True if all are complete."""
    for fov in report.failed:
        log.error("FOV %d failed (%s): %s", fov.fov, fov.cause, fov.reason)
    if report.cancelled or report.stopped:
        left = [fov.fov for fov in report.fovs if fov.status != "done"]
        log.error(
            "%s; these FOVs are not complete: %s", report.stopped or "the run was cancelled", as_ranges(left) or "none"
        )
    return report.exit_status == 0


def _recorded(config: Config, mine: Mapping[int, ResultsPathsPerFOV]) -> bool:
    """Write ``processing_results.yaml``; log an error of the disk and return False."""
    try:
        write_results(config, mine)
    except OSError as error:
        log.error("%s could not be written: %s", config.output / RESULTS, error)  # noqa: TRY400  (an error of the disk)
        return False
    return True

"""Entry point for scripts: turns their arguments into a config and runs it with `pyama_dask.run`."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

from pyama_dask.api.context import (
    Channels,
    MicroscopyMetadata,
    ProcessingContext,
    ResultsPathsPerFOV,
    as_in_file,
    fov_range,
)
from pyama_dask.api.paths import RESULTS, paths_of, write_results
from pyama_dask.api.services import BaseProcessingService, Reporter, check_services, kept_going, run_services
from pyama_dask.api.settings import Translated, translate
from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import ConfigError, SettingsWarning
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.driver import run
from pyama_dask.runs.output_dir import read_config
from pyama_dask.runs.status import LEDGER, RunReport
from pyama_dask.runs.template import fitting_params, guess_channels, notes_on_channels
from pyama_dask.store.ledger import Ledger

__all__ = ["SettingsWarning", "run_complete_workflow"]

log = logging.getLogger("pyama_dask")

MINUTES = (None, "min", "minute", "minutes")


def run_complete_workflow(
    metadata: MicroscopyMetadata,
    context: ProcessingContext,
    fov_start: int | None = None,
    fov_end: int | None = None,
    batch_size: int = 2,
    n_workers: int = 2,
    *,
    progress: Reporter | None = None,
    services: Sequence[BaseProcessingService] = (),
    cancel: threading.Event | None = None,
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
        FOVs in flight at once.
    n_workers
        Worker processes on this machine; 1 runs everything in this process.
    progress
        Called with a dict ``step, fov, frame, total, message``, as in `pyama_dask.run`, and by services. Its
        first exception is logged, and the run continues.
    services
        Custom steps, run in this process for each completed FOV, one by one. They are not recorded, so they run every
        time.
    cancel
        Set it to stop the run early; the next one resumes.

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
    settings = translate(context.params)
    for warning in (*settings.left_out, *_unused(metadata, context)):
        warnings.warn(warning, SettingsWarning, stacklevel=2)
    context.channels = context.channels or _guessed(movie)
    config = _config(movie, context, context.channels, settings, fovs, _cluster(batch_size, n_workers))
    report_to, cancel = kept_going(progress) if progress else None, cancel or threading.Event()
    with nullcontext() if config.cluster.kind == "serial" else script_left_alone():
        report = run(config, progress=report_to, cancel=cancel)
    good, resolved = _ended_well(report), read_config(config.output) or config
    ledger = Ledger(config.output / LEDGER)
    mine = {fov.fov: paths_of(config.output, fov.fov, ledger) for fov in report.fovs if fov.status == "done"}
    context.time_units = "min"
    context.results_paths = {fov: of for fov, of in context.results_paths.items() if fov not in fovs} | mine
    good &= run_services(services, metadata, context, mine, report_to, cancel)
    return _recorded(resolved, {fov: context.results_paths.get(fov, of) for fov, of in mine.items()}) and good


# ---------------------------------------------------------------------------------------------- before a run


def _unused(metadata: MicroscopyMetadata, context: ProcessingContext) -> Iterator[str]:
    """Messages about other arguments that have no effect."""
    if metadata.base_name != (name := movie_stem(metadata.file_path)):
        yield f"base_name {metadata.base_name!r} is not used: files are named by the movie, {name!r}"
    if context.time_units not in MINUTES:
        yield f"time_units {context.time_units!r} is not used: times are in minutes"


def _guessed(movie: Metadata) -> Channels:
    """Guess the channels as 'pyama-dask init' does."""
    guess = guess_channels(movie)
    channels = Channels(guess["pc"] and guess["pc"]["channel"], [choice["channel"] for choice in guess["fl"]])
    for note in (f"guessed channels: pc={channels.pc}, fl={channels.fl}", *notes_on_channels(movie)):
        log.warning("%s: %s", movie.path, note)
    return channels


def _cluster(batch_size: int, n_workers: int) -> dict[str, Any]:
    for name, value in {"batch_size": batch_size, "n_workers": n_workers}.items():
        if value < 1:
            raise ConfigError(f"{name}: must be 1 or more, not {value}")
    workers = {"kind": "serial"} if n_workers == 1 else {"kind": "local", "workers": n_workers}
    return workers | {"batch_size": batch_size}


def _config(
    movie: Metadata, context: ProcessingContext, channels: Channels, settings: Translated, fovs: range,
    cluster: Mapping[str, Any],
) -> Config:  # fmt: skip
    """Config from the settings of a script; the rest as 'pyama-dask init' would write it."""
    features = {"pc": list(SHAPE_FEATURES), "fl": list(INTENSITY_FEATURES)} | settings.features
    pc = None if channels.pc is None else {"channel": channels.pc, "features": features["pc"]}
    for place, value in fitting_params(movie).items():
        if settings.put_default(place, value):
            log.warning("%s: params.%s is %s, because its default does not fit this movie", movie.path, place, value)
    return parse_config(
        {
            "input": movie.path.absolute(),
            "output": context.output_dir.absolute(),
            "channels": {"pc": pc, "fl": [{"channel": k, "features": features["fl"]} for k in channels.fl]},
            "params": settings.params | {"fovs": f"{fovs[0]}-{fovs[-1]}"},
            "cluster": cluster,
        },
        source="run_complete_workflow",
    )


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


# ----------------------------------------------------------------------------------------------- after it


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

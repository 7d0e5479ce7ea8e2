"""Custom steps of a script, run for every FOV after the built-in ones."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pyama_dask.api.context import MicroscopyMetadata, ProcessingContext, fov_range
from pyama_dask.errors import ConfigError

log = logging.getLogger("pyama_dask")

Reporter = Callable[[dict[str, Any]], None]


class BaseProcessingService:
    """Base class of custom steps: derive from it and implement `process_fov`.

    Set a `name` for the log and for progress.
    """

    name = "Processing"
    _progress_reporter: Reporter | None = None

    def set_progress_reporter(self, reporter: Reporter | None) -> None:
        """Set the callable that receives progress as a dict ``step, fov, frame, total, message``."""
        self._progress_reporter = reporter

    def progress_callback(self, f: int, t: int, T: int, message: str) -> None:  # noqa: N803  (the names scripts use)
        """Report that frame `t` of `T` of FOV `f` is done."""
        if self._progress_reporter is not None:
            self._progress_reporter({"step": self.name, "fov": f, "frame": t, "total": T, "message": message})

    def process_fov(self, metadata: MicroscopyMetadata, context: ProcessingContext, output_dir: Path, fov: int) -> None:
        """Process one FOV; its results are in ``context.results_paths[fov]``."""
        raise NotImplementedError(f"{type(self).__name__} has no process_fov")

    def process_all_fovs(
        self,
        metadata: MicroscopyMetadata,
        context: ProcessingContext,
        output_dir: Path,
        fov_start: int | None = None,
        fov_end: int | None = None,
        cancel_event: threading.Event | None = None,
    ) -> None:
        """Process FOVs one by one, the last one included; None or -1 for the first or last FOV of the movie.

        No further FOV begins once `cancel_event` is set.

        Raises
        ------
        ConfigError
            If a FOV does not exist; it is a ValueError.
        """
        for fov in fov_range(metadata.n_fovs, fov_start, fov_end):
            if cancel_event is not None and cancel_event.is_set():
                return
            self.process_fov(metadata, context, output_dir, fov)


def check_services(services: Sequence[BaseProcessingService]) -> None:
    """Refuse services without `process_fov` before the run starts.

    Raises
    ------
    ConfigError
        If a service does not implement ``process_fov``.
    """
    for service in services:
        if getattr(service.process_fov, "__func__", None) is BaseProcessingService.process_fov:
            raise ConfigError(
                f"services: {type(service).__name__} has no process_fov(metadata, context, output_dir, fov)"
            )


def run_services(
    services: Sequence[BaseProcessingService],
    metadata: MicroscopyMetadata,
    context: ProcessingContext,
    fovs: Iterable[int],
    progress: Reporter | None,
    cancel: threading.Event,
) -> bool:
    """Run services on FOVs, one by one; an exception is logged and ends only its FOV.

    Returns
    -------
    True if all services succeeded.
    """
    for service in services:
        service.set_progress_reporter(progress)
    failed = False
    for fov in fovs:
        for service in services:
            if cancel.is_set():
                return False
            try:
                service.process_fov(metadata, context, context.output_dir, fov)
            except Exception:
                log.exception("FOV %d: service %s failed", fov, service.name)
                failed = True
                break
    return not failed


def kept_going(progress: Reporter) -> Reporter:
    """Make a reporter that passes events on and logs only its first failure."""
    failures = 0

    def report(event: dict[str, Any]) -> None:
        nonlocal failures
        try:
            progress(event)
        except Exception as error:  # noqa: BLE001  (a broken monitor must not end the run)
            failures += 1
            if failures == 1:
                log.warning("progress could not be reported: %s: %s; the run continues", type(error).__name__, error)

    return report

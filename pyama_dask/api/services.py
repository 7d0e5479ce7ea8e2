"""Steps of a script's own, for every FOV after the built-in ones."""

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
    """A step of a script's own: derive from it, and give `process_fov`.

    Give it a `name` for the log and for progress.
    """

    name = "Processing"
    _progress_reporter: Reporter | None = None

    def set_progress_reporter(self, reporter: Reporter | None) -> None:
        """Have progress reported to a callable that takes a dict ``step, fov, frame, total, message``."""
        self._progress_reporter = reporter

    def progress_callback(self, f: int, t: int, T: int, message: str) -> None:  # noqa: N803  (the names scripts use)
        """Report that frame `t` of `T` of FOV `f` is done."""
        if self._progress_reporter is not None:
            self._progress_reporter({"step": self.name, "fov": f, "frame": t, "total": T, "message": message})

    def process_fov(self, metadata: MicroscopyMetadata, context: ProcessingContext, output_dir: Path, fov: int) -> None:
        """Process one FOV, all of whose results are in ``context.results_paths[fov]``."""
        raise NotImplementedError(f"{type(self).__name__} has no process_fov")

    def process_all_fovs(
        self,
        metadata: MicroscopyMetadata,
        context: ProcessingContext,
        output_dir: Path,
        fov_start: int | None = None,
        fov_end: int | None = None,
    ) -> None:
        """Process FOVs one after the other, the last one included; None or -1 for the first or last of the movie.

        Raises
        ------
        ConfigError
            If there is no such FOV; it is a ValueError.
        """
        for fov in fov_range(metadata.n_fovs, fov_start, fov_end):
            self.process_fov(metadata, context, output_dir, fov)


def check_services(services: Sequence[BaseProcessingService]) -> None:
    """Refuse services that have nothing to do, before a run that they come after.

    Raises
    ------
    ConfigError
        If one has no ``process_fov`` of its own.
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
    """Run services on FOVs, one after the other; what one raises is logged, and ends the FOV, not the others.

    Returns
    -------
    Whether all went well.
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
    """Make a reporter that passes events on, and logs the first time that this fails."""
    failures = 0

    def report(event: dict[str, Any]) -> None:
        nonlocal failures
        try:
            progress(event)
        except Exception as error:  # noqa: BLE001  (a monitor that is down ends no run)
            failures += 1
            if failures == 1:
                log.warning("progress could not be reported: %s: %s; the run goes on", type(error).__name__, error)

    return report

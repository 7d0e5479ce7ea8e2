"""Services of the seven steps for scripts, each a run of `pyama_dask.run` with one step on some FOVs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.api.configs import cluster_of, config_of
from pyama_dask.api.context import (
    MicroscopyMetadata,
    ProcessingConfig,
    ProcessingContext,
    as_in_file,
    context_of,
    fov_range,
)
from pyama_dask.api.paths import write_results
from pyama_dask.api.services import BaseProcessingService, Reporter, kept_going
from pyama_dask.api.workflow import noted, run_alone
from pyama_dask.config.models import Config
from pyama_dask.config.units import many
from pyama_dask.errors import AlgorithmError, ConfigError, OutputError, PyamaError
from pyama_dask.runs.output_dir import read_config
from pyama_dask.runs.status import RunReport
from pyama_dask.steps.standard import GRAPH, finds_cells

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("pyama_dask")

Settings = ProcessingContext | ProcessingConfig
Steps = tuple[str, ...]


class StepService(BaseProcessingService):
    """Base of the services of this module; results are recorded, so that done work is not done again.

    Parameters
    ----------
    n_workers
        Worker processes on this machine; by default everything runs in this process.
    client
        Dask client to run on.
    """

    steps: Steps = ()
    """Steps of a run."""

    def __init__(self, *, n_workers: int | None = None, client: Client | None = None) -> None:
        self._where: dict[str, Any] = {"n_workers": n_workers, "client": client}

    def process_fov(
        self,
        metadata: MicroscopyMetadata,
        context: Settings | None = None,
        output_dir: str | Path | None = None,
        fov: int = 0,
        cancel_event: threading.Event | None = None,
        *,
        config: Settings | None = None,
    ) -> None:
        """Process one FOV; parameters and errors as for `process_all_fovs`."""
        self.process_all_fovs(metadata, context, output_dir, fov, fov, cancel_event, config=config)

    def process_all_fovs(
        self,
        metadata: MicroscopyMetadata,
        context: Settings | None = None,
        output_dir: str | Path | None = None,
        fov_start: int | None = None,
        fov_end: int | None = None,
        cancel_event: threading.Event | None = None,
        *,
        config: Settings | None = None,
    ) -> None:
        """Process FOVs, the last one included; None or -1 for the first or last FOV of the movie.

        Parameters
        ----------
        metadata
            As for `run_complete_workflow`.
        context, config
            Channels and settings, in either form; give one of them.
        output_dir
            Folder for the results; None for that of the context.
        fov_start, fov_end
            First and last FOV.
        cancel_event
            Set it to return early.

        Raises
        ------
        MissingStepError
            If a step that this one needs is not done; it is a FileNotFoundError. Nothing is written.
        AlgorithmError
            If FOVs have failed; all others are done.
        ConfigError, SourceError, OutputError, PlanError
            If the run is refused before any work.
        """
        if cancel_event is not None and cancel_event.is_set():
            return
        given = context if config is None else config
        self._note_method(given)
        fovs = fov_range(metadata.n_fovs, fov_start, fov_end)
        report = run_steps(
            self.steps, metadata, given, output_dir, fovs, cancel_event, self._progress_reporter, **self._where
        )
        if report is None:
            log.warning("%s: nothing to do with these channels and settings", self.name)
        elif report.stopped:
            raise OutputError(report.stopped)
        elif report.failed:
            raise AlgorithmError(reasons(report))

    def _note_method(self, given: Settings | None) -> None:
        """Put the method of the service into the settings, where the services after it find it."""


class _MethodService(StepService):
    """Base of services of steps that can be done by several methods.

    Parameters
    ----------
    method
        Name of the method; None for that of the settings.
    n_workers, client
        As for `StepService`.
    """

    _key = ""
    """Setting that names the method."""

    def __init__(
        self, method: str | None = None, *, n_workers: int | None = None, client: Client | None = None
    ) -> None:
        super().__init__(n_workers=n_workers, client=client)
        self.method = method

    def _note_method(self, given: Settings | None) -> None:
        if given is None or self.method is None:
            return
        if given.params.setdefault(self._key, self.method) != self.method:
            raise ConfigError(
                f"{self.name}: method={self.method!r}, but {self._key} of the settings is {given.params[self._key]!r}. "
                "Fix: keep one"
            )


class CopyingService(StepService):
    """Frames of the movie as Zarr arrays."""

    name, steps = "Copying", ("copy",)


class SegmentationService(_MethodService):
    """Labels of the cells in each frame; nothing to do without phase contrast."""

    name, steps, _key = "Segmentation", ("segment",), "segmentation_method"


class TrackingService(_MethodService):
    """Labels that are the same for a cell in all frames; nothing to do without phase contrast."""

    name, steps, _key = "Tracking", ("drift", "track"), "tracking_method"


class BackgroundEstimationService(StepService):
    """Background of the fluorescence; nothing to do without phase contrast and fluorescence."""

    name, steps = "Background Estimation", ("background",)


CorrectionService = BackgroundEstimationService
"""The same by its older name: features are corrected, and frames are not."""


class CroppingService(StepService):
    """Crops of the cells; nothing to do without phase contrast."""

    name, steps = "Cropping", ("crop",)


class ExtractionService(StepService):
    """Traces of the cells; nothing to do without phase contrast."""

    name, steps = "Extraction", ("extract",)


class CachingService(StepService):
    """Display levels of all images and crops."""

    name, steps = "Caching", ("cache",)


AFTER_COPYING = (
    SegmentationService, TrackingService, BackgroundEstimationService, CroppingService, ExtractionService
)  # fmt: skip
"""Services whose steps `run_single_worker` does."""


def run_single_worker(
    fovs: Sequence[int],
    metadata: MicroscopyMetadata,
    context: Settings | None = None,
    output_dir: str | Path | None = None,
    cancel_event: threading.Event | None = None,
    *,
    config: Settings | None = None,
    progress_queue: Any = None,
    n_workers: int | None = None,
    client: Client | None = None,
) -> tuple[Sequence[int], int, int, str]:
    """Do all steps between copying and caching for some FOVs, in one run.

    Threads that call it for one output take turns, as an output has one run at a time. To use several cores, pass
    `n_workers` or `client`, or call `run_complete_workflow`.

    Parameters
    ----------
    fovs
        Numbers of the FOVs.
    metadata, context, output_dir, cancel_event, config, n_workers, client
        As for `StepService`.
    progress_queue
        Queue that gets progress, a dict ``step, fov, frame, total, message``.

    Returns
    -------
    The FOVs; how many are done; how many are not; and ``Completed``, ``Cancelled``, or the reasons. Errors are returned
    in the message, too.
    """
    steps = tuple(step for service in AFTER_COPYING for step in service.steps)
    progress = None if progress_queue is None else progress_queue.put
    given = context if config is None else config
    try:
        report = run_steps(
            steps, metadata, given, output_dir, fovs, cancel_event, progress, n_workers=n_workers, client=client
        )
    except PyamaError as error:
        log.error("FOVs %s: %s", list(fovs), error)  # noqa: TRY400  (its message is all that a user needs)
        return fovs, 0, len(fovs), str(error)
    if report is None:
        return fovs, len(fovs), 0, "Completed"
    left = [fov for fov in report.fovs if fov.status == "failed" or not set(steps).isdisjoint(fov.left)]
    message = "Cancelled" if report.cancelled else report.stopped or reasons(report) or "Completed"
    return fovs, len(fovs) - len(left), len(left), message


def run_steps(
    steps: Steps,
    metadata: MicroscopyMetadata,
    given: Settings | None,
    output_dir: str | Path | None,
    fovs: Sequence[int],
    cancel_event: threading.Event | None,
    progress: Reporter | None,
    *,
    n_workers: int | None,
    client: Client | None,
) -> RunReport | None:
    """Run some steps on some FOVs, and note the results in the context and in ``processing_results.yaml``.

    Returns
    -------
    Report of the run; None if the settings ask for none of these steps.
    """
    context = context_of(given, output_dir)
    where = cluster_of(None, n_workers or (None if client else 1), has_client=client is not None)
    config = config_of(as_in_file(metadata), metadata, context, fovs, where)
    if given is not None:
        given.channels = context.channels
    if not (chosen := active(steps, config)):
        return None
    report_to = kept_going(progress) if progress else None
    report = run_alone(config, client=client, steps=chosen, progress=report_to, cancel=cancel_event)
    mine = noted(report, context, ("done", "partial"))
    write_results(read_config(config.output) or config, mine)
    return report


def active(steps: Steps, config: Config) -> list[str]:
    """Those of some steps that a config asks for, and the numbers of the summary with the last one that measures."""
    asked = {part.step for part in GRAPH.parts.values() if part.active(config)}
    measures = "extract" if finds_cells(config) else "copy"
    return [step for step in (*steps, *(["summary"] if measures in steps else [])) if step in asked]


def reasons(report: RunReport) -> str:
    """Failures of a run in one line; '' without any."""
    failed = [f"FOV {fov.fov} failed ({fov.cause}): {fov.reason}" for fov in report.failed]
    more = f"; and {many(len(failed) - 3, 'other FOV')}" if len(failed) > 3 else ""
    return "; ".join(failed[:3]) + more

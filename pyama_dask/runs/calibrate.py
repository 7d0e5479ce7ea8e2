"""Calibration: process one block to predict the time and memory of a whole run."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges, parse_selection
from pyama_dask.errors import CancelledError, PlanError
from pyama_dask.files.atomic import files_below
from pyama_dask.launch import worker_count
from pyama_dask.plan.plan import Plan
from pyama_dask.runs.driver import run
from pyama_dask.runs.final_page import final_pages
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.timings import Calibration, summed_up, write_calibration
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import WORK

TRIAL = Path(WORK) / "calibration"
"""Directory in the output for the trial, which is removed at its end."""


def calibrate(
    config: Config,
    *,
    cancel: threading.Event | None = None,
    into: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Plan, Calibration]:
    """Do the first block of some FOVs where the run would do it, and measure: two a worker, as its first is slow.

    On a queue this is one job. Its results go to a separate directory within the output, which is removed again;
    the measurements are kept there for later runs.

    Parameters
    ----------
    config
        Of the whole run.
    cancel
        Set it to end early.
    into
        Whether the output may be a folder that holds other files.
    clock
        Seconds since any moment, for the times before the first task and after the last.

    Returns
    -------
    The plan of the whole run, and what was measured.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run cannot be done as configured, or the trial failed.
    """
    plan, _ = plan_run(config, into=into)
    trial = trial_of(plan)
    _remove_trial(trial.output)
    began, moments = clock(), list[float]()

    def see(event: Mapping[str, Any]) -> None:
        if event["step"] in plan.graph.steps:
            moments.append(clock())

    try:
        with final_pages(on=False):
            report = run(trial, cancel=cancel, progress=see)
        ended = clock()
        if report.cancelled:
            raise CancelledError("the trial was cancelled")
        if report.exit_status:
            raise PlanError(f"the trial failed: {report.stopped or report.failed[0].reason}")
        costs = list(Ledger(trial.output / LEDGER).costs())
        size = sum(path.stat().st_size for fov in trial.output.glob("fov_*") for path in files_below(fov))
    finally:
        _remove_trial(trial.output)
    fovs, frames = len(report.fovs), len(parse_selection(trial.params.frames))
    around = (moments[0] - began - costs[0].seconds) + (ended - moments[-1])
    cells = sum(fov.cells or 0 for fov in report.fovs) / fovs
    measured = summed_up(plan.job, frames, costs, around, size / fovs / frames, cells)
    write_calibration(plan.job.output, measured)
    return plan, measured


def _remove_trial(output: Path) -> None:
    """Remove the output of a trial; a folder of another kind stays, and the trial is refused."""
    if (output / LEDGER).exists():
        shutil.rmtree(output, ignore_errors=True)


def trial_of(plan: Plan) -> Config:
    """Config of the trial: the first block of two FOVs per worker, or two blocks of a single FOV."""
    job, config = plan.job, plan.job.config
    able = [fov.fov for fov in plan.fovs if fov.tasks]
    if not able:
        raise PlanError("no FOV can be done: " + "; ".join(str(fov.problem) for fov in plan.fovs))
    of_job = config.cluster.of_queue
    workers = config.cluster.worker_processes if of_job else worker_count(config.cluster)
    frames = job.frames[: job.block_frames * (1 if len(able) > 1 else 2)]
    tracking = config.params.tracking_params
    fewer = {"min_frames": min(tracking["min_frames"], max(1, len(frames) // 2))}
    changes: dict[str, Any] = {
        "params": {
            "fovs": as_ranges(able[: 2 * workers]),
            "frames": as_ranges(frames),
            "tracking_params": tracking | fewer,
        },
        "storage": {"block_frames": job.block_frames},
        "cluster": {"jobs": 1, "adaptive": None} if of_job else {},
    }
    parts = {name: getattr(config, name).model_copy(update=update) for name, update in changes.items()}
    return config.model_copy(update=parts | {"output": job.output / TRIAL})

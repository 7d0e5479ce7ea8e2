"""Cancelling the tasks of a run: a flag in its lock, which tasks read between frames.

A task that finds no lock, or the lock of another run, stops too. So the workers of a driver that was killed stop
writing as soon as another run starts.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from pyama_dask.errors import CancelledError
from pyama_dask.store.lock_file import lock_path, read_record, write_record
from pyama_dask.workflow.task import Job


def check_wanted(job: Job) -> None:
    """Make sure that a task's run continues; reads one small file. A job without a run name always continues.

    Raises
    ------
    CancelledError
        If the run was cancelled, is over, or was replaced by another one.
    """
    if not job.run:
        return
    try:
        record = json.loads(lock_path(job.output).read_bytes())
    except FileNotFoundError:
        raise CancelledError(f"{job.output}: the run is over") from None
    except ValueError:
        raise CancelledError(f"{job.output}: another run is starting") from None
    if record.get("run") != job.run:
        raise CancelledError(f"{job.output}: another run has started")
    if record["stopping"]:
        raise CancelledError(f"{job.output}: the run was cancelled")


def stop_tasks(output: Path, run: str) -> None:
    """Tell the tasks of a run to stop; without its lock they stop anyway."""
    with suppress(OSError):
        file = os.open(lock_path(output), os.O_RDWR)
        try:
            if (record := read_record(file)).get("run") == run:
                write_record(file, record | {"stopping": True})
        finally:
            os.close(file)

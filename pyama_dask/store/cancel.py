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

_wanted: dict[str, bytes] = {}
"""Content of the lock with which a run continued at the last look, by its name."""


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
        file = os.open(lock_path(job.output), os.O_RDONLY)
    except FileNotFoundError:
        raise CancelledError(f"{job.output}: the run is over") from None
    try:
        content = os.read(file, 4096)
    finally:
        os.close(file)
    if _wanted.get(job.run) == content:  # as at the last look
        return
    _check_record(job, content)
    _wanted.clear()
    _wanted[job.run] = content


def _check_record(job: Job, content: bytes) -> None:
    try:
        record = json.loads(content)
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

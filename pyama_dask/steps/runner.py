"""What a scheduler calls: one task, from store to kernels to store, and the receipt for it.

A task composes the steps that work on the same pixels. They share a `Bench`, which keeps what was read or made for the
steps after it, so that nothing is read back that the task has held.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from pyama_dask.errors import DiskError
from pyama_dask.files.atomic import checksum, disk_error
from pyama_dask.files.streams import unfailing
from pyama_dask.steps.context import Bench
from pyama_dask.steps.finish import finish
from pyama_dask.steps.gather import gather
from pyama_dask.steps.ingest import ingest
from pyama_dask.steps.link import link
from pyama_dask.workflow.graph import Kind
from pyama_dask.workflow.task import Job, Receipt, Task

TASKS: Mapping[Kind, Callable[[Bench], None]] = {
    "ingest": ingest,
    "link": link,
    "finish": finish,
    "gather": gather,
}


def run_task(task: Task, job: Job) -> Receipt:
    """Do one task and say what was done.

    Raises
    ------
    PyamaError
        If it cannot be done; the message names the FOV, and the frame where one is at fault.
    DiskError
        If a file system takes nothing more.
    CancelledError
        If its run was cancelled, or is over.
    """
    try:
        with unfailing():  # a method may print
            return _receipt(task, job)
    except Exception as error:
        if full := disk_error(error, job.output):
            raise DiskError(str(full)) from error  # what led to an error does not come along from a worker
        raise


def _receipt(task: Task, job: Job) -> Receipt:
    started = time.perf_counter()
    forget_peak()
    bench = Bench(task, job)
    bench.check()
    TASKS[task.kind](bench)
    bench.step = bench.step  # its time so far
    return Receipt(
        key=task.key,
        digests=task.digests,
        files={
            step: {file.relative_to(job.output).as_posix(): checksum(file) for file in files}
            for step, files in bench.written.items()
        },
        seconds=time.perf_counter() - started,
        bytes_read=bench.bytes_read,
        bytes_written=bench.bytes_written,
        peak_memory=peak_memory(),
        warnings=tuple(bench.warnings),
        run=job.run,
        notes=bench.notes,
        spent=bench.spent,
        frames_read=tuple(bench.frames_read),
    )


def forget_peak() -> None:
    """Begin to measure the largest memory of this process anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Largest resident memory of this process since `forget_peak`, in bytes; what it is now, where none is kept."""
    status = Path("/proc/self/status")  # not `getrusage`, whose figure begins with that of the parent process
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))

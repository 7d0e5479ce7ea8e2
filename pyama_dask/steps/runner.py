"""Entry point of workers: run one task and return its receipt.

The parts of a task work on the same pixels. They share a `TaskContext`, which keeps arrays for later
parts, so that nothing is read twice.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from pyama_dask.errors import CancelledError, DiskError
from pyama_dask.files.atomic import disk_error
from pyama_dask.files.checksums import checksum
from pyama_dask.files.streams import unfailing
from pyama_dask.kernels.compiled import instruction_set
from pyama_dask.methods.device import has_gpu
from pyama_dask.methods.own_files import check_unchanged
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.graphs import graph_of
from pyama_dask.steps.part import run_parts
from pyama_dask.workflow.graph import GPU, Step
from pyama_dask.workflow.task import Job, Receipt, Task


def run_task(task: Task, job: Job) -> Receipt:
    """Run one task and return its receipt.

    Raises
    ------
    PyamaError
        If it fails; the message names the FOV, and the frame if one is at fault.
    DiskError
        If a file system is full.
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
    begun, started = time.time(), time.perf_counter()
    return_freed()
    forget_peak()
    context = TaskContext(task, job)
    context.check()
    check_unchanged(job.own_files)
    with closing(context), undamaged_inputs(context):
        run_parts(context, graph_of(job.config))
    check_unchanged(job.own_files)  # functions may have been loaded since
    context.begin(context.step)  # counts the time of the last one
    return Receipt(
        key=task.key,
        digests=task.digests,
        files={
            step: {file.relative_to(job.output).as_posix(): known or checksum(file) for file, known in files.items()}
            for step, files in context.written.items()
        },
        seconds=time.perf_counter() - started,
        bytes_read=context.bytes_read,
        bytes_written=context.bytes_written,
        peak_memory=peak_memory(),
        group=task.group,
        warnings=tuple(context.warnings),
        run=job.run,
        notes=context.notes,
        local=task.local,
        wide=task.wide,
        provides=context.provides,
        spent=context.spent,
        frames_read=_frames_read(context),
        processors=processors(task, job),
        begun=begun,
        worker=f"{socket.gethostname()}/{os.getpid()}",
    )


@contextmanager
def undamaged_inputs(context: TaskContext) -> Iterator[None]:
    """Compare shards with their checksums when they have been read, also if the block fails: that may be the cause.

    Raises
    ------
    DamagedError
        If one is not as it was recorded.
    """
    try:
        yield
    except CancelledError:
        raise
    except Exception:
        context.shards.check()
        raise
    context.shards.check()


def _frames_read(context: TaskContext) -> tuple[int, ...]:
    """Digests of all frames of the block; none if some were not read, as images were stored that are made of them."""
    read, task = context.frames_read, context.task
    return tuple(read[frame] for frame in range(task.start, task.stop)) if len(read) == task.stop - task.start else ()


def processors(task: Task, job: Job) -> dict[Step, str]:
    """Kind of this machine's processor, or GPU, for each step of a task whose results depend on it."""
    parts = [
        part for part in graph_of(job.config).kinds[task.kind] if part.step in task.digests and part.active(job.config)
    ]
    kind = "GPU" if has_gpu() else instruction_set()
    return {part.step: kind for part in parts if part.by_processor(job.config) or GPU in part.resources}


def return_freed() -> None:
    """Return freed memory to the system: by itself, the allocator keeps hundreds of MiB after large images."""
    with suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Reset the peak memory of this process, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Largest resident memory of this process since `forget_peak`, in bytes; the current one if no peak is kept."""
    status = Path("/proc/self/status")  # not `getrusage`, whose figure begins with that of the parent process
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))

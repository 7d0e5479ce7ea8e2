"""Workers of a run: started for it alone, or shared by several runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Self
from uuid import uuid4

from distributed import Client

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.models import Config
from pyama_dask.execute.events import Progress
from pyama_dask.execute.workers import Workers
from pyama_dask.launch import dask_report, show_run, starts_workers, workers_for
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.compilation import compile_kernels, kernels_for
from pyama_dask.runs.live_page import LivePage
from pyama_dask.workflow.task import WORK

log = logging.getLogger("pyama_dask")

DASK_REPORT = "dask-report.html"
"""Name of Dask's report on the work, among the documents of a run, or in the folder above several outputs."""

STORED = "uint16"
"""Type of the pixels of stored frames, whatever the movie has."""
_MANY = 2**20
"""Number of tasks for which no worker is left out: how many the later runs have is not known yet."""


@contextmanager
def workers_of_run(
    todo: Plan, metadata: Metadata, client: Client | None, progress: Progress, cancel: threading.Event,
    shown: Path | None = None,
) -> Iterator[Workers | None]:  # fmt: skip
    """Workers for the tasks of a run; the kernels are compiled before the workers start.

    The dashboard shows the run, or all runs in the folder `shown`.
    """
    job, tasks = todo.job, todo.at_once
    if starts_workers(job.config.cluster, client, tasks=tasks):
        compile_first(job.config, metadata, progress, cancel)
    where, gpu_tasks = job.output / WORK, todo.gpu_tasks
    with workers_for(job.config.cluster, client, where, job.run, tasks=tasks, gpu_tasks=gpu_tasks) as workers:
        if workers and (workers.owned or job.config.cluster.kind == "runner"):
            show_run(workers.client, partial(LivePage, shown or job.output))
        yield workers


class SharedPool:
    """Workers that several runs share, which may be in different threads; use it as a context manager.

    They start when a run first has something to do, and stay until the end of the block.

    Parameters
    ----------
    cluster
        Part of the config, which is the same for all runs.
    work
        Folder for certificates and logs of the jobs of a queue.
    """

    def __init__(self, cluster: Cluster, work: Path) -> None:
        self._cluster, self._work = cluster, work
        self._stack = ExitStack()
        self._started: Workers | None = None
        self._lock, self._context = threading.Lock(), copy_context()
        """Dask's client begins and ends in one context, although the runs are in different threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._context.run(self._stack.close)

    @contextmanager
    def workers(
        self, todo: Plan, metadata: Metadata, client: Client | None, progress: Progress, cancel: threading.Event
    ) -> Iterator[Workers | None]:
        """Workers for the tasks of a run; see `workers_of_run`."""
        if not starts_workers(self._cluster, client, tasks=len(todo.tasks)):
            with workers_of_run(todo, metadata, client, progress, cancel, self._work.parent) as workers:
                yield workers
            return
        compile_first(todo.job.config, metadata, progress, cancel)
        with self._lock:
            self._started = self._started or self._start(todo, cancel)
        yield self._started

    def _start(self, todo: Plan, cancel: threading.Event) -> Workers | None:
        """Start workers that stay until the end of the block, with one report and one page for all runs."""
        gpu_tasks = _MANY if any(map(todo.graph.needs_gpu, todo.graph.kinds)) else 0
        of_all = workers_for(self._cluster, None, self._work, uuid4().hex[:12], tasks=_MANY, gpu_tasks=gpu_tasks)
        started = self._context.run(self._stack.enter_context, of_all)
        self._work.mkdir(parents=True, exist_ok=True)
        report = dask_report(started, self._work / DASK_REPORT, cancel)  # one: it takes long to write
        self._context.run(self._stack.enter_context, report)
        if started is not None:
            started.owned = False  # tasks that a run leaves behind must not disturb the next one
            show_run(started.client, partial(LivePage, self._work.parent))
        return started


def compile_first(config: Config, metadata: Metadata, progress: Progress, cancel: threading.Event) -> None:
    """Compile the kernels of a config before workers start, with an event.

    Frames are stored as 16-bit, and the seven steps get those; steps before them get the movie's types of pixels.
    """

    def say(message: str) -> None:
        log.info("%s", message)
        progress({"step": "compile", "fov": -1, "frame": 0, "total": 0, "message": message})

    given = {channel.dtype for channel in metadata.channels} if config.pipelines else set()
    compile_kernels({STORED, *given}, kernels_for(config), say, cancel)

"""Runs of many FOVs whose tasks do nothing, or sleep: what is left is planning, the loop, the ledger and Dask."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from distributed import Client, LocalCluster, wait
from support.ledgers import costs_of
from support.strategies import movie, plan_of

from bench.table import Row
from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.loop import execute
from pyama_dask.execute.workers import Workers
from pyama_dask.launch import local_cluster
from pyama_dask.launch.settings import own_settings
from pyama_dask.plan.plan import Plan
from pyama_dask.plan.resume import remaining
from pyama_dask.runs.plan_text import describe_plan
from pyama_dask.runs.planning import what_is_left
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Job, Receipt, Task

FOVS, FRAMES, SHAPE = 500, 180, (2048, 2048)
SIZE = f"{FOVS} FOVs x {FRAMES} frames"
WORKERS = Cluster(workers=2, memory="2GiB")
GROWTH, SHORT = (2000, 500), 40
"""FOVs of the two runs whose memory is compared, and their frames."""
LARGE = 2000, 500
"""FOVs and frames of the largest plan."""
PROCESSES = 4
"""Processes in which many workers are simulated by threads."""
SLEEPS = {"ingest": 1.04, "link": 0.06, "finish": 0.58, "gather": 0.43}
"""Seconds of tasks of 8 frames of 2048 x 2048, as measured."""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    plan_of_fovs(directory, 1)  # imports what planning needs
    planning = min(_seconds(partial(plan_as_json, directory)) for _ in range(3))
    found, bare = in_new_process(run_of_nothing, directory), in_new_process(bare_dask)
    again = min(_seconds(partial(nothing_left, directory)) for _ in range(3))
    return [
        (f"plan of {SIZE}, as text and as JSON, without reading the movie", f"{planning:.2f} s", "at most 2 s"),
        (
            f"CPU of driver and scheduler for each of {found.tasks} empty tasks, Dask alone {bare * 1e3:.2f} ms",
            f"{found.cpu / found.tasks * 1e3:.2f} ms",
            "at most 1 ms",
        ),
        ("resident memory of the process of driver and scheduler, at most beyond that before",
         f"{found.memory / 2**20:.0f} MiB", "under 300 MiB"),
        (f"growth of the same memory and of the plan, {GROWTH[0]} FOVs x {SHORT} frames against {GROWTH[1]}, per task",
         f"{growth(directory):.0f} bytes", "under 1,000 bytes"),
        (f"first of {FOVS} FOVs complete, after the start", f"{found.first:.1f} s", "within 2 s"),
        (f"a ledger of {found.tasks} receipts read, and found complete", f"{again:.1f} s", ""),
        (f"CPU of a plan of {LARGE[0]} FOVs x {LARGE[1]} frames",
         f"{in_new_process(large_plan, directory):.1f} s", "at most 5 s"),
        *(
            (f"share of the time that {workers} simulated workers are busy, {fovs} FOVs x 64 frames",
             f"{in_new_process(share_busy, directory, workers, fovs):.1%}", "at least 95 %")
            for workers, fovs in ((32, 64), (128, 320))
        ),
    ]  # fmt: skip


def in_new_process(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function in a process that has done nothing before, so that its memory and time are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


# ------------------------------------------------------------------------------------------ plan, ledger


def plan_of_fovs(directory: Path, fovs: int = FOVS, frames: int = FRAMES) -> Plan:
    """Plan of a movie that is made up, with a time stamp for every frame."""
    memory = 2 * 2**30
    return plan_of(movie(fovs=fovs, frames=frames, shape=SHAPE), memory=memory, output=directory / "output")


def plan_as_json(directory: Path) -> str:
    """Everything that ``pyama-dask plan`` and ``plan --json`` do after the movie's metadata are read."""
    plan = plan_of_fovs(directory)
    return describe_plan(plan, what_is_left(plan)) + json.dumps(plan.document())


def large_plan(directory: Path) -> float:
    """Seconds of CPU for a plan of `LARGE`."""
    plan_of_fovs(directory, 1)  # imports what planning needs
    fovs, frames = LARGE
    metadata, began = movie(fovs=fovs, frames=frames, shape=SHAPE), time.process_time()
    plan_of(metadata, memory=2 * 2**30, output=directory / "output")
    return time.process_time() - began


def nothing_left(directory: Path) -> None:
    """Find from the ledger alone that a run is complete, as it is begun again."""
    plan = plan_of_fovs(directory)
    left = remaining(plan, Ledger(directory / "ledger.jsonl"), None, lambda *_: None)
    if left.tasks:
        raise ArithmeticError(f"{len(left.tasks)} tasks are left of a run that is complete")


# --------------------------------------------------------------------------------------------------- run


@dataclass(frozen=True)
class Found:
    """What a run of empty tasks cost."""

    tasks: int
    cpu: float
    """Seconds of the process that holds the driver and the scheduler."""
    memory: int
    """Bytes that its resident memory rose by."""
    with_plan: int
    """The same, beginning before the plan."""
    first: float
    """Seconds until the first FOV was complete."""


def nothing(task: Task, job: Job) -> Receipt:
    """Stands for a task: touches no pixel, and gives a receipt as long as that of a real one."""
    images = f"{job.fov_dir(task.fov).name}/images.zarr"
    files = {
        step: {f"{images}/{step}_ch_{k}/0/c.{task.block}.0.0": (2**23, 2**31) for k in (0, 1)} for step in task.digests
    }
    spent = dict.fromkeys(task.digests, 0.125)
    return Receipt(task.key, task.digests, files, 0.0, 2**25, 2**25, 2**29, run=job.run, spent=spent)


def growth(directory: Path) -> float:
    """Bytes of the driver per task by which a run with more FOVs takes more memory, plan and all."""
    many, few = (in_new_process(run_of_nothing, directory, fovs, SHORT) for fovs in GROWTH)
    return float((many.with_plan - few.with_plan) / (many.tasks - few.tasks))


def run_of_nothing(directory: Path, fovs: int = FOVS, frames: int = FRAMES) -> Found:
    """Run all tasks on two workers through the loop, the ledger and the scheduler of a real run."""
    plan_of_fovs(directory, 1)  # imports what planning needs
    before = psutil.Process().memory_info().rss
    plan = plan_of_fovs(directory, fovs, frames)
    of_plan = psutil.Process().memory_info().rss - before
    ledger_file = directory / ("ledger.jsonl" if fovs == FOVS and frames == FRAMES else f"ledger{fovs}.jsonl")
    ended: list[float] = []

    def progress(event: dict[str, Any]) -> None:
        if event["step"] == "done":
            ended.append(time.perf_counter())

    with local_cluster(WORKERS) as client, Ledger(ledger_file) as ledger, largest_memory() as grown:
        client.run(nothing, plan.tasks[0], plan.job)  # what a worker imports is measured by itself
        started, cpu = time.perf_counter(), time.process_time()
        execution = execute(
            plan,
            DaskPool(Workers(client), nothing),
            ledger,
            prepare=lambda _: (),
            settle=lambda tasks: tasks,
            tidy=lambda _: (),
            repair=lambda fov, _: (plan.fovs[fov], ()),
            progress=progress,
            cancel=threading.Event(),
        )
        cpu = time.process_time() - cpu
    if execution.failed or len(ended) < fovs or ledger.receipts < len(plan.tasks):
        raise ArithmeticError(f"{len(ended)} of {fovs} FOVs are complete, and {ledger.receipts} tasks recorded")
    return Found(len(plan.tasks), cpu, grown(), of_plan + grown(), ended[0] - started)


def asleep(task: Task, job: Job) -> Receipt:
    """Stands for a task that takes as long as a real one, give or take a tenth."""
    seconds, begun = SLEEPS[task.kind] * random.Random(task.key).uniform(0.9, 1.1), time.time()
    time.sleep(seconds)
    worker = f"{socket.gethostname()}/{os.getpid()}"
    return replace(nothing(task, job), seconds=seconds, begun=begun, worker=worker)


def share_busy(directory: Path, workers: int, fovs: int) -> float:
    """Share of the time from the first task to the last in which workers sleep in tasks; they are threads."""
    metadata = movie(fovs=fovs, frames=64, shape=SHAPE)
    plan = plan_of(metadata, memory=2 * 2**30, output=directory / "output", storage={"block_frames": 8})
    where = {"n_workers": PROCESSES, "threads_per_worker": workers // PROCESSES, "dashboard_address": ":0"}
    with (
        own_settings(), LocalCluster(host="127.0.0.1", **where) as cluster, Client(cluster) as client,
        Ledger(directory / f"asleep{workers}.jsonl") as ledger,
    ):  # fmt: skip
        client.run(asleep, plan.fovs[0].tasks[-1], plan.job)  # what a worker imports is measured by itself
        began = time.perf_counter()
        execution = execute(
            plan, DaskPool(Workers(client), asleep), ledger, prepare=lambda _: (), settle=lambda tasks: tasks,
            tidy=lambda _: (), repair=lambda fov, _: (plan.fovs[fov], ()), progress=lambda _: None,
            cancel=threading.Event(),
        )  # fmt: skip
        wall = time.perf_counter() - began
    if execution.failed or ledger.receipts != len(plan.tasks):
        raise ArithmeticError(f"{ledger.receipts} of {len(plan.tasks)} tasks are recorded")
    return sum(cost.seconds for cost in costs_of(ledger)) / (workers * wall)


@contextmanager
def largest_memory() -> Iterator[Callable[[], int]]:
    """Look at this process 20 times a second; yields what says by how many bytes it was largest."""
    process, ended = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def look() -> None:
        while not ended.wait(0.05):
            seen.append(process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: max(seen) - seen[0]
    finally:
        ended.set()
        looking.join()


def bare_dask(tasks: int = 4600) -> float:
    """Seconds of CPU a task when Dask is given them all at once, and nothing else is done: no loop can take less."""
    with local_cluster(WORKERS) as client:
        costs = []
        for attempt in range(3):
            before = time.process_time()
            futures = client.map(str, range(tasks), key=[f"{attempt}-{k}" for k in range(tasks)], pure=False)
            wait(futures)
            client.gather(futures)
            costs.append((time.process_time() - before) / tasks)
        return min(costs)

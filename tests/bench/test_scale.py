"""The driver of a run holds little of each task, however many FOVs there are."""

import gc
import os
import threading
import tracemalloc

from support.strategies import movie, plan_of

from bench.scale import SHAPE, nothing
from pyama_dask.execute.loop import execute
from pyama_dask.execute.pool import SerialPool
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import parse_key

MOST = 800
"""Bytes per task of plan, loop and ledger."""


def held_after_run(directory, fovs):
    """Bytes that are held after a run of empty tasks, and the number of tasks."""
    plan = plan_of(movie(fovs=fovs, frames=40, shape=SHAPE), memory=2 * 2**30, output=directory / "output")
    with Ledger(directory / f"{fovs}.jsonl") as ledger:
        ended = execute(
            plan, SerialPool(nothing), ledger, prepare=lambda _: (), settle=lambda tasks: tasks, tidy=lambda _: (),
            repair=lambda fov, _: (plan.fovs[fov], ()), progress=lambda _: None, cancel=threading.Event(),
        )  # fmt: skip
        assert not ended.failed
        assert ledger.receipts == len(plan.tasks)
        parse_key.cache_clear()  # it is limited, but to more tasks than there are
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(plan.tasks)


def test_memory_grows_by_less_than_a_kilobyte_per_task(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    held_after_run(tmp_path, 40)  # fills what is held of a few FOVs
    tracemalloc.start()
    try:
        (before, few), (after, many) = (held_after_run(tmp_path, fovs) for fovs in (50, 150))
    finally:
        tracemalloc.stop()

    assert (after - before) / (many - few) < MOST

"""Receipts tell when, where and how long a task ran."""

import itertools
import os
import platform
import socket
import time

import numpy as np
import psutil
import pytest
from support.ledgers import costs_of

from pyama_dask.runs.status import LEDGER
from pyama_dask.steps.runner import return_freed
from pyama_dask.store.ledger import Ledger


def test_tasks_of_one_process_follow_each_other(finished):
    costs = costs_of(Ledger(finished / LEDGER))
    assert {cost.worker for cost in costs} == {f"{socket.gethostname()}/{os.getpid()}"}
    begun = [cost.begun for cost in costs]
    assert time.time() - 86400 < begun[0]
    assert begun[-1] < time.time()
    for before, after in itertools.pairwise(costs):
        assert before.begun + before.seconds < after.begun + 0.1  # two clocks measure them


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no such function")
def test_a_task_does_not_begin_with_what_the_one_before_has_freed():
    assert _returned(4000) > 200 * 2**20


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.33"), reason="older allocators do not say what is freed")
def test_a_task_takes_little_freed_memory_from_the_one_before():
    return_freed()
    assert _returned(500) < 2**20


def _returned(count):
    """Bytes that are returned when so many pieces of 60 kB are freed.

    They are below the size that is mapped by itself, and the last one holds the others in the heap.
    """
    pieces = [np.ones(60_000, np.uint8) for _ in range(count)]
    del pieces[:-1]
    before = psutil.Process().memory_info().rss
    return_freed()
    return before - psutil.Process().memory_info().rss

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
    """Pieces below the size that is mapped by itself, of which the last one holds the others in the heap."""
    pieces = [np.ones(60_000, np.uint8) for _ in range(2000)]
    del pieces[:-1]
    before = psutil.Process().memory_info().rss
    return_freed()
    assert before - psutil.Process().memory_info().rss > 100 * 2**20

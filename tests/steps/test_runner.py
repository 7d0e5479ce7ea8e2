"""Receipts tell when, where and how long a task ran."""

import itertools
import os
import socket
import time

from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger


def test_tasks_of_one_process_follow_each_other(finished):
    costs = Ledger(finished / LEDGER).costs
    assert {cost.worker for cost in costs} == {f"{socket.gethostname()}/{os.getpid()}"}
    begun = [cost.begun for cost in costs]
    assert time.time() - 86400 < begun[0]
    assert begun[-1] < time.time()
    for before, after in itertools.pairwise(costs):
        assert before.begun + before.seconds < after.begun + 0.1  # two clocks measure them

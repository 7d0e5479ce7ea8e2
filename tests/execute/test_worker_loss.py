"""Why workers died: told apart by real losses on a real cluster."""

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from distributed import Client, KilledWorker, LocalCluster, get_worker
from distributed.comm import CommClosedError

from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.worker_loss import EXITS, MEMORY, RETIRED, Loss, exit_text, log_exit, oom_kills
from pyama_dask.execute.workers import Workers
from pyama_dask.launch.queued import JobWorkers
from pyama_dask.methods.current_call import at_work, open_note

LIMIT = 500 * 2**20


METHOD = "FOV 0, frame 3, in the step 'f'"


def too_much():
    held = []
    open_note(get_worker().address)
    with at_work(METHOD):
        while True:
            held.append(np.ones(2**22))  # 32 MiB
            time.sleep(0.02)


def busy():
    open_note(get_worker().address)
    with at_work(METHOD):
        time.sleep(2)


def killed(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def left(status):
    os._exit(status)


@pytest.fixture(scope="module")
def client():
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.monitor-interval": "100ms"}
    memory = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(settings | memory),
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=LIMIT, **where) as processes,
        Client(processes) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def workers(client):
    return Workers(client)


def lost(client, function, *arguments):
    """Address of the worker that died of a call."""
    future = client.submit(function, *arguments, pure=False)
    error = future.exception(timeout=30)
    assert isinstance(error, KilledWorker)
    return error.last_worker.address


def why_of(workers, worker, since=None):
    return workers.loss(worker, "0", time.monotonic() if since is None else since).why


@pytest.mark.parametrize(
    ("function", "arguments", "why"),
    [
        (killed, (signal.SIGSEGV,), "signal 11"),
        (too_much, (), MEMORY),
        (killed, (signal.SIGKILL,), "signal 9"),
        (killed, (signal.SIGTERM,), "signal 15"),
        (left, (3,), "exit status 3"),
    ],
)
def test_why_a_worker_died(client, workers, function, arguments, why):
    """On one nanny, whose worker dies again and again."""
    assert why_of(workers, lost(client, function, *arguments)) == why


def test_a_worker_that_does_not_end_when_told_to_died_of_its_memory_still(client, workers):
    client.run(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    loss = workers.loss(lost(client, too_much), "0", time.monotonic())
    assert (loss.why, loss.doing) == (MEMORY, METHOD)


def test_workers_say_which_methods_they_run(client, workers):
    assert workers.doing() == ""
    future = client.submit(busy, pure=False)
    until = time.monotonic() + 20
    while not (doing := workers.doing()) and time.monotonic() < until:
        time.sleep(0.05)
    assert doing == f"running {METHOD}"
    future.result(timeout=20)
    assert workers.doing() == ""


def test_of_a_worker_that_nobody_knows_nothing_is_said(workers):
    assert why_of(workers, "tcp://127.0.0.1:1", 0.0) is None
    assert why_of(workers, "tcp://127.0.0.1:1", math.inf) is None  # asked in vain before, it is not waited for again


def test_it_is_known_of_workers_of_others_and_of_such_as_come_later(tmp_path):
    """A scheduler and nannies in programs of their own, as on a cluster."""
    quiet = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    file = tmp_path / "scheduler.json"

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--scheduler-file", file, "--host", "127.0.0.1"],
            env=os.environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    programs = [start("scheduler", "--port", "0", "--no-dashboard")]
    try:
        with Client(scheduler_file=str(file), timeout=30) as client:
            workers = Workers(client)
            programs.append(start("worker", "--nthreads", "1", "--no-dashboard"))
            client.wait_for_workers(1, timeout=30)
            assert why_of(workers, lost(client, killed, signal.SIGSEGV)) == "signal 11"
    finally:
        for program in programs:
            program.kill()  # a worker without its nanny ends by itself
            program.wait(20)


def test_the_kernels_count_of_kills(tmp_path):
    counters = tmp_path / "vmstat"
    counters.write_text("pgfault 12\noom_kill 7\ndrop_pagecache 0\n")
    assert oom_kills(counters) == 7
    counters.write_text("pgfault 12\n")
    assert oom_kills(counters) == 0
    assert oom_kills(tmp_path / "none") == 0


def test_a_kill_that_the_kernel_counted_was_for_memory(monkeypatch):
    from pyama_dask.execute import worker_loss

    class Process:
        worker_address = "tcp://127.0.0.1:1"
        went_on = ()

        def on_exit(self, status):
            self.went_on += (status,)

    class Nanny:
        def __init__(self):
            self.process, self.loop, self.logged, self.env = Process(), self, [], {}

        def add_callback(self, function, nanny, event):
            assert (function, nanny) == (worker_loss.log_exit, self)
            self.logged.append(event["why"])

    counts = iter([3, 3, 4, 5])
    monkeypatch.setattr(worker_loss, "oom_kills", lambda: next(counts))
    nanny = Nanny()
    worker_loss.ExitStatus().setup(nanny)
    for status in (-9, -9, -11):
        nanny.process.on_exit(status)
    assert nanny.logged == ["signal 9", MEMORY, "signal 11"]
    assert nanny.process.went_on == (-9, -9, -11)


def test_exit_text():
    assert [exit_text(status) for status in (-11, 0, 3)] == ["signal 11", "exit status 0", "exit status 3"]


def test_a_scheduler_that_ends_with_all_its_workers_is_told_nothing():
    class Scheduler:
        async def log_event(self, **_):
            raise CommClosedError("Stream is closed")

    asyncio.run(log_exit(SimpleNamespace(scheduler=Scheduler()), {"worker": "tcp://127.0.0.1:1", "why": "signal 9"}))


@pytest.mark.parametrize(
    ("said", "ask", "loss"),
    [
        ("signal 11", True, Loss("signal 11")),  # of its own doing
        (MEMORY, True, Loss(MEMORY)),
        (RETIRED, True, Loss(RETIRED, with_job=True)),
        ("signal 15", False, Loss(with_job=True)),  # which a queue sends to all of a job
        ("signal 15", True, Loss("pre-empted", with_job=True)),
        (None, False, Loss(with_job=True)),
        (None, True, Loss("pre-empted", with_job=True)),
    ],
)
def test_a_worker_that_its_queue_has_ended_is_no_fault_of_a_task(said, ask, loss):
    class Client:
        def register_plugin(self, plugin): ...

        def get_events(self, topic):
            return [(0.0, {"worker": "tls://n1:1", "why": said})] if said and topic == EXITS else []

    workers = JobWorkers(Client(), Cluster(kind="slurm", jobs=1, memory="2GiB", walltime="01:00:00"))
    workers._groups = [SimpleNamespace(name="pyama-1", why=lambda name, since: "pre-empted")]
    assert workers.loss("tls://n1:1", "pyama-1-1", 0.0, ask=ask) == loss

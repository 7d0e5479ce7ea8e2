"""The file of a lock: whether the run that wrote it is alive."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.locks import ELSEWHERE, here, left
from support.processes import started, wait_until

from pyama_dask.store import lock_file
from pyama_dask.store.lock_file import look


def holder(path):
    """Holder of the lock at a path."""
    file = os.open(path, os.O_RDONLY)
    try:
        return look(path, file)
    finally:
        os.close(file)


def test_a_process_that_is_suspended_is_alive_here(path):
    with started(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as program:
        left(path, ago=3600, **here(pid=program.pid, started=lock_file.started(program.pid)))
        program.send_signal(signal.SIGSTOP)
        assert not holder(path).is_dead
        assert f"process {program.pid}, is writing to it. Fix: wait" in holder(path).refusal(path)


def test_a_process_that_is_over_is_dead(path, gone):
    left(path, **here(**gone))
    assert holder(path).is_dead


def test_a_process_that_was_killed_and_not_waited_for_is_dead(path):
    with started(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as program:
        left(path, **here(pid=program.pid, started=lock_file.started(program.pid)))
        program.kill()
        wait_until(lambda: lock_file.started(program.pid) is None)
        assert holder(path).is_dead


def test_a_process_whose_number_went_to_another_one_is_dead(path):
    left(path, **here(started=lock_file.started(os.getpid()) - 1))
    assert holder(path).is_dead
    left(path, **here())
    assert not holder(path).is_dead


def test_without_proc_processes_are_told_apart_by_their_time(monkeypatch, gone):
    monkeypatch.setattr(lock_file, "Path", lambda _: Path("/nowhere"))
    assert lock_file.is_running(os.getpid(), lock_file.started(os.getpid()))
    assert not lock_file.is_running(os.getpid(), 5.0)
    assert not lock_file.is_running(gone["pid"], 5.0)


@pytest.mark.parametrize(
    "other",
    [
        ELSEWHERE,
        {"boot": "another"},
        {"namespace": "pid:[1]"},
        {"host": "elsewhere"},
    ],
    ids=["host", "boot", "container", "name"],
)
def test_a_run_of_another_place_is_dead_after_a_minute_without_a_touch(path, gone, other):
    """Whatever the number of its process means here: it is that of one that is over."""
    record = here(**gone) | other
    left(path, ago=50, **record)
    assert not holder(path).is_dead
    refused = holder(path).refusal(path)
    assert f"a run on {record['host']}, process {gone['pid']}, is writing to it, or was 5" in refused
    assert "After 60 s without" in refused
    left(path, ago=61, **record)
    assert holder(path).is_dead


def test_the_clock_is_that_of_the_file_system(path, monkeypatch):
    left(path, ago=50, **ELSEWHERE)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert not holder(path).is_dead


def test_a_touch_from_the_future_is_of_a_clock_that_was_set_back(path):
    left(path, ago=-30, **ELSEWHERE)
    assert not holder(path).is_dead
    assert "or was 0 s ago" in holder(path).refusal(path)
    left(path, ago=-3600, **ELSEWHERE)
    assert holder(path).is_dead


@pytest.mark.parametrize(
    "torn", ["", '{"host": "a', "5", "{}", "[" * 4096, '{"host": "a", "pid": null}', '{"host": "a", "pid": -1}']
)
def test_a_lock_that_cannot_be_read_is_of_a_run_that_begins_or_of_a_crash(path, torn):
    path.write_text(torn)
    assert not holder(path).is_dead
    assert "has just started in it, or was killed" in holder(path).refusal(path)
    os.utime(path, (time.time() - 61,) * 2)
    assert holder(path).is_dead


def test_a_glance_reads_the_lock_and_leaves_no_trace(path):
    assert lock_file.glance(path.parent.parent) is None
    left(path, ago=30, **ELSEWHERE)
    before = (sorted(path.parent.iterdir()), path.stat().st_mtime_ns, path.parent.stat().st_mtime_ns)
    holder, touched = lock_file.glance(path.parent.parent)
    assert (holder.is_dead, touched) == (False, path.stat().st_mtime)
    assert holder.silent == pytest.approx(30, abs=5)
    assert before == (sorted(path.parent.iterdir()), path.stat().st_mtime_ns, path.parent.stat().st_mtime_ns)

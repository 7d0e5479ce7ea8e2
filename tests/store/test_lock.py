"""The lock of an output: one holder at a time, whoever dies where."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from support.locks import ELSEWHERE, here, left
from support.processes import wait_until

from pyama_dask.errors import CancelledError, DiskError, OutputError
from pyama_dask.store import lock as locks
from pyama_dask.store.cancel import check_wanted
from pyama_dask.store.lock import locked
from pyama_dask.workflow.task import WORK

HASTY = {"beat": 0.01, "glance": 0.01}


# -------------------------------------------------------------------------------------------- one at a time


def test_it_is_there_while_it_is_held_and_nothing_is_left(tmp_path, path):
    with locked(tmp_path, "mine") as lock:
        lock.check()
        assert json.loads(path.read_text()).items() >= {"host": socket.gethostname(), "run": "mine"}.items()
    assert list(path.parent.iterdir()) == []
    assert lock.run == "mine"


def test_its_mode_follows_the_umask(tmp_path, path):
    before = os.umask(0o002)
    try:
        with locked(tmp_path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_second_one_is_refused_by_name(tmp_path):
    with locked(tmp_path):
        who = f"a run on {socket.gethostname()}, process {os.getpid()}, is writing to it. Fix: wait for it, or stop it"
        with pytest.raises(OutputError, match=who), locked(tmp_path):
            pass


def test_one_of_a_process_that_is_over_is_taken_over_at_once(tmp_path, path, gone):
    left(path, **here(**gone))
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


# ------------------------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("at", ["open", "pwrite", "fsync"])
def test_a_disk_that_takes_nothing(tmp_path, path, monkeypatch, at):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(locks.os, at, full)
    with pytest.raises(DiskError, match="cannot be written to any more: No space left"), locked(tmp_path):
        pass
    assert list(path.parent.iterdir()) == []


def test_an_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written to"), locked(tmp_path / "file" / "out"):
        pass


def test_a_disk_where_turns_cannot_be_taken(tmp_path, path, monkeypatch, gone):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    left(path, **here(**gone))
    with locked(tmp_path), pytest.raises(OutputError, match="is writing to it"), locked(tmp_path):
        pass
    assert list(path.parent.iterdir()) == []


# ------------------------------------------------------------------------------------------------ many runs

CONTEND = """
import os, sys, time
from pathlib import Path
from pyama_dask.store import lock
from pyama_dask.errors import OutputError

output, record = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
rounds = int(sys.argv[3])

def contend():
    while True:
        try:
            with lock.locked(output):
                os.write(record, b"enter\\n")
                time.sleep(0.002)
                os.write(record, b"leave\\n")
                os._exit(0)  # and leaves a dead lock
        except OutputError:
            time.sleep(0.0005)

for _ in range(rounds):
    children = []
    for _ in range(8):
        if not (pid := os.fork()):
            contend()
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_of_many_that_find_a_dead_lock_one_takes_it_over(tmp_path):
    rounds = 8
    subprocess.run(
        [sys.executable, "-c", CONTEND, tmp_path / "out", tmp_path / "record", str(rounds)], check=True, timeout=60
    )
    assert (tmp_path / "record").read_text().split() == ["enter", "leave"] * 8 * rounds
    assert [file.name for file in (tmp_path / "out" / WORK).iterdir()] == ["lock"]


def test_one_that_was_made_between_looking_and_taking_is_given_back(tmp_path, path, monkeypatch, gone):
    """As where a file system has no turns, and another run was quicker."""
    left(path, **here(**gone))
    look = locks.look

    def slow_look(*arguments):
        found = look(*arguments)
        path.unlink()
        left(path, **here())
        monkeypatch.setattr(locks, "look", look)
        return found

    monkeypatch.setattr(locks, "look", slow_look)
    with pytest.raises(OutputError, match=f"process {os.getpid()}, is writing"), locked(tmp_path):
        pass
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == [path]


# -------------------------------------------------------------------------------------------- a holder's life


def test_it_is_touched_while_it_is_held(tmp_path, path):
    with locked(tmp_path, **HASTY):
        os.utime(path, (0, 0))
        wait_until(lambda: time.time() - path.stat().st_mtime < 10)


def test_a_run_that_lost_it_is_told_and_leaves_that_of_the_other_alone(tmp_path, path):
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel, **HASTY) as lock:
        path.unlink()
        left(path, **ELSEWHERE)
        os.utime(path, (0, 0))
        with pytest.raises(OutputError, match="no longer belongs to this run: its lock was taken over"):
            lock.check()
        assert cancel.wait(10)
        assert path.stat().st_mtime == 0
    assert json.loads(path.read_text())["host"] == "elsewhere"
    assert "stopping" not in path.read_text() or not json.loads(path.read_text())["stopping"]


def test_one_that_was_removed_is_lost_too(tmp_path, path):
    with locked(tmp_path) as lock:
        path.unlink()
        with pytest.raises(OutputError, match="or removed"):
            lock.check()


def test_a_disk_that_is_away_for_a_while_loses_nothing(tmp_path, path, monkeypatch):
    def away(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    touched = os.utime
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel, **HASTY) as lock:
        with monkeypatch.context() as patched:
            patched.setattr(locks.os, "utime", away)
            time.sleep(0.05)
        touched(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime > 0)
        lock.check()
    assert not cancel.is_set()


def test_tasks_are_not_wanted_when_their_run_is_cancelled(tmp_path, job):
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel, **HASTY) as lock:
        cancel.set()

        def cancelled():
            try:
                check_wanted(job)
            except CancelledError as error:
                return "was cancelled" in str(error)

        wait_until(cancelled)
        lock.check()
        with pytest.raises(OutputError), locked(tmp_path):
            pass

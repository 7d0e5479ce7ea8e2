"""The lock of an output: one holder at a time, whoever dies where, and tasks that know whose it is."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import CancelledError, DiskError, OutputError
from pyama_dask.steps import run_task
from pyama_dask.store import lock as locks
from pyama_dask.store import lock_file
from pyama_dask.store.cancel import check_wanted, stop_tasks
from pyama_dask.store.lock import locked
from pyama_dask.workflow.task import WORK

ELSEWHERE = {"host": "elsewhere", "boot": "another", "namespace": "pid:[1]", "started": 5.0}


@pytest.fixture
def path(tmp_path):
    """Where the lock of `tmp_path` is."""
    (tmp_path / WORK).mkdir()
    return tmp_path / WORK / "lock"


@pytest.fixture
def job(tmp_path):
    """Job of the run ``mine`` in `tmp_path`."""
    return replace(plan_of(movie()).job, output=tmp_path, run="mine")


def left(path, *, ago=0.0, **changes):
    """Write the lock of another run, that was touched so many seconds ago."""
    path.write_text(json.dumps({"pid": 1234, "run": "other", "stopping": False} | changes))
    os.utime(path, (time.time() - ago,) * 2)


def here(**changes):
    """What a lock of this place says, of this process."""
    return lock_file.place() | {"pid": os.getpid(), "started": lock_file.started(os.getpid())} | changes


def run_program(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **options)


@pytest.fixture
def gone():
    """Number and start of a process that is over."""
    with run_program("input()", stdin=subprocess.PIPE) as program:
        found = {"pid": program.pid, "started": lock_file.started(program.pid)}
        program.communicate("\n")
    return found


def wait_until(true, seconds=10):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


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


def test_a_process_that_is_suspended_is_alive_here(tmp_path, path):
    with run_program("input()", stdin=subprocess.PIPE) as program:
        left(path, ago=3600, **here(pid=program.pid, started=lock_file.started(program.pid)))
        program.send_signal(signal.SIGSTOP)
        with pytest.raises(OutputError, match=f"process {program.pid}"), locked(tmp_path):
            pass
        program.kill()


def test_one_of_a_process_that_is_over_is_taken_over_at_once(tmp_path, path, gone):
    left(path, **here(**gone))
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_one_whose_number_went_to_another_process_is_taken_over(tmp_path, path):
    left(path, **here(started=lock_file.started(os.getpid()) - 1))
    with locked(tmp_path):
        pass


def test_one_of_a_process_that_was_killed_and_not_waited_for_is_taken_over(tmp_path, path):
    program = run_program("input()", stdin=subprocess.PIPE)
    left(path, **here(pid=program.pid, started=lock_file.started(program.pid)))
    program.kill()
    wait_until(lambda: lock_file.started(program.pid) is None)
    with locked(tmp_path):
        pass
    program.communicate()


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
def test_one_of_another_place_is_dead_after_a_minute_without_a_touch(tmp_path, path, gone, other):
    """Whatever the number of its process means here: it is that of one that is over."""
    holder = here(**gone) | other
    left(path, ago=50, **holder)
    told = rf"a run on {holder['host']}, process {gone['pid']}.* or was 5\d s ago.* After 60 s without"
    with pytest.raises(OutputError, match=told), locked(tmp_path):
        pass
    assert json.loads(path.read_text())["host"] == holder["host"]
    left(path, ago=61, **holder)
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_the_clock_is_that_of_the_file_system(tmp_path, path, monkeypatch):
    left(path, ago=50, **ELSEWHERE)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    with pytest.raises(OutputError), locked(tmp_path):
        pass


def test_one_from_the_future_is_of_a_clock_that_was_set_back(tmp_path, path):
    left(path, ago=-30, **ELSEWHERE)
    with pytest.raises(OutputError, match="or was 0 s ago"), locked(tmp_path):
        pass
    left(path, ago=-3600, **ELSEWHERE)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("torn", ["", '{"host": "a', "5", "{}"])
def test_one_that_cannot_be_read_is_of_a_run_that_begins_or_of_a_crash(tmp_path, path, torn):
    path.write_text(torn)
    with pytest.raises(OutputError, match="has just started in it, or was killed"), locked(tmp_path):
        pass
    os.utime(path, (time.time() - 61,) * 2)
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
    subprocess.run([sys.executable, "-c", CONTEND, tmp_path / "out", tmp_path / "record", str(rounds)], check=True)
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


@pytest.fixture
def hasty(monkeypatch):
    """Locks that are touched all the time."""
    monkeypatch.setattr(locks, "BEAT", 0.01)
    monkeypatch.setattr(locks, "GLANCE", 0.01)


@pytest.mark.usefixtures("hasty")
def test_it_is_touched_while_it_is_held(tmp_path, path):
    with locked(tmp_path):
        os.utime(path, (0, 0))
        wait_until(lambda: time.time() - path.stat().st_mtime < 10)


@pytest.mark.usefixtures("hasty")
def test_a_run_that_lost_it_is_told_and_leaves_that_of_the_other_alone(tmp_path, path):
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel) as lock:
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


@pytest.mark.usefixtures("hasty")
def test_a_disk_that_is_away_for_a_while_loses_nothing(tmp_path, path, monkeypatch):
    def away(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    touched = os.utime
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel) as lock:
        with monkeypatch.context() as patched:
            patched.setattr(locks.os, "utime", away)
            time.sleep(0.05)
        touched(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime > 0)
        lock.check()
    assert not cancel.is_set()


# --------------------------------------------------------------------------------------------------- tasks


def test_tasks_of_a_run_without_a_name_are_always_wanted(job):
    check_wanted(replace(job, run=""))


def test_tasks_are_wanted_while_their_run_holds_the_lock(tmp_path, path, job):
    with pytest.raises(CancelledError, match="is over"):
        check_wanted(job)
    with locked(tmp_path, "mine"):
        check_wanted(job)
        with pytest.raises(CancelledError, match="another run has started"):
            check_wanted(replace(job, run="earlier"))
        path.write_text("")
        with pytest.raises(CancelledError, match="another run is starting"):
            check_wanted(job)


@pytest.mark.usefixtures("hasty")
def test_tasks_are_not_wanted_when_their_run_is_cancelled(tmp_path, job):
    cancel = threading.Event()
    with locked(tmp_path, "mine", cancel) as lock:
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


def test_tasks_of_one_run_are_not_stopped_by_another(tmp_path, job):
    with locked(tmp_path, "mine"):
        stop_tasks(tmp_path, "earlier")
        check_wanted(job)
        stop_tasks(tmp_path, "mine")
        with pytest.raises(CancelledError):
            check_wanted(job)
    stop_tasks(tmp_path, "mine")


def test_a_task_that_is_not_wanted_does_not_begin(tmp_path, job):
    with pytest.raises(CancelledError):
        run_task(plan_of(movie()).tasks[0], job)
    assert list(tmp_path.iterdir()) == []

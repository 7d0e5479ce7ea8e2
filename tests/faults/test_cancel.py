"""Cancelling: a run ends within ten seconds whatever its tasks do, leaves no process, and can be gone on with."""

import fcntl
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from support.movies import config, write_config
from support.processes import started, wait_until

import pyama_dask
from pyama_dask import cli
from pyama_dask.cli import signals
from pyama_dask.config.cluster import Cluster
from pyama_dask.launch import local_cluster
from pyama_dask.runs.status import LEDGER

PROGRAM = [sys.executable, "-m", "pyama_dask.cli", "run"]
ENDING = 10.5
"""Seconds within which a cancelled run ends: the promised ten, and the time to notice."""
ASLEEP = """
import time
from pathlib import Path


def asleep(frame):
    if not Path({output!r}).exists():  # it is only tried
        return (frame > 99).astype(int)
    Path({flag!r}).touch()
    time.sleep(60)
"""


def sleeper(tmp_path):
    return ASLEEP.format(flag=str(tmp_path / "asleep"), output=str(tmp_path / "out"))


@pytest.fixture
def run_yaml(tmp_path, small_czi):
    """Gives the config of a run whose segmenter sleeps for a minute, once it has made the file ``asleep``."""
    (tmp_path / "sleeper.py").write_text(sleeper(tmp_path))

    def write(kind, workers=2):
        where = {"kind": kind, "dashboard": "127.0.0.1:0"} | ({"workers": workers} if kind == "local" else {})
        changes = {
            "params.segmentation_method": f"{tmp_path}/sleeper.py:asleep",
            "params.segmentation_params": {},
            "cluster": where,
        }
        return write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out", changes))

    return write


@contextmanager
def asleep(run_yaml, tmp_path, *kind, **options):
    """Start a run, and wait until a task of it sleeps; the program, and the processes that it has started."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with started(*PROGRAM, run_yaml(*kind), **given) as program:
        wait_until((tmp_path / "asleep").exists, 60)
        yield program, psutil.Process(program.pid).children(recursive=True)


def assert_gone(family, seconds=5.0):
    def over(process):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    wait_until(lambda: all(over(process) for process in family), seconds)


def go_on(tmp_path, small_czi):
    assert pyama_dask.run(config(small_czi, tmp_path / "out")).exit_status == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serial", "local"])
def test_a_task_that_does_not_end_is_not_waited_for(tmp_path, small_czi, run_yaml, kind):
    with asleep(run_yaml, tmp_path, kind) as (program, family):
        program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=ENDING)
        assert program.returncode == 130, error
        assert "Stopping" in error
        assert "Traceback" not in error
        assert_gone(family)
    assert (tmp_path / "out" / LEDGER).exists()
    go_on(tmp_path, small_czi)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serial", "local"])
def test_a_second_signal_ends_at_once(tmp_path, run_yaml, kind):
    with asleep(run_yaml, tmp_path, kind, 1) as (program, family):
        for _ in range(2):
            program.send_signal(signal.SIGINT)
            time.sleep(0.3)  # two signals of a kind that wait together are one
        out, error = program.communicate(timeout=5)
        assert_gone(family)
    assert program.returncode == 130, error
    said = [line.split(";")[0] for line in error.splitlines() if line and "dashboard" not in line]
    if kind == "local" and "Cancelled" in out:  # it has ended before the second signal, as its workers can be killed
        assert said == ["Stopping"]
    else:
        assert out == ""
        assert said == ["2 FOVs, 10 frames, 16 tasks", "Stopping", "Stopped at once"][kind == "local" :]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t", "a_long_name_of_a_temporary_folder_" * 4])
def test_workers_of_a_driver_that_was_killed_end_and_say_nothing(name, tmp_path, small_czi, run_yaml):
    """They leave no socket and no note; the next run removes the folders that Dask has left."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pyama_dask_test_") as folder:
        (temporary := Path(folder, name)).mkdir()
        with asleep(run_yaml, tmp_path, "local", env=os.environ | {"TMPDIR": str(temporary)}) as (program, family):
            (server,) = (process for process in family if process.ppid() == program.pid and process.children())
            sockets = Path(next(c.laddr for c in server.net_connections("unix") if "/pymp-" in c.laddr)).parent
            assert sockets.parent == (temporary if name == "t" else Path("/tmp"))
            assert len(family) >= 3  # two workers, and the resource tracker
            program.kill()
            out, error = program.communicate(timeout=10)  # ends when all have closed them
            assert_gone(family)
        wait_until(lambda: not sockets.exists() and not [*temporary.glob("pymp-*"), *temporary.glob("pyama-*")])
        assert out == ""
        assert [line for line in error.splitlines() if "dashboard" not in line] == []
        go_on(tmp_path, small_czi)


@pytest.mark.slow
def test_closing_the_terminal_cancels(tmp_path, run_yaml):
    """It sends SIGHUP to the leader of its session, and takes no more text."""

    def lead():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    ours, its = pty.openpty()
    streams = {"stdin": its, "stdout": its, "stderr": its}
    with asleep(run_yaml, tmp_path, "serial", **streams, preexec_fn=lead) as (program, family):
        os.close(its)
        os.close(ours)
        assert program.wait(ENDING) == 130
        assert_gone(family)


AT_IMPORT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
sys.argv = ["pyama-dask", "plan", {config!r}]
from pyama_dask.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "numpy", "distributed"])
def test_ctrl_c_while_packages_are_imported_says_nothing(module, tmp_path, run_yaml):
    code = AT_IMPORT.format(module=module, config=str(run_yaml("local")))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


LATE = """
import atexit, os, signal, subprocess, sys, time
from pyama_dask.cli import signals

signals.LONGEST = 1.0
subprocess.Popen(["sleep", "61.7"])
subprocess.Popen(["sleep", "61.8"], start_new_session=True)
print(*(process.pid for process in __import__("psutil").Process().children()), flush=True)
atexit.register(time.sleep, 60)
with signals.cancelled_by_signals():
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_the_time_limit_holds_until_the_program_has_ended():
    """It kills what the program has started, but not what ends a run's jobs."""
    with started(sys.executable, "-c", LATE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        mine, of_jobs = (psutil.Process(int(pid)) for pid in program.stdout.readline().split())
        try:
            assert program.wait(20) == 130
            assert_gone([mine])
            assert of_jobs.is_running()
        finally:
            of_jobs.kill()


# --------------------------------------------------------------------------------------- within this process


@pytest.fixture
def no_deadline(monkeypatch):
    """Keep the time limit, which holds until the program has ended, from the tests."""
    monkeypatch.setattr(signals, "end_in_time", lambda *_: None)


def test_a_first_signal_cancels(capsys, no_deadline):
    with cli.cancelled_by_signals() as cancel:
        os.kill(os.getpid(), signal.SIGTERM)
        assert cancel.is_set()
    assert "Stopping" in capsys.readouterr().err


def test_a_signal_that_was_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cli.cancelled_by_signals() as cancel:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not cancel.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_client_of_ones_own_keeps_its_workers_and_the_output_is_let_go(tmp_path, run_yaml, client, monkeypatch):
    monkeypatch.setattr("pyama_dask.execute.dask_pool.STOPPING", 1.0)
    workers = set(client.scheduler_info(n_workers=-1)["workers"])
    cancel = threading.Event()
    document = yaml.safe_load(run_yaml("serial").read_text())
    (tmp_path / "sleeper.py").write_text(sleeper(tmp_path).replace("60", "4"))
    watcher = threading.Thread(target=lambda: (wait_until((tmp_path / "asleep").exists), cancel.set()))
    watcher.start()
    report = pyama_dask.run(document, client=client, cancel=cancel)
    watcher.join(30)
    assert report.cancelled
    assert not (tmp_path / "out" / ".pyama_dask" / "lock").exists()
    assert set(client.scheduler_info(n_workers=-1)["workers"]) == workers


def test_local_processes_listen_on_this_machine_only_and_are_started_again():
    before = set(multiprocessing.active_children())  # of other tests
    with local_cluster(Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        (pid,) = client.run(os.getpid).values()
        for process in (psutil.Process(), psutil.Process(pid)):
            listening = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
            assert set(listening) == {"127.0.0.1"}
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: set(client.scheduler_info(n_workers=-1)["workers"]) - set(info))
        assert client.submit(os.getpid, pure=False).result(timeout=30) != pid
    assert set(multiprocessing.active_children()) <= before

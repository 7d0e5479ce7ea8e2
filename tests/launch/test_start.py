"""What cannot be started is refused in one message, exit status 2, and nothing is written."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.fake_slurm import FakeSlurm
from support.movies import config, file_bytes, listing, write_config

from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.workers import Workers
from pyama_dask.kernels import histogram
from pyama_dask.kernels.first_calls import KERNELS
from pyama_dask.launch import local, network, start, workers_for
from pyama_dask.launch.environment import WORKER_ENVIRONMENT
from pyama_dask.launch.preloaded import MODULES
from pyama_dask.runs import driver
from pyama_dask.runs.compilation import compile_kernels

SLURM = {"kind": "slurm", "jobs": 2, "memory": "2GiB", "walltime": "01:00:00", "dashboard": "127.0.0.1:0"}
LOCAL = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}


@pytest.fixture(autouse=True, scope="module")
def compiled():
    """Compile the kernels before, as the first run of an environment says so and logs it."""
    compile_kernels({"uint16"}, KERNELS, lambda _: None, threading.Event())


@pytest.fixture
def refused(call, tmp_path, small_czi):
    """Call commands with a part of the config; each must end with one line and status 2; gives the lines."""

    def check(cluster, *commands):
        output = tmp_path / "deep" / "out"
        run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, output, {"cluster": cluster}))
        before = listing(tmp_path)
        lines = []
        for command in commands:
            status, out, error = call(command, run_yaml)
            assert status == 2, (command, out, error)
            told = (out if command == "doctor" else error).splitlines()
            told = [line for line in told if "cluster" in line and not line.startswith("ok")]
            assert command == "doctor" or len(error.splitlines()) == 1, error
            assert listing(tmp_path) == before
            lines += told[:1]
        return lines

    return check


@pytest.fixture
def queue(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "queue")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    return fake


def test_addresses_that_this_machine_does_not_have(refused, queue):
    for line in refused(SLURM | {"interface": "ib7"}, "plan", "run", "doctor"):
        assert "cluster.interface: this machine has no interface 'ib7'" in line
        assert "lo (127.0.0.1)" in line
    for kind in (SLURM, LOCAL):
        for line in refused(kind | {"dashboard": "192.0.2.77:8787"}, "plan", "run"):
            assert "cluster.dashboard: '192.0.2.77' is no address of this machine. Fix: set it to 127.0.0.1" in line


def test_whatever_dask_raises_at_the_start(refused, monkeypatch, queue):
    def fails(**_):
        raise RuntimeError("Cluster failed to start: [Errno 11]\nResource temporarily unavailable") from OSError()

    monkeypatch.setattr(local, "LocalCluster", fails)
    for kind in (LOCAL, SLURM):
        for line in refused(kind, "run", "doctor"):
            assert (
                f"cluster.kind: {kind['kind']}: the scheduler or its workers could not be started: [Errno 11] Res"
                in line
            )


def test_a_first_job_that_the_queue_refuses(refused, queue):
    (queue.folder / "refusal").write_text("sbatch: error: invalid partition specified: nowhere\n")
    (line,) = refused(SLURM, "run")
    assert "the queue rejects jobs: sbatch: error: invalid partition" in line
    (queue.folder / "refusal").write_text("sbatch: error: Unable to contact slurm controller (connect failure)\n")
    (line,) = refused(SLURM, "doctor")  # it does not wait for the next answer
    assert "Unable to contact slurm controller" in line


def test_an_output_with_results_stays_as_it_was(copied, small_czi, monkeypatch):
    """The run would do a step with other settings, and cannot start."""
    from pyama_dask.errors import ConfigError

    before = file_bytes(copied, set())
    monkeypatch.setattr(local, "LocalCluster", lambda **_: 1 / 0)
    changes = {"cluster": LOCAL, "params.segmentation_params": {"morph_iterations": 2}}
    with pytest.raises(ConfigError, match="could not be started: division by zero"):
        driver.run(config(small_czi, copied, changes))
    assert file_bytes(copied, set()) == before


def test_interfaces_without_an_address_do_not_count(monkeypatch):
    monkeypatch.setattr(network.psutil, "net_if_addrs", lambda: {"lo": [], "eth0": []})
    assert network.interfaces() == {}
    assert network.named({}) == "none"


def test_workers_are_forked_from_a_server_with_their_environment_and_without_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.setenv("SINCE_THE_SERVER_STARTED", "yes")
    with workers_for(Cluster.model_validate(LOCAL), None, tmp_path, "run", tasks=1) as workers:
        found = workers.client.submit(_about_a_worker).result(timeout=60)
    assert found["imported"] == [True] * len(MODULES)
    assert found["threads of the server"] <= {"python", "jemalloc_bg_thd"}
    assert found["variables"] == ["yes", WORKER_ENVIRONMENT["GLIBC_TUNABLES"], None]
    assert found["blocked"] == {signal.SIGINT}
    assert found["loaded"] > 0


def _about_a_worker():
    tasks = Path(f"/proc/{os.getppid()}/task").iterdir()
    names = ("SINCE_THE_SERVER_STARTED", "GLIBC_TUNABLES", "PYTHONSAFEPATH")
    return {
        "imported": [name in sys.modules for name in MODULES],
        "threads of the server": {(task / "comm").read_text().strip()[:15] for task in tasks},
        "variables": [os.environ.get(name) for name in names],
        "loaded": len(histogram._count_integers.overloads),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    }


def test_dask_reports_on_runs_that_take_a_while(tmp_path, monkeypatch, client):
    for seconds in (20.0, 0.0):
        monkeypatch.setattr(start, "REPORTED_FROM", seconds)
        with start.dask_report(Workers(client), tmp_path / "dask.html", threading.Event()):
            client.submit(pow, 2, 3, key="two-to-three").result()
        assert (tmp_path / "dask.html").exists() == (seconds == 0)
    assert "two-to-three" in (tmp_path / "dask.html").read_text()


KILLED = """
import os, signal
from pyama_dask.config.cluster import Cluster
from pyama_dask.launch import local_cluster, processes

start, killed = processes._start_server, []


def start_and_kill():
    start()
    if not killed:
        killed.append(processes.forkserver._forkserver._forkserver_pid)
        os.kill(killed[0], signal.SIGKILL)


processes._start_server = start_and_kill
if __name__ == "__main__":
    with local_cluster(Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")) as client:
        print(client.submit(os.getpid).result(timeout=60) not in (os.getpid(), *killed), len(killed))
"""


@pytest.mark.slow
def test_workers_start_though_their_server_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, "program.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True 1\n"), ran.stderr

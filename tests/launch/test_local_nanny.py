"""Workers on this machine whose processes are killed while they start."""

import os
import sys

import pytest

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ClusterError
from pyama_dask.launch import workers_for
from pyama_dask.launch.local_nanny import STARTS, never_started
from pyama_dask.launch.settings import DASK

LOCAL = Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")
DEADLY = """
import os, signal
with open({deaths!r}, "a") as file:
    if file.tell() < {number}:
        file.write("x")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def deaths(tmp_path, monkeypatch):
    """Let the first processes of a worker be killed before they are connected; gives how many were."""
    count = tmp_path / "deaths"

    def first(number):
        preloaded = tmp_path / "deadly.py"
        preloaded.write_text(DEADLY.format(deaths=str(count), number=number))
        monkeypatch.setitem(DASK, "distributed.worker.preload", [str(preloaded)])
        return lambda: count.stat().st_size

    return first


def test_a_worker_that_is_killed_while_it_starts_is_started_again(deaths, tmp_path):
    killed = deaths(1)
    with workers_for(LOCAL, None, tmp_path, "run", tasks=1) as workers:
        assert workers.client.submit(os.getpid).result(timeout=60) != os.getpid()
    assert killed() == 1


def test_a_worker_that_never_starts_is_no_fault_of_the_config(deaths, tmp_path):
    killed = deaths(STARTS)
    told = rf"^cluster.kind: local: a worker could not be started, as .* ended {STARTS} times .*, by signal 9\. Fix: "
    with pytest.raises(ClusterError, match=told), workers_for(LOCAL, None, tmp_path, "run", tasks=1):
        pass
    assert killed() == STARTS


def test_a_crash_is_not_taken_for_lack_of_memory():
    told = "ended 3 times while it started, by signal 11 and with exit status 1. Fix: a package that it imports may be"
    assert told in never_started([-11, -11, 1])


@pytest.mark.parametrize(("text", "said"), [("run()", True), ("if __name__ == '__main__':\n    run()", False)])
def test_a_script_that_each_worker_would_run_again_is_named(tmp_path, monkeypatch, text, said):
    script = tmp_path / "night.py"
    script.write_text(text)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    fix = f"Fix: put what {script} does under  if __name__ == '__main__':  since each worker imports the script"
    assert never_started([1, 1]).endswith(fix) == said
    assert fix not in never_started([-9, 1])

"""The server that workers are forked from: when it starts and ends."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver

import distributed.utils
import pytest

from pyama_dask.cli.loaded import likely_kind
from pyama_dask.errors import SourceError
from pyama_dask.launch import processes
from pyama_dask.readers import isolated, open_reader, read_metadata

BEGUN = """
import os, sys
from pyama_dask.launch import processes

began = "distributed" in sys.modules
with processes.early_server(wanted=False):
    print(processes.forkserver._forkserver._forkserver_pid)
with processes.early_server(wanted=True):
    first = processes.forkserver._forkserver._forkserver_pid
    with processes.early_server(wanted=True):
        pass
    os.kill(first, 0)
try:
    os.kill(first, 0)
except ProcessLookupError:
    print(began, processes.forkserver._forkserver._forkserver_pid)
"""


def test_it_begins_before_large_packages_are_imported_and_ends_if_it_is_not_needed():
    command = [sys.executable, "-c", BEGUN]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("None\nFalse None\n", "")


@pytest.mark.parametrize(
    ("text", "changes", "cluster", "kind"),
    [
        ("input: a.nd2", None, None, "local"),
        ("cluster: {workers: 2}", None, None, "local"),
        ("cluster: {kind: slurm}", None, None, "slurm"),
        ("cluster: {kind: slurm}", ["cluster.kind=serial"], None, "serial"),
        ("cluster: {kind: slurm}", ["cluster={workers: 2}"], None, "local"),
        ("cluster: {kind: slurm}", ["cluster.kind=serial"], "local", "local"),
        ("cluster: 3", ["output=a"], None, "local"),
        ("cluster: [", None, None, ""),
        ("- a", ["no value"], None, ""),
    ],
)
def test_the_kind_of_cluster_is_known_before_the_config_is_loaded(tmp_path, text, changes, cluster, kind):
    for file in (tmp_path / "processing_config.yaml", tmp_path / "run.yaml"):
        file.write_text(text)
    assert likely_kind(file, changes, cluster) == likely_kind(tmp_path, changes, cluster) == kind


def test_the_kind_of_cluster_of_what_is_no_config(tmp_path):
    (tmp_path / "movie.nd2").write_bytes(bytes(2**20 + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    assert [likely_kind(tmp_path / name, None, None) for name in ("movie.nd2", "binary.yaml", "no.yaml")] == [""] * 3


def test_names_that_are_not_documented_are_still_there():
    """Without them, the server is not ended early, and Dask asks in vain for modules to be imported in it."""
    assert distributed.utils._forkserver_preload_set in (True, False)
    assert {"_forkserver_pid", "_stop"} <= set(dir(forkserver._forkserver))


class TestForkedReading:
    """Metadata of movies, read in processes that are forked from the server."""

    @pytest.fixture
    def elsewhere(self, monkeypatch):
        """Notes the movies that are read in new processes, and reads none."""
        asked = []
        monkeypatch.setattr(isolated, "in_new_process", lambda path, _: asked.append(path) or (1, b"", b"told"))
        return asked

    @pytest.mark.usefixtures("isolated", "elsewhere")
    def test_it_is_the_same_as_in_this_process(self, small_nd2, small_czi, tmp_path):
        (tmp_path / "no.nd2").write_bytes(bytes(2000))
        with processes.forked_reading():
            for path in (small_nd2, small_czi):
                with open_reader(path) as reader:
                    assert repr(read_metadata(path)) == repr(reader.metadata)
            with pytest.raises(SourceError, match=r"no\.nd2"):
                read_metadata(tmp_path / "no.nd2")

    def test_how_it_ends(self):
        assert processes._answer_of_fork(crash, "", 30) == (-signal.SIGSEGV, b"", b"")
        assert processes._answer_of_fork(hang, "", 0.2) == (None, b"", b"")
        assert processes._answer_of_fork(fail, "", 30) is None

    @pytest.mark.usefixtures("isolated")
    def test_a_new_process_reads_where_the_server_is_lost_or_reading_fails(self, small_nd2, elsewhere, monkeypatch):
        monkeypatch.setattr(isolated, "send_answer", fail)
        with processes.forked_reading(), pytest.raises(RuntimeError, match="told"):
            read_metadata(small_nd2)
        monkeypatch.setattr(forkserver, "connect_to_new_process", lost)
        with processes.forked_reading(), pytest.raises(RuntimeError, match="told"):
            read_metadata(small_nd2)
        assert elsewhere == [str(small_nd2)] * 2


def crash(*_):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(*_):
    time.sleep(60)


def fail(*_):
    sys.stderr.close()
    raise OSError("unexpected")


def lost(_):
    raise EOFError("unexpected EOF")


def test_the_server_loads_the_code_of_all_kernels_that_usual_runs_call():
    code = """
from numba.core.dispatcher import Dispatcher
from pyama_dask.kernels.first_calls import EVERY_RUN, call_all
call_all([f"uint16/{EVERY_RUN}", "uint16/logstd"])
import sys
loops = [loop for name, module in sys.modules.items() if name.startswith("pyama_dask.kernels.")
         for loop in vars(module).values() if isinstance(loop, Dispatcher) and loop.signatures]
called = {loop.__module__.rpartition(".")[2] for loop in loops}
from pyama_dask.launch.preloaded import KERNELS
assert len(called) > 5 and called <= {*KERNELS}, called - {*KERNELS}
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not found.returncode, found.stderr

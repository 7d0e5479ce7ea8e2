"""The server that workers are forked from: when it starts and ends."""

import subprocess
import sys
from multiprocessing import forkserver

import distributed.utils
import pytest

from pyama_dask.cli.loaded import likely_kind

BEGUN = """
import os, sys
from pyama_dask.launch import processes

began = "distributed" in sys.modules
processes.begin_server()
first = processes.forkserver._forkserver._forkserver_pid
processes.end_server()
processes.end_server()
try:
    os.kill(first, 0)
except ProcessLookupError:
    print(began, processes.forkserver._forkserver._forkserver_pid)
"""


def test_it_begins_before_large_packages_are_imported_and_ends_if_it_is_not_needed():
    command = [sys.executable, "-c", BEGUN]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("False None\n", "")


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

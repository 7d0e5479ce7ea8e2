"""Settings of all tests: one thread for every library, and how hypothesis searches."""

import os
import shutil
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

for name in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
):
    os.environ[name] = "1"  # before the tests import numpy and numba
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs that tests start need not compile the package each time
sys.dont_write_bytecode = False  # nor pytest the tests

settings.register_profile("local", deadline=None, max_examples=40)  # the first example may compile kernels
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser):
    parser.addoption("--pin", action="store_true", help="renew the pins of test_pinned.py")


def pytest_configure(config):
    """Undo inherited signal settings, and save seconds a run: see `isolated` and `final_pages`."""
    from support.processes import use_default_signals

    from pyama_dask.readers.isolated import isolation
    from pyama_dask.runs.final_page import final_pages

    use_default_signals()
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput") and not config.option.collectonly:
        threading.Thread(target=_compile, daemon=True).start()  # while the processes collect the tests
    here = ExitStack()
    here.enter_context(isolation(on=False))
    here.enter_context(final_pages(on=False))
    config.add_cleanup(here.close)


def pytest_collection_finish(session):
    """Let one process compile the kernels, and the others wait for it, instead of each compiling for itself."""
    if hasattr(session.config, "workerinput"):
        _compile()


def _compile():
    from pyama_dask.kernels.first_calls import KERNELS
    from pyama_dask.runs.compilation import compile_kernels

    compile_kernels(("uint8", "uint16"), KERNELS, lambda _: None, threading.Event())


def pytest_collection_modifyitems(items):
    """Let each process begin with slow tests, so that the last ones to run are short."""
    from support.order import spread

    blocks = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = spread(items, blocks, lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def isolated():
    """Read metadata in a subprocess, as users do: for what could crash this process."""
    from pyama_dask.readers.isolated import isolation

    with isolation(on=True):
        yield


@pytest.fixture
def with_pages():
    """Let runs end with their page, as those of users do."""
    from pyama_dask.runs.final_page import final_pages

    with final_pages(on=True):
        yield


# ------------------------------------------------------------------ small movies, and what a run makes of them
# Imports stand within the fixtures, as the environment above must be set before them.


@pytest.fixture(scope="session")
def small_pixels():
    """(FOV, frame, channel, H, W) of the small movies."""
    from support.movies import pixels

    return pixels(fovs=2, frames=10, shape=(200, 240), cells=6)


@pytest.fixture(scope="session")
def small_czi(tmp_path_factory, small_pixels):
    from support.movies import as_czi

    return as_czi(tmp_path_factory.mktemp("small") / "movie.czi", small_pixels)


@pytest.fixture(scope="session")
def small_nd2(tmp_path_factory, small_pixels):
    """The same pixels as `small_czi`."""
    from support.movies import as_nd2

    return as_nd2(tmp_path_factory.mktemp("small") / "movie.nd2", small_pixels)


@pytest.fixture(scope="session")
def odd_nd2(tmp_path_factory):
    """A movie whose sizes no block, chunk or tile divides."""
    from support.movies import as_nd2, pixels

    data = pixels(fovs=1, frames=19, shape=(211, 263), fluorescence_channels=2, seed=2)
    return as_nd2(tmp_path_factory.mktemp("odd") / "odd.nd2", data)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, small_czi):
    """Output of a serial run on `small_czi`, in blocks of 4; to be read only."""
    from support.movies import config

    import pyama_dask

    output = tmp_path_factory.mktemp("finished") / "results"
    assert pyama_dask.run(config(small_czi, output)).exit_status == 0
    return output


@pytest.fixture
def copied(tmp_path, finished):
    """A copy of `finished` to go on with."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the program in this process: gives exit status, standard output, standard error."""
    from pyama_dask import cli

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["pyama-dask", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        return (status, *capsys.readouterr())

    return called


@pytest.fixture(scope="session")
def cluster():
    """Two worker processes of one thread, which all tests leave as they are."""
    import dask
    from distributed import LocalCluster

    from pyama_dask.launch.processes import forked_workers
    from pyama_dask.launch.settings import DASK

    rarely = {name: value for name, value in DASK.items() if name.endswith("interval")}  # it is idle most of the time
    where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with dask.config.set(rarely), forked_workers():
        processes = LocalCluster(n_workers=2, threads_per_worker=1, **where)
    with processes:
        yield processes


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster) as connected:
        yield connected


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm, which programs of the tests use."""
    import tempfile
    from unittest.mock import patch

    from support import slurm

    if why := slurm.unavailable():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        Path(folder).chmod(0o755)  # munge runs as a user of its own
        with slurm.running(Path(folder)) as queue, patch.dict(os.environ, queue.environment):
            yield queue

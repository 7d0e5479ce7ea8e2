"""Processes of workers on this machine: forked from a server that has imported what they need.

A worker that is spawned instead imports it all by itself, which takes seconds of CPU. This module imports little: the
server can start before the process that needs it has imported its own packages.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import get_temp_dir
from typing import Any, TypeVar

from pyama_dask.launch.environment import without_settings_of_dask, worker_environment

log = logging.getLogger(__name__)

PRELOADED = "pyama_dask.launch.preloaded"
METHOD = "distributed.worker.multiprocessing-method"
LONGEST_SOCKET = 107
"""Bytes of the path of a socket on Linux."""
LONGEST_NAME = len("/pymp-12345678/listener-12345678")
"""Characters that multiprocessing adds to the temporary folder for it."""
STARTS = 3
"""Times that workers are started again if their server is killed meanwhile."""
Started = TypeVar("Started")


@contextmanager
def forked_workers() -> Iterator[None]:
    """Fork workers that start in the block from a server, on Linux; on other systems, Dask spawns them.

    The first call starts the server, unless `early_server` has, and it ends with this process. If it cannot be started,
    workers are spawned, too.
    """
    import dask  # noqa: PLC0415  (takes long to import)
    import distributed.utils  # noqa: PLC0415

    if sys.platform != "linux":  # system libraries of macOS start threads, and Windows cannot fork
        yield
        return
    try:
        _start_server()
    except OSError as error:  # such as a temporary folder that is full
        log.info("workers are spawned, as no server could be started that forks them: %s", error)
        yield
        return
    # without this, Dask imports other modules in the server, and asks for them in vain, as it runs
    distributed.utils._forkserver_preload_set = True
    with dask.config.set({METHOD: "forkserver"}):
        yield


@contextmanager
def early_server(*, wanted: bool) -> Iterator[None]:
    """Start the server, if it is wanted and does not run, to import while this process does; end it at last."""
    began = wanted and begin_server()
    try:
        yield
    finally:
        if began:
            end_server()


def begin_server() -> bool:
    """Start the server unless it runs, and tell whether it was started; if it cannot be, workers are spawned later."""
    if sys.platform != "linux" or not (_server_number() is None or _is_server_lost()):
        return False
    with suppress(OSError), without_settings_of_dask():
        _start_server()
        return True
    return False


def end_server() -> None:
    """End the server at once, which by itself would first end its imports."""
    server: Any = forkserver._forkserver
    with suppress(AttributeError, OSError):  # else it ends with this process
        if server._forkserver_pid is not None:
            os.kill(server._forkserver_pid, signal.SIGKILL)  # it may be busy with imports
            server._stop()


@contextmanager
def forked_reading() -> Iterator[None]:
    """Read the metadata of movies in the block in processes that are forked from the server: they import nothing."""
    if sys.platform != "linux":
        yield
        return
    from pyama_dask.readers import isolated  # noqa: PLC0415  (the server has started when it is imported)

    def read(path: str, timeout_s: float) -> tuple[int | None, bytes, bytes]:
        found = _answer_of_fork(isolated.send_answer, path, timeout_s)
        return isolated.in_new_process(path, timeout_s) if found is None else found

    with isolated.reading_by(read):
        yield


def _answer_of_fork(
    send: Callable[[Connection, str, float], None], path: str, timeout_s: float
) -> tuple[int | None, bytes, bytes] | None:
    """Exit status, None after a timeout, and what a forked process has sent; None if it is to be tried elsewhere."""
    context = get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sending, path, timeout_s), daemon=True)
    with receiving:
        try:
            begin_server()  # if it was killed
            with sending:
                process.start()
        except (OSError, EOFError):  # the server is lost
            return None
        try:
            answer = receiving.recv_bytes() if receiving.poll(timeout_s) else None
        except (OSError, EOFError):  # the process has ended before
            answer = b""
        except BaseException:
            process.kill()
            raise
        if answer is None:
            process.kill()
        process.join()
    if answer is not None and (process.exitcode or 0) > 0:  # a new process says why
        return None
    return None if answer is None else process.exitcode, answer or b"", b""


def started_again(start: Callable[[], Started]) -> Started:
    """Call a function that starts workers, and again if their server is killed meanwhile."""
    for _ in range(STARTS):
        try:
            return start()
        except Exception:  # whatever Dask raises
            if not _is_server_lost():
                raise
    return start()


def _is_server_lost() -> bool:
    """True if the server was started and has ended."""
    number = _server_number()
    try:
        return number is not None and os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # its end was noticed elsewhere
        return True


def _server_number() -> int | None:
    """Number of the process of the server; None if it was not started."""
    return getattr(forkserver._forkserver, "_forkserver_pid", None)


def _start_server() -> None:
    """Start the server with the environment of workers, unless it runs already."""
    only = {
        "PYTHONSAFEPATH": "1",  # a module of the working directory is not the package we mean
        "PYAMA_DASK_SOCKETS": _folder_of_sockets(),  # the server removes it if this process is killed
    }
    with ctrl_c_blocked(), _variables({**worker_environment(), **only}):
        get_context("forkserver").set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()


def _folder_of_sockets() -> str:
    """Folder that multiprocessing puts sockets into: in /tmp if its path would be too long in the temporary folder."""
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) + LONGEST_NAME > LONGEST_SOCKET:
        tempfile.tempdir = "/tmp"
    try:
        return get_temp_dir()
    finally:
        tempfile.tempdir = before


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C in processes that are started in the block: a terminal sends it to all, but the driver ends them.

    Threads and processes inherit blocked signals. The resource tracker is started before, as its start unblocks them.
    It cleans up after a killed driver, and must not write warnings to the prompt then.
    """
    with _variables({"PYTHONWARNINGS": "ignore:resource_tracker"}):
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Change environment variables in the block, and no others, as other threads may read them meanwhile."""
    given = {name: os.environ.get(name) for name, value in changes.items() if os.environ.get(name) != value}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in given.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

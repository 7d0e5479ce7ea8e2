"""The program, forked from a server that has imported large packages: a start takes a third of the CPU.

The server imports no module of this package, and each start runs the installed script from its first line, with the
environment, `sitecustomize` and end of a process of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

PROGRAM = Path(sys.executable).with_name("pyama-dask")
IMPORTED = (
    "distributed", "matplotlib.figure", "numba.core.inline_closurecall", "numba.typed", "pandas", "rich.progress",
    "scipy.interpolate", "scipy.ndimage", "scipy.optimize", "scipy.sparse.csgraph", "scipy.stats", "tensorstore",
    "zarr",
)  # fmt: skip


class Forked:
    """The program, in a session of its own.

    Parameters
    ----------
    arguments
        Of the program.
    environment
        All variables of its environment.
    out, error
        Files for its standard output and error.
    """

    def __init__(
        self, arguments: Sequence[object], environment: Mapping[str, str], out: BinaryIO, error: BinaryIO
    ) -> None:
        self._told, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_server(), [b"."], [theirs.fileno(), out.fileno(), error.fileno()])
        self._told.sendall(json.dumps([[*map(str, arguments)], dict(environment)]).encode() + b"\n")
        self._lines = self._told.makefile()
        self.pid = int(self._lines.readline())
        self._status: int | None = None

    def wait(self, seconds: float | None = None) -> int:
        """Exit status, or the negative number of the signal that ended it, as of `subprocess.Popen`."""
        if self._status is None:
            if not select.select([self._told], [], [], seconds)[0]:
                raise subprocess.TimeoutExpired("pyama-dask", seconds or 0)
            self._status = int(self._lines.readline())
            self._lines.close()
            self._told.close()
        return self._status

    def poll(self) -> int | None:
        """The same; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None


@cache
def _server() -> socket.socket:
    """Start the server, which ends with this process."""
    mine, theirs = socket.socketpair()
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "support.forked", str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": path}, pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
    atexit.register(server.wait)
    atexit.register(mine.close)  # which ends it
    return mine


# ------------------------------------------------------------------------------------------- in the server


def _serve(requests: socket.socket) -> None:
    """Fork the program for each request; returns in the child that is to become it."""
    for name in IMPORTED:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers leave no zombies
    while files := socket.recv_fds(requests, 1, 3)[1]:
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _keep(*files)
        for file in files:
            os.close(file)
    os._exit(0)


def _keep(file: int, out: int, error: int) -> None:
    """Fork the program, and say how it ended; returns in the child that is to become it, and says its number."""
    told = socket.socket(fileno=file)
    with told.makefile() as lines:
        arguments, environment = json.loads(lines.readline())
    if number := os.fork():
        os.close(out)
        os.close(error)
        told.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])}\n".encode())
        os._exit(0)
    os.setsid()
    told.sendall(f"{os.getpid()}\n".encode())
    told.close()
    for source, target in ((out, 1), (error, 2)):
        os.dup2(source, target)
        os.close(source)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(PROGRAM), *arguments]


def _become() -> None:
    """Run the script as Python does at its start, with the paths and the `sitecustomize` of the environment."""
    tempfile.tempdir = None
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        import_module("sitecustomize")
    runpy.run_path(str(PROGRAM), run_name="__main__")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _become()

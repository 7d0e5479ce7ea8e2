"""The command line in a session of its own: started, struck, and looked after until nothing of it is left."""

from __future__ import annotations

import atexit
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from uuid import uuid4

import psutil
from support.forked import Forked

SITE = Path(__file__).with_name("site")
MARK = "CHAOS_START"
"""Variable by which processes of a start are known that are not of its session."""
LEAVING = 10.0
"""Seconds within which all processes of a killed or cancelled run must be gone."""
HANGS = 180.0
"""Seconds after which a run that nobody has killed is taken to hang."""


@cache
def temporary_folder() -> str:
    """Folder for temporary files of all starts, until this process ends; it is short, as paths of sockets must be."""
    made = mkdtemp(prefix="chaos-")
    atexit.register(rmtree, made, ignore_errors=True)
    return made


@dataclass
class Blow:
    """A chosen moment, at which a process strikes itself; see ``site/sitecustomize.py``."""

    moment: str
    number: int = 1
    action: str = "self"


@dataclass
class Start:
    """One start of the command line.

    Parameters
    ----------
    config
        The YAML file.
    folder
        Where its standard output and error go, and what a blow leaves.
    blow
        What strikes it from within; None for nothing.
    mount
        File system that a blow fills or locks.
    """

    config: Path
    folder: Path
    blow: Blow | None = None
    mount: Path | None = None
    mark: str = field(default_factory=lambda: uuid4().hex[:12])

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._out, self._error, self._token = (self.folder / f"{self.mark}.{name}" for name in ("out", "err", "token"))
        with self._out.open("wb") as out, self._error.open("wb") as error:
            self.began = time.monotonic()
            self.process = Forked(["run", self.config], self._environment(), out, error)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        found = dict(os.environ) | {"PYTHONPATH": path, MARK: self.mark, "TMPDIR": temporary_folder()}
        found.pop("CHAOS_AT", None)
        if self.blow:
            found["CHAOS_AT"] = f"{self.blow.moment}:{self.blow.number}:{self.blow.action}:{self._token}"
        return found | ({"CHAOS_MOUNT": str(self.mount)} if self.mount else {})

    @property
    def struck(self) -> float | None:
        """When its blow fell, in seconds since the epoch; None if it has not."""
        fallen = [*self.folder.glob(f"{self._token.name}*.struck")]
        return fallen[0].stat().st_mtime if fallen else None

    @property
    def out(self) -> str:
        """What it has said."""
        return self._out.read_text(errors="replace")

    @property
    def error(self) -> str:
        """What it has complained of."""
        return self._error.read_text(errors="replace")

    def wait(self, seconds: float = HANGS) -> int | None:
        """Exit status, or the negative number of the signal that ended it; None if it still runs after the seconds."""
        try:
            return self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the driver, or to all processes of the session as a terminal does."""
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, number)

    def family(self) -> list[psutil.Process]:
        """All processes of this start that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = os.getsid(process.pid) == self.process.pid or process.environ().get(MARK) == self.mark
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """Its worker processes that are alive, also those that are starting."""
        servers = {process.pid for process in self.servers()}
        return [process for process in self.family() if _parent(process) in servers]

    def servers(self) -> list[psutil.Process]:
        """Processes from which workers are forked: one, or none."""
        return [process for process in self.family() if "multiprocessing.forkserver" in " ".join(_words(process))]

    def kill_one_of(self, processes: Sequence[psutil.Process], rng: random.Random) -> bool:
        """Kill one of some processes; gives whether there was one."""
        if processes:
            with suppress(psutil.NoSuchProcess):
                rng.choice(processes).kill()
        return bool(processes)

    def left(self, sockets: set[str], seconds: float = LEAVING) -> list[str]:
        """What is still there after some seconds: processes, which are then ended, and listening sockets."""
        deadline = time.monotonic() + seconds
        while (family := self.family()) and time.monotonic() < deadline:
            psutil.wait_procs(family, timeout=max(0.0, deadline - time.monotonic()))
        found = [f"process {process.pid} is left: {' '.join(_words(process))[:80]}" for process in family]
        _kill(family)
        while sockets & listening() and time.monotonic() < deadline:  # a process loses its mark before its files
            time.sleep(0.05)
        return found + [f"socket {socket} still listens" for socket in sockets & listening()]

    def sockets(self) -> set[str]:
        """Sockets on which its processes listen."""
        mine = set()
        for process in self.family():
            try:
                mine |= {str(file.readlink()) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
            except OSError:
                continue  # it, or its file, has gone since
        return {f"socket:[{number}]" for number in listening_inodes()} & mine

    def end(self) -> None:
        """Leave nothing of it behind, whatever happened."""
        deadline = time.monotonic() + LEAVING
        while (family := self.family()) and time.monotonic() < deadline:
            _kill(family)
        self.process.wait(LEAVING)


def _kill(family: list[psutil.Process]) -> None:
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=LEAVING)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def listening_inodes() -> set[str]:
    """Inodes of all TCP sockets of this machine on which somebody listens."""
    lines = [line.split() for file in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / file)[1:]]
    return {words[9] for words in lines if words[3] == "0A"}


def listening() -> set[str]:
    """The same by the names that they have among a process's files."""
    return {f"socket:[{number}]" for number in listening_inodes()}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []

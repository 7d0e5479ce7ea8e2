"""CPU time, page faults, wall time and memory of whole commands, with all processes that they leave behind.

Rules for measurements: each repeat writes into a new folder, and none is removed before the last one has ended, as ext4
searches past deleted inodes for minutes. Threads are pinned to one per library. Versions and programs that are
compared take turns, and the least of each figure counts.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"), "1"
)
"""Environment in which numerical libraries use one thread; it counts before numpy is imported."""
QUIET = 0.5
"""Load average up to which a machine is quiet."""
LINGER = 60.0
"""Seconds that processes may outlive their command."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Spent:
    """Cost of a command, or of a block of code."""

    user: float = 0.0
    """Seconds."""
    system: float = 0.0
    """Seconds."""
    faults: int = 0
    """Minor page faults."""
    wall: float = 0.0
    """Seconds; for a command, until it has ended itself."""
    memory: int = 0
    """Sampled peak of the memory of all processes in bytes: the sum of their PSS; 0 for a block."""

    @property
    def cpu(self) -> float:
        """User and system seconds."""
        return self.user + self.system


class CommandError(Exception):
    """A measured command failed."""


def least(costs: Sequence[Spent]) -> Spent:
    """Least of each figure, perhaps of different repeats; user and system time are those of the least CPU time."""
    best = min(costs, key=lambda cost: cost.cpu)
    rest = {name: min(getattr(cost, name) for cost in costs) for name in ("faults", "wall", "memory")}
    return Spent(best.user, best.system, **rest)


def busy() -> str:
    """Warning that other programs are running; '' on a quiet machine. Call it before anything is measured."""
    load = os.getloadavg()[0]
    if load <= QUIET:
        return ""
    return f"Load average before the start: {load:.1f}. Other programs were running, so do not trust wall times."


@contextmanager
def spent() -> Iterator[Spent]:
    """Measure what this process, and the subprocesses that it waits for, spend in the block."""
    found, before, started = Spent(), _usage(), time.perf_counter()
    yield found
    found.wall, after = time.perf_counter() - started, _usage()
    found.user, found.system = after.user - before.user, after.system - before.system
    found.faults = after.faults - before.faults


def _usage(*whose: int) -> Spent:
    total = Spent()
    for usage in map(resource.getrusage, whose or (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)):
        total.user += usage.ru_utime
        total.system += usage.ru_stime
        total.faults += usage.ru_minflt
    return total


# ------------------------------------------------------------------------------------------- a command


def of_command(
    command: Sequence[str | Path], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Spent:
    """Cost of a command and of all its processes, also of those that outlive their parents.

    Parameters
    ----------
    command
        Program and arguments.
    cwd
        Folder in which it runs.
    environment
        Variables beside those of this process and `ONE_THREAD`; ``PYTHONPATH`` is not passed on.

    Raises
    ------
    CommandError
        If the command fails, with the end of its output; or if processes are left a minute after it.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ONE_THREAD | (environment or {})
    warden = [sys.executable, "-P", __file__, *map(str, command)]
    ended = subprocess.run(warden, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise CommandError(f"{' '.join(map(str, command))}: failed.\n{ended.stderr[-4000:]}")
    return Spent(**json.loads(ended.stdout))


def watch(command: Sequence[str]) -> Spent:
    """Run a command in this process as the reaper of all its descendants; nothing else may run in it.

    Raises
    ------
    CommandError
        If it fails, or leaves processes that do not end.
    """
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise CommandError("this system has no subreapers, so processes could outlive the measurement")
    before, started = _usage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    with _largest_memory() as memory:
        process.wait()
        wall = time.perf_counter() - started
        _reap_the_rest()
    if process.returncode:
        raise CommandError(f"exit status {process.returncode}")
    after = _usage(resource.RUSAGE_CHILDREN)
    return Spent(
        after.user - before.user, after.system - before.system, after.faults - before.faults, wall, max(memory)
    )


def _reap_the_rest() -> None:
    deadline = time.monotonic() + LINGER
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.01)
    raise CommandError(f"some of its processes are still running {LINGER:.0f} s after it")


@contextmanager
def _largest_memory() -> Iterator[list[int]]:
    """Sample the memory of all descendants, during 3 % of the time; yields the samples."""
    import psutil

    samples, ended, this = [0], threading.Event(), psutil.Process()

    def sample() -> None:
        pause = 0.05
        while not ended.wait(pause):
            began = time.perf_counter()
            samples.append(sum(_proportional(child.pid) for child in this.children(recursive=True)))
            pause = max(0.05, 30 * (time.perf_counter() - began))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _proportional(pid: int) -> int:
    """PSS of a process in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(watch(sys.argv[1:]))))
    except (CommandError, OSError) as error:
        sys.exit(str(error))

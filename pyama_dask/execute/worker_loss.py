"""Reasons why worker processes are lost: a nanny knows, and a plugin makes it log an event on the scheduler."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import NannyPlugin

from pyama_dask.methods.current_call import FOLDER, take_note

EXITS = "pyama-dask-worker-exit"
"""Topic of the events of `ExitStatus`, and its name on the nannies."""
OVER_LIMIT = "worker-restart-memory"
"""Topic of the event that a nanny logs before it kills a worker that exceeds its memory limit."""
MEMORY = "memory"
"""Reason for a worker that was killed for its memory."""
WALLTIME = "walltime"
"""Reason for a worker whose job reached its walltime during a task."""
RETIRED = "retired"
"""Reason for a worker that left before the walltime of its job."""
REPORTED_AFTER = 2.0
"""Seconds within which a nanny reports that its worker is gone."""


OVERTAKEN_BY = 0.5
"""Seconds by which the event of an exit may overtake that of `OVER_LIMIT`, as both are sent separately."""


class ExitStatus(NannyPlugin):
    """Logs an event with the exit status of a worker process; Dask writes it to the nanny's own log only."""

    name = EXITS
    idempotent = True

    def setup(self, nanny: Any) -> None:
        """Listen for exits of the nanny's process; Dask calls this on each nanny, also on later ones."""
        if nanny.process is None:  # the nanny starts its process after the setup of all plugins
            nanny.loop.call_later(0.1, self.setup, nanny)
            return
        process, on_exit = nanny.process, nanny.process.on_exit
        killed_before = oom_kills()

        def report(status: int) -> None:
            nonlocal killed_before
            killed = oom_kills()
            for_memory = status == -signal.SIGKILL and killed > killed_before
            killed_before = killed
            why = MEMORY if for_memory else exit_text(status)
            note = take_note(process.worker_address or "", nanny.env.get(FOLDER))
            event = {"worker": process.worker_address, "why": why} | note._asdict()
            nanny.loop.add_callback(log_exit, nanny, event)
            on_exit(status)

        process.on_exit = report


async def log_exit(server: Any, event: dict[str, Any]) -> None:
    """Make a nanny or worker log an event; a scheduler that is shutting down does not need it."""
    with suppress(OSError):
        await server.scheduler.log_event(topic=EXITS, msg=event)


def exit_text(status: int) -> str:
    """``signal 11`` for status -11, and ``exit status 3`` for 3."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


KILLED_BY_NANNY = {exit_text(-signal.SIGTERM), exit_text(-signal.SIGKILL)}
"""Exits of a worker process that its nanny has killed for its memory."""


def oom_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Number of processes that the kernel has killed for lack of memory since it started; 0 if unknown."""
    try:
        found = re.search(r"^oom_kill (\d+)$", counters.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Loss:
    """Reason why a worker was lost."""

    why: str | None = None
    """``memory`` if its nanny or the kernel killed it for its memory; ``walltime`` if its job reached its walltime;
    ``retired`` if it left before that; else its exit, such as ``signal 11`` or ``exit status 3``; None if unknown, as
    when a whole machine is gone."""
    with_job: bool = False
    """True if its whole job is gone, for which its task is not to blame."""
    doing: str = ""
    """FOV, frame and method that it worked on; '' if unknown."""
    tasks: tuple[str, ...] = ()
    """Keys of the tasks that it ran; empty if unknown."""
    ran: Mapping[str, float] = field(default_factory=dict)
    """Seconds that its tasks had run when the job reached its walltime, by their keys on the scheduler."""

    @property
    def reason(self) -> str:
        """Text of the reason, for messages."""
        return self.why or ("its job is gone" if self.with_job else "the reason is unknown")


def recorded_loss(client: Client, worker: str, wait_until: float) -> Loss:
    """Reason why a worker was lost, from the events on the scheduler.

    Parameters
    ----------
    client
        Client of the scheduler, which has the plugin `ExitStatus`.
    worker
        Address of the worker.
    wait_until
        Time on the monotonic clock until which to wait for the event of the nanny.
    """
    exited = _wait_for_event(client, EXITS, worker, wait_until)
    if exited is None:
        return Loss(MEMORY if _event(client, OVER_LIMIT, worker) else None)
    killed, doing, tasks = exited["why"] in KILLED_BY_NANNY, exited.get("doing", ""), tuple(exited.get("tasks", ()))
    if killed and _wait_for_event(client, OVER_LIMIT, worker, time.monotonic() + OVERTAKEN_BY):
        return Loss(MEMORY, doing=doing, tasks=tasks)
    if cut_off := _event(client, EXITS, worker, WALLTIME):
        return Loss(WALLTIME, with_job=True, tasks=tasks, ran=cut_off["ran"])
    return Loss(str(exited["why"]), with_job=exited["why"] == RETIRED, doing=doing, tasks=tasks)


def _wait_for_event(client: Client, topic: str, worker: str, until: float) -> dict[str, Any] | None:
    """Newest event of a topic about a worker, which is awaited until a time on the monotonic clock."""
    while (event := _event(client, topic, worker)) is None and time.monotonic() <= until:
        time.sleep(0.05)  # a client has a single listener per topic, which may be the user's
    return event


def _event(client: Client, topic: str, worker: str, why: str | None = None) -> dict[str, Any] | None:
    """Newest event of a topic about a worker, of one reason or of any."""
    about = (event for _, event in reversed(client.get_events(topic)) if event["worker"] == worker)
    return next((event for event in about if why in (None, event.get("why"))), None)

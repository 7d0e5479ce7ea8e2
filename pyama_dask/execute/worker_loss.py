"""Why a worker process is gone: its nanny knows, and is asked to say so on the scheduler's log of events."""

from __future__ import annotations

import logging
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

from pyama_dask.methods.current_call import take_note

log = logging.getLogger(__name__)

EXITS = "pyama-dask-worker-exit"
"""Topic of events that `ExitStatus` logs; also its name on the nannies."""
OVER_LIMIT = "worker-restart-memory"
"""Topic of events that a nanny logs before it ends a worker that is beyond its limit of memory."""
MEMORY = "memory"
"""Why a worker is gone that took too much memory."""
WALLTIME = "walltime"
"""Why a worker is gone whose job came to its end while a task ran."""
RETIRED = "retired"
"""Why a worker is gone that left before its job's end."""
TOLD_AFTER = 2.0
"""Seconds within which a nanny knows that its worker is gone."""


class ExitStatus(NannyPlugin):
    """Makes a nanny log how its worker's process ended, which Dask writes to the nanny's own log only."""

    name = EXITS
    idempotent = True

    def setup(self, nanny: Any) -> None:
        """Listen for exits of the nanny's process; called once on each nanny, now or when it starts."""
        if nanny.process is None:  # it starts its process when all plugins are set up
            nanny.loop.call_later(0.1, self.setup, nanny)
            return
        process, go_on = nanny.process, nanny.process.on_exit
        killed_before = oom_kills()

        def say(status: int) -> None:
            nonlocal killed_before
            killed = oom_kills()
            for_memory = status == -signal.SIGKILL and killed > killed_before
            killed_before = killed
            how = MEMORY if for_memory else described(status)
            note = take_note(process.worker_address or "")
            nanny.loop.add_callback(tell, nanny, {"worker": process.worker_address, "why": how, "doing": note})
            go_on(status)

        process.on_exit = say


async def tell(teller: Any, event: dict[str, Any]) -> None:
    """Have a nanny or worker log an event; a scheduler that is ending, with all its workers, needs it no more."""
    with suppress(OSError):
        await teller.scheduler.log_event(topic=EXITS, msg=event)


def described(status: int) -> str:
    """Say how a process ended: ``signal 11``, or ``exit status 3``."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def oom_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed since it started, as memory ran out; 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", counters.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Loss:
    """What became of a worker."""

    why: str | None = None
    """``memory`` if it was ended for what it took, by its nanny or by the kernel; ``walltime`` if its job came to its
    end, ``retired`` if it left before that; ``signal 11`` or ``exit status 3`` for how else its process ended; None
    where nobody says, as of a machine that is gone."""
    with_job: bool = False
    """Whether its whole job is gone, which is no fault of a task unless it was for memory."""
    doing: str = ""
    """FOV, frame and method that it was at when it ended; empty if that is not known."""
    ran: Mapping[str, float] = field(default_factory=dict)
    """Seconds that its tasks had run when the job came to its end, by key on the scheduler."""


class Crew:
    """Knows the workers of a pool; this one knows nothing of them."""

    expected = 0
    """Workers that will come, if not all have."""

    def loss(self, worker: str, name: str, since: float, *, ask: bool = False) -> Loss:  # noqa: ARG002
        """Say what became of a worker that the scheduler has found to be gone.

        Parameters
        ----------
        worker
            Its address, as of ``KilledWorker.last_worker``.
        name
            Its name.
        since
            When it was found, by the monotonic clock; others may learn of it a moment later.
        ask
            Whether to find out, even if that takes some seconds.
        """
        return Loss()

    def status(self) -> str:
        """Say in a few words how it stands with the workers; nothing where there is nothing to say."""
        return ""

    def wake(self) -> None:
        """Take notice that tasks were handed out."""

    def summary(self) -> str:
        """Say in a few words what became of the jobs of a queue; nothing where there is none."""
        return ""

    def check(self) -> None:
        """Make sure that workers will come.

        Raises
        ------
        ClusterError
            If none will.
        """


class Deaths(Crew):
    """Knows why workers of a cluster died, from now on.

    Parameters
    ----------
    client
        Connected client, of workers that run under nannies; of others nothing is known.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._unknown: set[str] = set()
        try:
            client.register_plugin(ExitStatus())
        except Exception as error:  # noqa: BLE001  (what cannot be told of lost workers stops no run)
            log.info("how workers end will not be known: %s: %s", type(error).__name__, error)

    def loss(self, worker: str, name: str, since: float, *, ask: bool = False) -> Loss:  # noqa: ARG002
        """Say what became of a worker, as its nanny knows it."""
        until = 0 if worker in self._unknown else since + TOLD_AFTER
        while (said := self._said(EXITS, worker)) is None:
            if time.monotonic() > until:
                self._unknown.add(worker)
                return Loss(MEMORY if self._said(OVER_LIMIT, worker) else None)
            time.sleep(0.05)  # what has been said must be asked for: a client has one listener a topic
        if said["why"] in ENDED_BY_NANNY and self._said(OVER_LIMIT, worker):
            return Loss(MEMORY)
        if cut_off := self._said(EXITS, worker, WALLTIME):
            return Loss(WALLTIME, with_job=True, ran=cut_off["ran"])
        return Loss(str(said["why"]), with_job=said["why"] == RETIRED, doing=str(said.get("doing", "")))

    def _said(self, topic: str, worker: str, why: str | None = None) -> dict[str, Any] | None:
        """Newest event of a topic about a worker, of all or of one kind."""
        about = (event for _, event in reversed(self._client.get_events(topic)) if event["worker"] == worker)
        return next((event for event in about if why in (None, event.get("why"))), None)


ENDED_BY_NANNY = {described(-signal.SIGTERM), described(-signal.SIGKILL)}
"""How a worker's process ends that its nanny has ended for its memory."""

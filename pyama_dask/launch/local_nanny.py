"""Workers on this machine are started again if they are killed while they start."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing.util import get_temp_dir
from typing import Any

from distributed import Nanny, Status

from pyama_dask.config.function_names import unguarded_script
from pyama_dask.errors import ClusterError
from pyama_dask.execute.worker_loss import exit_text
from pyama_dask.launch.devices import WorkerPlace
from pyama_dask.launch.environment import worker_environment
from pyama_dask.methods.current_call import FOLDER

STARTS = 4
"""Times that the process of a worker is started before it is given up."""


class LocalNanny(Nanny):
    """Nanny of a worker on this machine.

    Dask's own one starts a worker again only if its process ends after it has once been connected.

    Parameters
    ----------
    *given, **options
        As for Dask's.
    name
        Number of the worker, from 0.
    places
        Environment and resources of each worker by number; a worker that is started again keeps its own.
    """

    def __init__(self, *given: Any, name: int, places: Sequence[WorkerPlace], **options: Any) -> None:
        environment = worker_environment() | {FOLDER: _folder_for_notes()} | dict(places[name].environment)
        options |= {"env": environment, "resources": dict(places[name].resources)}
        super().__init__(*given, **options | {"name": name})
        self._exits: list[int] = []
        """Statuses with which processes have ended; negative numbers of signals."""

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self._exits.append(exitcode)
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]

    async def instantiate(self) -> Status:
        """Start the process, again and again if it ends before it is connected.

        Raises
        ------
        ClusterError
            If it has ended too often.
        """
        if self.status != Status.init:  # Dask starts one again that was connected before
            return await super().instantiate()
        for _ in range(STARTS):
            status: Status = await super().instantiate()
            if status == Status.running or self.status != Status.init:
                return status
        raise ClusterError(never_started(self._exits))


def _folder_for_notes() -> str:
    """Folder that is removed with this process, also if it is killed; '' if it cannot be made."""
    try:
        return get_temp_dir()
    except OSError:
        return ""


def never_started(exits: list[int]) -> str:
    """Message for a worker whose processes have ended while they started, with these statuses."""
    how = " and ".join(f"by {exit_text(end)}" if end < 0 else f"with {exit_text(end)}" for end in dict.fromkeys(exits))
    told = f"a worker could not be started, as its process ended {len(exits)} times while it started, {how}. Fix: "
    if -signal.SIGKILL in exits:
        return told + (
            "if the machine lacks memory ('dmesg' names processes that the system has killed for it), free some or "
            "lower cluster.workers; else run again"
        )
    if script := unguarded_script():
        return told + f"put what {script} does under  if __name__ == '__main__':  since each worker imports the script"
    return told + "a package that it imports may be broken: install pyama_dask into a new environment, and run again"

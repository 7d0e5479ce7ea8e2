"""Workers of a Dask scheduler: their number, their futures, and the reasons why some are lost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Client, Future, KilledWorker

from pyama_dask.errors import ClusterError
from pyama_dask.execute.worker_loss import REPORTED_AFTER, ExitStatus, Loss, recorded_loss
from pyama_dask.methods.current_call import methods_at_work
from pyama_dask.workflow.graph import GPU

log = logging.getLogger(__name__)

CPU = "CPU"
"""Dask resource of workers without a GPU, where others have one."""
RECOUNT = 3.0
"""Seconds between counts of the workers."""
FETCHING = 5.0
"""Time limit in seconds for fetching results: Dask would first recompute a result that was lost with its worker."""


FEW = 4
"""Workers whose methods are named when it is asked what they do."""


class Workers:
    """Workers of a Dask scheduler, for the tasks of a run or the batches of a map.

    Parameters
    ----------
    client
        Connected client.
    dashboard
        Address of the dashboard; '' if unknown.
    owned
        True if the workers end with the run.
    patience
        Seconds without any worker after which none will come.
    clock
        Monotonic clock in seconds.
    gpus
        Number of workers with a GPU: those that have the Dask resource ``GPU``, or will come.
    """

    expected = 0
    """Number of threads that will come, if not all have."""
    keeps_gpus_free = False
    """True if all workers without a GPU have the Dask resource ``CPU``, so that tasks may be kept off the others."""

    def __init__(
        self, client: Client, *, dashboard: str = "", owned: bool = False, patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic, gpus: int = 0,
    ) -> None:  # fmt: skip
        self.client, self.dashboard, self.owned = client, dashboard, owned
        self.running: dict[str, Future[Any]] = {}
        """Futures of submitted tasks that have not ended."""
        self.gpus = gpus
        self.on_gpu: set[str] = set()
        """Those of them that are for workers with a GPU."""
        self._clock, self._counted, self._threads = clock, -math.inf, 1
        self._patience, self._seen = patience, clock()
        self._unreported: set[str] = set()
        """Lost workers that no nanny has reported in time."""
        try:
            client.register_plugin(ExitStatus())
        except Exception as error:  # noqa: BLE001  (runs work without reasons for lost workers)
            log.info("reasons for lost workers will be unknown: %s: %s", type(error).__name__, error)

    def resources(self, needs: Mapping[str, float]) -> dict[str, float]:
        """Dask resources that tasks are submitted with; without any GPU, tasks that could use one go anywhere."""
        if self.gpus and self.keeps_gpus_free and not needs:
            return {CPU: 1}
        return {name: count for name, count in needs.items() if name != GPU or self.gpus}

    @property
    def threads(self) -> int:
        """Number of tasks that can run at the same time."""
        self._count()
        return self._threads

    def _count(self) -> None:
        """Count the workers, every few seconds."""
        if self._clock() - self._counted > RECOUNT:
            connected = sum(int(threads) for threads in self.client.nthreads().values())
            if connected:
                self._seen = self._clock()
            self._threads = max(1, connected, self.expected)
            self._counted = self._clock()

    def check(self) -> None:
        """Check that tasks can run.

        Raises
        ------
        ClusterError
            If the scheduler is gone, or no workers will come.
        """
        if self.client.status in ("closing", "closed"):
            raise ClusterError("the Dask scheduler is gone. Fix: start one, and run again to resume")
        if self._patience == math.inf:
            return
        self._count()
        if self._clock() - self._seen > self._patience:
            raise ClusterError(
                f"all workers were lost, and none has started again within {self._patience / 60:.1f} min. "
                "Fix: see the log for the reasons, and run again to resume"
            )

    def loss_of(self, error: KilledWorker, since: float, *, ask: bool = False) -> Loss:
        """Find out why the worker of a task was lost.

        Parameters
        ----------
        error
            Exception of the task.
        since
            Time of the loss on the monotonic clock.
        ask
            True to wait for the reason, even for some seconds.
        """
        try:
            return self.loss(error.last_worker.address, str(error.last_worker.name), since, ask=ask)
        except Exception:  # noqa: BLE001  (the scheduler may be lost at the same time)
            self.check()
            return Loss()

    def loss(self, worker: str, name: str, since: float, *, ask: bool = False) -> Loss:  # noqa: ARG002
        """Find out why a worker was lost.

        Parameters
        ----------
        worker
            Its address.
        name
            Its name.
        since
            Time of the loss on the monotonic clock; nannies report it a moment later.
        ask
            True to wait for the reason, even for some seconds.
        """
        loss = recorded_loss(self.client, worker, 0 if worker in self._unreported else since + REPORTED_AFTER)
        if loss.why is None:
            self._unreported.add(worker)
        return loss

    def doing(self) -> str:
        """Return which methods the workers run, and on what; '' if none or unknown, as when they do not answer."""

        async def ask() -> dict[str, str]:
            answers: dict[str, str] = await self.client.run(methods_at_work, on_error="ignore", asynchronous=True)
            return answers

        try:
            found = [*filter(None, self.client.sync(ask, callback_timeout=FETCHING).values())]
        except Exception as error:  # noqa: BLE001  (an alarm is better with no details than not at all)
            log.info("the workers do not say what they do: %s: %s", type(error).__name__, error)
            return ""
        more = f"; and {len(found) - FEW} more" if len(found) > FEW else ""
        return f"running {'; '.join(found[:FEW])}{more}" if found else ""

    def wake(self) -> None:
        """Note that tasks were submitted."""

    def status(self) -> str:
        """Return the status of the workers in a few words; '' if there is nothing to report."""
        return ""

    def summary(self) -> str:
        """Return a summary of the jobs of a queue; '' without a queue."""
        return ""

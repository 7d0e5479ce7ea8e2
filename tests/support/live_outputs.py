"""Outputs of made runs: a plan and a ledger without results, for what watches a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyama_dask.plan.plan import Plan
from pyama_dask.runs.plan_settings import settings_of
from pyama_dask.runs.run_record import RECORD
from pyama_dask.runs.status import LEDGER, PLAN
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock_file import lock_path, own_record, write_record
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.task import WORK, Receipt, Task
from support.strategies import movie, plan_of

NOW, RUN = 1_800_000_000.0, "run1"


class MadeRun:
    """An output whose tasks are recorded as a test says; a frame of a block takes a second in each of its tasks.

    Parameters
    ----------
    output
        The directory; created.
    fovs, frames, block_frames
        Size of the movie and of its blocks.
    more
        Other settings of the config.
    """

    def __init__(self, output: Path, fovs: int = 3, frames: int = 10, block_frames: int = 4, **more: Any) -> None:
        self.output = output
        self.plan: Plan = plan_of(
            movie(fovs=fovs, frames=frames), storage={"block_frames": block_frames}, output=str(output), **more
        )
        (output / WORK).mkdir(parents=True)
        settings = settings_of(self.plan.job.config)
        document = self.plan.document() | {"settings": {"now": settings}, "current": "now"}
        document["fovs"] = [fov | {"settings": "now"} for fov in document["fovs"]]
        (output / PLAN).write_text(json.dumps(document))

    def tasks(self, fov: int, *kinds: str) -> list[Task]:
        """Tasks of a FOV, of some kinds or all."""
        return [task for task in self.plan.fovs[fov].tasks if not kinds or task.kind in kinds]

    def done(self, *tasks: Task, run: str = RUN, begun: float = NOW - 30, worker: str = "node1/7") -> None:
        """Record tasks as done; each begins when the last has ended."""
        with Ledger(self.output / LEDGER) as ledger:
            receipts = []
            for task in tasks:
                seconds = float(task.stop - task.start)
                spent = dict.fromkeys(task.digests, seconds / len(task.digests))
                receipts.append(
                    Receipt(
                        task.key, task.digests, {}, seconds, 0, 0, 2**28, group=task.group, run=run, spent=spent,
                        begun=begun, worker=worker,
                    )
                )  # fmt: skip
                begun += seconds if begun else 0.0
            ledger.record(*receipts)

    def failed(self, task: Task, reason: str = "frame 3 is dark. Fix: leave it out") -> None:
        """Record a failed attempt at a task."""
        with Ledger(self.output / LEDGER) as ledger:
            ledger.fail(task, Failure("algorithm", reason))

    def lock(self, *, run: str = RUN, ago: float = 0.0, now: float = NOW, **changes: Any) -> None:
        """Leave a lock of this process, or as `changes` say, that was touched some seconds ago."""
        path = lock_path(self.output)
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        write_record(file, own_record(run) | changes)
        os.close(file)
        os.utime(path, (now - ago, now - ago))

    def record(self, **values: Any) -> None:
        """Leave the record of a run."""
        (self.output / RECORD).write_text(json.dumps({"run": RUN, "started": NOW - 100} | values))

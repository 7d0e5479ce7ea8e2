"""Record of a run beside its ledger, for those who watch it: start, dashboard, jobs of a queue, alarms.

It is rewritten when one of them changes. Nothing depends on it: a run goes on if it cannot be written.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pyama_dask.execute.events import Progress
from pyama_dask.files.atomic import write_bytes
from pyama_dask.files.documents import Types, read_fields
from pyama_dask.plan.plan import Plan
from pyama_dask.workflow.task import WORK

log = logging.getLogger(__name__)

RECORD = f"{WORK}/run.json"
FIELDS: Types = {"run": str, "started": (int, float), "todo": dict, "dashboard": str, "jobs": str, "alarms": list}
"""Fields of the record, and their types."""


class RunRecord:
    """Writes the record of a run.

    Parameters
    ----------
    todo
        Tasks of the run, in an output that it has locked.
    """

    def __init__(self, todo: Plan) -> None:
        self._path: Path | None = None
        self._todo = todo
        self._record: dict[str, Any] = {
            "run": todo.job.run, "started": time.time(), "todo": dict(Counter(task.kind for task in todo.tasks)),
            "dashboard": "", "jobs": "", "alarms": [],
        }  # fmt: skip

    def begin(self, dashboard: str) -> None:
        """Write the record once nothing can refuse the run any more, unless there is nothing to do.

        Parameters
        ----------
        dashboard
            Address of the dashboard in its first line.
        """
        if self._todo.tasks:
            self._path = self._todo.job.output / RECORD
            self._change(dashboard=dashboard.partition("\n")[0])

    def noting(self, progress: Progress) -> Progress:
        """Make a callback that notes jobs and alarms, and passes every event on."""

        def note(event: dict[str, Any]) -> None:
            message = str(event["message"])
            match event["step"]:
                case "jobs":
                    self._change(jobs=message)
                case "alarm":
                    self._change(alarms=[*self._record["alarms"], message])
            progress(event)

        return note

    def _change(self, **values: Any) -> None:
        self._record |= values
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            write_bytes(self._path, json.dumps(self._record).encode())
        except OSError as error:  # on a full disk, which the run notices itself
            log.warning("%s could not be written: %s", self._path, error)


def read_run_record(output: Path) -> dict[str, Any]:
    """Record of the last run, without fields that are damaged; empty if older versions wrote none."""
    found = read_fields(output / RECORD, FIELDS)
    if not all(isinstance(number, int) for number in found.get("todo", {}).values()):
        del found["todo"]
    return found

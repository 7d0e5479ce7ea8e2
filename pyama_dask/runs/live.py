"""A run as it is now, from the files of its output: nothing is locked or written, so any machine can look.

The plan says what there is to do. Of the ledger, only the lines that were appended since are read each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyama_dask.errors import OutputError
from pyama_dask.files.documents import read_fields
from pyama_dask.runs.pace import Pace, workers_of
from pyama_dask.runs.run_record import read_run_record
from pyama_dask.runs.several import outputs_below
from pyama_dask.runs.snapshot import RunState, Snapshot
from pyama_dask.runs.standing import Planned, Standing
from pyama_dask.runs.status import LEDGER, PLAN, REPORT, read_plan
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock_file import SILENT, Holder, glance, lock_path
from pyama_dask.store.records import Cost
from pyama_dask.workflow.graph import GPU
from pyama_dask.workflow.task import parse_key


class LiveRun:
    """Reads the state of a run again and again.

    Parameters
    ----------
    output
        Output directory; its run may be starting, active, killed or over.
    clock
        UTC time in seconds since 1970.

    Raises
    ------
    OutputError
        If there is no run, and none is starting.
    """

    def __init__(self, output: Path, clock: Callable[[], float] = time.time) -> None:
        self.output, self._clock = output, clock
        self._plan: Planned | None = None
        self._plan_state: tuple[int, ...] = ()
        self._ledger: Ledger | None = None
        self._ledger_file = 0
        self._costs: list[Cost] = []
        """Costs that are recorded up to a place in the ledger."""
        self._costs_until = 0
        self._touched = self._alive_until = 0.0
        self.snapshot()

    def snapshot(self) -> Snapshot:
        """Read what is new, and describe the state of the run.

        Raises
        ------
        OutputError
            If the output is gone or damaged.
        """
        now = self._clock()
        holder, alive = self._holder(now)
        ledger, record = self._read_ledger(), read_run_record(self.output)
        try:
            self._read_plan(ledger)
        except OutputError:
            if not alive:
                raise
        plan = self._plan or Planned({"input": "", "fovs": [], "settings": {}, "warnings": []})
        name = str(holder.record.get("run", "")) if holder and alive else ""
        name = name or str(record.get("run", "")) or (self._costs[-1].run if self._costs else "")
        record = record if record.get("run") == name else {}
        costs = [cost for cost in self._costs if cost.run == name]
        standing = Standing(plan, ledger, {parse_key(cost.key).fov for cost in costs} if alive else set())
        state = _state_of(holder, alive, begun=bool(costs or record))
        first = min((cost.begun for cost in costs), default=0.0)
        pace = Pace(costs, first, now) if state in ("running", "stopping") else None
        return Snapshot(
            output=self.output,
            input=plan.input,
            at=now,
            state=state,
            run=name,
            host=str(holder.record.get("host", "")) if holder and alive else "",
            pid=int(holder.record.get("pid", 0)) if holder and alive else 0,
            started=float(record.get("started", first)),
            silent=max(0.0, holder.silent) if holder else 0.0,
            dashboard=str(record.get("dashboard", "")) if alive else "",
            tasks=sum(standing.tasks.values()),
            tasks_done=sum(standing.done.values()),
            rate=pace.rate(plan.frames_of) if pace else None,
            seconds_left=pace.seconds_left(standing.left, record.get("todo")) if pace else None,
            steps=standing.steps(costs),
            fovs=standing.fovs,
            failures=standing.failures,
            workers=workers_of(costs, first, now, _on_gpu(ledger)),
            jobs=str(record.get("jobs", "")) if alive else "",
            alarms=tuple(map(str, record.get("alarms", ()))),
            warnings=plan.warnings,
            ended=_end_of(self.output) if state == "ended" else "",
        )

    def _holder(self, now: float) -> tuple[Holder | None, bool]:
        """The run that holds the lock, or held it when it died, and whether it is alive as far as can be seen."""
        try:
            seen = glance(self.output)
        except OSError as error:
            place = lock_path(self.output)
            raise OutputError(f"{place}: cannot be read: {error.strerror}. Fix: check its permissions") from error
        if seen is None:
            return None, False
        holder, touched = seen
        if self._touched and touched != self._touched:  # whatever the clocks of the machines say
            self._alive_until = now + SILENT
        self._touched = touched
        return holder, not holder.is_dead or (not holder.is_here and now < self._alive_until)

    def _read_plan(self, ledger: Ledger) -> None:
        """Read the plan if it was written since."""
        path, state = self.output / PLAN, tuple[int, ...]()
        with suppress(OSError):
            at = path.stat()
            state = (at.st_mtime_ns, at.st_size, at.st_ino)
            if self._plan and state == self._plan_state:
                return
        document = read_plan(self.output, ledger)
        try:
            self._plan, self._plan_state = Planned(document), state
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OutputError(f"{path}: is damaged. Fix: run again, which writes it again") from error

    def _read_ledger(self) -> Ledger:
        """Ledger with all that is recorded by now."""
        path = self.output / LEDGER
        number = path.stat().st_ino if path.exists() else 0
        ledger = self._ledger
        if ledger is not None and number == self._ledger_file and not ledger.is_shorter():
            damaged = len(ledger.damaged)
            ledger.read_on()
            if len(ledger.damaged) > damaged:  # a full disk took lines back that were read before
                ledger = None
        else:
            ledger = None
        if ledger is None:
            ledger = Ledger(path, recent=None)  # each snapshot asks for all FOVs
            self._costs, self._costs_until = [], 0
        self._costs += [*ledger.costs(self._costs_until)]  # all or none, if the file cannot be read
        self._ledger, self._ledger_file, self._costs_until = ledger, number, ledger.end
        return ledger


class LiveRuns:
    """Reads the state of a run, or of the runs of all outputs in a folder, again and again; more of them may begin.

    Parameters
    ----------
    output
        Output directory, or a folder above several.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._runs: dict[Path, LiveRun] = {}

    @property
    def are_several(self) -> bool:
        """True for a folder above outputs, even if there is only one in it yet."""
        return bool(outputs_below(self.output))

    def snapshots(self) -> list[Snapshot]:
        """State of each run, in the order of the outputs' names.

        Raises
        ------
        OutputError
            If there is no run, or an output is gone or damaged.
        """
        found = outputs_below(self.output) or [self.output]
        for one in found:
            self._runs[one] = self._runs.get(one) or LiveRun(one)
        return [self._runs[one].snapshot() for one in found]


def _state_of(holder: Holder | None, alive: bool, *, begun: bool) -> RunState:
    """State of a run, by the holder of the lock."""
    if holder is None:
        return "ended"
    if not alive:
        return "killed"
    if holder.record.get("stopping"):
        return "stopping"
    return "running" if begun else "starting"


def _on_gpu(ledger: Ledger) -> set[str]:
    """Keys of recorded tasks that were done on a GPU."""
    return {key for key, of in ledger.tasks() if GPU in of.processors.values()} if GPU in ledger.processors else set()


def _end_of(output: Path) -> str:
    """End of the last run, by its report; '' if that is missing."""
    report = read_fields(output / REPORT, {"stopped": (str, type(None)), "cancelled": bool, "fovs": list})
    if not {"stopped", "cancelled", "fovs"} <= report.keys():
        return ""
    if report["stopped"] or report["cancelled"]:
        return "stopped" if report["stopped"] else "cancelled"
    statuses = [fov.get("status") for fov in report["fovs"] if isinstance(fov, dict)]
    return "failed" if "failed" in statuses else "complete"

"""How an output stands: the report at the end of a run, and the status of an output at any time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyama_dask.errors import OutputError
from pyama_dask.files import write_bytes
from pyama_dask.ledger import Ledger
from pyama_dask.tasks import BLOCKED, STEPS, WORK, Kind, task_key

LEDGER, PLAN, REPORT = (f"{WORK}/{name}" for name in ("ledger.jsonl", "plan.json", "report.json"))


@dataclass(frozen=True)
class FovReport:
    """How one FOV stands after a run."""

    fov: int
    status: str
    """``done``, ``partial``, ``failed`` or ``pending``."""
    left: tuple[str, ...] = ()
    """Steps of it that are not done."""
    reason: str | None = None
    cells: int | None = None
    rows: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """How a run ended."""

    output: Path
    fovs: tuple[FovReport, ...]
    warnings: tuple[str, ...]
    tasks: int
    """Tasks that this run had to do."""
    tasks_done: int
    """Tasks that it has done."""
    seconds: float
    cancelled: bool = False

    @property
    def failed(self) -> tuple[FovReport, ...]:
        """FOVs that failed."""
        return tuple(fov for fov in self.fovs if fov.status == "failed")

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs failed, 130 cancelled."""
        return 130 if self.cancelled else 3 if self.failed else 0


def report_fov(ledger: Ledger, fov: Mapping[str, Any], failure: str | None = None) -> FovReport:
    """How a FOV stands by the ledger.

    Parameters
    ----------
    ledger
        What is recorded.
    fov
        The FOV's part of the plan's document.
    failure
        Why it failed in this run, if it did.
    """
    number: int = fov["fov"]
    if reason := fov["problem"] or failure:
        return FovReport(number, "failed", reason=reason)
    steps = {key: digests for kind, stage in fov["kinds"].items() for key, digests in _keys(number, kind, stage)}
    done = [(step, ledger.has(key, step, digest)) for key, digests in steps.items() for step, digest in digests.items()]
    left = tuple(step for step in STEPS if (step, False) in done)
    notes = {name: count for key in steps for name, count in ledger.notes.get(key, {}).items()}
    warnings = tuple(said for key in steps for of in ledger.warnings.get(key, {}).values() for said in of)
    reason = next((ledger.failed[key] for key in steps if key in ledger.failed), None)
    begun = any(is_done for _, is_done in done)
    status = "done" if not left else "failed" if reason else "partial" if begun else "pending"
    return FovReport(number, status, left, reason, notes.get("cells"), notes.get("rows"), warnings)


def _keys(fov: int, kind: Kind, stage: Mapping[str, Any]) -> Iterator[tuple[str, dict[Any, str]]]:
    for number in range(stage["tasks"]):
        yield task_key(kind, fov, number if kind in BLOCKED else None), stage["steps"]


def write_report(report: RunReport) -> None:
    """Write the report beside the ledger."""
    document = asdict(report) | {"ended": datetime.now(UTC).isoformat(timespec="seconds")}
    write_bytes(report.output / REPORT, json.dumps(document, default=str, indent=1).encode())


def read_status(output: Path) -> dict[str, Any]:
    """How the FOVs of an output stand, from its plan and ledger; writes nothing.

    Raises
    ------
    OutputError
        If it is no output of a run.
    """
    path = output / PLAN
    if not path.exists():
        raise OutputError(f"{output}: holds no run of pyama_dask (no {PLAN}); give the 'output' directory of a run")
    document = json.loads(path.read_bytes())
    ledger = Ledger(output / LEDGER)
    fovs = [
        asdict(report_fov(ledger, fov)) | {"other_settings": fov["settings"] != document["current"]}
        for fov in document["fovs"]
    ]
    return {"output": str(output), "input": document["input"], "warnings": document["warnings"], "fovs": fovs}

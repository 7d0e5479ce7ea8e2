"""The report at the end of a run, and the status of an output at any time."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyama_dask.config.units import as_ranges, duration, many
from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import read_file, write_bytes
from pyama_dask.files.checksums import checksum_of
from pyama_dask.files.html import cut, never_failing, table, text
from pyama_dask.runs.outcome import FovTracks, attention, describe_tracks
from pyama_dask.runs.own_tables import describe_tables
from pyama_dask.runs.plan_settings import other_frames
from pyama_dask.steps.standard import COPY, GRAPH, TRACES, in_order, label_of, record_of
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Checksum, Cost
from pyama_dask.store.trace_csv import PLACE_COLUMNS
from pyama_dask.workflow.failure import Cause, Failure
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.kinds import Kind, on_blocks
from pyama_dask.workflow.task import WORK, parse_key, task_key

log = logging.getLogger(__name__)

LEDGER, PLAN, REPORT = (f"{WORK}/{name}" for name in ("ledger.jsonl", "plan.json", "report.json"))
PLAN_KEYS = ("input", "identity", "first_identity", "warnings", "fovs", "settings", "current")
"""Keys of the plan's document that programs read."""


@dataclass(frozen=True)
class FovReport:
    """Result of one FOV after a run."""

    fov: int
    status: str
    """``done``, ``partial``, ``failed`` or ``pending``."""
    left: tuple[str, ...] = ()
    """Steps of it that are not done."""
    cause: Cause | None = None
    """Kind of failure."""
    reason: str | None = None
    cells: int | None = None
    rows: int | None = None
    warnings: tuple[str, ...] = ()
    short: int | None = None
    """Tracks dropped because they are seen in too few frames; None in outputs of older versions."""
    border: int | None = None
    """Tracks dropped because they come close to the border."""
    lost: float | None = None
    """Mean fraction of a frame in objects that were dropped as too large; None if unknown."""
    pixels: int | None = None
    """Pixels of a frame."""
    tasks: int = 0
    """Tasks of it in the plan."""
    tasks_done: int = 0
    """Tasks of which every step is done."""

    @property
    def tracks(self) -> FovTracks | None:
        """Numbers of its tracks by their fate; None if they are not known."""
        if self.cells is None or self.short is None or self.border is None or self.pixels is None:
            return None
        return FovTracks(self.fov, self.cells, self.border, self.short, self.lost, self.pixels)


@dataclass(frozen=True)
class StepCost:
    """Time and memory of a step."""

    step: Step
    seconds: float
    """Of all workers together."""
    memory: int
    """Largest peak of a worker in bytes, in tasks that it has a part in."""


def costs_by_step(costs: Iterable[Cost]) -> tuple[StepCost, ...]:
    """Add up time and memory of the steps of some tasks."""
    seconds, memory = Counter[Step](), dict[Step, int]()
    for cost in costs:
        for step, spent in cost.spent.items():
            seconds[step] += spent  # type: ignore[assignment]  # a Counter may count fractions
            memory[step] = max(memory.get(step, 0), cost.memory)
    return tuple(StepCost(step, seconds[step], memory[step]) for step in in_order(memory))


@dataclass(frozen=True, repr=False)
class RunReport:
    """Result of a run; a notebook shows it as a table of its steps, failures and warnings."""

    output: Path
    fovs: tuple[FovReport, ...]
    warnings: tuple[str, ...]
    tasks: int
    """Tasks that this run had to do."""
    tasks_done: int
    """Tasks that it has done."""
    seconds: float
    cancelled: bool = False
    stopped: str | None = None
    """Reason why it stopped early."""
    steps: tuple[StepCost, ...] = ()
    """Time and memory of each step in this run."""
    jobs: str = ""
    """Summary of the jobs of a queue."""
    page: Path | None = None
    """HTML page with the report; None if it was not written."""

    @property
    def failed(self) -> tuple[FovReport, ...]:
        """FOVs that failed."""
        return tuple(fov for fov in self.fovs if fov.status == "failed")

    @property
    def tracks(self) -> list[FovTracks]:
        """Numbers of tracks of each FOV, where they are known."""
        return [fov.tracks for fov in self.fovs if fov.tracks is not None]

    @property
    def attention(self) -> str:
        """Loud line if hardly a cell is left in the FOVs that are done; else ''."""
        return attention([fov.tracks for fov in self.fovs if fov.tracks is not None and fov.status == "done"])

    @property
    def exit_status(self) -> int:
        """0 complete, 3 some FOVs failed, 4 stopped, 130 cancelled."""
        return 4 if self.stopped else 130 if self.cancelled else 3 if self.failed else 0

    def __repr__(self) -> str:
        failures = "".join(f"; FOV {fov.fov} ({fov.cause}): {fov.reason}" for fov in self.failed[:1])
        return f"<RunReport {self.output.name}: {self._headline}{failures}>"

    @property
    def _headline(self) -> str:
        """State of the run and of all its FOVs in words."""
        ended = "stopped" if self.stopped else "cancelled" if self.cancelled else "finished"
        counts = Counter(fov.status for fov in self.fovs)
        cells = [fov.cells for fov in self.fovs if fov.cells is not None]
        standing = ", ".join(f"{many(n, 'FOV')} {status}" for status, n in counts.items())
        after = f"{ended} after {duration(self.seconds)}" if self.tasks else "nothing to do"
        return f"{after}: {standing}" + (f"; {many(sum(cells), 'cell')}" if cells else "")

    @never_failing
    def _repr_html_(self) -> str:
        total = sum(step.seconds for step in self.steps) or 1.0
        costs = [
            (label_of(step.step), f"{step.seconds:.1f} s", f"{step.seconds / total:.0%}",
             f"{step.memory / 2**20:.0f} MiB") for step in self.steps
        ]  # fmt: skip
        failed = [(f"FOV {fov.fov}", fov.cause, fov.reason) for fov in self.failed]
        warnings = dict.fromkeys([*self.warnings, *(warning for fov in self.fovs for warning in fov.warnings)])
        parts = [
            f"<div><b>{text(self.output.name)}</b>: {text(self._headline)}</div>",
            f"<div>{text(self.stopped)}</div>" if self.stopped else "",
            f"<div>report: {text(self.page)}</div>" if self.page else "",
            f"<div><b>{text(self.attention)}</b></div>" if self.attention else "",
            table(costs, ("step", "worker time", "share", "peak memory")) if costs else "",
            table(cut(failed), ("failed", "cause", "reason"), left=3) if failed else "",
            table(cut([(warning,) for warning in warnings]), ("warnings",)) if warnings else "",
        ]
        return "".join(parts)


def report_fov(ledger: Ledger, fov: Mapping[str, Any], failure: Failure | None = None) -> FovReport:
    """Status of a FOV by the ledger.

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
    if fov["problem"]:
        failure = Failure("input", fov["problem"])
    elif number in ledger.doubts and not failure:
        failure = Failure("input", ledger.doubts[number])
    if failure:
        return FovReport(number, "failed", cause=failure.cause, reason=failure.reason)
    steps = {key: digests for kind, stage in fov["kinds"].items() for key, digests in task_digests(number, kind, stage)}
    done = {key: {step: ledger.has(key, step, of) for step, of in digests.items()} for key, digests in steps.items()}
    left = in_order(step for of in done.values() for step, is_done in of.items() if not is_done)
    notes = {name: n for key in steps for of in ledger.task(key).notes.values() for name, n in of.items()}
    warnings = tuple(warning for key in steps for of in ledger.task(key).warnings.values() for warning in of)
    failure = next((ledger.failed[key] for key in steps if key in ledger.failed), None) if left else None
    begun = any(any(of.values()) for of in done.values())
    tasks_done = sum(all(of.values()) for of in done.values())
    status = "done" if not left else "failed" if failure else "partial" if begun else "pending"
    cause, reason = (failure.cause, failure.reason) if failure else (None, None)
    lost = notes.get("lost_permille")
    return FovReport(
        number, status, left, cause, reason, notes.get("cells"), notes.get("rows"), warnings, notes.get("short"),
        notes.get("border"), None if lost is None else lost / 1000, notes.get("pixels"), len(steps), tasks_done,
    )  # fmt: skip


def recorded_traces(ledger: Ledger, fov: int) -> tuple[str, Checksum] | None:
    """Path in the output and checksum of the traces that a run wrote of a FOV; None before it has written them.

    Other tables in the folder are not the run's, whatever their names.
    """
    key, step = record_of(TRACES, fov)
    return next(iter(ledger.task(key).files.get(step, {}).items()), None)


def task_digests(fov: int, kind: Kind, stage: Mapping[str, Any]) -> Iterator[tuple[str, dict[Step, str]]]:
    """Yield keys and digests of the tasks of one kind of a FOV.

    Parameters
    ----------
    stage
        The kind's part of the FOV's part of the plan's document.
    """
    for number in range(stage["tasks"]):
        digests = {step: of[number] for step, of in stage["steps"].items()}
        yield task_key(kind, fov, number if on_blocks(kind) else None), digests


def copied_blocks(ledger: Ledger, fov: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield number and task key of the blocks of a FOV that are recorded as copied.

    Parameters
    ----------
    ledger
        What is recorded.
    fov
        The FOV's part of the plan's document.
    """
    stage = fov["kinds"].get(GRAPH.kind_of[COPY], {"steps": {}})
    for block, digest in enumerate(stage["steps"].get(GRAPH.parts[COPY].step, ())):
        key, step = record_of(COPY, fov["fov"], block)
        if ledger.has(key, step, digest):
            yield block, key


def read_blocks(ledger: Ledger, fov: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield number and task key of the blocks of a FOV whose frames are recorded as copied, or read by pipelines."""
    found = dict(copied_blocks(ledger, fov))
    for kind, stage in fov["kinds"].items():
        for block in range(stage["tasks"]) if on_blocks(kind) else ():
            key = task_key(kind, fov["fov"], block)
            is_done = any(ledger.has(key, step, digests[block]) for step, digests in stage["steps"].items())
            if is_done and ledger.task(key).frames_read:
                found.setdefault(block, key)
    yield from sorted(found.items())


def write_report(report: RunReport) -> None:
    """Write the report beside the ledger."""
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    words = {"tracks": describe_tracks(report.tracks), "attention": report.attention}
    document = asdict(report) | words | {"ended": ended}
    del document["page"]  # it is written later
    try:
        write_bytes(report.output / REPORT, json.dumps(document, default=str, indent=1).encode())
    except OSError as error:  # on a full disk; the person is told how the run ended all the same
        log.warning("%s could not be written: %s", report.output / REPORT, error)


def read_plan(output: Path, ledger: Ledger | None = None) -> dict[str, Any]:
    """Document of the plan that a complete output fulfils.

    Parameters
    ----------
    output
        Output directory.
    ledger
        Its ledger, to compare the plan with its recorded checksum; what other processes have added is read, too.

    Raises
    ------
    OutputError
        If it is missing or damaged.
    """
    path = output / PLAN
    try:
        content = read_file(path)
        document: dict[str, Any] = json.loads(content)
        plan = {name: document[name] for name in PLAN_KEYS} | {"plate_shape": document.get("plate_shape")}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OutputError(
            f"{output}: holds no run of pyama_dask (no {PLAN}). Fix: give the 'output' directory of a run"
        ) from error
    except PermissionError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}. Fix: check its permissions") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise OutputError(f"{path}: is damaged. Fix: run again, which writes it again") from error
    if ledger is not None and not is_recorded(ledger, PLAN, content):
        raise OutputError(f"{path}: is damaged. Fix: run again, which writes it again")
    return plan


def is_recorded(ledger: Ledger, path: str, content: bytes) -> bool:
    """Check whether a document of the driver is as recorded; True where the ledger cannot tell.

    A document is recorded before it is written, so the lines that another process has added are read first.
    """
    ledger.read_on()
    accepted = ledger.checksums(path)
    return not accepted or bool(ledger.damaged) or checksum_of(content) in accepted


def warn_of_mixed_processors(ledger: Ledger) -> list[str]:
    """Warn where labels of one output were made on processors of different kinds; at most one message."""
    fovs: dict[str, set[int]] = {}
    for key, record in ledger.tasks() if len(ledger.processors) > 1 else ():
        for kind in record.processors.values():
            fovs.setdefault(kind, set()).add(parse_key(key).fov)
    if len(fovs) < 2:
        return []
    where = "; ".join(f"FOVs {as_ranges(sorted(of))} on {kind}" for kind, of in sorted(fovs.items()))
    message = (
        f"cells were found on different kinds of processors ({where}), so that outlines may differ by single pixels. "
        "Fix: for labels that are equal byte by byte, use machines of one kind"
    )
    return [message]


def read_status(output: Path) -> dict[str, Any]:
    """Status of the FOVs of an output, from its plan and ledger; writes nothing.

    Raises
    ------
    OutputError
        If the directory is not the output of a run.
    """
    ledger = Ledger(output / LEDGER)
    document = read_plan(output, ledger)
    settings, now = document["settings"], document["current"]
    fovs: list[dict[str, Any]] = []
    reports = [report_fov(ledger, fov) for fov in document["fovs"]]
    for fov, report in zip(document["fovs"], reports, strict=True):
        of = fov["settings"]
        known = {key: fov[key] for key in ("name", *PLACE_COLUMNS) if key in fov}
        differs: dict[str, Any] = {
            "other_settings": of != now,
            "other_frames": other_frames(settings.get(of), settings.get(now)),
        }
        fovs.append(asdict(report) | known | differs)
    warnings = list(document["warnings"])
    if ledger.damaged:
        warnings.append(
            f"{len(ledger.damaged)} lines of {ledger.path} cannot be read. Fix: run again, or 'pyama-dask verify'"
        )
    warnings += warn_of_mixed_processors(ledger)
    tracks = [report.tracks for report in reports if report.tracks is not None]
    done = [report.tracks for report in reports if report.tracks is not None and report.status == "done"]
    return {
        "output": str(output), "input": document["input"], "plate_shape": document["plate_shape"],
        "warnings": warnings, "fovs": fovs,
        "tracks": describe_tracks(tracks), "tables": describe_tables(ledger), "attention": attention(done),
    }  # fmt: skip

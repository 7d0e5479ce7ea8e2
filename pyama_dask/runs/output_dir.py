"""The output directory: checks before a run, records during it, and removal of stale results."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import yaml

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection, printable
from pyama_dask.config.yaml_text import dump_yaml, load_yaml
from pyama_dask.errors import OutputError, PyamaError, TakenOverError
from pyama_dask.files.atomic import check_names, read_file, remove_partial
from pyama_dask.files.checksums import MISSING
from pyama_dask.plan.content import compare_content, is_held
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.plan.resume import derived_from
from pyama_dask.readers import FovInfo, Metadata
from pyama_dask.runs.documents import fov_documents, write_documents
from pyama_dask.runs.ownership import (
    check_output_is_ours,
    discard,
    names_of,
    remove_temporary,
    sweep,
    sweep_wells,
    void,
)
from pyama_dask.runs.plan_settings import settings_of
from pyama_dask.runs.plate_output import PlateOutput
from pyama_dask.runs.status import LEDGER, PLAN, read_plan
from pyama_dask.steps.graphs import graph_of
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.kinds import OF_SEVERAL_FOVS, scope_of
from pyama_dask.workflow.task import WORK, Job, Task, digest, fov_name

log = logging.getLogger("pyama_dask")

CONFIG = "processing_config.yaml"
_levels: dict[int, int] = {}
"""Levels of the log: of threads with a run at work, and as it was before, with the key 0."""
LOG = f"{WORK}/log.txt"
MOST_ADDED = 4
"""Largest growth of the number of frames with which an extended run keeps the length of blocks."""


def check_output(output: Path, *, into: bool = False) -> None:
    """Refuse an output directory that is not writable, or holds files that no run has recorded.

    Parameters
    ----------
    output
        The directory; need not exist.
    into
        Whether a new output may be written beside other files.

    Raises
    ------
    OutputError
        If it cannot be used; the message says what to do.
    """
    check_names(output, [LEDGER])
    exists = next(parent for parent in (output, *output.absolute().parents) if parent.exists())
    if not exists.is_dir():
        raise OutputError(f"{output}: cannot be created, as {exists} is a file. Fix: choose another 'output'")
    if not os.access(exists, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: cannot be created, as {exists} is not writable. Fix: choose another 'output'")
    check_output_is_ours(output, CONFIG, into=into)


def recorded_fovs(output: Path) -> list[str]:
    """Names of the FOVs of an output, by number; empty if nothing is done yet, or its records are damaged."""
    try:
        return [str(fov["name"]) for fov in load_yaml(read_file(output / CONFIG))["metadata"]["fovs"]]
    except (OSError, yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        return []


def keep_layout(config: Config) -> Config:
    """Take the value of ``block_frames: auto`` from the last run in the output, so that its blocks can be reused.

    If many frames were added, the value is chosen again, because it may have been chosen for a short trial.
    """
    if config.storage.block_frames != "auto" or (before := read_config(config.output)) is None:
        return config
    held, wanted = (parse_selection(of.params.frames) for of in (before, config))
    if wanted[: len(held)] != held or len(wanted) > MOST_ADDED * len(held):
        return config
    storage = config.storage.model_copy(update={"block_frames": before.storage.block_frames})
    return config.model_copy(update={"storage": storage})


def read_config(output: Path) -> Config | None:
    """Config of the last run that wrote to an output; None if it is missing or unreadable."""
    try:
        document = load_yaml(read_file(output / CONFIG))
        return Config.model_validate({key: value for key, value in document.items() if key != "metadata"})
    except (OSError, ValueError, AttributeError, yaml.YAMLError, RecursionError):
        return None  # it is written again, and has nothing that the ledger's digests do not


def graph_of_output(output: Path) -> Graph:
    """Graph of the steps of the last run that wrote to an output; the standard one if its config is unreadable."""
    config = read_config(output)
    return GRAPH if config is None else graph_of(config)


def fault_of(job: Job, ledger: Ledger, task: Task, with_parts: bool) -> str | None:
    """Check that the recorded files of a task's steps exist with their recorded sizes; see `plan.FaultOf`.

    Parameters
    ----------
    job, ledger, task
        Run, records and task.
    with_parts
        True to check temporary files, too, such as the parts of crops, which are removed once the crops are complete.

    Returns
    -------
    None if all is well; `MISSING` if files are missing but all others have their sizes; else what is wrong with a file.
    Directories need only exist.
    """
    missing = None
    for step, of in ledger.task(task.key).files.items():
        if step not in task.digests or (graph_of(job.config).is_temporary(task.kind, step) and not with_parts):
            continue
        for path, (size, _) in of.items():
            try:
                state = os.stat(f"{job.output}/{path}")  # noqa: PTH116  (a large output has a quarter of a million)
            except OSError:
                missing = MISSING
                continue
            if not S_ISDIR(state.st_mode) and state.st_size != size:
                return f"{path}: has {state.st_size} bytes instead of {size}"
    return missing


def damaged_steps(job: Job, ledger: Ledger, fov: FovPlan) -> dict[str, set[Step]]:
    """Recorded steps of a FOV, by task key, whose files have other sizes than recorded."""
    keys = [task.key for task in fov.tasks if fault_of(job, ledger, task, with_parts=False) not in (None, MISSING)]
    return {key: set(ledger.task(key).done) for key in keys}


class LogFile(logging.FileHandler):
    """Log file that ignores errors, so that a full disk does not end the run."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with names from files made printable."""
        return printable(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (its name in `logging`)
        """Drop a record that cannot be written."""


@contextmanager
def logging_to(output: Path) -> Iterator[None]:
    """Write what the package logs to `LOG`, without what runs in other threads say."""
    handler = LogFile(output / LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    mine = threading.get_ident()
    handler.addFilter(lambda record: record.thread == mine or record.thread not in _levels)
    if not _levels:
        _levels[0] = log.level
    _levels[mine] = logging.INFO
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        _levels.pop(mine, None)
        if list(_levels) == [0]:
            log.setLevel(_levels.pop(0))
        with suppress(OSError):  # on a full disk
            handler.close()


@contextmanager
def begun(output: Path) -> Iterator[None]:
    """Remove the files of a run from a new output if the run is refused before it recorded anything."""
    is_new = not (output / LEDGER).exists()
    try:
        yield
    except TakenOverError:
        raise  # the files are another run's now
    except PyamaError:
        ledger = Ledger(output / LEDGER)
        if is_new and not (ledger.movie or ledger.receipts or ledger.damaged):
            for file in (LEDGER, LOG):
                (output / file).unlink(missing_ok=True)
            with suppress(OSError):  # a job has written its log there
                (output / WORK / "jobs").rmdir()
        raise


def write_records(
    plan: Plan, metadata: Metadata, ledger: Ledger, plate: PlateOutput
) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Write the resolved config with the movie's metadata, and the plan that a complete output fulfils.

    FOVs of earlier runs that this one leaves alone keep their part of the plan, and the settings it was made with.

    Returns
    -------
    Part of the plan's document of every FOV, by its number, and warnings: which documents were damaged.
    """
    output = plan.job.output
    remove_partial(output, "processing_*.yaml")  # other commands write to this folder, too
    remove_partial(output / WORK)
    sweep_wells(output, ledger)
    resolved = plan.job.config.model_dump(mode="json")
    written = resolved | {"metadata": describe(metadata, plan)}
    text = dump_yaml(written, width=120)
    try:
        before = read_plan(output, ledger)
    except OutputError:
        before = {"fovs": [], "settings": {}}
    what = settings_of(plan.job.config)
    document, current = plan.document(), digest(what)
    mine = {fov["fov"]: fov | {"settings": current} for fov in document["fovs"]}
    fovs = {fov["fov"]: fov for fov in before["fovs"]} | mine
    used = {fov["settings"] for fov in fovs.values()}
    settings = {name: of for name, of in (before["settings"] | {current: what}).items() if name in used}
    document |= {"fovs": [fovs[k] for k in sorted(fovs)], "settings": settings, "current": current}
    document |= _shape_of_plate(metadata)
    warnings = write_documents(output, ledger, {CONFIG: text.encode(), PLAN: json.dumps(document).encode()})
    warnings += plate.begin()
    for planned in plan.fovs:
        outdated = ledger.outdated(planned.fov, planned.tasks)  # `prepare` makes them so, when these are taken back
        if planned.tasks and plan.job.fov_dir(planned.fov).exists() and not outdated:
            warnings += tidy_fov(plan, metadata, ledger, planned.fov)
    return mine, warnings + plate.list_images()


def describe(metadata: Metadata, plan: Plan) -> dict[str, Any]:
    """Metadata of a movie as plain values, without times, which are in the stores of the FOVs."""
    sources = sorted({fov.times.source for fov in plan.fovs})
    return {
        "file": metadata.path.name,
        "identity": plan.identity,
        "format": metadata.format,
        "n_frames": metadata.n_frames,
        "z_planes": metadata.z_planes,
        "pixel_size_um": metadata.pixel_size_um,
        "interval_min": metadata.interval_min,
        "time_source": sources[0] if len(sources) == 1 else sources,
        "channels": [asdict(channel) for channel in metadata.channels],
        "fovs": [{"fov": k, **_plain_fov(info)} for k, info in enumerate(metadata.fovs)],
    } | _shape_of_plate(metadata)


def _shape_of_plate(metadata: Metadata) -> dict[str, list[int]]:
    """Rows and columns of the plate, if the movie states them."""
    return {} if metadata.plate_shape is None else {"plate_shape": list(metadata.plate_shape)}


def _plain_fov(info: FovInfo) -> dict[str, Any]:
    """FOV with plain lists instead of tuples, without the tiles of a FOV that is not stitched."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(info)))
    return plain if info.tiles else {key: value for key, value in plain.items() if key != "tiles"}


def prepare(plan: Plan, metadata: Metadata, ledger: Ledger, plate: PlateOutput, todo: FovPlan) -> list[str]:
    """Prepare a FOV for its tasks: void and remove stale results, and create the arrays.

    Returns
    -------
    Warnings, see `write_documents`.
    """
    job = plan.job
    fov = plan.fov(todo.fov)
    damaged = derived_from(damaged_steps(job, ledger, fov), ledger, plan.graph)
    held = held_steps(plan, ledger, todo, damaged)
    again = ledger.outdated(fov.fov, fov.tasks)
    for task in fov.tasks:
        again.setdefault(task.key, set()).update(
            step for step in task.digests if plan.graph.by_kind[task.kind, step].name in plan.forced
        )
    for task in todo.tasks:
        again.setdefault(task.key, set()).update(task.digests)
    for key, steps in damaged.items():
        again.setdefault(key, set()).update(steps)  # also of steps that this run leaves out
    for task in tasks_with(plan, fov.fov):  # tables of the well must not outlive what they are made from
        stale = {step for step, found in task.digests.items() if not ledger.has(task.key, step, found)}
        again.setdefault(task.key, set()).update(stale)
    void(job.output, ledger, {key: steps - held.get(key, set()) for key, steps in again.items()})
    ledger.claim(names_of(plan, fov))
    warnings = plate.list_image(fov.fov)  # before files of an image go
    discard(plan, ledger, fov)
    wanted = fov_documents(plan, metadata, ledger, fov)
    ledger.writes({path: None for path, _ in ledger.documents(fov_name(fov.fov)) if path not in wanted})
    plate.remove_documents(fov, wanted)
    return warnings + write_documents(job.output, ledger, wanted)


def tasks_with(plan: Plan, fov: int) -> Iterator[Task]:
    """Yield the tasks of wells and plates that a FOV is in."""
    if any(scope_of(kind) in OF_SEVERAL_FOVS for kind in plan.graph.kinds):
        of_last = (planned.tasks for planned in plan.fovs if planned.waits_for)
        yield from (task for tasks in of_last for task in tasks if fov in task.group)


def held_steps(
    plan: Plan, ledger: Ledger, todo: FovPlan, damaged: Mapping[str, Collection[Step]]
) -> dict[str, set[Step]]:
    """Steps of a FOV, by task key, whose recorded results may stay; this is decided when wider parts are done."""
    return {
        task.key: {
            step
            for step in task.digests
            if is_held(task, step, ledger)
            and plan.graph.by_kind[task.kind, step].name not in plan.forced
            and step not in damaged.get(task.key, ())
        }
        for task in todo.tasks
        if task.local and fault_of(plan.job, ledger, task, with_parts=False) is None
    }


def settle(plan: Plan, ledger: Ledger, plate: PlateOutput, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Keep results whose input from other parts is unchanged, and void and remove the others.

    Parameters
    ----------
    plan
        Of the whole run.
    ledger
        Open for writing.
    plate
        Stops listing an image that is void.
    tasks
        Tasks of one FOV that are about to be handed out; all that they need is recorded.

    Returns
    -------
    What is left of the tasks.
    """
    settled = compare_content(plan, tasks, ledger)
    ledger.keep(settled.kept)
    if settled.stale:
        _take_back(plan, ledger, plate, plan.fov(tasks[0].fov), settled.stale)
    return settled.tasks


def void_unsettled(plan: Plan, ledger: Ledger, plate: PlateOutput, fovs: Collection[int]) -> None:
    """Void and remove stale results of FOVs that ended before it was known whether they may stay; see `settle`."""
    for fov in plan.fovs:
        if fov.fov in fovs and (outdated := ledger.outdated(fov.fov, fov.tasks)):
            _take_back(plan, ledger, plate, fov, outdated)


def _take_back(
    plan: Plan, ledger: Ledger, plate: PlateOutput, fov: FovPlan, stale: Mapping[str, Collection[Step]]
) -> None:
    """Void stale results of a FOV and remove them, after the plate has stopped listing its image."""
    void(plan.job.output, ledger, stale)
    for warning in plate.list_image(fov.fov):
        log.warning("%s", warning)
    discard(plan, ledger, fov)


def tidy(plan: Plan, metadata: Metadata, ledger: Ledger, plate: PlateOutput, fov: int) -> list[str]:
    """Tidy up a FOV, and list its image in the plate if that is complete; see `tidy_fov`."""
    return tidy_fov(plan, metadata, ledger, fov) + plate.list_image(fov)


def tidy_fov(plan: Plan, metadata: Metadata, ledger: Ledger, fov: int) -> list[str]:
    """Remove files that a FOV no longer needs, such as parts of complete crops, and update its documents.

    Returns
    -------
    Warnings, see `write_documents`.
    """
    (planned,) = (of for of in plan.fovs if of.fov == fov)
    remove_temporary(plan, ledger, planned)
    sweep(plan, planned)
    return write_documents(plan.job.output, ledger, fov_documents(plan, metadata, ledger, planned))

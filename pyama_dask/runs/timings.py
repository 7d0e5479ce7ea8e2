"""Time and memory of one block of one FOV, and the prediction for a whole run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pyama_dask.config.models import Config
from pyama_dask.files.atomic import read_file, write_bytes
from pyama_dask.plan.plan import Plan
from pyama_dask.store.layout import changed_form
from pyama_dask.store.records import Cost
from pyama_dask.workflow.kinds import Kind, on_blocks
from pyama_dask.workflow.task import WORK, Job, Task, digest, parse_key

CALIBRATION = f"{WORK}/calibration.json"
VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """Measurements on some blocks."""

    settings: str
    """Digest of the settings of the measurement; see `settings_digest`."""
    seconds: Mapping[Kind, float]
    """Seconds per frame by kind of task, once its worker is warmed up."""
    first: float
    """Extra seconds of a worker's first tasks, for compiling and loading code."""
    around: float
    """Seconds of a run before its first task and after its last."""
    memory: int
    """Largest peak of a worker in bytes."""
    size: float
    """Bytes on disk per FOV and frame."""
    cells: float
    """Cells per FOV."""

    def of(self, task: Task) -> float:
        """Seconds of a task."""
        return self.seconds.get(task.kind, 0.0) * (task.stop - task.start)


@dataclass(frozen=True)
class Prediction:
    """Predicted time, memory and disk space of a run."""

    workers: int
    seconds: float
    """From start to end."""
    worker_seconds: float
    """Of all workers together."""
    memory: int
    """Of a worker in bytes."""
    size: int
    """Bytes on disk."""
    files: int


def settings_digest(config: Config) -> str:
    """Digest of the settings that the time of a block depends on, except chosen frames and FOVs, and the block length.

    Parameters
    ----------
    config
        Resolved config.
    """
    params = config.params.model_dump(mode="json", exclude={"fovs", "frames", "time_mapping"})
    unchanged = {"level", "shuffle", "chunks"} - changed_form(config.storage).keys()
    storage = config.storage.model_dump(mode="json", exclude={"block_frames", *unchanged})
    pipelines = [pipeline.model_dump(mode="json") for pipeline in config.pipelines]
    return digest(
        VERSION, str(config.input.path), config.channels.model_dump(mode="json"), params, storage, config.cluster.kind,
        *([pipelines] if pipelines else []),
    )  # fmt: skip


def summed_up(job: Job, frames: int, costs: Sequence[Cost], around: float, size: float, cells: float) -> Calibration:
    """Summarize the costs of tasks on some FOVs.

    The later half of each kind of task counts, because a worker's first tasks include what it does only once.

    Parameters
    ----------
    job
        The run.
    frames
        Frames per FOV that were processed.
    costs
        Costs of the tasks, in the order in which they ended.
    around
        Seconds before the first task and after the last one.
    size, cells
        Bytes on disk per FOV and frame, and cells per FOV.
    """
    took: dict[Kind, list[float]] = {}
    for cost in costs:
        took.setdefault(parse_key(cost.key).kind, []).append(cost.seconds)
    usual = {kind: median(of[len(of) // 2 :]) for kind, of in took.items()}
    first = sum(max(0.0, took[kind][0] - of) for kind, of in usual.items())
    length = {kind: min(frames, job.block_frames) if on_blocks(kind) else frames for kind in usual}
    seconds = {kind: of / length[kind] for kind, of in usual.items()}
    return Calibration(
        settings_digest(job.config), seconds, first, around, max(cost.memory for cost in costs), size, cells
    )


def predict(plan: Plan, measured: Calibration, workers: int) -> Prediction:
    """Predict time, memory and disk space of a whole run.

    The tasks of a FOV wait for each other, so the last FOVs do not keep all workers busy: a run takes as long as its
    work, shared evenly, plus half of what one FOV takes by itself.

    Parameters
    ----------
    plan
        Plan of the run.
    measured
        Measurements with the same settings.
    workers
        Number of workers.
    """
    fovs = [fov for fov in plan.fovs if fov.tasks]
    total = sum(measured.of(task) for task in plan.tasks)
    alone = max((sum(measured.of(stage[0]) for stage in fov.stages) for fov in fovs), default=0.0)
    shared = total / max(1, min(workers, len(fovs) * len(plan.job.blocks)))
    return Prediction(
        workers=workers,
        seconds=measured.around + measured.first + max(shared + alone / 2 * (workers > 1), alone),
        worker_seconds=total + measured.first * workers,
        memory=max(plan.memory, measured.memory),
        size=int(measured.size * plan.job.n_frames * len(fovs)),
        files=plan.files_per_fov * len(fovs) + plan.files_per_cell * math.ceil(measured.cells * len(fovs)),
    )


def write_calibration(output: Path, measured: Calibration) -> None:
    """Store measurements in the output, for later runs."""
    (output / WORK).mkdir(parents=True, exist_ok=True)
    write_bytes(output / CALIBRATION, json.dumps(asdict(measured), indent=1).encode())


def read_calibration(config: Config) -> Calibration | None:
    """Measurements for the output of a resolved config; None without measurements with the same settings."""
    with suppress(OSError, ValueError, TypeError):
        document: dict[str, Any] = json.loads(read_file(config.output / CALIBRATION))
        measured = Calibration(**document)
        if measured.settings == settings_digest(config):
            return measured
    return None

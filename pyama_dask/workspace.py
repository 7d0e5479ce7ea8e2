"""The output directory: checked before a run, held and recorded during it, and kept free of outdated results."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import yaml

from pyama_dask.cells import CELLS
from pyama_dask.config import Config
from pyama_dask.errors import OutputError
from pyama_dask.files import PARTIAL, write_bytes
from pyama_dask.ledger import Ledger
from pyama_dask.plan import FovPlan, Plan
from pyama_dask.readers import Metadata
from pyama_dask.report import PLAN, WORK
from pyama_dask.store import IMAGES, create_images, layout, products
from pyama_dask.tasks import Step, digest

log = logging.getLogger("pyama_dask")


def keep_layout(config: Config) -> Config:
    """Take ``block_frames: auto`` from a run that has written to the output, so that its blocks can be gone on with."""
    recorded = config.output / "processing_config.yaml"
    if config.storage.block_frames != "auto" or not recorded.exists():
        return config
    before = yaml.load(recorded.read_bytes(), Loader=yaml.CSafeLoader)
    if before["params"]["frames"] != config.params.frames:
        return config
    storage = config.storage.model_copy(update={"block_frames": before["storage"]["block_frames"]})
    return config.model_copy(update={"storage": storage})


def check_output(plan: Plan) -> None:
    """Refuse an output directory that cannot be written, or that holds the results of another movie."""
    output = plan.job.output
    exists = next(parent for parent in (output, *output.absolute().parents) if parent.exists())
    if not exists.is_dir():
        raise OutputError(f"{output}: cannot be made, as {exists} is a file; choose another 'output'")
    if not os.access(exists, os.W_OK | os.X_OK):
        raise OutputError(
            f"{output}: {exists} cannot be written to; choose another 'output', or change its permissions"
        )
    recorded = output / PLAN
    if recorded.exists():
        before = json.loads(recorded.read_bytes())
        if before["identity"] != plan.identity:
            raise OutputError(
                f"{output}: holds the results of another movie, {before['input']}, or of this one before it changed; "
                "choose another 'output', or move the old results away"
            )
    elif output.exists() and any(output.glob("fov_*")):
        raise OutputError(f"{output}: holds FOVs that are not recorded in {WORK}; choose an empty 'output'")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold an output directory, so that no second run writes to it.

    Raises
    ------
    OutputError
        If a run that is alive, or on another host, holds it; names it.
    """
    path = output / WORK / "lock"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (holder := _holder(path)) is None:
            path.unlink(missing_ok=True)
        offered = path.with_name(f"lock.{os.getpid()}{PARTIAL}")
        offered.write_text(json.dumps(mine))
        try:
            os.link(offered, path)  # fails where there is one, and is never half written
        finally:
            offered.unlink()
    except FileExistsError as error:
        held = holder or {"host": "this host", "pid": "that has just begun"}
        raise OutputError(
            f"{output}: a run on {held['host']}, process {held['pid']}, is writing to it; wait for it, or stop it. "
            f"If there is no such run, remove {path}"
        ) from error
    except OSError as error:
        raise OutputError(f"{output}: cannot be written to: {error.strerror}; choose another 'output'") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None for nobody, or a process of this host that is gone."""
    try:
        holder: dict[str, Any] = json.loads(path.read_text())
        if holder["host"] != socket.gethostname():
            return holder
        started = psutil.Process(holder["pid"]).create_time()
        if started == holder.get("started", started):  # else the number has gone to another process
            return holder
    except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        pass
    return None


@contextmanager
def logging_to(output: Path) -> Iterator[None]:
    """Write what the package logs to ``.pyama_dask/log.txt``."""
    handler = logging.FileHandler(output / WORK / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


def write_records(plan: Plan, metadata: Metadata) -> dict[int, dict[str, Any]]:
    """Write the resolved config with the movie's metadata, and the plan that a complete output fulfils.

    FOVs of earlier runs that this one leaves alone keep their part of the plan, and the settings it was made with.

    Returns
    -------
    Part of the plan's document of every FOV, by its number.
    """
    output = plan.job.output
    resolved = plan.job.config.model_dump(mode="json")
    written = resolved | {"metadata": describe(metadata, plan)}
    text = yaml.dump(written, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    write_bytes(output / "processing_config.yaml", text.encode())
    path = output / PLAN
    before = json.loads(path.read_bytes()) if path.exists() else {"fovs": [], "settings": {}}
    what = {name: resolved[name] for name in ("channels", "params", "storage")}
    what["params"] = {name: value for name, value in what["params"].items() if name != "fovs"}
    document, current = plan.document(), digest(what)
    mine = {fov["fov"]: fov | {"settings": current} for fov in document["fovs"]}
    fovs = {fov["fov"]: fov for fov in before["fovs"]} | mine
    used = {fov["settings"] for fov in fovs.values()}
    settings = {name: of for name, of in (before["settings"] | {current: what}).items() if name in used}
    document |= {"fovs": [fovs[k] for k in sorted(fovs)], "settings": settings, "current": current}
    write_bytes(path, json.dumps(document).encode())
    for warning in plan.warnings:
        log.warning("%s", warning)
    return mine


def describe(metadata: Metadata, plan: Plan) -> dict[str, Any]:
    """Metadata of a movie as plain values; times stand in the FOVs' own stores."""
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
        "fovs": [
            {"fov": k, **{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(info).items()}}
            for k, info in enumerate(metadata.fovs)
        ],
    }


def prepare(plan: Plan, metadata: Metadata, ledger: Ledger, todo: FovPlan) -> None:
    """Make a FOV ready for its tasks: take back what is to be made anew, remove it, and create the arrays."""
    job, info = plan.job, metadata.fovs[todo.fov]
    specs = layout(job.config, info.shape, job.n_frames, job.block_frames)
    fov = next(fov for fov in plan.fovs if fov.fov == todo.fov)
    outdated = ledger.outdated(fov.fov, fov.tasks)
    for task in todo.tasks:
        outdated.setdefault(task.key, set()).update(task.digests)
    ledger.void(outdated)
    discard(plan, fov, outdated)
    attributes = {
        "fov": fov.fov, "name": info.name, "position_um": info.position_um, "frames": list(job.frames),
        "times_min": fov.times.minutes.tolist(), "time_source": fov.times.source,
        "pixel_size_um": metadata.pixel_size_um,
    }  # fmt: skip
    scale = (fov.times.interval, metadata.pixel_size_um or 1.0)
    create_images(job.fov_dir(fov.fov) / IMAGES, specs, scale=scale, attributes=attributes)


def discard(plan: Plan, fov: FovPlan, outdated: Mapping[str, set[Step]]) -> None:
    """Remove results that are not those of the plan, so that what is there is right."""
    job, images = plan.job, plan.job.fov_dir(fov.fov) / IMAGES
    for task in fov.tasks:
        for step in outdated.get(task.key, ()):
            if task.kind == "gather" and step == "crop":
                shutil.rmtree(job.fov_dir(fov.fov) / CELLS, ignore_errors=True)
            elif task.kind == "gather":
                for traces in job.fov_dir(fov.fov).glob("*_traces.csv"):
                    traces.unlink()
            elif task.block is not None:
                specs = layout(job.config, task.shape, job.n_frames, job.block_frames)
                for spec in products(specs, task.kind, step):
                    spec.shard_file(images, task.block).unlink(missing_ok=True)
    wanted = {spec.group for spec in layout(job.config, (2, 2), job.n_frames, job.block_frames).values()}
    for group in images.glob("*/zarr.json"):
        if group.parent.name not in wanted:
            shutil.rmtree(group.parent)

"""The config that ``pyama-dask init`` writes: every key with its default, and a comment a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyama_dask.config.cluster import QUEUES, Cluster
from pyama_dask.config.messages import named_keys
from pyama_dask.config.method_parameters import method_parameters
from pyama_dask.config.models import Params, Storage
from pyama_dask.config.yaml_text import dump_yaml
from pyama_dask.kernels.background import background
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.kernels.tracking import keep_cells
from pyama_dask.methods.registry import BUILT_IN
from pyama_dask.readers import Metadata

COMMENTS: Mapping[str, str] = {
    "input": "the movie: ND2 or CZI; paths count from this file's folder",
    "output": "directory for the results; made if it is not there",
    "channels": "by index or by name; 'pyama-dask inspect' lists them",
    "channels.pc": "phase contrast: where cells are found",
    "channels.fl": "fluorescence: what is measured in them",
    "params.fovs": "all, or such as 0-5, 7",
    "params.frames": "all, or such as 0-99",
    "params.z": "plane of a movie with z: an index, or max for the maximum over planes",
    "params.copy_only": "true: copy frames and make display levels, nothing else",
    "params.preprocess": "functions on a phase frame before segmentation: module:function or file.py:function",
    "params.segmentation_method": "logstd, or module:function or file.py:function",
    "params.segmentation_params.logstd_window_size": "pixels, odd: window of the local standard deviation",
    "params.segmentation_params.threshold": "valley, or mode: mode of the background + 3 sigma",
    "params.segmentation_params.morph_size": "pixels, odd: diameter of the disk that closes gaps and opens bridges",
    "params.segmentation_params.morph_iterations": "how often the disk is applied; fewer keeps thin cells",
    "params.segmentation_params.min_object_size": "pixels: smaller objects are dropped; null for no limit",
    "params.segmentation_params.max_object_size": "pixels: larger objects are dropped; null for no limit",
    "params.tracking_method": "iou, or module:function or file.py:function",
    "params.tracking_params.min_iou": "0 to 1: least overlap of boxes from frame to frame",
    "params.tracking_params.min_frames": "cells seen in fewer frames are left out of the traces",
    "params.tracking_params.border_margin": "pixels: cells that ever come nearer to the border are left out",
    "params.background_params.tile_size": "pixels: tiles whose medians are the background between cells",
    "params.background_params.dilation": "pixels: cells are widened by this before background is measured",
    "params.background_params.min_fraction": "0 to 1: least free part of a tile that counts",
    "params.background_weight": "0 to 1: how much of the background is subtracted",
    "params.frame_interval": "minutes, without usable time stamps; auto: the file's nominal interval, else 10",
    "params.time_mapping": "{frame: minutes}: for these frames, in place of the file's stamps",
    "params.crop_padding": "pixels around the boxes of cropped cells",
    "storage.codec": "lz4 (fast), zstd (small) or none",
    "storage.background": "full; grid: the tile medians only, from which Python rebuilds it",
    "storage.cells": "directory; zip: one file a FOV; off: no crops",
    "storage.display": "on; off: no half-size levels to look at",
    "storage.block_frames": "frames a task works on; auto follows the memory of workers",
    "cluster.kind": "local: processes here; serial: no Dask; slurm, pbs, lsf, sge, oar, htcondor; runner; address",
    "cluster.workers": "processes; auto is one a core",
    "cluster.memory": "of a worker, or of a queue's job, such as 4GiB; auto divides the machine's",
    "cluster.address": "with kind address, such as tcp://host:8786",
    "cluster.dashboard": "where the Dask dashboard listens",
    "cluster.batch_size": "FOVs in flight; auto is twice the workers",
    "cluster.retries": "how often a failed task is tried again",
    "cluster.lost_workers": "workers that a task may take with it before its FOV is given up",
    "cluster.jobs": "queue: jobs at once; one that dies is replaced",
    "cluster.adaptive": "queue: in place of jobs, {minimum: 0, maximum: 20}: as many as there is to do",
    "cluster.cores": "queue: of a job",
    "cluster.processes": "queue: workers of a job; auto is one a core",
    "cluster.walltime": "queue: of a job, such as '04:00:00'; workers leave before it ends",
    "cluster.queue": "queue: its name (with Slurm, the partition)",
    "cluster.account": "queue: whom to charge",
    "cluster.interface": "queue: network interface of workers and scheduler, such as ib0",
    "cluster.prologue": "queue: lines of a job before its workers, such as [module load python]",
    "cluster.directives": "queue: more directives, such as ['--constraint=ssd']",
    "cluster.local_directory": "queue: scratch on the node, such as /scratch/$USER",
    "cluster.options": "queue: more options of dask-jobqueue, by its own names",
    "cluster.failed_jobs": "queue: jobs in a row that may end before a worker has come",
    "cluster.alarm": "minutes in which nothing moves until an alarm says why",
    "cluster.tls": "queue: on: processes of a run trust and hear each other only",
}
"""What each key means, in one line."""


_ALWAYS = {"kind", "memory", "batch_size", "retries", "lost_workers", "alarm"}
_ALLOCATED = {"dashboard", "interface", "local_directory", "tls"}
_QUEUED = {
    "jobs", "adaptive", "cores", "processes", "walltime", "queue", "account", "prologue", "directives", "options",
    "failed_jobs",
}  # fmt: skip
_USED: Mapping[str, set[str]] = {
    "serial": _ALWAYS,
    "local": _ALWAYS | {"workers", "dashboard"},
    "address": _ALWAYS | {"address"},
    "runner": _ALWAYS | _ALLOCATED,
    **dict.fromkeys(QUEUES, _ALWAYS | _ALLOCATED | _QUEUED),
}
"""Keys of `Cluster` that each kind uses."""


def cluster_keys(kind: str) -> dict[str, Any]:
    """Keys of `Cluster` that a kind uses: defaults, or an example where the kind needs a value.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    needed: dict[str, Any] = {}
    if kind == "address":
        needed = {"address": "tcp://HOST:8786"}
    elif kind == "htcondor":
        needed = {"jobs": 4, "memory": "4GiB", "options": {"disk": "2GiB"}}
    elif kind in QUEUES:
        needed = {"jobs": 4, "memory": "4GiB", "walltime": "04:00:00"}
    with named_keys("config", "cluster", Cluster):
        keys = Cluster.model_validate({"kind": kind} | needed).model_dump(mode="json")
    return {key: value for key, value in keys.items() if key in _USED[kind]}


def config_template(metadata: Metadata, movie: Path, output: Path, cluster: str = "local") -> str:
    """Write a config with every default.

    Parameters
    ----------
    metadata
        Of the movie, from which channels are guessed.
    movie, output
        Paths to put in.
    cluster
        ``cluster.kind``; only keys that it uses are written.

    Returns
    -------
    YAML text.
    """
    params = default_params()
    if metadata.interval_min is not None:
        params["frame_interval"] = metadata.interval_min
    for dotted, value in fitting_params(metadata).items():
        group, _, name = dotted.rpartition(".")
        (params[group] if group else params)[name] = value
    document = {
        "input": str(movie),
        "output": str(output),
        "channels": guess_channels(metadata),
        "params": params,
        "storage": Storage().model_dump(mode="json"),
        "cluster": cluster_keys(cluster),
    }
    return "\n".join(_lines(document, "")) + "\n"


def default_params() -> dict[str, Any]:
    """Every parameter of the built-in methods with its default."""
    segmenter, tracker = BUILT_IN["segmenter"]["logstd"], BUILT_IN["tracker"]["iou"]
    return Params().model_dump(mode="json") | {
        "segmentation_params": method_parameters("params.segmentation_params", {}, segmenter),
        "tracking_params": method_parameters("params.tracking_params", {}, tracker, keep_cells),
        "background_params": method_parameters("params.background_params", {}, background),
    }


def fitting_params(metadata: Metadata) -> dict[str, Any]:
    """Parameters whose defaults this movie could not be processed with, and what to take for them, by dotted key."""
    fitting: dict[str, Any] = {"z": "max"} if metadata.z_planes > 1 else {}
    if default_params()["tracking_params"]["min_frames"] > metadata.n_frames:
        fitting["tracking_params.min_frames"] = max(1, metadata.n_frames // 2)
    return fitting


def notes_on_channels(metadata: Metadata) -> list[str]:
    """What a person should know of the channels that were guessed."""
    pc = guess_channels(metadata)["pc"]
    if pc is None:
        return ["No channel looks like phase contrast: channels.pc is null, and frames would be copied only"]
    channel = metadata.channels[pc["channel"]]
    if channel.kind == "phase":
        return []
    return [f"No channel is known to be phase contrast; {channel.name!r} is taken for it: check channels.pc"]


def guess_channels(metadata: Metadata) -> dict[str, Any]:
    """Take the phase channel by what the file says of it, else the first of unknown kind; then all fluorescence."""
    kinds = [channel.kind for channel in metadata.channels]
    phase = kinds.index("phase") if "phase" in kinds else next((k for k, v in enumerate(kinds) if v == "other"), None)
    fl = [k for k, kind in enumerate(kinds) if k != phase and kind == "fluorescence"]
    pc = None if phase is None else {"channel": phase, "features": list(SHAPE_FEATURES)}
    return {"pc": pc, "fl": [{"channel": k, "features": list(INTENSITY_FEATURES)} for k in fl]}


def _lines(document: Mapping[str, Any], prefix: str, indent: str = "") -> list[str]:
    lines = []
    for key, value in document.items():
        dotted = prefix + key
        comment = f"# {COMMENTS[dotted]}" if dotted in COMMENTS else ""
        if isinstance(value, dict) and value and dotted != "channels.pc":
            lines.append(f"{indent}{key}:".ljust(48 if comment else 0) + comment)
            lines += _lines(value, f"{dotted}.", indent + "  ")
        elif dotted == "channels.fl" and value:
            lines.append(f"{indent}{key}:".ljust(48) + comment)
            lines += [f"{indent}  - {_inline(item)}" for item in value]
        else:
            lines.append(
                f"{indent}{key}: {_inline(value)}".ljust(47) + f" {comment}"
                if comment
                else f"{indent}{key}: {_inline(value)}"
            )
    return [line.rstrip() for line in lines]


def _inline(value: Any) -> str:
    text = dump_yaml(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()

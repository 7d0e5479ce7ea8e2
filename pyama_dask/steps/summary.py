"""Summarise a FOV in numbers, from the tables that its other tasks have left."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.losses import Losses
from pyama_dask.kernels.tracking import judge_tracks, keep_cells
from pyama_dask.methods.tracker_parameters import parameters_of
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.standard import finds_cells
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import DOCUMENT
from pyama_dask.store.summary import AREA_EDGES, QUANTILES, FovSummary, save_summary
from pyama_dask.store.trace_csv import feature_columns


def summarise(context: TaskContext) -> None:
    """Write the summary of the FOV."""
    found = finds_cells(context.job.config)
    frames = context.job.n_frames
    summary = FovSummary(
        frames=np.array(context.job.frames, np.int64),
        times_min=np.array(read_attributes(context.verified(context.images / DOCUMENT).parent)["times_min"]),
        channels=np.array([*([] if context.pc is None else [context.pc]), *context.fl], np.int64),
        **_light(context),
        **(_objects(context) if found else _no_objects(frames)),
        **(_tracks(context) if found else _no_tracks(frames)),
        **(_features(context) if found else _no_features(frames)),
    )
    context.wrote(save_summary(context.work, summary))


def _light(context: TaskContext) -> dict[str, Any]:
    """Sharpness, level and spread of all frames; nan in blocks that an older version has copied."""
    channels = len(context.raw_groups)
    found: dict[str, list[np.ndarray]] = {"sharpness": [], "level": [], "spread": []}
    for block, (start, stop) in enumerate(context.job.blocks):
        file = intermediate.block_file(context.work, "light", block)
        held = intermediate.load(context.verified(file)) if context.has(file) else {}
        for name, parts in found.items():
            unknown = np.full((stop - start,) if name == "sharpness" else (channels, stop - start), np.nan)
            parts.append(held.get(name, unknown))
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def _objects(context: TaskContext) -> dict[str, Any]:
    """Numbers and areas of objects in all frames, and what the segmenter dropped; unknown in blocks as above."""
    counts, areas, covered = list[np.ndarray](), np.zeros(len(AREA_EDGES) - 1, np.int64), list[np.ndarray]()
    dropped: dict[str, list[np.ndarray]] = {"too_small": [], "too_large": [], "lost": []}
    for file in context.block_files("objects"):
        held = intermediate.load(file)
        lengths = held["lengths"]
        counts.append(lengths)
        if "areas" in held:
            areas += np.histogram(held["areas"], AREA_EDGES)[0]
            covered.append(np.array([frame.sum() for frame in intermediate.by_frame(held, "areas")], np.float64))
        else:
            covered.append(np.full(len(lengths), np.nan))
        for name, parts in dropped.items():
            parts.append(held.get(name, np.full(len(lengths), getattr(Losses(), name))))
    return {
        "found": np.concatenate(counts), "areas": areas,
        "foreground": np.concatenate(covered) / np.prod(context.task.shape),
        **{name: np.concatenate(parts) for name, parts in dropped.items()},
    }  # fmt: skip


def _no_objects(frames: int) -> dict[str, Any]:
    unknown = dict.fromkeys(("found", "too_small", "too_large"), np.full(frames, -1))
    return {
        **unknown, **dict.fromkeys(("lost", "foreground"), np.full(frames, np.nan)),
        "areas": np.zeros(len(AREA_EDGES) - 1, np.int64),
    }  # fmt: skip


def _tracks(context: TaskContext) -> dict[str, Any]:
    """Numbers and lengths of tracks, and why they are dropped."""
    ids, boxes = (intermediate.by_frame(context.tracks, name) for name in ("ids", "boxes"))
    rules = parameters_of(context.params.tracking_method, context.params.tracking_params, keep_cells)
    judged = judge_tracks(boxes, ids, context.task.shape, **rules)
    bins = context.job.n_frames + 1
    lengths = np.bincount(judged.frames[judged.frames > 0], minlength=bins)
    return {
        "tracks": int(lengths.sum()), "cells": len(judged.kept), "short": len(judged.short),
        "border": len(judged.border), "lengths": lengths,
        "kept_lengths": np.bincount(judged.frames[judged.kept], minlength=bins),
    }  # fmt: skip


def _no_tracks(frames: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(("tracks", "cells", "short", "border"), 0),
        **dict.fromkeys(("lengths", "kept_lengths"), np.zeros(frames + 1, np.int64)),
    }


def _features(context: TaskContext) -> dict[str, Any]:
    """Kept cells of each frame, and quantiles of their features."""
    columns = feature_columns(context.job.config)
    rows = [intermediate.load(file) for file in context.block_files("rows")]
    frame = np.concatenate([held["frame"] for held in rows])
    frames = context.job.n_frames
    values = (np.concatenate([held[name] for held in rows]) for name in columns)
    quantiles = [quantiles_by_frame(of, frame, frames) for of in values]
    return {
        "kept": np.bincount(frame, minlength=frames), "features": tuple(columns),
        "quantiles": np.array(quantiles).reshape(len(columns), len(QUANTILES), frames),
    }  # fmt: skip


def _no_features(frames: int) -> dict[str, Any]:
    return {"kept": np.full(frames, -1), "features": (), "quantiles": np.zeros((0, len(QUANTILES), frames))}


def quantiles_by_frame(
    values: npt.NDArray[Any], frame: npt.NDArray[np.integer], frames: int
) -> npt.NDArray[np.float64]:
    """`QUANTILES` of the values of each frame, interpolated linearly between ranks.

    Parameters
    ----------
    values
        (N,) numbers; nan counts as missing.
    frame
        (N,) frame of each value, from 0.
    frames
        Number T of frames.

    Returns
    -------
    (5, T); nan in frames without values.
    """
    values = values.astype(np.float64)
    known = ~np.isnan(values)
    order = np.lexsort((values[known], frame[known]))
    ranked = np.append(values[known][order], np.nan)
    counts = np.bincount(frame[known], minlength=frames)
    first = np.cumsum(counts) - counts
    rank = np.array(QUANTILES)[:, None] * np.maximum(counts - 1, 0)
    low = np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(counts - 1, 0))
    below, above = (np.where(counts > 0, ranked[np.minimum(first + of, len(ranked) - 1)], np.nan) for of in (low, high))
    with np.errstate(invalid="ignore"):  # of infinite values
        between = below + (above - below) * (rank - low)
    return np.asarray(np.where((below == above) | (rank == low), below, between))

"""Summary of a FOV: its frames, objects, tracks and features in numbers, for reports that read no images or tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.store import intermediate

FILE = "summary.npz"
"""Name of the file in the FOV's folder of intermediate files."""
AREA_EDGES: npt.NDArray[np.float64] = 2.0 ** (np.arange(97) / 4)
"""(97,) edges in pixels between which areas of objects are counted: four bins per factor of two, from 1 pixel."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of features over the kept cells of a frame."""
COUNTS = ("frames", "found", "kept", "too_small", "too_large")
VALUES = ("times_min", "lost", "foreground", "sharpness")
TOTALS = ("tracks", "cells", "short", "border")
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FovSummary:
    """Summary of a FOV with T frames, C channels and F features.

    Counts that are not known are -1, and other values nan. In a run that finds no cells, all counts of objects are
    unknown.
    """

    frames: Counts
    """(T,) numbers of the frames in the movie."""
    times_min: Values
    """(T,) minutes."""
    found: Counts
    """(T,) objects that the segmenter found."""
    kept: Counts
    """(T,) kept cells in the frame: rows of the table of traces, so also those whose gap is filled there."""
    too_small: Counts
    too_large: Counts
    """(T,) objects that the segmenter dropped as too small and as too large; unknown for some segmenters."""
    lost: Values
    """(T,) fraction of the frame's pixels in objects that were dropped as too large."""
    foreground: Values
    """(T,) fraction of the frame's pixels in objects that were found."""
    sharpness: Values
    """(T,) sharpness of the phase-contrast frame; see `kernels.sharpness`."""
    channels: Counts
    """(C,) numbers of the channels in the movie, phase contrast first."""
    level: Values
    spread: Values
    """(C, T) mean and standard deviation of the grey levels of each channel's frames, as read."""
    tracks: int
    """Number of tracks."""
    cells: int
    """Tracks that are kept."""
    short: int
    """Tracks that are dropped because they are seen in too few frames, but never come close to the border."""
    border: int
    """Tracks that are dropped because they come close to the border."""
    lengths: Counts
    kept_lengths: Counts
    """(T + 1,) number of all tracks, and of the kept ones, that are seen in 0, 1, ... T frames."""
    areas: Counts
    """(len(AREA_EDGES) - 1,) number of found objects of all frames by area; see `AREA_EDGES`. All 0 if unknown."""
    features: tuple[str, ...]
    """(F,) columns of features in the table of traces, such as ``intensity_total_ch_1``."""
    quantiles: Values
    """(F, 5, T) `QUANTILES` of each feature over the kept cells of each frame; nan in frames without any."""


def summary_file(work: Path) -> Path:
    """File with the summary of a FOV, in its folder of intermediate files."""
    return work / FILE


def save_summary(work: Path, summary: FovSummary) -> Path:
    """Write the summary of a FOV; values of one shape share an array, as a report opens hundreds of these files."""
    return intermediate.save(
        summary_file(work),
        counts=np.stack([getattr(summary, name) for name in COUNTS]).astype(np.int64),
        values=np.stack([getattr(summary, name) for name in VALUES]).astype(np.float64),
        light=np.stack([summary.level, summary.spread]),
        totals=np.array([getattr(summary, name) for name in TOTALS], np.int64),
        lengths=np.stack([summary.lengths, summary.kept_lengths]),
        areas=summary.areas,
        channels=summary.channels,
        features=np.array(summary.features, np.str_),
        quantiles=summary.quantiles,
    )


def load_summary(work: Path) -> FovSummary | None:
    """Read the summary of a FOV; None if it is missing, or another version wrote it.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    path = summary_file(work)
    held = intermediate.load(path) if path.exists() else {}
    try:
        return _summary(held)
    except (LookupError, ValueError, TypeError):
        return None


def _summary(held: Mapping[str, np.ndarray]) -> FovSummary:
    return FovSummary(
        **dict(zip(COUNTS, held["counts"], strict=True)),
        **dict(zip(VALUES, held["values"], strict=True)),
        **dict(zip(TOTALS, held["totals"].tolist(), strict=True)),
        **dict(zip(("level", "spread"), held["light"], strict=True)),
        **dict(zip(("lengths", "kept_lengths"), held["lengths"], strict=True)),
        areas=held["areas"],
        channels=held["channels"],
        features=tuple(held["features"].tolist()),
        quantiles=held["quantiles"],
    )

"""Grey levels of a FOV: counted by block, and the range that crops and display levels are scaled to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyama_dask.kernels.histogram import Histogram
from pyama_dask.steps.context import TaskContext
from pyama_dask.store import intermediate
from pyama_dask.store.layout import (
    background_name,
    channel_of,
)


def _save_levels(context: TaskContext, levels: Mapping[str, Histogram]) -> None:
    """Leave the grey levels that a part has counted."""
    what = levels_of(next(iter(levels)))
    context.wrote(intermediate.save_levels(intermediate.block_file(context.work, what, context.block), levels))


def find_windows(context: TaskContext) -> None:
    """Find the 1st and 99th percentile of every product over the whole FOV."""
    groups = list(context.raw_groups)
    if not context.params.copy_only and context.pc is not None:
        groups += [name for ch in context.fl for name in (background_name(ch), f"{CORRECTED}_ch_{ch}")]
    found = {group: intermediate.load_levels(context.block_files(levels_of(group)), group).window() for group in groups}
    file = intermediate.save(context.work / "windows.npz", **{name: np.array(pair) for name, pair in found.items()})
    for step in context.task.digests.keys() & {"crop", "cache"}:  # both need it
        context.begin(step)
        context.wrote(file)


CORRECTED = "corrected"
"""Prefix of the histogram of a fluorescence channel less its background."""


def levels_of(group: str) -> str:
    """Name of the tables with the grey levels of a group; a background's has those of its channel less it, too."""
    return (
        f"levels_background_ch_{channel_of(group)}" if group.startswith(("fl_background", CORRECTED)) else "levels_copy"
    )

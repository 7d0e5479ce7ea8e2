"""Grey levels of a FOV: counted by block, and the range that crops and display levels are scaled to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pyama_dask.kernels.histogram import Histogram
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.standard import finds_cells
from pyama_dask.store import intermediate
from pyama_dask.store.layout import background_name, is_raw_group, raw_name


def corrected_name(channel: int) -> str:
    """Name of a background-corrected fluorescence channel, which has grey levels but no array."""
    return f"corrected_ch_{channel}"


def table_of(group: str) -> str:
    """Name of the tables with the grey levels of a group, by block; raw channels share one."""
    return "levels_copy" if is_raw_group(group) else f"levels_{group.removeprefix('fl_')}"


def write_levels(context: TaskContext, levels: Mapping[str, Histogram]) -> None:
    """Write the grey levels that a part counted in a block."""
    file = intermediate.block_file(context.work, table_of(next(iter(levels))), context.block)
    context.wrote(intermediate.save_levels(file, levels))


def find_display_windows(context: TaskContext) -> None:
    """Find the grey levels between which display levels are scaled, for channels and backgrounds."""
    groups = list(context.raw_groups)
    if finds_cells(context.job.config):
        groups += [background_name(channel) for channel in context.fl]
    _save_windows(context, context.display_windows_file, groups)


def display_windows_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Grey levels between which display levels are scaled: the same for every block."""
    windows = [context.display_windows[group] for group in sorted(context.display_windows)]
    return [windows for _ in context.job.blocks]


def find_crop_windows(context: TaskContext) -> None:
    """Find the grey levels between which crops are scaled, for fluorescence after background subtraction."""
    groups = [raw_name("pc", context.phase), *map(corrected_name, context.fl)]
    _save_windows(context, context.crop_windows_file, groups)


def crop_scaling_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Grey levels between which crops are scaled, and weight of their background: the same for every block."""
    windows = [context.crop_windows[group] for group in sorted(context.crop_windows)]
    return [[*windows, np.array(context.params.background_weight)] for _ in context.job.blocks]


def _save_windows(context: TaskContext, file: Path, groups: Iterable[str]) -> None:
    """Write the 1st and 99th percentile of groups over the whole FOV."""
    windows = {
        group: intermediate.load_levels(context.block_files(table_of(group)), group).window() for group in groups
    }
    context.wrote(intermediate.save(file, **{group: np.array(pair) for group, pair in windows.items()}))

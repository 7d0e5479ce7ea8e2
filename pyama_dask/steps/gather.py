"""The end of a FOV: the traces and the crops of all its blocks, put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pyama_dask.kernels import crops, display
from pyama_dask.steps.context import DISPLAY_FAULTS, Bench
from pyama_dask.steps.cutting import cells_to_cut, crop_scale
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.crops import CellsWriter, cells_path
from pyama_dask.store.layout import DOCUMENT
from pyama_dask.store.trace_csv import feature_columns, traces_file, traces_table, write_traces
from pyama_dask.workflow.task import Job

BATCH_VALUES = 2**23
"""Pixels of crops over time that are read at once."""


def gather(bench: Bench) -> None:
    """Put the blocks' rows and crops together: the traces and ``cells.zarr``."""
    if "crop" in bench.task.digests:
        bench.step = "crop"
        gather_crops(bench)
    if "extract" in bench.task.digests:
        bench.step = "extract"
        gather_traces(bench)


def gather_traces(bench: Bench) -> None:
    """Write the traces of the FOV."""
    rows = [intermediate.load(file) for file in bench.block_files("rows")]
    times = np.array(read_attributes(bench.verified(bench.images / DOCUMENT).parent)["times_min"])
    table = traces_table(rows, bench.task.fov, times, feature_columns(bench.job.config))
    path = traces_file(bench.job.fov_dir(bench.task.fov), bench.job.source, bench.task.fov)
    write_traces(path, table)
    bench.wrote(path)
    bench.note(rows=len(table), cells=int(table["cell"].nunique()))
    if table.empty:
        bench.warn("extract", _why_empty(bench))


def _why_empty(bench: Bench) -> str:
    tracks = int(bench.tracks["count"])
    if not tracks:
        return f"FOV {bench.task.fov}: no cells were found; look at seg_labeled and at segmentation_params"
    given = bench.params.tracking_params
    return (
        f"FOV {bench.task.fov}: none of {tracks} tracks was kept: each was seen in fewer than {given['min_frames']} "
        f"frames (min_frames) or came within {given['border_margin']} px of the border (border_margin)"
    )


def gather_crops(bench: Bench) -> None:
    """Write ``cells.zarr``, one cell at a time."""
    ids, _, valid, sizes = cells_to_cut(bench)
    products: dict[str, crops.Scale | None] = {group: crop_scale(bench, group) for group in bench.raw_groups}
    products["mask"] = None
    path = cells_path(bench.job.config, bench.job.fov_dir(bench.task.fov))
    attributes = {"fov": bench.task.fov, "crop_padding": bench.params.crop_padding}
    with CellsWriter(path) as writer:
        writer.metadata(ids, bench.cells["boxes"], valid, attributes)
        for product, scale in products.items():
            writer.product(product, scale)
            windows = _windows(bench.part_files(product), bench.job, sizes)
            for cell, crop in zip(ids.tolist(), windows, strict=True):
                bench.check()
                writer.crop(product, cell, (crop, *_shown(bench, crop)))
    bench.wrote(path)
    bench.note(cells=len(ids))


def _shown(bench: Bench, crop: np.ndarray) -> list[np.ndarray]:
    """Display level of a crop; none if none is wanted, and none with a warning where making it fails."""
    if bench.job.config.storage.display == "off":
        return []
    try:
        if crop.dtype == np.uint8:
            return [display.show_labels(crop, 1)]
        return [display.show_intensities(crop, 0.0, 1.0)]
    except DISPLAY_FAULTS as error:
        bench.warn("crop", f"FOV {bench.task.fov}: no display level of the crops: {error}")
        return []


def _windows(parts: Sequence[Path], job: Job, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the (T, h, w) windows of one cell after the other from the blocks' parts, read in batches of cells."""
    frames = [stop - start for start, stop in job.blocks]
    areas = sizes.astype(np.int64).prod(1)
    places = areas.cumsum() - areas
    batches = places * job.n_frames // BATCH_VALUES
    for batch in np.unique(batches):
        cells = np.flatnonzero(batches == batch)
        start, area = places[cells[0]], areas[cells].sum()
        held = [
            intermediate.load_part(part, int(n * start), int(n * area)) for n, part in zip(frames, parts, strict=True)
        ]
        for cell in cells:
            ends = (places[cell] - start, places[cell] - start + areas[cell])
            pieces = [values[slice(*(n * end for end in ends))] for n, values in zip(frames, held, strict=True)]
            yield np.concatenate(pieces).reshape(job.n_frames, *sizes[cell])

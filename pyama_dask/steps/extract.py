"""Measure the features of the kept cells, and write the traces of a FOV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyama_dask.config.units import many
from pyama_dask.kernels import features
from pyama_dask.kernels.mosaic import owners
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.objects import looks_at_pixels
from pyama_dask.readers.views.mosaic import mosaic_at
from pyama_dask.steps.background import Rebuilt
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.drift import shifts_of
from pyama_dask.steps.filled import FilledFrames, Objects
from pyama_dask.steps.own_tables import with_own_columns
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import fills_gaps
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import DOCUMENT, raw_name
from pyama_dask.store.trace_csv import (
    feature_column,
    feature_columns,
    place_of,
    trace_columns,
    traces_file,
    write_traces,
)
from pyama_dask.workflow.graph import Step


class Extraction(BlockPart):
    """Features of the kept cells in every frame."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._filled = FilledFrames(context)
        channels = context.job.config.channels
        self._shapes = [Chosen("phase feature", name) for name in (channels.pc.features if channels.pc else ())]
        self._intensities = {
            int(choice.channel): [Chosen("fluorescence feature", name) for name in choice.features]
            for choice in channels.fl
            if choice.features
        }
        filled = ("filled",) if fills_gaps(context.job.config) else ()
        names = ("cell", "frame", "bbox", *feature_columns(context.job.config), *filled)
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def frame(self, k: int) -> None:
        """Measure the kept cells in the batch's frame k."""
        context, frame, objects = self._context, self._context.frames[k], self._filled.objects(k)
        kept = np.isin(objects.ids, context.cells["ids"])
        row = {"cell": objects.ids, "frame": np.full(len(objects.ids), frame), "bbox": objects.boxes}
        row |= self._phase_features(k, objects) | self._fluorescence_features(k, objects)
        row["filled"] = objects.filled
        for name, values in self._columns.items():
            values.append(row[name][kept])

    def _phase_features(self, k: int, objects: Objects) -> dict[str, np.ndarray]:
        """Feature columns of all objects of the batch's frame k in phase contrast."""
        if not self._shapes:
            return {}
        context = self._context
        shapes = features.measure_shapes(objects.labels, objects.boxes)
        if any(looks_at_pixels(method.function) for method in self._shapes):
            raw = context.seen(self.step, raw_name("pc", context.phase))[k]
            shapes = replace(shapes, pixels=features.Pixels(raw, objects.labels, objects.boxes))
        return measured_columns(self._shapes, context.phase, context.at(context.frames[k]), shapes, len(objects.boxes))

    def _fluorescence_features(self, k: int, objects: Objects) -> dict[str, np.ndarray]:
        """Feature columns of all objects of the batch's frame k in fluorescence."""
        context, columns = self._context, dict[str, np.ndarray]()
        for channel, chosen in self._intensities.items():
            raw = context.seen(self.step, raw_name("fl", channel))[k]
            background, weight = context.shared(Rebuilt, channel).plane(k), context.params.background_weight
            intensities = features.measure_intensities(raw, background, weight, objects.labels, objects.boxes)
            pixels = features.Pixels(raw, objects.labels, objects.boxes, background, weight)
            intensities = replace(intensities, pixels=pixels)
            columns |= measured_columns(chosen, channel, context.at(context.frames[k]), intensities, len(objects.boxes))
        return columns

    def end(self) -> None:
        """Write the rows for `gather`."""
        file = intermediate.block_file(self._context.work, "rows", self._context.block)
        rows = {name: np.concatenate(values) for name, values in self._columns.items()}
        self._context.wrote(intermediate.save(file, **rows))


def measured_columns(
    chosen: Sequence[Chosen], channel: int, where: str, measured: features.Shapes | features.Intensities, objects: int
) -> dict[str, np.ndarray]:
    """Columns of some features of one frame.

    Parameters
    ----------
    chosen
        Features to compute.
    channel
        Channel of the column names.
    where
        FOV and frame, for messages.
    measured
        Measurements of the frame's N objects, which the features are computed from.
    objects
        Number N of objects.

    Returns
    -------
    (N,) values by column.

    Raises
    ------
    AlgorithmError, WrongReturnError
        If a feature fails, or does not return one number per object.
    """
    columns = {}
    for method in chosen:
        values = method.array(where, measured)
        if values.shape != (objects,) or values.dtype.kind not in "buif":
            raise method.wrong(where, values, f"one number for each of {objects} objects")
        columns[feature_column(method.name, channel)] = values
    return columns


def write_table(context: TaskContext) -> None:
    """Write the traces of the FOV."""
    rows = [intermediate.load(file) for file in context.block_files("rows")]
    known = read_attributes(context.verified(context.images / DOCUMENT).parent)
    times, place = np.array(known["times_min"]), place_of(known.get("well"), known.get("site"))
    mothers = dict(context.tracks["parents"].tolist()) if "parents" in context.tracks else None
    columns = trace_columns(
        rows, context.task.fov, times, feature_columns(context.job.config), mothers, place, shifts_of(context)
    )
    if "tiles" in known:
        positions = np.stack([columns["position_y"], columns["position_x"]], axis=1)
        columns["tile"] = tile_numbers(known["tiles"], context.task.shape, positions)
    path = traces_file(context.job.fov_dir(context.task.fov), context.job.source, context.task.fov)
    write_traces(path, with_own_columns(context, columns))
    context.wrote(path)
    context.note(rows=len(columns["cell"]), cells=len(np.unique(columns["cell"])))
    if not len(columns["cell"]):
        context.warn(_why_empty(context))


def tile_numbers(tiles: Sequence[Sequence[int]], shape: tuple[int, int], positions: np.ndarray) -> np.ndarray:
    """Find the site of a stitched well that counts most at each position.

    Parameters
    ----------
    tiles
        Site, y and x of the first pixel of all sites.
    shape
        (H, W) of the well in pixels.
    positions
        (N, 2) y, x in pixels.

    Returns
    -------
    (N,) sites; 0 outside of all sites.
    """
    owner = owners(mosaic_at([(y, x) for _, y, x in tiles], shape))
    y, x = np.minimum(positions.astype(int), np.array(shape) - 1).T
    sites = np.array([*(site for site, _, _ in tiles), 0])  # the last one is that of owner -1
    return np.asarray(sites[owner[y, x]])


def _why_empty(context: TaskContext) -> str:
    tracks = int(context.tracks["count"])
    if not tracks:
        fov = context.task.fov
        look = f"Fix: look with 'pyama-dask preview --fov {fov}', and change segmentation_params"
        return f"{context.task.place}: no cells were found. {look}"
    given = context.params.tracking_params
    fewest, margin = many(given["min_frames"], "frame"), given["border_margin"]
    near = f" or came within {margin} px of the border (border_margin)" if margin else ""
    return (
        f"{context.task.place}: none of {many(tracks, 'track')} was kept: each was seen in fewer than {fewest} "
        f"(min_frames){near}"
    )

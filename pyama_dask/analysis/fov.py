"""Results of one FOV: channels, images and tables of pipelines, traces and crops, loaded on demand."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.storage import ZipStore

from pyama_dask.analysis import html
from pyama_dask.analysis.lazy_images import lazy, readable, rebuilt, subtracted
from pyama_dask.analysis.own_results import check_file, read_table, step_of, stored_groups
from pyama_dask.analysis.trace_tables import mothers_of, read_traces_csv
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import OutputError, ResultsWarning
from pyama_dask.files import zarr_thread  # noqa: F401  (it ends with the process)
from pyama_dask.files.atomic import read_file
from pyama_dask.files.html import never_failing
from pyama_dask.runs.own_tables import OwnTable, own_tables
from pyama_dask.runs.status import LEDGER, read_plan, read_status, recorded_traces
from pyama_dask.steps.standard import CROPS, GRAPH, TRACES
from pyama_dask.store.arrays import missing_frames, read_attributes
from pyama_dask.store.crops import CELLS
from pyama_dask.store.layout import AXES, IMAGES, background_name, channel_of, is_group
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Step

FINISH = "finish the run ('pyama-dask status' shows its progress)"
"""Remedy for missing results, in messages."""


@dataclass(frozen=True, repr=False)
class Image:
    """One channel or product of a FOV at one level."""

    name: str
    data: da.Array
    """(T, H, W), one chunk per frame; read only when computed. (T, Z, H, W) for images of pipelines with planes."""
    scale: Mapping[str, float]
    """Step along each axis, in its unit."""
    units: Mapping[str, str]
    """Units of the axes; '' for y and x if the movie is not calibrated."""
    axes: tuple[str, ...] = AXES
    is_labels: bool = False
    """True for labels of cells and objects, which are 0 in the background."""

    def __repr__(self) -> str:
        return f"<Image {self.name}: {html.shape_of(self.data)}>"

    @never_failing
    def _repr_html_(self) -> str:
        return html.image_html(self)


@dataclass(frozen=True, repr=False)
class Cell:
    """Crops of one cell."""

    id: int
    boxes: npt.NDArray[np.int32]
    """(T, 4) half-open boxes (y0, x0, y1, x1) in pixels; 0 in frames without the cell."""
    valid: npt.NDArray[np.bool_]
    """(T,) mask of the frames with the cell."""
    filled: npt.NDArray[np.bool_]
    """(T,) mask of those in which the tracker has filled a gap with a mask from another frame."""
    crops: Mapping[str, da.Array]
    """(T, h, w) arrays by product: channels from 0 to 1, and the ``mask``."""

    def __repr__(self) -> str:
        return f"<Cell {self.id}: {html.presence(self)}, crops {', '.join(self.crops)}>"

    @never_failing
    def _repr_html_(self) -> str:
        return html.cell_html(self)


class Fov:
    """Results of one field of view.

    Parameters
    ----------
    directory
        Folder of the FOV, such as ``output/fov_003``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.index = int(directory.name.removeprefix("fov_"))

    def __repr__(self) -> str:
        own = f"; images {', '.join(self.pipeline_images)}" if self.pipeline_images else ""
        tables = f"; tables {', '.join(self.tables)}" if self.tables else ""
        return f"<Fov {self.index}: {', '.join(self.channels) or 'no channels'}{own}{tables}>"

    @never_failing
    def _repr_html_(self) -> str:
        return html.fov_html(self)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Name, stage position, frame numbers and times of the FOV."""
        with readable(self.directory / IMAGES):
            return read_attributes(self.directory / IMAGES)

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """(T,) minutes since the start of the acquisition."""
        return np.array(self.attributes["times_min"])

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels and products, such as ``pc_ch_0``."""
        images = self.directory / IMAGES
        found = (*images.glob("*/0/zarr.json"), *images.glob("*/tiles/zarr.json"))
        return tuple(sorted({group for path in found if is_group(group := path.parent.parent.name)}))

    def image(self, channel: str, level: int = 0) -> Image:
        """Open one channel or product, or an image of a pipeline.

        Parameters
        ----------
        channel
            One of `channels`, or of `pipeline_images`.
        level
            0 for full resolution, 1 for the display level (half size, 8 bits).

        Raises
        ------
        OutputError
            If there is no such channel or level, or it is damaged.
        """
        if "/" in channel:
            return self._pipeline_image(channel, level)
        group = self.directory / IMAGES / channel
        path, tiles = group / str(level), group / "tiles"
        is_rebuilt = level == 0 and tiles.exists() and not path.exists()
        if channel not in self.channels or not (is_rebuilt or path.exists()):
            raise OutputError(f"{path}: does not exist. Fix: choose one of {', '.join(self.channels)}, at level 0 or 1")
        with readable(group):
            absent = missing_frames(tiles if is_rebuilt else path)
            data, (scale, units) = rebuilt(tiles) if is_rebuilt else lazy(path), self._scale
        if absent:
            self._warn_of_missing(len(absent), channel)
        else:
            role = "display" if level == 1 else "tracks" if channel.startswith("seg_tracked") else None
            parts = (part for part in GRAPH.parts.values() if part.reads_from and role in part.writes)
            self.warn_if_stale(channel, {part.step for part in parts})
        wider = {axis: step * (1 if axis == "t" else 2**level) for axis, step in scale.items()}
        return Image(channel, data, wider, units, is_labels=channel.startswith("seg_"))

    @property
    def pipeline_images(self) -> tuple[str, ...]:
        """Images that steps of pipelines have stored, such as ``prepare/gaussian_1``, for `image`."""
        return tuple(stored_groups(self.directory))

    def _pipeline_image(self, name: str, level: int) -> Image:
        groups = stored_groups(self.directory)
        if name not in groups or level:
            known = ", ".join(groups) or "none here"
            raise OutputError(
                f"{self.directory}: has no image {name} of a pipeline at level {level}. Fix: choose one at level 0: "
                f"{known}; only images that end a pipeline, or have 'checkpoint: true', are stored"
            )
        with readable(groups[name]):
            absent, data = missing_frames(groups[name] / "0"), lazy(groups[name] / "0")
            axes, scale, units = _scale_of(groups[name])
            is_labels = "image-label" in read_attributes(groups[name])["ome"]
        if absent:
            self._warn_of_missing(len(absent), name)
        elif step := step_of(name, self._left):
            self.warn_if_stale(name, {step})
        return Image(name, data, scale, units, axes, is_labels)

    def _warn_of_missing(self, count: int, name: str) -> None:
        said = f"FOV {self.index}: {count} frames of {name} are missing and read as 0. Fix: {FINISH}"
        warnings.warn(said, ResultsWarning, stacklevel=3)

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of the FOV that steps of pipelines have written, such as ``more_spots``, for `table`."""
        return tuple(sorted(of.name for of in self._tables))

    @property
    def _tables(self) -> list[OwnTable]:
        found = own_tables(Ledger(self.directory.parent / LEDGER), self.index)
        return [of for of in found if not of.is_of_well]

    def table(self, name: str) -> pd.DataFrame:
        """Read a table that a step of a pipeline has written.

        Parameters
        ----------
        name
            One of `tables`.

        Raises
        ------
        OutputError
            If there is no such table, or it is damaged.
        """
        found = next((of for of in self._tables if of.name == name), None)
        if found is None:
            known = ", ".join(self.tables) or "none yet"
            raise OutputError(f"{self.directory}: has no table {name}. Fix: choose one of: {known}; or {FINISH}")
        self.warn_if_stale(name, {found.step})
        return read_table(self.directory.parent, found)

    def corrected(self, channel: str) -> Image:
        """Open a fluorescence channel without its background: the values that the traces are measured on.

        Nothing is stored: each frame is computed from the raw pixels and the background when it is read.

        Parameters
        ----------
        channel
            A fluorescence channel, such as ``fl_ch_1``.

        Returns
        -------
        The raw grey levels minus ``background_weight`` times the background, as float64; NaN in frames whose background
        could not be measured.

        Raises
        ------
        OutputError
            If there is no such channel, or no background of it.
        """
        raw = self.image(channel)
        if not channel.startswith("fl_ch_"):
            raise OutputError(f"{self.directory}: {channel} has no background. Fix: choose a channel such as fl_ch_1")
        background, weight = self.image(background_name(channel_of(channel))).data, self._background_weight
        corrected = subtracted(raw.data, background, weight)
        return Image(f"corrected_ch_{channel_of(channel)}", corrected, raw.scale, raw.units)

    @property
    def _background_weight(self) -> float:
        """Share of the background that is subtracted from this FOV: another run may have processed the others."""
        output = self.directory.parent
        try:
            plan = read_plan(output, Ledger(output / LEDGER))
            used = {fov["fov"]: plan["settings"][fov["settings"]] for fov in plan["fovs"]}
            params = used[self.index]["params"]
        except (OutputError, KeyError):
            params = load_yaml(read_file(output / "processing_config.yaml"))["params"]
        return float(params["background_weight"])

    @property
    def _scale(self) -> tuple[dict[str, float], dict[str, str]]:
        """Step along each axis at full resolution, and its unit: the same in all channels."""
        raw = next(name for name in self.channels if name.startswith(("pc_", "fl_ch_")))
        return _scale_of(self.directory / IMAGES / raw)[1:]

    def warn_if_stale(self, what: str, steps: Collection[Step]) -> None:
        """Warn if a killed run has not finished a step whose results are kept until they are compared."""
        if step := next((step for step in steps if step in self._left), None):
            warnings.warn(
                f"FOV {self.index}: {what} may be of other settings, as the last run has not finished {step!r}. "
                f"Fix: {FINISH}",
                ResultsWarning,
                stacklevel=3,
            )

    @cached_property
    def _left(self) -> tuple[str, ...]:
        """Steps of the last run that are not done for this FOV; none if the plan is missing."""
        try:
            states = read_status(self.directory.parent)["fovs"]
        except OutputError:
            return ()
        return next((tuple(state["left"]) for state in states if state["fov"] == self.index), ())

    def traces(self) -> pd.DataFrame:
        """Read the traces, one row per cell and frame."""
        output = self.directory.parent
        table = read_traces(output, Ledger(output / LEDGER), self.index)
        self.warn_if_stale("traces", {GRAPH.parts[TRACES].step})
        return table

    @cached_property
    def parents(self) -> dict[int, int]:
        """Mothers of divided cells, by daughter; a mother that was not kept has no traces."""
        return mothers_of(self.traces())

    @cached_property
    def cells(self) -> tuple[int, ...]:
        """Ids of the kept cells, as in the traces and in ``seg_tracked``."""
        found = tuple(int(cell) for cell in self._cell_metadata("cell_ids"))
        self.warn_if_stale("crops", {GRAPH.parts[CROPS].step})
        return found

    def cell(self, cell: int) -> Cell:
        """Open the crops of one cell.

        Raises
        ------
        OutputError
            If the cell was not kept, or its crops are damaged.
        """
        if cell not in self.cells:
            raise OutputError(f"{self.directory}: has no cell {cell}. Fix: choose one of its {len(self.cells)} cells")
        row = self.cells.index(cell)
        with readable(self.directory):
            products = sorted(zarr.open_group(self._cell_store, mode="r").group_keys())
            names = [name for name in products if name == "mask" or is_group(name)]
            crops = {name: lazy(self._cell_array(f"{name}/{cell}/0")) for name in names}
            valid = self._cell_metadata("valid_frames")[row]
            has_fills = "filled_frames" in zarr.open_group(self._cell_store, path="metadata", mode="r")
            filled = self._cell_metadata("filled_frames")[row] if has_fills else np.zeros_like(valid)
            return Cell(cell, self._cell_metadata("bboxes")[row], valid, filled, crops)

    @property
    def _cell_store(self) -> Path | ZipStore:
        found = next((path for name in CELLS.values() if (path := self.directory / name).exists()), None)
        if found is None:
            raise OutputError(
                f"{self.directory}: has no crops of cells. Fix: {FINISH}, or turn on storage.cells and run again"
            )
        return ZipStore(found, read_only=True) if found.suffix == ".zip" else found

    def _cell_array(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(self._cell_store, path=name, mode="r")

    def _cell_metadata(self, name: str) -> np.ndarray:
        with readable(self.directory):
            return np.asarray(self._cell_array(f"metadata/{name}")[:])


def _scale_of(group: Path) -> tuple[tuple[str, ...], dict[str, float], dict[str, str]]:
    """Axes of a group's array at full resolution, the step along each of them, and its unit."""
    multiscale = read_attributes(group)["ome"]["multiscales"][0]
    steps = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    axes = tuple(str(axis["name"]) for axis in multiscale["axes"])
    units = {axis["name"]: axis["unit"] for axis in multiscale["axes"] if "unit" in axis}
    return axes, dict(zip(axes, steps, strict=True)), units


def read_traces(output: Path, ledger: Ledger, fov: int) -> pd.DataFrame:
    """Read the recorded traces of a FOV, and warn if the file has changed since."""
    recorded = recorded_traces(ledger, fov)
    if recorded is None:
        raise OutputError(f"{output}: FOV {fov} has no traces. Fix: {FINISH}")
    check_file(output, *recorded)
    return read_traces_csv(output / recorded[0])

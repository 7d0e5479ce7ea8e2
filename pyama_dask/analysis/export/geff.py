"""GEFF, the Graph Exchange File Format: one node per row of the traces, edges to each cell's next row and daughters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from geff_spec import Axis, DisplayHint, GeffMetadata, PropMetadata

from pyama_dask.analysis.tables import FEATURE
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.analysis.trace_tables import frame_numbers, mothers_of
from pyama_dask.files import zarr_thread  # noqa: F401  (it ends with the process)
from pyama_dask.store.trace_csv import TRACK_COLUMNS
from pyama_dask.workflow.task import fov_name

if TYPE_CHECKING:
    import pandas as pd

_AXES = ("t", "y", "x")
_CORNERS = ("bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1")


def write_fov(sources: Sources, fov: int, table: pd.DataFrame, folder: Path) -> str | None:
    """Write the tracks of a FOV as a group such as ``fov_003.geff``.

    Parameters
    ----------
    sources, fov, table, folder
        As for `ctc.write_fov`.

    Returns
    -------
    Reason why the FOV cannot be written; None if it was.
    """
    table = table.assign(frame=frame_numbers(table)).sort_values(["cell", "frame"], ignore_index=True)
    centres = _centres(table)
    if centres is None:
        return "its traces have neither positions nor boxes"
    pixel = sources.pixel_size(fov)
    y, x = centres * (pixel or 1.0)
    props: dict[str, npt.NDArray[Any]] = {"t": table["time"].to_numpy(float), "y": y, "x": x}
    known = ("cell", "frame", "good", *_CORNERS, *TRACK_COLUMNS, "tile")
    others = [name for name in table if name in known or FEATURE.fullmatch(str(name))]
    props |= {str(name): table[name].to_numpy() for name in others}
    cell = table["cell"].to_numpy(np.int64)
    mothers = mothers_of(table)
    if "parent" in table:
        props["lineage"] = _lineages(cell, mothers)
    edges = _edges(cell, mothers)
    metadata = _metadata(props, "pixel" if pixel is None else "micrometer", sources.place(fov))
    _write_graph(folder / f"{fov_name(fov)}.geff", props, edges, metadata)
    return None


def _edges(cell: npt.NDArray[np.int64], mothers: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """(E, 2) pairs of rows: each row and the next one of its cell, and a mother's last row and a daughter's first.

    Parameters
    ----------
    cell
        (N,) cell of every row, sorted.
    mothers
        Mothers of divided cells, by daughter.
    """
    follows = np.flatnonzero(np.diff(cell) == 0)
    cells, first, counts = np.unique(cell, return_index=True, return_counts=True)
    ends = dict(zip(cells.tolist(), (first + counts - 1).tolist(), strict=True))
    starts = dict(zip(cells.tolist(), first.tolist(), strict=True))
    born = [(ends[mother], starts[daughter]) for daughter, mother in sorted(mothers.items()) if mother in ends]
    return np.concatenate([np.stack([follows, follows + 1], axis=1), np.array(born, np.int64).reshape(-1, 2)])


def _lineages(cell: npt.NDArray[np.int64], mothers: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """(N,) first ancestor with rows of each row's cell, or the cell itself."""
    cells = set(cell.tolist())
    first = {}
    for one in cells:
        at = one
        while mothers.get(at, 0) in cells:
            at = mothers[at]
        first[one] = at
    return np.array([first[one] for one in cell.tolist()], np.int64)


def _centres(table: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """(2, N) y and x of the rows in pixels: recorded positions, else the centres of the boxes."""
    if {"position_x", "position_y"} <= set(table):
        return table[["position_y", "position_x"]].to_numpy(float).T
    if not set(_CORNERS) <= set(table):
        return None
    x0, y0, x1, y1 = table[list(_CORNERS)].to_numpy(float).T
    return np.stack([y0 + y1, x0 + x1]) / 2


def _write_graph(
    path: Path, props: dict[str, npt.NDArray[Any]], edges: npt.NDArray[np.int64], metadata: GeffMetadata
) -> None:
    """Write nodes with properties, and directed edges between them by index."""
    group = zarr.create_group(path, zarr_format=2)  # the format that all readers of GEFF support
    count = len(props["t"])
    for name, data in (
        ("nodes/ids", np.arange(count, dtype=np.uint64)),
        ("edges/ids", edges.astype(np.uint64)),
        *((f"nodes/props/{name}/values", values) for name, values in props.items()),
    ):
        group.create_array(name, data=data, chunks=tuple(max(1, n) for n in data.shape))
    group.require_group("edges/props")
    group.attrs["geff"] = metadata.model_dump(mode="json")


def _metadata(props: dict[str, npt.NDArray[Any]], space_unit: str, place: dict[str, Any]) -> GeffMetadata:
    """Metadata of a graph: its axes with units, its properties, and the well and site of its FOV."""
    units = {"t": "minute", "y": space_unit, "x": space_unit} | dict.fromkeys(_CORNERS, "pixel")
    known = {
        name: PropMetadata(identifier=name, dtype=values.dtype.name, unit=units.get(name))
        for name, values in props.items()
    }
    return GeffMetadata(
        directed=True,
        axes=[_axis(name, props[name], units[name]) for name in _AXES],
        node_props_metadata=known,
        edge_props_metadata={},
        track_node_props={"tracklet": "cell", "lineage": "lineage" if "lineage" in props else "cell"},
        display_hints=DisplayHint(display_horizontal="x", display_vertical="y", display_time="t"),
        extra=place,
    )


def _axis(name: str, values: npt.NDArray[np.float64], unit: str) -> Axis:
    known = values[np.isfinite(values)]
    extent = {"min": float(known.min()), "max": float(known.max())} if len(known) else {}
    return Axis(name=name, type="time" if name == "t" else "space", unit=unit, **extent)

"""Cells of a FOV for napari: one row of features each, colours by rank, and divisions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.overrides import load_overrides
from pyama_dask.errors import OutputError
from pyama_dask.files.palette import PALE, cell_colours, rgb
from pyama_dask.store.trace_csv import PLACE_COLUMNS, TRACK_COLUMNS

OTHERS = ("fov", "cell", "frame", "time", "good", "position_x", "position_y", *TRACK_COLUMNS, *PLACE_COLUMNS)
"""Columns of traces that are not features, besides those of boxes."""


@dataclass(frozen=True)
class Cells:
    """Kept cells of a FOV.

    Parameters
    ----------
    traces
        One row per cell and frame, sorted by both, with overrides applied.
    """

    traces: pd.DataFrame

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """(N,) sorted ids."""
        return np.unique(self.traces["cell"].to_numpy(np.int64))

    @cached_property
    def good(self) -> npt.NDArray[np.bool_]:
        """(N,) mask of the cells with a good row."""
        return self.traces.groupby("cell")["good"].any().to_numpy(bool)

    @cached_property
    def features(self) -> list[str]:
        """Feature columns of the traces."""
        names = map(str, self.traces.columns)
        return [name for name in names if name not in OTHERS and not name.startswith("bbox_")]

    @cached_property
    def colours(self) -> npt.NDArray[np.float64]:
        """(N, 4) colours from 0 to 1 by rank; cells without a good row are grey."""
        hues = [
            rgb(hue if is_good else PALE) for hue, is_good in zip(cell_colours(len(self.ids)), self.good, strict=True)
        ]
        return np.column_stack([np.array(hues, float).reshape(-1, 3) / 255, np.ones(len(hues))])

    def label_colours(self) -> dict[int | None, npt.NDArray[np.float64]]:
        """Colours of labels by id; dropped objects are clear."""
        clear = np.zeros(4)
        return {None: clear, 0: clear} | dict(zip(self.ids.tolist(), self.colours, strict=True))

    def table(self) -> pd.DataFrame:
        """One row per cell: its id as ``index``, its frames, and the median of each feature."""
        by_cell = self.traces.groupby("cell")
        found = {"index": self.ids, "good": self.good}
        found |= {name: by_cell["frame"].agg(how).to_numpy() for name, how in (("first", "min"), ("last", "max"))}
        found["frames"] = by_cell["frame"].size().to_numpy()
        found |= {f"median {name}": by_cell[name].median().to_numpy() for name in self.features}
        if self.parents:
            found["parent"] = np.array([self.parents.get(cell, 0) for cell in self.ids.tolist()])
        return pd.DataFrame(found)

    @cached_property
    def parents(self) -> dict[int, int]:
        """Mothers of divided cells, by daughter; also mothers that were not kept."""
        if "parent" not in self.traces:
            return {}
        first = self.traces.groupby("cell")["parent"].first()
        return {int(cell): int(mother) for cell, mother in first[first > 0].items()}  # type: ignore[call-overload]

    def graph(self) -> dict[int, list[int]]:
        """Kept mothers by daughter, as napari draws divisions."""
        return {cell: [mother] for cell, mother in self.parents.items() if mother in self.ids}

    def points(self) -> npt.NDArray[np.float64]:
        """(rows, 4) cell, frame, y and x in pixels of every row."""
        return self.traces[["cell", "frame", "position_y", "position_x"]].to_numpy(np.float64)

    def ranks(self) -> npt.NDArray[np.float64]:
        """(rows,) rank of the cell of every row, from 0 to 1."""
        rank = np.searchsorted(self.ids, self.traces["cell"].to_numpy())
        return np.asarray(rank / max(len(self.ids) - 1, 1))

    def track_features(self) -> dict[str, Any]:
        """Features of every row, and its rank, by which napari colours the tracks."""
        return {"rank": self.ranks()} | {name: self.traces[name].to_numpy() for name in self.features}


def cells_of(fov: Fov) -> Cells | None:
    """Kept cells of a FOV, with the overrides of its output; None if there are no traces yet, or no cells."""
    try:
        traces = fov.traces()
    except OutputError:
        return None
    applied = load_overrides(fov.directory.parent).apply(traces, fov.index)
    return Cells(applied.table.sort_values(["cell", "frame"], ignore_index=True)) if len(traces) else None

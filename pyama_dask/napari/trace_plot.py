"""Trace of one cell in a small plot, in the colours of napari's dark theme."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure

from pyama_dask.napari.cells import Cells

PAPER, INK = "#262930", "#F0F1F2"
"""Background and text of napari's dark theme."""


class TracePlot(FigureCanvasQTAgg):
    """Canvas with the trace of a cell, and the frame that is shown."""

    def __init__(self) -> None:
        super().__init__(Figure(figsize=(3.4, 2.4), layout="constrained", facecolor=PAPER))
        self.setMinimumHeight(200)
        self.axes = self.figure.add_subplot()
        self.now: Any = None
        self.draw_trace(None, None, "", None)

    def draw_trace(self, cells: Cells | None, cell: int | None, feature: str, colour: Any) -> None:
        """Plot a feature of a cell over time, with other cells behind it.

        Parameters
        ----------
        cells
            Cells of the FOV; None if it has no traces.
        cell
            The cell; None for all cells alike.
        feature
            Column of the traces.
        colour
            (4,) colour of the cell.
        """
        axes = self.axes
        axes.clear()
        self.now = None
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=INK, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(INK)
        if cells is not None and feature in cells.traces:
            hours, values, ids = cells.traces["time"] / 60, cells.traces[feature], cells.traces["cell"]
            axes.plot(*_apart(hours, values, ids), color=INK, alpha=0.4, linewidth=0.6)
            if cell is not None:
                axes.plot(hours[ids == cell], values[ids == cell], color=colour, linewidth=1.8)
            axes.set_xlabel("time in h", color=INK, fontsize=8)
            axes.set_ylabel(feature, color=INK, fontsize=8)
            self.now = axes.axvline(np.nan, color=INK, linestyle=":", linewidth=1)
        self.draw_idle()

    def mark_frame(self, cells: Cells | None, frame: int) -> None:
        """Draw a line at the time of a frame."""
        if self.now is None or cells is None:
            return
        times = cells.traces.loc[cells.traces["frame"] == frame, "time"]
        self.now.set_xdata([float(times.iloc[0]) / 60 if len(times) else np.nan] * 2)
        self.draw_idle()


def _apart(x: pd.Series, y: pd.Series, ids: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Points of all cells as one line, with gaps between the cells."""
    ends = np.flatnonzero(np.diff(ids.to_numpy())) + 1
    return np.insert(x.to_numpy(float), ends, np.nan), np.insert(y.to_numpy(float), ends, np.nan)

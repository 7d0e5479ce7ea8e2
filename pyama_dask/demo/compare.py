"""Comparison of measured traces with the truth of the demo movie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

CELL = ["fov", "cell"]


@dataclass(frozen=True)
class Comparison:
    """Agreement of traces with the truth; prints as two lines."""

    cells_expected: int
    """Number of true cells whose box stays off the border margin in all frames."""
    cells_found: int
    """Number of expected cells that have one trace over all frames."""
    missed: tuple[tuple[int, int], ...]
    """(FOV, true cell) of the other expected cells."""
    n_frames: int
    """Number of frames that a trace must have."""
    correlation: float
    """Median over found cells of the correlation between measured and true total fluorescence."""
    relative_error: float
    """Median over found cells and frames of the relative error of the total fluorescence."""

    @property
    def fraction(self) -> float:
        """Fraction of the expected cells that are found; NaN without expected cells."""
        return self.cells_found / self.cells_expected if self.cells_expected else float("nan")

    def __str__(self) -> str:
        share = f" ({self.fraction:.1%})" if self.cells_expected else ""
        found = f"{self.cells_found} of {self.cells_expected} true cells found{share}"
        return (
            f"{found}, each with one trace over all {self.n_frames} frames.\n"
            f"Total fluorescence: median correlation with the truth {self.correlation:.5f}, "
            f"median relative error {self.relative_error:.1%}."
        )


def compare(
    truth: pd.DataFrame,
    traces: pd.DataFrame,
    *,
    n_frames: int,
    shape: tuple[int, int],
    border_margin: int,
) -> Comparison:
    """Compare traces with the true cells that are expected to have one.

    In every frame, a true cell matches the trace whose box has its centre within the true box; if there are
    several, the nearest one.

    Parameters
    ----------
    truth : DataFrame
        Truth as `make_movie` writes it, for the processed FOVs.
    traces : DataFrame
        Traces of all these FOVs, with their boxes in pixels; may be empty.
    n_frames : int
        Number of processed frames, counted from the first.
    shape : (height, width)
        Pixels of a frame.
    border_margin : int
        Margin in pixels; a cell whose true box ever enters it is not expected.
    """
    expected = _expected(truth, n_frames, shape, border_margin)
    seen = _match(expected, traces)
    found = _found(seen, n_frames)
    cells = _names(expected[CELL].drop_duplicates())
    correlations, errors = _agreement(seen, found)
    return Comparison(
        cells_expected=len(cells),
        cells_found=len(found),
        missed=tuple(sorted(set(cells) - set(found))),
        n_frames=n_frames,
        correlation=_median(correlations),
        relative_error=_median(errors),
    )


def _expected(truth: pd.DataFrame, n_frames: int, shape: tuple[int, int], margin: int) -> pd.DataFrame:
    """Rows of cells that stay off the margin in all frames."""
    truth = truth[truth["frame"] < n_frames]
    off = (
        (truth["bbox_x0"] >= margin)
        & (truth["bbox_y0"] >= margin)
        & (truth["bbox_x1"] <= shape[1] - margin)
        & (truth["bbox_y1"] <= shape[0] - margin)
    )
    return truth[off.groupby([truth["fov"], truth["cell"]]).transform("all")]


def _match(expected: pd.DataFrame, traces: pd.DataFrame) -> pd.DataFrame:
    """One row per true cell and frame with a matching trace; measured columns end in ``_seen``."""
    if traces.empty:
        return expected.iloc[:0].assign(cell_seen=0)
    pairs = expected.merge(traces, on=["fov", "frame"], suffixes=("", "_seen"))
    y = (pairs["bbox_y0_seen"] + pairs["bbox_y1_seen"]) / 2
    x = (pairs["bbox_x0_seen"] + pairs["bbox_x1_seen"]) / 2
    within = y.between(pairs["bbox_y0"], pairs["bbox_y1"]) & x.between(pairs["bbox_x0"], pairs["bbox_x1"])
    pairs = pairs.assign(distance=np.hypot(y - pairs["y"], x - pairs["x"]))[within]
    return pairs.sort_values("distance").drop_duplicates([*CELL, "frame"])


def _found(seen: pd.DataFrame, n_frames: int) -> list[tuple[int, int]]:
    """(FOV, cell) of the true cells that one trace matches in all frames."""
    tracks = seen.groupby(CELL)["cell_seen"].agg(["size", "nunique"])
    tracks = tracks[(tracks["size"] == n_frames) & (tracks["nunique"] == 1)]
    return _names(tracks.reset_index()[CELL])


def _names(cells: pd.DataFrame) -> list[tuple[int, int]]:
    return [(int(fov), int(cell)) for fov, cell in cells.to_numpy()]


def _agreement(seen: pd.DataFrame, found: list[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Correlation per found cell and channel, and relative error per frame."""
    totals = [c for c in seen.columns if c.startswith("intensity_total_ch_") and f"{c}_seen" in seen.columns]
    correlations: list[float] = []
    errors: list[float] = []
    by_cell = seen.groupby(CELL)
    for name in found:
        cell = by_cell.get_group(name)
        for column in totals:
            true, measured = (cell[c].to_numpy(float) for c in (column, f"{column}_seen"))
            correlations.append(_correlation(true, measured))
            lit = true > 0
            errors.extend(np.abs(measured[lit] / true[lit] - 1).tolist())
    return correlations, errors


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Pearson's correlation; NaN if either input is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _median(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.median(known)) if known else float("nan")

"""Cells to look at before their traces are used, for the report: the flags of `analysis.quality`, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyama_dask.analysis.quality import FLAGS, Thresholds, cell_quality
from pyama_dask.analysis.trace_tables import read_traces_csv
from pyama_dask.config.units import many
from pyama_dask.errors import PyamaError
from pyama_dask.report.facts import FovFacts, RunFacts
from pyama_dask.report.thumbnails import frame_shape

MOST_ROWS = 250_000
"""Rows of traces that are read for a report; more take longer than a report may."""
SHOWN = 20
"""Cells that are listed."""


@dataclass(frozen=True)
class Flagged:
    """Flagged cells of a run, or of its worst FOVs."""

    rows: tuple[Mapping[str, Any], ...]
    """``fov``, ``cell``, ``frames`` and ``why`` of the worst cells, at most `SHOWN`."""
    cells: int
    """Number of flagged cells."""
    checked: int
    """Number of cells that were checked."""
    fovs: int
    """Number of FOVs that were checked."""
    of: int
    """Number of FOVs with traces."""
    counts: Mapping[str, int]
    """Number of cells by flag; a cell may have several."""


def flagged_cells(run: RunFacts, fovs: Sequence[FovFacts]) -> Flagged | None:
    """Find cells to inspect in some FOVs, until `MOST_ROWS` rows are read; None if no traces can be read."""
    with_traces = [(fov, fov.table) for fov in fovs if fov.report.cells and fov.table]
    if not with_traces:
        return None
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    found, rows = list[pd.DataFrame](), 0
    try:
        for fov, table in with_traces:
            rows += fov.report.rows or 0
            if found and rows > MOST_ROWS:
                break
            shape = frame_shape(run, fov.number)
            found.append(cell_quality(read_traces_csv(run.output / table), shape[1:] if shape else None, Thresholds()))
    except (PyamaError, OSError, LookupError):
        return None
    every = pd.concat(found, ignore_index=True)
    flagged = every[every["flagged"]]
    worst = (
        flagged.assign(flags=flagged[list(FLAGS)].sum(axis="columns"))
        .sort_values(["flags", "fov", "cell"], ascending=[False, True, True])
        .head(SHOWN)
    )
    labels = {fov.number: fov.label for fov in fovs}
    listed = tuple(
        {"fov": labels[row["fov"]], "cell": row["cell"], "frames": row["frames"], "why": _why(row)}
        for row in worst.to_dict("records")
    )
    counts = {flag: int(flagged[flag].sum()) for flag in FLAGS}
    return Flagged(listed, len(flagged), len(every), len(found), len(with_traces), counts)


def _why(row: Mapping[Any, Any]) -> str:
    """Flags of a cell, with the values behind them."""
    words = {
        "short": "seen in too few frames", "gap": f"{many(row['missing'], 'frame')} missing",
        "jump": f"area changes by {row['largest_jump']:.0%} between frames",
        "border": f"touches the border in {many(row['border_frames'], 'frame')}",
        "merging": f"overlaps another cell in {many(row['merging_frames'], 'frame')}",
    }  # fmt: skip
    return "; ".join(words[flag] for flag in FLAGS if row[flag])

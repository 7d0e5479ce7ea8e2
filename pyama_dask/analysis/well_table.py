"""One row per well: sites, cells, and the middle of each feature over the cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.outputs import MOVIE, Fovs, Outputs
from pyama_dask.analysis.trace_sources import Sources

if TYPE_CHECKING:
    import pandas as pd

WELLS = "all_samples_wells.csv"
"""Name of the file."""


def cell_means(table: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """Reduce the traces of a FOV to one row per cell.

    Parameters
    ----------
    table
        Traces.
    features
        Columns of features.

    Returns
    -------
    Table by cell with ``good``, and for each feature ``{feature}_mean``, its mean over the good rows, and
    ``{feature}_last``, its last good value; NaN for cells without good rows.
    """
    cells = table.groupby("cell")[["good"]].any()
    by_cell = table[table["good"]].sort_values("time", kind="stable").groupby("cell")[list(features)]
    return cells.join(by_cell.mean().add_suffix("_mean")).join(by_cell.last().add_suffix("_last"))


def well_rows(
    outputs: Outputs,
    wanted: Mapping[str, Fovs],
    cells: Mapping[tuple[str, str, int], pd.DataFrame],
    conditions: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Make the table of wells; empty without wells.

    Parameters
    ----------
    outputs
        Sources of the traces.
    wanted
        FOVs of every sample.
    cells
        Results of `cell_means` by sample, movie and FOV, without FOVs that are left out.
    conditions
        Columns of a plate map by well.

    Returns
    -------
    One row per sample and well, see docs/plates.md: ``sample``, ``movie`` of several outputs, ``well``, the conditions,
    ``sites``, ``sites_left_out``, ``cells``, ``good_cells``; and for each feature ``{feature}_median`` and
    ``{feature}_sd``, the median and the standard deviation over the good cells of their means over time, and
    ``{feature}_last``, the median of their last values.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    rows = []
    for sample, fovs in wanted.items():
        for sources, of_movie in outputs.of(fovs):
            movie = sources.movie
            for well, of in _by_well(sources, of_movie).items():
                there = [cells[sample, movie, fov] for fov in of if (sample, movie, fov) in cells]
                place = ({MOVIE: movie} if movie else {}) | {"well": well}
                counts = {"sites": len(there), "sites_left_out": len(of) - len(there)}
                rows.append({"sample": sample, **place, **conditions.get(well, {})} | counts | _over_cells(there))
    return pd.DataFrame(rows)


def _by_well(sources: Sources, fovs: Iterable[int]) -> dict[str, list[int]]:
    """FOVs of each well, in the order of wells in the output."""
    found: dict[str, list[int]] = {}
    for fov in fovs:
        well = sources.place(fov).get("well") if fov in sources.fovs else None
        if well is not None:
            found.setdefault(well, []).append(fov)
    return found


def _over_cells(tables: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Numbers of cells, and the middle of each feature over the good ones."""
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    cells = pd.concat(tables) if tables else pd.DataFrame({"good": []}, dtype=bool)
    good = cells[cells["good"].astype(bool)]
    found: dict[str, Any] = {"cells": len(cells), "good_cells": len(good)}
    for name in (str(column).removesuffix("_mean") for column in good if str(column).endswith("_mean")):
        found[f"{name}_median"] = good[f"{name}_mean"].median()
        found[f"{name}_sd"] = good[f"{name}_mean"].std()
        found[f"{name}_last"] = good[f"{name}_last"].median()
    return found

"""Wide CSV: one file per FOV and feature, times down and cells across, with good rows only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyama_dask.analysis.tables import TIDY, as_wide, write_wide_csv
from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.workflow.task import fov_name

if TYPE_CHECKING:
    import pandas as pd


def write_fov(sources: Sources, fov: int, table: pd.DataFrame, folder: Path) -> None:
    """Write one file per feature of the FOV, such as ``fov_003_intensity_total_ch_1.csv``.

    Parameters
    ----------
    sources, fov, table, folder
        As for `ctc.write_fov`.
    """
    good = table[table["good"]]
    for column in sources.fovs[fov].features:
        values = good[[*TIDY[:3], column]].set_axis(TIDY, axis="columns")
        write_wide_csv(folder / f"{fov_name(fov)}_{column}.csv", as_wide(values))

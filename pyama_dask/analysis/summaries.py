"""Summaries of FOVs, which a run writes with their traces: what reports draw without reading images or tables."""

from __future__ import annotations

from pathlib import Path

from pyama_dask.errors import OutputError, StoreError
from pyama_dask.store.summary import AREA_EDGES, QUANTILES, FovSummary, load_summary
from pyama_dask.workflow.task import WORK, fov_name

__all__ = ["AREA_EDGES", "QUANTILES", "FovSummary", "read_summary"]


def read_summary(output: str | Path, fov: int) -> FovSummary | None:
    """Read the summary of a FOV in the output of a run.

    Parameters
    ----------
    output
        Output directory of a run.
    fov
        Number of the FOV.

    Returns
    -------
    The summary; None if the FOV has none: it is not done, or an older version processed it.

    Raises
    ------
    OutputError
        If its file is damaged or cannot be read.
    """
    try:
        return load_summary(Path(output) / WORK / fov_name(fov))
    except StoreError as error:
        raise OutputError(str(error)) from error
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be read: {error.strerror}. Fix: check its permissions") from error

"""Names of the older program that have no equivalent here, and the words that say so."""

from __future__ import annotations

from collections.abc import Mapping

_GUI = "is part of the windows. Fix: use pyama_dask.start, which runs in the background"
_FITS = "is part of the windows. Fix: use fit_trace_data, or pyama_dask.fit_traces for many tables"
_INNER = "is an inner function"
ABSENT: Mapping[str, str] = {
    "WorkerHandle": _GUI,
    "start_worker": _GUI,
    "_AnalysisWorker": _FITS,
    "FittingRequest": _FITS,
    "start_fitting": _FITS,
    "_merge_contexts": f"{_INNER}. Fix: leave it out; a run fills in results_paths",
    "_split_worker_ranges": f"{_INNER}. Fix: split the range yourself, or use run_complete_workflow",
    "cleanup_partial_results": f"{_INNER}. Fix: leave it out; partial results are recorded, and the next run goes on",
    "generate_half_resolution": f"{_INNER}. Fix: use CachingService",
}
"""Reason, with what to use instead, by name."""


def check_absent(name: str) -> None:
    """Refuse to import a name that has no equivalent.

    Raises
    ------
    ImportError
        If it is one; the message names what to use instead.
    """
    if name in ABSENT:
        raise ImportError(f"pyama_dask.api has no {name}, which in PyAMA {ABSENT[name]}")

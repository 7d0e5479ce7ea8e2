"""Merging of traces, and the YAML files of outputs, by the names of scripts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pyama_dask.analysis.merge import merge_samples
from pyama_dask.analysis.pyama_files import ProcessingResults, read_processing_results
from pyama_dask.analysis.samples import load_samples
from pyama_dask.config.units import many
from pyama_dask.errors import ConfigError

log = logging.getLogger("pyama_dask")


def run_merge(
    sample_yaml: str | Path,
    processing_results: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    processing_results_yaml: str | Path | None = None,
) -> str:
    """Merge the traces of an output by sample; see `pyama_dask.merge_samples`.

    Parameters
    ----------
    sample_yaml
        Samples with their FOVs.
    processing_results, processing_results_yaml
        ``processing_results.yaml`` of an output, or its folder; give one of them.
    output_dir
        Folder for the merged tables; by default ``merged`` in the output.

    Returns
    -------
    Message with the number of tables.

    Raises
    ------
    ConfigError, OutputError, TableError
        As for `pyama_dask.merge_samples`.
    """
    results = processing_results if processing_results is not None else processing_results_yaml
    if results is None:
        raise ConfigError("processing_results: is missing. Fix: give the processing_results.yaml of an output")
    path = Path(results)
    if not path.is_dir():
        read_processing_results(path)  # refused here if it is not there, or damaged
        path = path.parent
    report = merge_samples(path, sample_yaml, output_dir)
    for warning in report.warnings:
        log.warning("%s", warning)
    return f"Merge completed. Created {many(len(report.files), 'file')} in {report.table.parent}"


def read_samples_yaml(path: str | Path) -> dict[str, Any]:
    """Read ``samples.yaml``: ``{"samples": [{"name": ..., "fovs": ...}, ...]}``, whatever form the file has.

    Raises
    ------
    ConfigError
        If the file is unreadable, or a key or value is invalid.
    """
    return load_samples(Path(path)).model_dump(mode="json", exclude_none=True)


def load_processing_results_yaml(path: str | Path) -> dict[str, Any]:
    """Read a ``processing_results.yaml``, with paths that are updated if the folder was moved.

    Returns
    -------
    ``project_path``; ``n_fov``; ``fov_data``, paths by FOV and product, such as ``traces`` or ``fl_ch_1``;
    ``channels``, the numbers and features of ``pc`` and ``fl``; ``time_units``; and ``extra``, all other keys.

    Raises
    ------
    ConfigError, TableError
        If the file is unreadable, is not YAML, or a key has an invalid value.
    """
    read = read_processing_results(path)
    return {
        "project_path": read.output_dir,
        "n_fov": len(read.files),
        "fov_data": {fov: _by_product(read, fov) for fov in sorted(read.files)},
        "channels": {
            "pc": None if read.pc is None else [read.pc, list(read.features.get(read.pc, ()))],
            "fl": [[channel, list(read.features.get(channel, ()))] for channel in read.fl],
        },
        "time_units": read.time_units,
        "extra": dict(read.more),
    }


def _by_product(read: ProcessingResults, fov: int) -> dict[str, Path]:
    """Paths of a FOV; those of a channel have its number in their names."""
    files = {name: of for name, of in read.files[fov].items() if name not in ("traces", "traces_csv")}
    files["traces"] = read.traces(fov)
    return {
        name if channel is None else f"{name}_ch_{channel}": path for name, of in files.items() for channel, path in of
    }

"""Fits of trace tables: thousands of cells at a time, in this process or on the workers of a run."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fit_config import FitConfig, load_fit_config, parse_fit_config
from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.fit_tables import (
    BOUND,
    ERROR,
    GRADES,
    Fitted,
    at_bounds,
    fitted_columns,
    fitted_name,
    grades,
    is_fitted,
    named_bounds,
    write_fitted,
)  # fmt: skip
from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.given_tables import tables_to_fit
from pyama_dask.analysis.tables import read_analysis_csv
from pyama_dask.analysis.trace_sources import without_filled
from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import many
from pyama_dask.errors import CancelledError, ConfigError, TableError
from pyama_dask.execute.batch_map import BatchMap
from pyama_dask.files.atomic import check_names, content_digest, writable
from pyama_dask.files.html import InTables
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.fitting import Fits, Model, fit_cells, model_identity
from pyama_dask.fitting.compilation import compile_fit, what_to_compile
from pyama_dask.launch import existing_client, map_on, workers_for
from pyama_dask.workflow.task import WORK

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

SAMPLES = 360_000
"""Samples per batch of a worker: 2,000 cells of 180 frames."""
SOON = 8
"""Largest number of batches that finish in this process before workers would have started."""
WORK_OF_FITS = f"{WORK}_fits"
"""Folder beside the fits for certificates and logs of batch jobs; it differs from the name that marks an output."""
Progress = Callable[[dict[str, Any]], None]
Batch = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Hours (cells or 1, times) and values (cells, times)."""


@dataclass(frozen=True)
class FittedFile:
    """Result of fitting one table."""

    source: Path
    path: Path
    cells: int
    converged: int
    grades: Mapping[str, int]
    """Number of cells by grade."""
    at_bounds: Mapping[str, int]
    """Number of cells whose fit has a parameter at one of its bounds, by parameter."""


@dataclass(frozen=True, repr=False)
class FitReport(InTables):
    """Results of a fit, and warnings."""

    model: str
    files: tuple[FittedFile, ...]
    warnings: tuple[str, ...] = ()

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        cells, converged = (sum(getattr(of, name) for of in self.files) for name in ("cells", "converged"))
        rows = [
            (of.path.name, of.cells, of.converged, *(of.grades.get(grade, 0) for grade in GRADES)) for of in self.files
        ]
        line = f"{self.model}, {many(len(self.files), 'table')}, {converged} of {many(cells, 'cell')} converged"
        return line, ("fits", "cells", "converged", *GRADES), rows


def fit_traces(
    files: Paths,
    config: FitConfig | Mapping[str, Any] | str | Path | None = None,
    directory: str | Path | None = None,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    feature: str | None = None,
    filled: bool = True,
    force: bool = False,
) -> FitReport:
    """Fit a model to every cell of tables of traces.

    For each table ``{stem}.csv``, the fits are written to ``{stem}_fitted_{model}.csv`` beside it: one row per cell,
    whether its fit converged or not. Results do not depend on where and by how many workers they are computed.

    Parameters
    ----------
    files
        Analysis CSVs, tidy or wide, such as those of `merge_samples`; their headers state the units of times. Files of
        fits among them are skipped. Also folders of such tables, and outputs of runs, of which the merged tables are
        taken; without any, all FOVs are merged as one sample into the folder ``all_fovs`` of the output.
    config
        A `FitConfig`, a mapping with its keys, or the path of a YAML file.
    directory
        Folder for the fits; None for the folder of each table.
    client
        Dask client to fit on, instead of the config's ``cluster``.
    progress
        Called with a dict ``step, fov, frame, total, message`` after each batch: the step is ``fit``, and the frame
        the number of fitted cells. If the model must be compiled, a dict with step ``compile`` says so before.
    cancel
        Set it to stop early; tables fitted until then are written.
    feature
        Feature whose tables are taken from folders, or ``all``; by default ``intensity_total``.
    filled
        False to leave out values of frames in which the tracker has filled a gap, where a table marks them.
    force
        True to overwrite files that no fit has written, or that were changed since.

    Raises
    ------
    ConfigError, TableError
        If the model or a table is invalid; nothing is written.
    OutputError
        If fits cannot be written, or would overwrite other files; or if an output has no traces.
    CancelledError
        If `cancel` was set.
    """
    config = _as_config(config)
    model = config.chosen()
    given = tables_to_fit(files, feature, force=force)
    files = given.files
    once = {os.path.realpath(path): Path(path) for path in reversed(files)}  # each file under its first name
    sources = {path: _place(path, model, directory) for path in reversed(once.values()) if not is_fitted(path)}
    if not sources:
        why = ": all files hold fits" if files else ""
        raise ConfigError(f"no table to fit{why}. Fix: pass tables of traces")
    if twice := [path for path, count in Counter(sources.values()).items() if count > 1]:
        raise ConfigError(f"{twice[0]}: two tables would have their fits in this file. Fix: fit them one by one")
    for path in sources.values():
        check_names(path.parent, [path.name])
        check_free(path.parent, [path.name], force=force)
    tables = {path: _read(path, config, filled) for path in sources}
    warnings = [*given.warnings, *(f"{path}: holds fits and is left out" for path in files if is_fitted(path))]
    warnings += [f"{path}: has no cells" for path, traces in tables.items() if not len(traces.cells)]
    warnings += [
        f"{path}: column {name!r} is left out of the fits, which have another one of that name. Fix: rename it"
        for path, traces in tables.items()
        for name in traces.labels
        if name in fitted_columns(model.names)
    ]
    _compile_first(config, progress)
    written = dict[Path, FittedFile]()
    with _map_for(config.cluster, client, tables, next(iter(sources.values())).parent) as batch_map:
        for path, fits in _fit_tables(batch_map, tables, config, progress, cancel or threading.Event()):
            written[path] = _write(path, sources[path], tables[path], fits, config, model, force)
    if len(written) < len(tables):
        raise CancelledError(f"cancelled: {len(written)} of {len(tables)} tables were fitted and written")
    return FitReport(model.name, tuple(written[path] for path in tables), tuple(warnings))


def _as_config(config: FitConfig | Mapping[str, Any] | str | Path | None) -> FitConfig:
    if isinstance(config, FitConfig):
        return config
    return parse_fit_config(config) if isinstance(config, Mapping) else load_fit_config(config)


def _place(path: Path, model: Model, directory: str | Path | None) -> Path:
    return (path.parent if directory is None else Path(directory)) / fitted_name(path.stem, model.name)


def _read(path: Path, config: FitConfig, filled: bool) -> Traces:
    """Traces of a table, with times in hours; on request without the values of filled gaps."""
    table = read_analysis_csv(path, units="h", default_units=config.time_units)
    if not filled:
        table = without_filled(table)
    try:
        return Traces.of(table)
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


# ------------------------------------------------------------------------------------------ where, how


def _compile_first(config: FitConfig, progress: Progress | None) -> None:
    """Compile what the fits call unless it is cached, before workers start, and tell."""
    needed = config.chosen(), config.loss, config.loss_scale
    if message := what_to_compile(*needed):
        if progress:
            progress({"step": "compile", "fov": -1, "frame": 0, "total": 0, "message": message})
        compile_fit(*needed)


@contextmanager
def _map_for(
    cluster: Cluster, client: Client | None, tables: Mapping[Path, Traces], directory: Path
) -> Iterator[BatchMap]:
    """Map over the batches of all tables; in this process if they finish before workers would have started."""
    batches, work = sum(len(_bounds(traces)) - 1 for traces in tables.values()), directory / WORK_OF_FITS
    with (
        existing_client(cluster, work, client) as existing,
        workers_for(cluster, existing, work, uuid4().hex[:12], tasks=batches, brief=batches <= SOON) as workers,
    ):
        yield map_on(workers)


@dataclass(frozen=True)
class _Fitter:
    """Function that fits one batch; workers load the model by its name."""

    config: FitConfig

    def __call__(self, batch: Batch) -> Fits:
        hours, values = batch
        return fit_cells(hours, values, self.config.chosen(), loss=self.config.loss, loss_scale=self.config.loss_scale)


def _bounds(traces: Traces) -> list[int]:
    """Cells at which batches begin and end; they depend on the table only, not on the workers."""
    step = max(1, SAMPLES // max(1, traces.values.shape[1]))
    return [*range(0, max(1, len(traces.values)), step), len(traces.values)]


def _batches(traces: Traces) -> Iterator[Batch]:
    """Yield the hours and values of each batch."""
    for first, last in pairwise(_bounds(traces)):
        yield traces.hours if len(traces.hours) == 1 else traces.hours[first:last], traces.values[first:last]


def _fit_tables(
    batch_map: BatchMap,
    tables: Mapping[Path, Traces],
    config: FitConfig,
    progress: Progress | None,
    cancel: threading.Event,
) -> Iterator[tuple[Path, Fits]]:
    """Yield each table with its fits when all its cells are fitted."""
    places = [(path, k) for path, traces in tables.items() for k in range(len(_bounds(traces)) - 1)]
    left, done = Counter(path for path, _ in places), dict[tuple[Path, int], Fits]()
    through, total = 0, sum(len(traces.cells) for traces in tables.values())
    batches = (batch for traces in tables.values() for batch in _batches(traces))
    for number, fits in batch_map.map("fit", _Fitter(config), batches, cancel):
        path, k = places[number]
        done[path, k] = fits
        left[path] -= 1
        through += len(fits.points)
        if progress:
            progress({"step": "fit", "fov": -1, "frame": through, "total": total, "message": path.name})
        if not left[path]:
            yield path, Fits.joined([done.pop(place) for place in places if place[0] == path])


# --------------------------------------------------------------------------------------------- results


def _write(
    source: Path, path: Path, traces: Traces, fits: Fits, config: FitConfig, model: Model, force: bool
) -> FittedFile:
    """Write the fits of a table, and return a summary."""
    fitted = Fitted(fits_table(traces, fits, model), _about(source, config, model))
    with writable(path), writing_into(path.parent, "fit", force=force) as folder:
        write_fitted(folder / path.name, fitted)
    counts = Counter(fitted.grades.tolist())
    bound = {name: int(cells.sum()) for name, cells in at_bounds(fitted.table, fitted.about["parameters"]).items()}
    return FittedFile(
        source, path, len(fits.points), int(fits.success.sum()), {grade: counts[grade] for grade in GRADES},
        {name: count for name, count in bound.items() if count},
    )  # fmt: skip


def fits_table(traces: Traces, fits: Fits, model: Model) -> pd.DataFrame:
    """Table of fits, one row per cell; see `Fitted.table`.

    Parameters
    ----------
    traces
        Traces of N cells.
    fits
        Their N fits, in the same order.
    model
        Model that was fitted.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    columns = {
        "fov": traces.fovs, "cell": traces.cells, "model": np.full(len(traces.cells), model.name),
        "success": fits.success, "message": fits.message, "r_squared": fits.r_squared,
        "residual_rms": fits.residual_rms, "points": fits.points,
    }  # fmt: skip
    for k, name in enumerate(model.names):
        columns |= {name: fits.parameters[:, k], f"{name}{ERROR}": fits.errors[:, k]}
    for name, derived in {"grade": grades, BOUND: named_bounds}.items():
        columns[name] = derived(pd.DataFrame(columns), _parameters(model))
    names = fitted_columns(model.names, [name for name in traces.labels if name not in columns])
    return pd.DataFrame({name: columns[name] if name in columns else traces.labels[name] for name in names})


def _about(source: Path, config: FitConfig, model: Model) -> dict[str, Any]:
    """Description of the fit, for the header of the file."""
    return {
        "input": source.name,
        "input_digest": content_digest(source),
        "model": model_identity(config.model),
        "source": model.source,
        "loss": config.loss or model.loss,
        **({"loss_scale": config.loss_scale} if config.loss_scale else {}),
        "time_units": "h",
        **({"input_time_units": config.time_units} if config.time_units else {}),
        "parameters": _parameters(model),
    }


def _parameters(model: Model) -> dict[str, Any]:
    """Value of each fixed parameter; start value and bounds of all others."""

    def settings(parameter: Any) -> dict[str, Any]:
        unit = {"unit": parameter.unit} if parameter.unit else {}
        if parameter.fixed:
            return {"fixed": float(parameter.default)} | unit
        return {name: float(getattr(parameter, of)) for name, of in _NAMES.items()} | unit

    return {parameter.name: settings(parameter) for parameter in model.parameters}


_NAMES = {"start": "default", "low": "low", "high": "high"}

"""Tables of traces with their fits, read to be drawn or compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.fit_tables import Fitted, is_fitted, read_fitted, source_of
from pyama_dask.analysis.quantities import TableHead, name_parts
from pyama_dask.analysis.tables import cell_key, read_analysis_csv
from pyama_dask.errors import ConfigError, TableError
from pyama_dask.files.atomic import has_content
from pyama_dask.fitting import Model, find_model, model_identity


@dataclass(frozen=True)
class ResultTable:
    """A table of traces, with its fits if there are any."""

    path: Path
    """File that was passed."""
    source: Path
    """Table of traces."""
    traces: Traces
    fitted: Fitted | None = None
    model: Model | None = None
    """Model of the fits; None if it is not available any more."""
    warnings: list[str] = field(default_factory=list)

    @property
    def sample(self) -> str:
        """Name of the sample."""
        return name_parts(self.source.stem)[0]

    @property
    def measured(self) -> str:
        """Feature with channel, such as ``intensity_total_ch_1``; '' if unknown."""
        return name_parts(self.source.stem)[1]

    @property
    def channel(self) -> str:
        """Name of the channel in the movie; '' if unknown."""
        return TableHead.read(self.source).channel


def read_results(files: Sequence[Path]) -> list[ResultTable]:
    """Read tables; a table of traces whose fits are among the files is read only with these.

    Raises
    ------
    TableError
        If a file is unreadable, or fits do not belong to their table any more.
    """
    fits = {path: read_fitted(path) for path in files if is_fitted(path)}
    sources = {path: source_of(path, fitted) for path, fitted in fits.items()}
    read_already = {source.resolve() for source in sources.values()}
    tables = []
    for path in dict.fromkeys(files):
        if path in fits:
            units = fits[path].about.get("input_time_units")
            traces = Traces.of(read_analysis_csv(sources[path], units="h", default_units=units))
            model, warnings = _model_of(path, fits[path])
            if not has_content(sources[path], str(fits[path].about.get("input_digest"))):
                warnings.append(f"{path.name}: {sources[path].name} has changed since it was fitted. Fix: fit it again")
            fitted = _by_cell(path, fits[path], traces)
            tables.append(ResultTable(path, sources[path], traces, fitted, model, warnings))
        elif path.resolve() not in read_already:
            tables.append(ResultTable(path, path, Traces.of(read_analysis_csv(path, units="h"))))
    return tables


def fits_by_model(tables: Sequence[ResultTable]) -> dict[str, list[ResultTable]]:
    """Tables with fits, by feature and model, such as ``intensity_total_ch_1_maturation``.

    Raises
    ------
    ConfigError
        If models of the same name have different parameters.
    """
    groups = defaultdict[str, list[ResultTable]](list)
    for table in tables:
        if table.fitted is None or not len(table.fitted.table):
            continue
        model = str(table.fitted.table["model"].iloc[0])
        name = "_".join(filter(None, (table.measured, model)))
        if any(of.fitted is not None and of.fitted.parameters != table.fitted.parameters for of in groups[name]):
            raise ConfigError(
                f"{table.path}: its {model} has different parameters from other files. Fix: draw it alone"
            )
        groups[name].append(table)
    return groups


def _by_cell(path: Path, fitted: Fitted, traces: Traces) -> Fitted:
    """Fits in the order of their traces; refuses fits of other cells."""
    key = cell_key(fitted.table)
    ordered = fitted.table.sort_values(key, kind="stable", ignore_index=True)
    cells: dict[str, Any] = {**traces.labels, "fov": traces.fovs, "cell": traces.cells}
    if not all(name in cells and np.array_equal(ordered[name].to_numpy(), cells[name]) for name in key):
        raise TableError(f"{path}: {fitted.about['input']} has other cells now. Fix: fit it again")
    return replace(fitted, table=ordered)


def _model_of(path: Path, fitted: Fitted) -> tuple[Model | None, list[str]]:
    """Model of fits, None if it is not available any more, and warnings."""
    recorded = str(fitted.about["model"])
    name = recorded.rpartition("@")[0] or recorded
    try:
        model, now = find_model(name), model_identity(name)
    except ConfigError as error:
        return None, [f"{path.name}: drawn without the curves of its fits: {error}"]
    if set(model.names) != set(fitted.parameters):
        return None, [f"{path.name}: drawn without the curves of its fits: model {name} has different parameters now"]
    return model, [] if now == recorded else [
        f"{path.name}: model {name} has changed since these fits. Fix: fit the table again"
    ]

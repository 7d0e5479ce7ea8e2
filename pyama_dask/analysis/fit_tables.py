"""Tables of fits: one row per cell, below a description of the fit as YAML in comments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.tables import TEXT
from pyama_dask.config.units import quoted
from pyama_dask.config.yaml_text import dump_yaml, parse_yaml
from pyama_dask.errors import TableError
from pyama_dask.files.atomic import open_file, write_bytes
from pyama_dask.files.checked_csv import CsvText

if TYPE_CHECKING:
    import pandas as pd

MARK = "# Fitted by pyama_dask"
"""Start of the first line in a file of fits."""
ERROR = "_error"
"""Suffix of the columns with standard errors."""
BOUND = "at_bound"
"""Column with the names of the parameters at a bound, separated by spaces."""
_FIRST = ("fov", "cell", "model", "success", "message", "grade", BOUND, "r_squared")
_LAST = ("residual_rms", "points")
GOOD, FAIR = 0.9, 0.7
"""Smallest r_squared of these grades."""
AT_BOUND = "at bound"
GRADES: Mapping[str, str] = {
    "good": f"r_squared of {GOOD:g} or more",
    "fair": f"{FAIR:g} or more",
    "poor": "less, or not converged",
    AT_BOUND: "converged with a parameter at one of its bounds",
}
"""Grades of fits, with their meaning."""


@dataclass(frozen=True)
class Fitted:
    """Fits of a table of traces."""

    table: pd.DataFrame
    """One row per cell: ``fov,cell``, labels of the cells such as ``well``, then
    ``model,success,message,grade,at_bound,r_squared``, each parameter and its ``_error``, then
    ``residual_rms,points``. NaN for undefined values; infinite for undetermined errors.
    """
    about: Mapping[str, Any] = field(default_factory=dict)
    """Description of the fit: ``input``, ``model``, ``source``, ``loss``, ``time_units`` and ``parameters``."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the model's parameters, including fixed ones."""
        names = list(self.table.columns)
        return tuple(name for name in names if f"{name}{ERROR}" in names)

    @property
    def fixed(self) -> dict[str, float]:
        """Values of the fixed parameters."""
        of: Mapping[str, Mapping[str, float]] = self.about.get("parameters", {})
        return {name: given["fixed"] for name, given in of.items() if "fixed" in given}

    @property
    def grades(self) -> npt.NDArray[np.object_]:
        """(cells,) grade of each fit, see `GRADES`."""
        return self.table["grade"].to_numpy(object)


def at_bounds(table: pd.DataFrame, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Cells whose fit converged with a parameter at one of its bounds.

    Parameters
    ----------
    table
        Fits, with at least ``success`` and the parameters.
    parameters
        ``low`` and ``high`` by parameter, as in `Fitted.about`; fixed parameters have neither.

    Returns
    -------
    (cells,) bool by name of each fitted parameter.
    """
    converged = table["success"].to_numpy(bool)
    found = {}
    for name, of in parameters.items():
        if "fixed" not in of:
            values = table[name].to_numpy(float)
            found[name] = converged & ((values <= of["low"]) | (values >= of["high"]))
    return found


def grades(table: pd.DataFrame, parameters: Mapping[str, Mapping[str, Any]]) -> npt.NDArray[np.object_]:
    """(cells,) grade of each fit, see `GRADES`; the parameters are those of `at_bounds`."""
    r_squared = np.where(table["success"], table["r_squared"], -np.inf)
    bound = np.any([np.zeros(len(table), bool), *at_bounds(table, parameters).values()], axis=0)
    found = np.select([bound, r_squared >= GOOD, r_squared >= FAIR], [AT_BOUND, "good", "fair"], "poor")
    return found.astype(object)


def named_bounds(table: pd.DataFrame, parameters: Mapping[str, Mapping[str, Any]]) -> npt.NDArray[np.object_]:
    """(cells,) names of the parameters at a bound, separated by spaces; the arguments are those of `at_bounds`."""
    bounds = at_bounds(table, parameters)
    return np.array([" ".join(name for name in bounds if bounds[name][k]) for k in range(len(table))], object)


def is_fitted(path: str | Path) -> bool:
    """True if a file holds fits; False for unreadable files."""
    try:
        with open_file(path) as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def write_fitted(path: str | Path, fitted: Fitted) -> None:
    """Write fits with full precision, so that `read_fitted` returns equal ones.

    Raises
    ------
    TableError
        If the path exists and holds no fits.
    """
    if Path(path).exists() and not is_fitted(path):
        raise TableError(f"{path}: already exists and holds no fits. Fix: move it away, or choose another folder")
    about = dump_yaml(dict(fitted.about), width=10_000, default_flow_style=None)
    head = "".join(f"# {line}\n" for line in about.splitlines())
    rows = fitted.table.to_csv(index=False, lineterminator="\n", na_rep="")
    write_bytes(path, f"{MARK}\n{head}{rows}".encode())


def read_fitted(path: str | Path) -> Fitted:
    """Read a file of fits.

    Raises
    ------
    TableError
        If the file is unreadable or holds no fits; the message names the line or column.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    if Path(path).exists() and not is_fitted(path):
        raise TableError(f"{path}: holds no fits. Fix: pass a file that 'pyama-dask fit' has written")
    read = CsvText.read(path, {})
    comments = "\n".join(line[2:] for line in read.comments[1:])
    about = parse_yaml(comments, f"{path}: the comments at the top are damaged")
    is_whole = isinstance(about, dict) and {"input", "model", "parameters"} <= set(about)
    if not (is_whole and isinstance(about["parameters"], dict)):
        read.refuse("the comments at the top, which describe the fit, are incomplete. Fix: fit the table again")
    read.needs(*(name for name in _FIRST if name not in _DERIVED), *_LAST)
    numbers = {column for name in about["parameters"] for column in (name, f"{name}{ERROR}")}
    table = pd.DataFrame({name: _column(read, name, numbers) for name in read.names})
    try:
        for name in [name for name in _DERIVED if name not in table]:
            table.insert(_FIRST.index(name), name, _DERIVED[name](table, about["parameters"]))
    except (LookupError, TypeError, AttributeError):
        read.refuse("the comments at the top lack bounds of a parameter. Fix: fit the table again")
    return Fitted(table, about)


_DERIVED = {"grade": grades, BOUND: named_bounds}
"""Columns that earlier versions did not write."""


def _column(read: CsvText, name: str, numbers: Collection[str]) -> npt.NDArray[Any]:
    if name in ("fov", "cell", "points", "site"):
        return read.whole(name)
    if name == "success":
        return read.flags(name)
    if name == BOUND:
        return np.array([given or "" for given in read.text(name)], object)
    if name in ("model", "message", "grade", *TEXT):
        return read.text(name)
    return read.numbers(name, empty=True) if name in (*numbers, *_FIRST, *_LAST) else read.plain(name)


def fitted_name(stem: str, model: str) -> str:
    """Name of the file with a table's fits."""
    return f"{stem}_fitted_{model}.csv"


def source_of(path: Path, fitted: Fitted) -> Path:
    """Table of traces to which a file of fits belongs, in the same folder.

    Raises
    ------
    TableError
        If the table does not exist.
    """
    source = path.parent / str(fitted.about.get("input", ""))
    if not source.is_file():
        raise TableError(f"{path}: its table {quoted(source.name)} is missing from this folder. Fix: put it back")
    return source


def fitted_columns(parameters: tuple[str, ...], labels: Iterable[str] = ()) -> list[str]:
    """Columns of a table of fits, in order; `labels` are further columns of the cells, such as ``well``."""
    of_parameters = (column for name in parameters for column in (name, f"{name}{ERROR}"))
    return [*_FIRST[:2], *labels, *_FIRST[2:], *of_parameters, *_LAST]

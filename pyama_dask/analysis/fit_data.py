"""Traces as stacked arrays, one row per cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.tables import TIDY, by_cell

if TYPE_CHECKING:
    import pandas as pd


OF_ROWS = ("filled", "tile")
"""Columns that may change within a cell, even if they do not in a table."""


@dataclass(frozen=True)
class Traces:
    """Traces of a table, one row per cell."""

    fovs: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    hours: npt.NDArray[np.float64]
    """(cells or 1, times); NaN after a cell's last sample."""
    values: npt.NDArray[np.float64]
    """(cells, times) values; NaN where there is no sample."""
    labels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """(cells,) values of further columns that are the same in all rows of each cell, such as ``well``."""

    def apart(self, places: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(cells,) FOVs or wells of the cells, with the movie in front if there are several."""
        movies = self.labels.get("movie")
        return places if movies is None else np.array([f"{m}\0{p}" for m, p in zip(movies, places, strict=True)], str)

    @property
    def by_movie(self) -> dict[str, Traces]:
        """Traces of each movie; of a table without movies, all as those of ''."""
        movies = self.labels.get("movie")
        if movies is None:
            return {"": self}
        return {str(name): self._only(movies == name) for name in dict.fromkeys(movies.tolist())}

    def _only(self, some: npt.NDArray[np.bool_]) -> Traces:
        """Traces of some cells."""
        hours = self.hours if len(self.hours) == 1 else self.hours[some]
        labels = {name: of[some] for name, of in self.labels.items()}
        return Traces(self.fovs[some], self.cells[some], hours, self.values[some], labels)

    @classmethod
    def of(cls, table: pd.DataFrame) -> Traces:
        """Traces of a tidy table with times in hours, by FOV and cell.

        Raises
        ------
        TableError
            If a cell has two values at one time.
        """
        ordered, first = by_cell(table)  # of several movies: by movie first
        fov, cell, time, value = (ordered[name].to_numpy() for name in ("fov", "cell", "time", "value"))
        row = np.repeat(np.arange(len(first)), np.diff([*first, len(ordered)]))
        column = np.arange(len(fov)) - first[row]
        shape = (len(first), int(column.max(initial=-1)) + 1)
        hours, values = np.full(shape, np.nan), np.full(shape, np.nan)
        hours[row, column], values[row, column] = time, value
        alike = len(hours) > 0 and bool((hours == hours[:1]).all())
        return cls(fov[first], cell[first], hours[:1] if alike else hours, values, _labels(ordered, first, row))


def _labels(ordered: pd.DataFrame, first: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Values of the columns that do not change within a cell; `row` is the number of each row's cell."""
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    found = {}
    for name in (name for name in ordered if name not in (*TIDY, *OF_ROWS)):
        codes = pd.factorize(ordered[name])[0]
        if (codes == codes[first][row]).all():
            found[str(name)] = ordered[name].to_numpy()[first]
    return found

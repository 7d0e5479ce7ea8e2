"""The table of positions: where the sites of stitched wells lie. It is written once, and users may edit it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pyama_dask.files.checked_csv import CsvText
from pyama_dask.runs.plate import normal_name

POSITIONS = "positions.csv"
"""Name of the table in the output."""
PICTURE = "positions.png"
"""Name of its picture."""
COLUMNS = ("well", "site", "y", "x", "source", "ncc")
FARTHEST = 1e6
"""Largest coordinate in pixels."""
Source = Literal["stage", "register"]
_BACK = "Fix: put its images back if they were moved, correct it, or delete its rows"
_REMEDY = "Fix: correct it, or delete the table, which is then written again"


@dataclass(frozen=True)
class Position:
    """Place of a site in the image of its well."""

    well: str
    site: int
    y: float
    """Row of the site's first pixel."""
    x: float
    source: Source
    """`register` if the site was registered with most others of the well, else `stage`."""
    ncc: float | None = None
    """Largest correlation with a neighbour; None if sites were not registered."""


def read_positions(path: Path, sites: Mapping[str, Mapping[int, int]]) -> dict[str, list[Position]]:
    """Read a table of positions.

    Parameters
    ----------
    path
        The table.
    sites
        Sites that the movie has, by well; see `sites_by_well`.

    Returns
    -------
    Positions by well; empty if there is no table.

    Raises
    ------
    TableError
        If the table is damaged, or names a site that the movie has not; the message names the line.
    """
    if not path.exists():
        return {}
    table = CsvText.read(path, {})
    table.needs(*COLUMNS[:4])
    wells = np.array([normal_name(well) or well for well in table.text("well")], object)
    numbers = table.whole("site")
    _check_sites(table, wells, numbers, sites)
    y, x = (_coordinates(table, name) for name in ("y", "x"))
    source = table.text("source") if "source" in table.names else np.full(len(table), "stage", object)
    table.refuse_rows(~np.isin(source, get_args(Source)), "source", f"is neither stage nor register. {_REMEDY}")
    ncc = table.numbers("ncc", empty=True) if "ncc" in table.names else np.full(len(table), np.nan)
    found: dict[str, list[Position]] = {}
    for k, (well, site) in enumerate(zip(wells.tolist(), numbers.tolist(), strict=True)):
        correlation = float(ncc[k]) if np.isfinite(ncc[k]) else None
        found.setdefault(well, []).append(Position(well, site, float(y[k]), float(x[k]), source[k], correlation))
    return {well: sorted(of, key=lambda position: position.site) for well, of in found.items()}


def _check_sites(
    table: CsvText,
    wells: npt.NDArray[np.object_],
    numbers: npt.NDArray[np.int64],
    sites: Mapping[str, Mapping[int, int]],
) -> None:
    table.refuse_rows(np.array([well not in sites for well in wells], bool), "well", f"is not in the movie. {_BACK}")
    pairs = [*zip(wells.tolist(), numbers.tolist(), strict=True)]
    unknown = np.array([site not in sites[well] for well, site in pairs], bool)
    table.refuse_rows(unknown, "site", f"is not a site of the well. {_REMEDY}")
    first = {pair: k for k, pair in reversed([*enumerate(pairs)])}
    twice = np.array([first[pair] < k for k, pair in enumerate(pairs)], bool)
    table.refuse_rows(twice, "site", "is there twice for the well. Fix: keep one of the rows")


def _coordinates(table: CsvText, name: str) -> npt.NDArray[np.float64]:
    values = table.numbers(name, empty=False)
    table.refuse_rows(np.abs(values) > FARTHEST, name, f"is more than {FARTHEST:.0f} pixels away. {_REMEDY}")
    return values


def positions_text(positions: Mapping[str, Iterable[Position]]) -> str:
    """Text of the table, one row per site."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    for at in chain.from_iterable(positions.values()):
        ncc = "" if at.ncc is None else f"{at.ncc:.2f}"
        rows.writerow((at.well, at.site, f"{at.y:.2f}", f"{at.x:.2f}", at.source, ncc))
    return file.getvalue()

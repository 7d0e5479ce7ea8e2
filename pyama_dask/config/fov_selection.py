"""Selection of FOVs, by number, by name or by well: ``0-5, 7``, ``B02 s1``, ``D6``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from pyama_dask.config.units import as_ranges, parse_selection, quoted
from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.config.wells import HOW


def _fov_selection(value: Any) -> Any:
    """Normalise numbers to ranges, and join a list; names stay for `chosen_fovs`."""
    if isinstance(value, str) and value.strip() and not value.strip()[0].isdigit():
        return value.strip()
    try:
        return as_ranges(parse_selection(value))
    except ValueError:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Sequence) or not any(isinstance(part, str) and _is_name(part) for part in parts):
            raise
        return ", ".join(str(part).strip() for part in parts)


def _is_name(part: str) -> bool:
    return any(sign.isalpha() for sign in part)


FovSelection = Annotated[str, BeforeValidator(_fov_selection)]
"""``all``, numbers and ranges, or names of FOVs or wells."""


def _well_selection(value: Any) -> str:
    """Join a list; the text is parsed when the wells of the movie are known."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"names wells by {quoted(value)}. {HOW}")
    return ", ".join(parts)


WellSelection = Annotated[str, BeforeValidator(_well_selection)]
"""``all``, wells and ranges of wells."""


@dataclass(frozen=True)
class FovPlace:
    """Names by which a FOV can be chosen."""

    fov: int
    name: str
    well: str | None = None
    site: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> FovPlace:
        """FOV of a record that has ``fov``, and some of ``name``, ``well`` and ``site``."""
        return cls(record["fov"], str(record.get("name") or ""), record.get("well"), record.get("site"))

    @property
    def title(self) -> str:
        """Number, and name if it is a site of a well: ``FOV 3 (B02 s2)``."""
        return f"FOV {self.fov}" + (f" ({self.name})" if self.well is not None else "")


def chosen_fovs(selection: str, fovs: Sequence[FovPlace], movie: str) -> list[int]:
    """Numbers of the selected FOVs, ascending.

    Parameters
    ----------
    selection
        ``all``, or numbers and ranges, names of FOVs, and wells, separated by commas. The name of
        a well selects all its sites.
    fovs
        FOVs to choose from.
    movie
        Name of the movie, for messages.

    Raises
    ------
    ValueError
        If a part of the selection cannot be found; the message suggests the nearest name.
    """
    if selection == "all":
        return [fov.fov for fov in fovs]
    chosen: set[int] = set()
    for part in _parts(selection, {fov.name for fov in fovs}):
        found = _numbers(part)
        if found is None:
            found = [fov.fov for fov in fovs if fov.name == part] or _of_well(part, fovs)
        if not found:
            raise ValueError(f"{quoted(part)} is not in {movie}{_nearest(part, fovs)}")
        if unknown := sorted(set(found).difference(fov.fov for fov in fovs)):
            known = as_ranges(sorted(fov.fov for fov in fovs))
            raise ValueError(f"{unknown[0]} is not in {movie}, whose FOVs are {known}")
        chosen.update(found)
    return sorted(chosen)


def is_numbers(selection: str) -> bool:
    """True if a selection has numbers and ranges only, and no names."""
    try:
        return bool(parse_selection(selection))
    except ValueError:
        return False


def chosen_fov(name: str, fovs: Sequence[FovPlace], movie: str) -> int:
    """Number of the one FOV that a number, a name, or a well with one site means; see `chosen_fovs`.

    Raises
    ------
    ValueError
        If there is no such FOV, or several.
    """
    found = chosen_fovs(name.strip(), fovs, movie)
    if len(found) > 1:
        there = ", ".join(fov.name for fov in fovs if fov.fov in found[:3])
        raise ValueError(f"{quoted(name)} means {len(found)} FOVs of {movie}. Fix: choose one of them, such as {there}")
    return found[0]


def _parts(selection: str, names: Iterable[str]) -> Iterator[str]:
    """Parts between commas, unless the whole is a name with a comma in it."""
    if selection in names:
        yield selection
    else:
        yield from (part.strip() for part in selection.split(","))


def _numbers(part: str) -> list[int] | None:
    try:
        return parse_selection(part)
    except ValueError:
        if _is_name(part):
            return None
        raise


def _of_well(part: str, fovs: Iterable[FovPlace]) -> list[int]:
    with suppress(ValueError):
        well = well_name(*parse_well(part))
        return [fov.fov for fov in fovs if fov.well is not None and _same_well(fov.well, well)]
    return []


def _same_well(well: str, name: str) -> bool:
    """Compare a well, as a file may write it, with a normal name."""
    try:
        return well_name(*parse_well(well)) == name
    except ValueError:
        return well == name


def _nearest(part: str, fovs: Iterable[FovPlace]) -> str:
    known = dict.fromkeys(name for fov in fovs for name in (fov.name, fov.well) if name)
    close = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
    example = f", such as {close[0]!r}" if close else ""
    return f". Fix: choose among the FOVs that 'pyama-dask inspect' lists{example}"

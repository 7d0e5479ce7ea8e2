"""Plates: names of an output's FOVs, and wells with the state of their sites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pyama_dask.config.fov_selection import FovPlace, chosen_fov
from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.config.wells import draw_plate
from pyama_dask.errors import OutputError
from pyama_dask.runs.status import read_plan

MARKS: Mapping[str, str] = {"done": "o", "pending": "-", "partial": "~", "failed": "x"}
"""Marks of the states of wells on a map."""


def recorded_places(output: Path) -> list[FovPlace]:
    """Names and wells of the FOVs of an output, as its plan records them.

    Raises
    ------
    OutputError
        If it is not the output of a run.
    """
    return [FovPlace.of(fov) for fov in read_plan(output)["fovs"]]


def fov_named(output: Path, fov: int | str) -> int:
    """Number of a FOV of an output, by number, name or well.

    Raises
    ------
    OutputError
        If there is no such FOV, or several.
    """
    if isinstance(fov, int):
        return fov
    try:
        return chosen_fov(fov, recorded_places(output), str(output))
    except ValueError as error:
        raise OutputError(f"FOV {error}") from error


def by_well(fovs: Iterable[tuple[str | None, str]]) -> dict[str, set[str]]:
    """Group what is known of FOVs by their wells.

    Parameters
    ----------
    fovs
        Well of every FOV, and a word about it. FOVs outside of wells, or in wells that are not named by row and column,
        are left out.
    """
    found: dict[str, set[str]] = {}
    for well, word in fovs:
        if (name := normal_name(well)) is not None:
            found.setdefault(name, set()).add(word)
    return found


def normal_name(well: str | None) -> str | None:
    """Name of a well as ``B02``; None if it is not named by row and column."""
    with suppress(ValueError):
        return well_name(*parse_well(well or ""))
    return None


def well_states(fovs: Iterable[tuple[str | None, str]]) -> dict[str, str]:
    """State of each well: failed if one of its FOVs is, done or pending if all are, else partial.

    Parameters
    ----------
    fovs
        Well and state of every FOV.
    """
    return {
        well: next(iter(states)) if len(states) == 1 else "failed" if "failed" in states else "partial"
        for well, states in by_well(fovs).items()
    }


def status_map(fovs: Iterable[tuple[str | None, str]], stated: Sequence[int] | None = None) -> list[str]:
    """Map of the states of wells as lines of text, with a legend; empty without wells.

    Parameters
    ----------
    fovs
        Well and state of every FOV.
    stated
        Rows and columns of the plate, if the movie states them.
    """
    marks = {well: MARKS[state] for well, state in well_states(fovs).items()}
    legend = {mark: {"pending": "to do"}.get(state, state) for state, mark in MARKS.items()} | {".": "not chosen"}
    return draw_plate(marks, stated=stated, legend=legend).splitlines() if marks else []

"""Outputs that a user passes: one, several, or a folder above several; each of several is named by its folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from pyama_dask.analysis.find_traces import RESULTS
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.runs.several import outputs_below
from pyama_dask.runs.status import PLAN

Paths = str | Path | Sequence[str | Path]
"""One path or several."""
MovieName = Annotated[str, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)]
"""Name of a movie among several; a date, such as 20261130, is a number in YAML."""


@dataclass(frozen=True)
class GivenOutputs:
    """Outputs by movie, and where results of all of them belong."""

    movies: Mapping[str, Path]
    """Output of each movie; a single output has the name ''."""
    common: Path | None
    """Single output, or the folder above all outputs; None if they are in different folders."""

    @property
    def are_several(self) -> bool:
        """True for outputs of several movies, or a folder above outputs, even if there is only one in it."""
        return "" not in self.movies

    def place(self, name: str) -> Path:
        """Default place of a result of all outputs.

        Raises
        ------
        ConfigError
            If the outputs are in different folders.
        """
        if self.common is None:
            raise ConfigError("the outputs are in different folders. Fix: choose where to write with -o")
        return self.common / name


def given_outputs(paths: Paths) -> GivenOutputs:
    """Find outputs.

    Parameters
    ----------
    paths
        One output; or several, or folders above outputs.

    Raises
    ------
    ConfigError
        If two of several outputs have the same name.
    OutputError
        If no path is given.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not given:
        raise OutputError("no output. Fix: pass the output of a run, or several")
    found = [output for path in given for output in (outputs_in(path) or [path])]
    if found == given[:1]:
        return GivenOutputs({"": found[0]}, found[0])
    found = list({os.path.realpath(output): output for output in found}.values())
    for name, count in Counter(movie_name(output) for output in found).items():
        if count > 1:
            both = " and ".join(str(output) for output in found if movie_name(output) == name)
            raise ConfigError(f"{both}: are both called {name!r}, so their cells cannot be told apart. Fix: rename one")
    folders = {Path(os.path.abspath(output)).parent for output in found}  # noqa: PTH100  (follows no link)
    common = given[0] if len(given) == 1 else folders.pop() if len(folders) == 1 else None
    return GivenOutputs({movie_name(output): output for output in found}, common)


def movie_name(output: Path) -> str:
    """Name of a movie among several: that of the folder of its output."""
    return os.path.basename(os.path.abspath(output))  # noqa: PTH100, PTH119  (follows no link)


def outputs_in(folder: Path) -> list[Path]:
    """Outputs in a folder, by name, also those of an older program; none if it is an output itself."""
    return outputs_below(folder, is_output)


def is_output(folder: Path) -> bool:
    """True for the output of a run or of an older program."""
    known = (folder / PLAN, folder / RESULTS, folder / "processing_config.yaml")
    return any(path.exists() for path in known) or next(folder.glob("fov_*/*_traces.csv"), None) is not None

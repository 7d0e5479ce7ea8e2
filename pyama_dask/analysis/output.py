"""Results of a run from Python: every product, loaded on demand."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pyama_dask.analysis import html
from pyama_dask.analysis.fov import FINISH, Fov, read_traces
from pyama_dask.analysis.own_results import read_table
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import OutputError, ResultsWarning
from pyama_dask.files import zarr_thread  # noqa: F401  (it ends with the process)
from pyama_dask.files.atomic import read_file
from pyama_dask.files.html import never_failing
from pyama_dask.runs.disk_space import gib
from pyama_dask.runs.own_tables import OwnTable, own_tables
from pyama_dask.runs.plate import fov_named, recorded_places
from pyama_dask.runs.status import LEDGER, read_status, recorded_traces
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.plate import is_second_name
from pyama_dask.workflow.task import fov_name


def open_output(directory: str | Path) -> Output:
    """Open the output directory of a run.

    Raises
    ------
    OutputError
        If the directory is not the output of a run.
    """
    path = Path(directory)
    if not (path / "processing_config.yaml").exists():
        raise OutputError(
            f"{path}: holds no results of pyama_dask (no processing_config.yaml). Fix: pass the output of a run"
        )
    return Output(path)


class Output:
    """Results of a run.

    Parameters
    ----------
    directory
        The output directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        tables = f", tables {', '.join(self.tables)}" if self.tables else ""
        return f"<Output {self.directory}: {len(self.fovs)} FOVs{tables}>"

    @never_failing
    def _repr_html_(self) -> str:
        ledger = Ledger(self.directory / LEDGER)
        files = (file for _, record in ledger.tasks() for of in record.files.values() for file in of.items())
        return html.output_html(self, gib(sum(size for name, (size, _) in files if not is_second_name(name))))

    def __getitem__(self, fov: int | str) -> Fov:
        """Open a FOV by its number or name in the movie, or by a well with one site."""
        fov = fov_named(self.directory, fov)
        if fov not in self.fovs:
            raise OutputError(f"{self.directory}: has no FOV {fov}. Fix: choose one of its {len(self.fovs)} FOVs")
        return Fov(self.directory / fov_name(fov))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved config, and ``metadata`` of the movie."""
        text = read_file(self.directory / "processing_config.yaml")
        document: dict[str, Any] = load_yaml(text)
        return document

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the movie."""
        found: dict[str, Any] = self.config["metadata"]
        return found

    @property
    def fovs(self) -> tuple[int, ...]:
        """Numbers of the FOVs that have been started."""
        return tuple(
            sorted(int(p.name[4:]) for p in self.directory.glob("fov_*") if re.fullmatch(r"fov_\d{3,}", p.name))
        )

    @property
    def titles(self) -> dict[int, str]:
        """Titles of the FOVs that have been started, such as ``FOV 3 (B02 s2)``, by number."""
        known = {}
        with suppress(OutputError):
            known = {place.fov: place.title for place in recorded_places(self.directory)}
        return {fov: known.get(fov, f"FOV {fov}") for fov in self.fovs}

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables that steps of pipelines have written, of FOVs or wells, such as ``more_spots``, for `table`."""
        return tuple(sorted({of.name for of in own_tables(Ledger(self.directory / LEDGER))}))

    def table(self, name: str) -> pd.DataFrame:
        """Read a table that a step of a pipeline has written, of all FOVs or wells that have it.

        Tables of wells get a first column ``well``.

        Parameters
        ----------
        name
            One of `tables`.

        Raises
        ------
        OutputError
            If there is no such table, or a file is damaged.
        """
        found = [of for of in own_tables(Ledger(self.directory / LEDGER)) if of.name == name]
        if not found:
            known = ", ".join(self.tables) or "none yet"
            raise OutputError(f"{self.directory}: has no table {name}. Fix: choose one of: {known}; or {FINISH}")
        tables = [self._of_well(of) if of.is_of_well else self[of.fov].table(name) for of in found]
        return pd.concat(tables, ignore_index=True)

    def _of_well(self, found: OwnTable) -> pd.DataFrame:
        wells = {place.fov: place.well for place in recorded_places(self.directory)}
        self[found.fov].warn_if_stale(found.name, {found.step})
        table = read_table(self.directory, found)
        if "well" not in table:
            table.insert(0, "well", wells.get(found.fov))
        return table

    def status(self) -> dict[str, Any]:
        """Progress of every FOV, as in ``pyama-dask status --json``."""
        return read_status(self.directory)

    def traces(self) -> pd.DataFrame:
        """Read the traces of all FOVs that have any, as one table."""
        ledger = Ledger(self.directory / LEDGER)
        fovs = [fov for fov in self.fovs if recorded_traces(ledger, fov)]
        if not fovs:
            raise OutputError(f"{self.directory}: has no traces yet. Fix: {FINISH}")
        if any(fov["other_settings"] for fov in self.status()["fovs"]):
            warnings.warn(
                f"{self.directory}: FOVs were processed with different settings ('pyama-dask status' shows which). "
                "Fix: run again",
                ResultsWarning,
                stacklevel=2,
            )
        return pd.concat([read_traces(self.directory, ledger, fov) for fov in fovs], ignore_index=True)

"""Figures of traces and their fits: PNG for viewing, SVG for editing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from pyama_dask.analysis.figures import FORMATS, check_formats, write_results
from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.given_tables import results_in
from pyama_dask.analysis.plot_parameters import parameters_figure, quality_figure
from pyama_dask.analysis.plot_traces import traces_figure
from pyama_dask.analysis.plot_wells import tables_of_plates, wells_figure
from pyama_dask.analysis.result_tables import fits_by_model, read_results
from pyama_dask.config.units import many
from pyama_dask.errors import ConfigError
from pyama_dask.files.html import InTables

MOST = 400
"""Largest number of cells that are drawn one by one."""


@dataclass(frozen=True, repr=False)
class Drawn(InTables):
    """Figures that were drawn, and warnings."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        rows = [(path.name, "" if k else path.parent) for k, path in enumerate(self.files)]
        return many(len(self.files), "file"), ("figure", "folder"), rows


def plot_fits(
    files: Paths,
    directory: str | Path | None = None,
    *,
    cells: int = 12,
    feature: str | None = None,
    formats: Sequence[str] = FORMATS,
    force: bool = False,
) -> Drawn:
    """Draw traces with their fits, the parameters by sample, and the quality of the fits.

    Each file yields a figure ``{stem}_traces``: all traces, and a selection of cells with their fits, evenly spaced
    from best to worst and on the same scale. The tables of a plate also yield ``{feature}_wells``, the median and
    quartiles of each well, arranged as on the plate. The fits of one feature and model yield
    ``{feature}_{model}_parameters``, the distributions of the fitted parameters by sample, where parameters at a bound
    are marked, and ``{feature}_{model}_quality``, the shares of good, fair and poor fits and of those with a parameter
    at a bound.

    Parameters
    ----------
    files
        Files of fits, which are drawn with the trace tables beside them; trace tables without fits; folders of both;
        and outputs of runs, of which the merged tables are taken, see `given_tables.tables_to_fit`.
    directory
        Folder for the figures; by default ``plots`` beside the first file.
    cells
        Number of cells per file that are drawn one by one.
    feature
        Feature whose fits and tables are taken from folders, or ``all``; by default all fits, or, without any, the
        tables of ``intensity_total``.
    formats
        ``png``, ``svg`` or both.
    force
        True to overwrite files that are not figures of an earlier call, or that were changed since.

    Raises
    ------
    ConfigError, TableError
        If a file cannot be drawn; no figure was written.
    OutputError
        If a figure cannot be written, or would overwrite another file; or if an output has no traces.
    """
    check_formats(formats)
    if not files:
        raise ConfigError("no table to draw. Fix: pass tables of traces or fits")
    if not 1 <= cells <= MOST:
        raise ConfigError(f"cells: must be from 1 to {MOST}, not {cells}")
    given = results_in(files, feature, force=force)
    tables = read_results(given.files)
    stems = Counter(table.path.stem for table in tables)
    if twice := next((stem for stem, count in stems.items() if count > 1), None):
        raise ConfigError(f"{twice}: two files have this name, so their figures would, too. Fix: draw them one by one")
    place = Path(directory) if directory is not None else tables[0].path.parent / "plots"
    figures: dict[str, Callable[[], Figure]] = {
        f"{table.path.stem}_traces": partial(traces_figure, table, cells) for table in tables
    }
    plates = tables_of_plates(tables)
    figures |= {"_".join(filter(None, (name, "wells"))): partial(wells_figure, of) for name, of in plates.items()}
    for name, of in fits_by_model(tables).items():
        figures[f"{name}_parameters"] = partial(parameters_figure, of)
        figures[f"{name}_quality"] = partial(quality_figure, of)
    written = write_results(place, {}, figures, formats, "plot", force=force)
    return Drawn(written, (*given.warnings, *(warning for table in tables for warning in table.warnings)))

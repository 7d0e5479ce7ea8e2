"""Commands that make tables of traces, and what people publish, from the output of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import ClusterKind, Set, app, parsed
from pyama_dask.cli.signals import cancelled_by_signals


@app.command()
def merge(
    output: Path,
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES.YAML", help="which FOVs belong to which sample")],
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for the tables; OUTPUT/merged")] = None,
) -> None:
    """Put the traces of an output together by sample: one CSV a sample, channel and feature, and all as Parquet."""
    from pyama_dask.describe import describe_merge
    from pyama_dask.samples import merge_samples

    report = merge_samples(output, samples, to)
    print(describe_merge(report))
    raise typer.Exit(report.exit_status)


@app.command()
def fit(
    tables: Annotated[list[Path], typer.Argument(metavar="CSV...", help="tables of 'pyama-dask merge', tidy or wide")],
    model: Annotated[str | None, typer.Option(help="'pyama-dask plugins' lists them; maturation")] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML: model, parameters, cluster")] = None,
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for the fits; that of each table")] = None,
    workers: Annotated[int | None, typer.Option(help="local processes")] = None,
    cluster: ClusterKind = None,
    changes: Set = None,
) -> None:
    """Fit a model to every cell of tables of traces; writes one row a cell to {table}_fitted_{model}.csv."""
    from rich.console import Console

    from pyama_dask.describe import describe_fits
    from pyama_dask.fit_config import load_fit_config
    from pyama_dask.fits import fit_traces
    from pyama_dask.progress import FitDisplay

    given = {"model": model, "cluster.workers": workers, "cluster.kind": cluster}
    chosen = load_fit_config(config, parsed(changes) | {key: one for key, one in given.items() if one is not None})
    with cancelled_by_signals() as cancel, FitDisplay(Console(stderr=True)) as display:
        report = fit_traces(tables, chosen, to, progress=display.event, cancel=cancel)
    print(describe_fits(report))


@app.command()
def plot(
    files: Annotated[list[Path], typer.Argument(metavar="CSV...", help="fits of 'pyama-dask fit', or traces")],
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for the figures; plots")] = None,
    cells: Annotated[int, typer.Option(help="cells that are drawn one by one", min=1)] = 12,
) -> None:
    """Draw traces with their fits, the parameters by sample, and the share of good fits; as PNG and SVG."""
    from pyama_dask.describe import describe_plots
    from pyama_dask.plots import plot_fits

    print(describe_plots(plot_fits(files, to, cells=cells)))

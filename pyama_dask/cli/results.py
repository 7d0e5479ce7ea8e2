"""Commands that make tables of traces, and what people publish, from the output of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import AsJson, ClusterKind, Set, app, check_threads, parsed, say
from pyama_dask.cli.signals import cancelled_by_signals

Good = Annotated[Path | None, typer.Option("--good", help="YAML of cells that are good, or not; OUTPUT/good.yaml")]

Force = Annotated[bool, typer.Option("--force", help="overwrite files that it has not written")]


@app.command()
def merge(
    output: Path,
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES.YAML", help="which FOVs belong to which sample")],
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for the tables; OUTPUT/merged")] = None,
    good: Good = None,
    force: Force = False,
) -> None:
    """Put the traces of an output together by sample: one CSV a sample, channel and feature, and all as Parquet."""
    from pyama_dask.analysis.merge import merge_samples
    from pyama_dask.cli.text import describe_merge

    report = merge_samples(output, samples, to, good, force=force)
    say(describe_merge(report))
    raise typer.Exit(report.exit_status)


@app.command()
def inspect_traces(
    output: Path,
    to: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write; OUTPUT/quality.csv")] = None,
    min_frames: Annotated[int | None, typer.Option(help="fewest frames of a cell; half of the FOV's")] = None,
    max_missing: Annotated[int | None, typer.Option(help="most frames in between that it may lack; 0")] = None,
    max_jump: Annotated[float | None, typer.Option(help="largest change of its area from frame to frame; 0.5")] = None,
    max_overlap: Annotated[float | None, typer.Option(help="part of a box that may be in another one; 0.5")] = None,
    good: Good = None,
    write_good: Annotated[Path | None, typer.Option(help="write overrides that take out all that is flagged")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """List the cells of all traces with what is odd about them; writes a table, and edits no trace."""
    from pyama_dask.analysis.quality import inspect_traces as inspect_all
    from pyama_dask.cli.text import describe_quality, quality_document

    given = {"min_frames": min_frames, "max_missing": max_missing, "max_jump": max_jump, "max_overlap": max_overlap}
    thresholds = {name: value for name, value in given.items() if value is not None}
    report = inspect_all(output, to, good=good, write_good=write_good, force=force, **thresholds)
    say(json.dumps(quality_document(report), indent=1) if as_json else describe_quality(report))


@app.command()
def export(
    output: Path,
    to: Annotated[str, typer.Option("--to", help="parquet, csv-wide, geff or ctc", show_default=False)],
    directory: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for it; OUTPUT/exported/FORMAT")
    ] = None,
    samples: Annotated[Path | None, typer.Option(metavar="SAMPLES.YAML", help="only FOVs of these samples")] = None,
    good: Good = None,
    force: Force = False,
) -> None:
    """Write traces and tracks in a format of other programs; the output stays as it is."""
    from pyama_dask.analysis.export import export_traces
    from pyama_dask.cli.text import describe_export

    report = export_traces(output, to, directory, samples=samples, good=good, force=force)
    say(describe_export(report))
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
    force: Force = False,
) -> None:
    """Fit a model to every cell of tables of traces; writes one row a cell to {table}_fitted_{model}.csv."""
    from rich.console import Console

    from pyama_dask.analysis.fit import fit_traces
    from pyama_dask.analysis.fit_config import load_fit_config
    from pyama_dask.cli.progress import FitDisplay
    from pyama_dask.cli.text import describe_fits

    check_threads()
    given = {"model": model, "cluster.workers": workers, "cluster.kind": cluster}
    chosen = load_fit_config(config, parsed(changes) | {key: one for key, one in given.items() if one is not None})
    stopping = "Stopping; tables that are fitted are written, and others would be fitted anew"
    with cancelled_by_signals(stopping, "Ended at once") as cancel, FitDisplay(Console(stderr=True)) as display:
        report = fit_traces(tables, chosen, to, progress=display.event, cancel=cancel, force=force)
    say(describe_fits(report))


@app.command()
def plot(
    files: Annotated[list[Path], typer.Argument(metavar="CSV...", help="fits of 'pyama-dask fit', or traces")],
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for them; plots, beside the first")] = None,
    cells: Annotated[int, typer.Option(help="cells that are drawn one by one", min=1, max=400)] = 12,
    force: Force = False,
) -> None:
    """Draw traces with their fits, the parameters by sample, and the share of good fits; as PNG and SVG."""
    from pyama_dask.analysis.plots import plot_fits
    from pyama_dask.cli.text import describe_plots

    say(describe_plots(plot_fits(files, to, cells=cells, force=force)))

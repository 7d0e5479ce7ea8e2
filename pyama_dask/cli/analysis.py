"""Commands that make tables, fits, figures and exports from the output of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import AsJson, ClusterKind, OutputFolders, Set, app, check_threads, parsed, say
from pyama_dask.cli.signals import cancelled_by_signals

Good = Annotated[
    Path | None,
    typer.Option("--good", help="YAML file of cells that are good or not", show_default="OUTPUT/good.yaml"),
]

NoFilled = Annotated[bool, typer.Option("--no-filled", help="leave out frames in which the tracker has filled a gap")]

Results = Annotated[
    list[Path],
    typer.Argument(metavar="OUTPUT|FOLDER|CSV...", help="output of a run, or fits of 'pyama-dask fit', or traces"),
]

Feature = Annotated[
    str | None,
    typer.Option(
        help="take these fits and tables of folders, or all", show_default="all fits; without any, intensity_total"
    ),
]

Force = Annotated[bool, typer.Option("--force", help="overwrite files that pyama-dask has not written")]


@app.command()
def report(
    outputs: OutputFolders,
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="page to write", show_default="OUTPUT/report.html")
    ] = None,
    fov: Annotated[
        str | None,
        typer.Option(
            metavar="FOV", help="only this FOV, such as 3 or 'B02 s1', with frames and traces, to OUTPUT/fov_003.html"
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write the report of a run as one HTML page, of one of its FOVs, or of all outputs in a folder.

    A run ends with its report; this command writes it at any other time. Each of several outputs gets its page.
    """
    from pyama_dask.errors import ConfigError
    from pyama_dask.report import write_fov_page, write_report_page
    from pyama_dask.report.index_page import write_index_page
    from pyama_dask.runs.several import outputs_below

    if to is not None and len(outputs) > 1:
        raise ConfigError(f"-o {to}: names one page, but there are {len(outputs)} outputs. Fix: leave it out")
    for output in outputs:
        if fov is not None:
            path = write_fov_page(output, fov, to, force=force)
        else:
            path = (write_index_page if outputs_below(output) else write_report_page)(output, to, force=force)
        say(f"Report: {path}")


@app.command()
def merge(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUTPUT... [SAMPLES.YAML]",
            help="outputs, or the folder above them, and which FOVs or wells belong to which sample",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the tables", show_default="OUTPUT/merged")
    ] = None,
    good: Good = None,
    *,
    plate_map: Annotated[
        Path | None,
        typer.Option(metavar="MAP.CSV", help="conditions of wells: columns of the tables, and samples by default"),
    ] = None,
    no_filled: NoFilled = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="write all columns of the traces, too: SAMPLE_traces.csv")
    ] = False,
    force: Force = False,
) -> None:
    """Merge traces by sample, of one output or of several.

    Writes one CSV per sample, channel and feature, and one Parquet file of everything.
    """
    from pyama_dask.analysis.merge import merge_samples
    from pyama_dask.cli.text import describe_merge

    *outputs, last = paths
    samples = last if outputs and not last.is_dir() else None
    outputs = outputs if samples else paths
    report = merge_samples(
        outputs, samples, to, good, plate_map=plate_map, filled=not no_filled, traces=traces, force=force
    )
    say(describe_merge(report))
    raise typer.Exit(report.exit_status)


@app.command()
def inspect_traces(
    outputs: OutputFolders,
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write", show_default="OUTPUT/quality.csv")
    ] = None,
    min_frames: Annotated[
        int | None, typer.Option(help="fewest frames of a trace", show_default="half of the FOV's frames")
    ] = None,
    max_missing: Annotated[int, typer.Option(help="longest gap allowed in a trace, in frames")] = 0,
    max_jump: Annotated[float, typer.Option(help="largest relative change of area between frames")] = 0.5,
    max_border: Annotated[int, typer.Option(help="most frames in which a cell touches the border of the image")] = 0,
    max_overlap: Annotated[float, typer.Option(help="fraction of a box that may overlap another one")] = 0.5,
    *,
    good: Good = None,
    write_good: Annotated[Path | None, typer.Option(help="write overrides that exclude every flagged cell")] = None,
    no_filled: NoFilled = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Flag short traces, gaps, jumps, and cells at the border or merging.

    Writes a table and edits no trace.
    """
    from pyama_dask.analysis.quality import inspect_traces as inspect_all
    from pyama_dask.cli.text import describe_quality, quality_document

    given = {"min_frames": min_frames, "max_missing": max_missing, "max_jump": max_jump}
    given |= {"max_border": max_border, "max_overlap": max_overlap}
    thresholds = {name: value for name, value in given.items() if value is not None}
    report = inspect_all(outputs, to, good=good, write_good=write_good, filled=not no_filled, force=force, **thresholds)
    say(json.dumps(quality_document(report), indent=1) if as_json else describe_quality(report))


@app.command()
def export(
    outputs: OutputFolders,
    to: Annotated[str, typer.Option("--to", help="format: parquet, csv-wide, geff or ctc", show_default=False)],
    directory: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the export", show_default="OUTPUT/exported/FORMAT")
    ] = None,
    samples: Annotated[Path | None, typer.Option(metavar="SAMPLES.YAML", help="only FOVs of these samples")] = None,
    good: Good = None,
    no_filled: NoFilled = False,
    force: Force = False,
) -> None:
    """Export traces and tracks to formats of other programs."""
    from pyama_dask.analysis.export import export_traces
    from pyama_dask.cli.text import describe_export

    report = export_traces(outputs, to, directory, samples=samples, good=good, filled=not no_filled, force=force)
    say(describe_export(report))
    raise typer.Exit(report.exit_status)


@app.command()
def fit(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="OUTPUT|FOLDER|CSV...", help="output of a run, or tables of 'pyama-dask merge'"),
    ],
    model: Annotated[
        str | None, typer.Option(help="model; 'pyama-dask plugins' lists them", show_default="maturation")
    ] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML: model, parameters, cluster")] = None,
    to: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for the fits", show_default="beside each table")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="number of local worker processes")] = None,
    cluster: ClusterKind = None,
    changes: Set = None,
    feature: Annotated[
        str | None, typer.Option(help="fit these tables of folders, or all", show_default="intensity_total")
    ] = None,
    *,
    no_filled: NoFilled = False,
    force: Force = False,
) -> None:
    """Fit a model to every cell of tables of traces.

    Writes one row per cell to TABLE_fitted_MODEL.csv.
    """
    from rich.console import Console

    from pyama_dask.analysis.fit import fit_traces
    from pyama_dask.analysis.fit_config import load_fit_config
    from pyama_dask.cli.progress import FitDisplay
    from pyama_dask.cli.text import describe_fits

    check_threads()
    given = {"model": model, "cluster.workers": workers, "cluster.kind": cluster}
    chosen = load_fit_config(config, parsed(changes) | {key: one for key, one in given.items() if one is not None})
    stopping = "Stopping; tables that are fitted are kept"
    with cancelled_by_signals(stopping, "Stopped at once") as cancel, FitDisplay(Console(stderr=True)) as display:
        report = fit_traces(
            tables, chosen, to, progress=display.event, cancel=cancel, feature=feature, filled=not no_filled,
            force=force,
        )  # fmt: skip
    say(describe_fits(report))


@app.command()
def plot(
    files: Results,
    to: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="folder for the figures", show_default="plots, beside the first CSV"),
    ] = None,
    cells: Annotated[int, typer.Option(help="number of cells drawn with their fits", min=1, max=400)] = 12,
    feature: Feature = None,
    force: Force = False,
) -> None:
    """Plot traces with fits, parameters by sample, and shares of good fits.

    Writes PNG and SVG.
    """
    from pyama_dask.analysis.plots import plot_fits
    from pyama_dask.cli.text import describe_plots

    say(describe_plots(plot_fits(files, to, cells=cells, feature=feature, force=force)))


@app.command()
def compare(
    files: Results,
    to: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="folder for tables and figures", show_default="comparison, beside the first CSV"
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="sample to compare the others with", show_default="every pair")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(help="parameter to test; repeat for more", show_default="all")
    ] = None,
    unit: Annotated[
        str,
        typer.Option(
            help="test medians of wells (well) or FOVs (fov), or cells (cell); auto: wells, FOVs, if each sample has 4"
        ),
    ] = "auto",
    draws: Annotated[int, typer.Option(help="resamples for confidence intervals", min=100, max=100_000)] = 1000,
    seed: Annotated[int, typer.Option(help="seed of the resamples", min=0, max=2**32 - 1)] = 0,
    feature: Feature = None,
    *,
    force: Force = False,
) -> None:
    """Compare samples: medians over time with confidence bands, tests of fitted parameters.

    Writes CSV tables, PNG and SVG.
    """
    from pyama_dask.analysis.compare import compare_samples
    from pyama_dask.cli.comparison_text import describe_comparison

    report = compare_samples(
        files, to, feature=feature, reference=reference, parameters=parameter or (), unit=unit, draws=draws, seed=seed,
        force=force,
    )  # fmt: skip
    say(describe_comparison(report))

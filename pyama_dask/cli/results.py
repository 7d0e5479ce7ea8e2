"""Commands that make tables of traces, and what people publish, from the output of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import app

Good = Annotated[Path | None, typer.Option("--good", help="YAML of cells that are good, or not; OUTPUT/good.yaml")]


@app.command()
def merge(
    output: Path,
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES.YAML", help="which FOVs belong to which sample")],
    to: Annotated[Path | None, typer.Option("-o", "--output", help="folder for the tables; OUTPUT/merged")] = None,
    good: Good = None,
) -> None:
    """Put the traces of an output together by sample: one CSV a sample, channel and feature, and all as Parquet."""
    from pyama_dask.describe import describe_merge
    from pyama_dask.samples import merge_samples

    report = merge_samples(output, samples, to, good)
    print(describe_merge(report))
    raise typer.Exit(report.exit_status)

"""Commands that make tables of traces, and what people publish, from the output of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import app


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

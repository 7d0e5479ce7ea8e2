"""Command that opens napari."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyama_dask.cli.app import app


@app.command()
def view(
    output: Annotated[Path, typer.Argument(help="output folder of a run, or a FOV, a channel or the plate in it")],
    fov: Annotated[
        str | None,
        typer.Option(metavar="FOV", help="FOV to show, such as 3 or 'B02 s1'", show_default="first one with traces"),
    ] = None,
) -> None:
    r"""Open an output in napari: channels, labels, tracks, and a panel to mark cells.

    Needs 'pip install pyama-dask\[napari]' and a display.
    """
    from pyama_dask.napari.start import view as show

    show(output, fov)

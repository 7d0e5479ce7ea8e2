"""The program: its options that several commands have, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pyama_dask.errors import CancelledError, ClusterError, ConfigError, DiskError, PyamaError, TakenOverError

app = typer.Typer(
    help="Single-cell traces from time-lapse microscopy: ND2 and CZI to Zarr and tables, on Dask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="config; 'pyama-dask init' writes one")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Fovs = Annotated[str | None, typer.Option(help="only these FOVs, such as 0-5,7")]
Frames = Annotated[str | None, typer.Option(help="only these frames, such as 0-99")]
Extend = Annotated[bool, typer.Option("--extend", help="go on with a movie that has more frames than before")]
ClusterKind = Annotated[str | None, typer.Option(help="where tasks run, in place of cluster.kind")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the config")]


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """Values by dotted key of the ``KEY=VALUE`` that ``--set`` is given.

    Raises
    ------
    ConfigError
        If one is not of this form, or its value is not YAML.
    """
    from pyama_dask.config import quoted_key
    from pyama_dask.quantities import quoted
    from pyama_dask.yaml_text import parse_yaml

    found: dict[str, Any] = {}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {quoted_key(change)}: must be KEY=VALUE, such as params.background_weight=0.5")
        found[key] = parse_yaml(value, f"--set {quoted_key(change)}: {quoted(value)} is not YAML")
    return found


STATUS: dict[type[PyamaError], int] = {DiskError: 4, TakenOverError: 4, ClusterError: 4, CancelledError: 130}
"""Exit status of errors that may end a run which has begun."""


def main() -> None:
    """Run the command line; errors that a person can mend are one message, and exit status 2."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except PyamaError as error:
        if debug:
            raise
        print(f"pyama-dask: {error}", file=sys.stderr)
        sys.exit(STATUS.get(type(error), 2))

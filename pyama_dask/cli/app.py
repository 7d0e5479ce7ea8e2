"""The program: shared options, error messages and exit status."""

from __future__ import annotations

import os
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

import pyama_dask
from pyama_dask.errors import CancelledError, ClusterError, ConfigError, DiskError, PyamaError, TakenOverError
from pyama_dask.files.atomic import TAKES_NO_MORE
from pyama_dask.files.streams import unfailing, write_nowhere

ORDER = (
    "inspect", "init", "positions", "plan", "preview", "run", "status", "top", "view", "report", "verify", "doctor",
    "annotate", "train", "score", "inspect-traces", "merge", "fit", "plot", "compare", "export", "plugins", "demo",
)  # fmt: skip
"""Commands in the order in which they are used, for the help."""


class InOrder(TyperGroup):
    """Commands in their `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="RUN.YAML|OUTPUT", help="config, as written by 'pyama-dask init', or output whose last run is repeated"
    ),
]
MovieFile = Annotated[Path, typer.Argument(help="ND2 or CZI file, folder of a plate, or pattern of TIFF files")]
MovieFiles = Annotated[
    list[Path],
    typer.Argument(metavar="MOVIE...", help="ND2 or CZI files, folders of plates, patterns of TIFF files, or globs"),
]
OutputFolder = Annotated[Path, typer.Argument(help="output folder of a run")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Fovs = Annotated[str | None, typer.Option(help="only these FOVs, such as 0-5,7 or 'B02 s1'")]
Wells = Annotated[str | None, typer.Option(help="only these wells of a plate, such as 'B02, C03:D05, row:E, col:1-6'")]
Frames = Annotated[str | None, typer.Option(help="only these frames, such as 0-99")]
Into = Annotated[bool, typer.Option("--into", help="allow an output folder that holds other files, and keep them")]
Extend = Annotated[bool, typer.Option("--extend", help="resume with a movie that has more frames now")]
OutputFolders = Annotated[
    list[Path], typer.Argument(metavar="OUTPUT...", help="output of a run; or several, or the folder above them")
]
ClusterKind = Annotated[str | None, typer.Option(help="where tasks run; overrides cluster.kind")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the config")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"pyama-dask {pyama_dask.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Single-cell traces from time-lapse microscopy: ND2, CZI and plates to Zarr and tables, on Dask."""


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """Parse the ``KEY=VALUE`` arguments of ``--set`` into values by dotted key.

    Raises
    ------
    ConfigError
        If an argument is not ``KEY=VALUE``, or its value is not YAML.
    """
    from pyama_dask.config.messages import quoted_key
    from pyama_dask.config.units import quoted
    from pyama_dask.config.yaml_text import parse_yaml

    found: dict[str, Any] = {}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {quoted_key(change)}: must be KEY=VALUE, such as params.background_weight=0.5")
        is_glob = value.startswith("*")  # which begins an alias in YAML
        problem = f"--set {quoted_key(change)}: {quoted(value)} is not YAML"
        found[key] = value if is_glob else parse_yaml(value, problem)
    return found


def say(text: str, file: TextIO | None = None) -> None:
    """Print text of a command; control characters in names from files are escaped."""
    from pyama_dask.config.units import printable

    print(printable(text), file=file, flush=True)


def naming_set(message: str, arguments: list[str]) -> str:
    """Put ``--set`` in front of the lines of a message about keys that were set on the command line."""
    given = [value for flag, value in pairwise(arguments) if flag == "--set"]
    given += [argument.removeprefix("--set=") for argument in arguments if argument.startswith("--set=")]
    keys = tuple(f"{change.partition('=')[0]}{end}" for change in given for end in ":.")
    lines = message.split("\n")
    ours = [line for line in lines if line.strip().startswith(keys)]
    others = [line for line in lines if line not in ours]
    if ours and len(others) == 1 and others[0].endswith(":"):  # only the name of the config file
        others = []
    return "\n".join([*others, *(f"--set {line.strip()}" for line in ours)])


def check_threads() -> None:
    """Start as many threads as a small run needs, so that it fails here, not halfway, if the system refuses them.

    Raises
    ------
    RuntimeError
        If the system refuses a thread; `main` reports it.
    """
    over = threading.Event()
    try:
        for _ in range(THREADS):
            threading.Thread(target=over.wait, daemon=True).start()
    finally:
        over.set()


THREADS = 16
STATUS: dict[type[PyamaError], int] = {DiskError: 4, TakenOverError: 4, ClusterError: 4, CancelledError: 130}
"""Exit status of errors that may stop a run after it has started."""


def main() -> None:
    """Run the command line; an error that the user can fix is one message and exit status 2."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    os.environ["MPLBACKEND"] = "agg"  # figures go to files; a notebook's backend may not exist here
    if "JPY_PARENT_PID" in os.environ:  # the cell of a notebook, to which its kernel forces colours, is no terminal
        os.environ["TTY_COMPATIBLE"] = "0"
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except PyamaError as error:
        if debug:
            raise
        with unfailing():
            say(f"pyama-dask: {naming_set(str(error), arguments)}", sys.stderr)
        sys.exit(STATUS.get(type(error), 2))
    except Exception as error:
        full = _output_problem(error)
        problem = full or _forbidden(error) or (_NO_THREADS if str(error) == _THREAD_REFUSED else _dask_problem())
        if debug or not problem:
            raise
        with unfailing():
            say(f"pyama-dask: {problem}", sys.stderr)
        sys.exit(STATUS[DiskError] if full else 2)


_THREAD_REFUSED = "can't start new thread"
_NO_THREADS = (
    "the system starts no more threads for this user. Fix: use fewer workers, or raise the process limit "
    "('ulimit -u', or the limit of the container or job)"
)


def _output_problem(error: Exception) -> str:
    """Reason if the standard output cannot be written; '' for any other error."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno not in TAKES_NO_MORE:
        return ""
    write_nowhere([1])  # Python would flush it once more at exit
    return f"standard output: cannot be written: {error.strerror}"


def _forbidden(error: Exception) -> str:
    """Reason if a path may not be used, such as one in a folder that only its owner may enter; '' otherwise."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return ""
    return f"{error.filename}: {error.strerror}. Fix: check its permissions, and those of the folders above"


def _dask_problem() -> str:
    """Reason if the user's Dask settings break its import; '' otherwise."""
    try:
        import pyama_dask.launch.start  # noqa: F401
    except Exception as error:  # noqa: BLE001  (its settings are read at import and may contain anything)
        reason = " ".join(str(error).split())
        return (
            f"Dask's own settings cannot be used: {type(error).__name__}: {reason}. Fix: correct or remove them. They "
            f"are in YAML files of {os.environ.get('DASK_CONFIG') or '~/.config/dask'} and in variables named DASK_..."
        )
    return ""

"""Commands that show what a run would do with frames: what it finds, and how it stitches wells."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyama_dask.cli.app import ConfigFile, Set, Wells, app, parsed, say
from pyama_dask.cli.loaded import loaded_config
from pyama_dask.cli.signals import cancelled_by_signals

if TYPE_CHECKING:
    from pyama_dask.config.models import Config
    from pyama_dask.previews.preview import Preview


@app.command()
def preview(
    config: Annotated[
        Path, typer.Argument(metavar="RUN.YAML|OUTPUT", help="config, or output of a run, whose settings are used")
    ],
    *,
    to: Annotated[Path, typer.Option("-o", "--output", help="picture (.png) or page (.html) to write")] = Path(
        "preview.png"
    ),
    fov: Annotated[
        str | None,
        typer.Option(
            metavar="FOV", help="field of view, such as 3 or 'B02 s1'", show_default="first one that the config chooses"
        ),
    ] = None,
    frames: Annotated[str | None, typer.Option(help="frames, such as 0,90,179", show_default="the middle one")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=A,B,C", help="try these values; a second --grid goes down the sheet"),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="ROW,COLUMN,SIZE", help="part to show, in pixels", show_default="the whole frame"),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="true labels, to draw and to score with: file, folder, or output of a run")
    ] = None,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="track through the frames, and draw trails over the last one")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="overwrite a file that preview has not written")] = False,
    changes: Set = None,
) -> None:
    """Show what a run would find in some frames, for these settings or a grid of them.

    Draws kept objects, and those that are dropped as too large, too small, or at the border.
    A grid such as --grid morph_iterations=0,1,3 or --grid segmentation_method=logstd,unet shows settings side by side.
    """
    from rich.console import Console

    from pyama_dask.previews.preview import check_path
    from pyama_dask.previews.preview import preview as look

    check_path(to, force=force)
    loaded, tell = _config(config, changes), partial(say, file=sys.stderr)
    signals = cancelled_by_signals("Stopping; nothing is written", "Stopped at once; nothing is written")
    with signals as cancel, _naming_options(), Console(stderr=True).status("Reading the movie") as status:
        made = look(
            loaded, grid=_parsed_grid(grid), fov=fov, frames=frames, crop=_parsed_crop(crop), truth=truth,
            tracks=tracks, overrides=changes or (), tell=tell, progress=status.update,
            cancel=cancel,
        )  # fmt: skip
        made.save(to, force=force)
    say(describe(made))
    say(f"{to}: written")


@app.command()
def positions(config: ConfigFile, *, wells: Wells = None, changes: Set = None) -> None:
    """Find and draw where the sites of stitched wells lie, without running.

    Writes positions.csv, which later runs use and which may be edited, and positions.png to the output.
    """
    from rich.console import Console

    from pyama_dask.config.units import many
    from pyama_dask.previews.positions import MOST_WELLS, place_sites

    loaded = loaded_config(config, changes, wells=wells)
    with Console(stderr=True).status("Reading the movie") as status:
        placed = place_sites(loaded, status.update)
    for warning in placed.warnings:
        say(f"warning: {warning}")
    say(f"{placed.table}: has the sites of {many(len(placed.wells), 'chosen well')}")
    more = f" the first {MOST_WELLS} of them; choose others with --wells" if len(placed.wells) > MOST_WELLS else " them"
    say(f"{placed.picture}: shows{more}")


def _config(path: Path, changes: list[str] | None) -> Config:
    """The config of a file, or of an output, with the overrides of the command line."""
    from pyama_dask.analysis.pyama_files import config_of_output, is_of_output
    from pyama_dask.config.load import with_overrides
    from pyama_dask.plan.resolve import shared_parameters

    if not is_of_output(path):
        return loaded_config(path, changes)
    return with_overrides(config_of_output(path), parsed(changes), shared_parameters())


def _parsed_grid(grid: list[str] | None) -> dict[str, Any]:
    """Values by key of ``--grid KEY=A,B,C`` options."""
    from pyama_dask.config.units import quoted
    from pyama_dask.config.yaml_text import parse_yaml
    from pyama_dask.errors import ConfigError

    found: dict[str, Any] = {}
    for one in grid or []:
        key, equals, values = one.partition("=")
        if not equals or not key:
            raise ConfigError(f"grid: {quoted(one)} must be KEY=VALUES, such as morph_iterations=0,1,3")
        if key in found:
            raise ConfigError(f"grid: {quoted(key)} is given twice. Fix: give its values in one list")
        found[key] = parse_yaml(f"[{values}]", f"grid: {quoted(values)} is not a list of values in YAML")
    return found


def _parsed_crop(crop: str | None) -> list[int] | None:
    from pyama_dask.errors import ConfigError

    try:
        return None if crop is None else [int(number) for number in crop.split(",")]
    except ValueError as error:
        raise ConfigError(f"crop: must be ROW,COLUMN,SIZE, such as 300,300,420, not {crop}") from error


@contextmanager
def _naming_options() -> Iterator[None]:
    """Write the parameters of `pyama_dask.preview` in messages as options of the command line."""
    from pyama_dask.errors import ConfigError

    try:
        yield
    except ConfigError as error:
        raise ConfigError(re.sub(r"^(grid|frames|fov|crop): ", r"--\1: ", str(error), flags=re.MULTILINE)) from error


def describe(made: Preview) -> str:
    """Panels and notes of a preview, a line each; panels with the same warning share its line."""
    from pyama_dask.previews.layout import title

    lines, said = [made.head], Counter[str]()
    for panel in made.panels:
        lines.append(f"{title(made, panel)}: {'; '.join(panel.words()) or panel.said()[-1]}")
        said.update(panel.warnings)
    count = len(made.panels)
    lines += [f"warning{f' in {n} of {count} panels' if count > 1 else ''}: {text}" for text, n in said.items()]
    return "\n".join([*lines, *made.notes])

"""Commands about labels of cells."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyama_dask.cli.app import AsJson, Frames, MovieFile, app, say

if TYPE_CHECKING:
    from rich.table import Table

    from pyama_dask.analysis.score import ScoreReport, Scores
    from pyama_dask.config.models import Config
    from pyama_dask.readers import Metadata
    from pyama_dask.runs.annotate import AnnotationReport


@app.command()
def score(
    labels: Annotated[Path, typer.Argument(help="labels to judge: file, folder, or output of a run")],
    truth: Annotated[Path, typer.Argument(help="true labels: file, folder, or output of a run")],
    tracks: Annotated[
        bool | None,
        typer.Option("--tracks/--no-tracks", help="score tracks, too", show_default="if labels are those of tracks"),
    ] = None,
    min_frames: Annotated[int, typer.Option(help="fewest frames of a true track that is judged", min=1)] = 10,
    share: Annotated[
        float, typer.Option(help="share of its frames in which a true track must be found", min=0, max=1)
    ] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Compare labels with true labels.

    Prints SEG, DET and TRA of the Cell Tracking Challenge, F1, and the number of whole traces.

    Labels are TIFF, PNG, NPY or NPZ files, folders of these, folders of the challenge, or outputs of runs.
    """
    from rich.console import Console

    from pyama_dask.analysis.score import score_labels

    report = score_labels(labels, truth, tracks=tracks, min_frames=min_frames, share=share)
    if as_json:
        say(json.dumps(report.document(), indent=1))
        return
    terminal = Console()
    Console(width=terminal.width if terminal.is_terminal else 120).print(_score_table(report))
    if report.overall.tracks is not None:
        say(f"traces: true tracks of at least {report.min_frames} frames")
        say(f"followed: found under one id in at least {report.share:.0%} of their frames")
        say("whole: followed, found under no other id, and the id is on nothing else")
    for warning in report.warnings:
        say(f"warning: {warning}")


def _score_table(report: ScoreReport) -> Table:
    """Scores with one row per movie, and one for all."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    with_tracks = report.overall.tracks is not None
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("", min_width=5)
    of_tracks = ("TRA", "traces", "followed", "whole") if with_tracks else ()
    for name in ("frames", "true", "found:true", "SEG", "F1", "DET", *of_tracks):
        table.add_column(name, justify="right", no_wrap=True)
    rows = report.movies if len(report.movies) == 1 else (*report.movies, report.overall)
    for of in rows:
        table.add_row(*_score_cells(of, with_tracks), end_section=of is report.movies[-1])
    return table


def _score_cells(of: Scores, with_tracks: bool) -> list[str]:
    from rich.markup import escape

    from pyama_dask.config.units import printable

    cells = [escape(printable(of.name)), str(of.frames), str(of.true), _score(of.found_per_true, 2)]
    cells += [_score(value) for value in (of.seg, of.f1, of.det)]
    if with_tracks and of.tra is not None:
        cells += [_score(of.tra), str(of.tracks), str(of.followed), str(of.whole)]
    return cells


def _score(value: float, digits: int = 3) -> str:
    """Score in a table; a dash if there is nothing to judge."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


@app.command()
def annotate(
    movie: MovieFile,
    *,
    to: Annotated[Path, typer.Option("-o", "--output", help="folder for the windows")] = Path("training"),
    fovs: Annotated[
        str | None,
        typer.Option(help="only these FOVs, such as 0-5,7 or 'B02 s1'", show_default="the first one of the config"),
    ] = None,
    frames: Frames = "0",
    windows: Annotated[
        int | None,
        typer.Option(help="windows per frame, from the densest to the emptiest", show_default="4, or what fits", min=1),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="width and height of a window in pixels", show_default="256, or what fits", min=32),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="segmenter of the first guess", show_default="that of the config, or what fits")
    ] = None,
    params: Annotated[
        str | None, typer.Option(metavar="YAML", help="its parameters, such as '{diameter: 20}'", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="RUN.YAML", help="config with channels and method")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="channel of the cells, by number or name", show_default="phase contrast"),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="add windows to a folder, and keep those that it has")] = False,
) -> None:
    """Cut windows out of a movie, with a first guess of labels to correct.

    With a config, frames are seen as by its run: without shading, and with stitched wells if it stitches.
    Writes NAME.tif and NAME_labels.tif, which napari, Fiji and Cellpose open. 'pyama-dask train' takes the folder.
    """
    from rich.console import Console

    from pyama_dask.plan.resolve import resolve
    from pyama_dask.runs.annotate import annotate as cut
    from pyama_dask.runs.annotate import check_windows

    options = {"fovs": fovs, "frames": frames, "segmentation_method": method, "segmentation_params": _keys_of(params)}
    with _naming_options(), Console(stderr=True).status("Finding cells for a first guess"):
        given = {key: of for key, of in options.items() if of is not None}
        chosen, metadata, said = (
            (*_guessed(movie, channel, given), ()) if config is None else _as_seen(movie, config, channel, given)
        )
        check_windows(resolve(chosen, metadata), metadata, to, windows, size, add=add)
        if config is None and method is None and params is None:
            chosen = _with_method(resolve(chosen, metadata), metadata)
        report = cut(chosen, metadata, to, windows=windows, size=size, add=add)
    for warning in said:
        say(f"warning: {warning}")
    say(_describe_windows(report))


def _describe_windows(report: AnnotationReport) -> str:
    """Windows of an annotation, and the next step."""
    from pyama_dask.config.units import many

    new = [window for window in report.windows if window.is_new]
    kept = len(report.windows) - len(new)
    cells = sorted(window.cells for window in new)
    first = f"{report.folder}: {many(len(new), 'window')} of {report.size} x {report.size} px"
    first += f", with {cells[0]} to {cells[-1]} cells each in the first guess by {report.method}" if cells else ""
    first += f"; {kept} that were there are kept" if kept else ""
    then = [
        "Correct the files *_labels.tif: one number per cell, also at the border of the window; 0 for background",
        f"Then run 'pyama-dask train {report.folder} -o model.onnx'",
    ]
    return "\n".join([first, *(f"warning: {warning}" for warning in report.warnings), *then])


def _as_seen(
    movie: Path, path: Path, channel: str | None, params: Mapping[str, Any]
) -> tuple[Config, Metadata, tuple[str, ...]]:
    """Config of a file with what is annotated, and the movie as its run sees these FOVs, with warnings."""
    from pyama_dask.config.load import load_config
    from pyama_dask.config.units import as_ranges
    from pyama_dask.plan.find_fovs import find_fovs
    from pyama_dask.plan.resolve import shared_parameters
    from pyama_dask.runs.movie import choosing, seen_movie

    changes: dict[str, Any] = {f"params.{key}": value for key, value in params.items()}
    config, of_run = (_on(movie, load_config(path, these, shared_parameters())) for these in (changes, {}))
    if "fovs" in params:
        of_run = choosing(of_run, config.params.fovs)

    def choose(metadata: Metadata) -> list[int]:
        return find_fovs(of_run.params, metadata)[: None if "fovs" in params else 1]

    metadata, said = seen_movie(of_run, choose)
    if channel is not None:
        changes |= {"channels.pc": {"channel": _channel(channel, metadata)}, "channels.fl": []}
        config = _on(movie, load_config(path, changes, shared_parameters()))
    return choosing(config, as_ranges(choose(metadata))), metadata, said


def _on(movie: Path, config: Config) -> Config:
    """Config for another movie, about which it states the same."""
    return config.model_copy(update={"input": config.input.at(movie.absolute())})


def _guessed(movie: Path, channel: str | None, params: Mapping[str, Any]) -> tuple[Config, Metadata]:
    """Config from the command line and the movie, and the movie as it is."""
    from pyama_dask.config.load import parse_config
    from pyama_dask.errors import ConfigError
    from pyama_dask.readers import read_metadata
    from pyama_dask.runs.template import guess_channels

    metadata = read_metadata(movie)
    guessed = guess_channels(metadata)["pc"] if channel is None else {"channel": _channel(channel, metadata)}
    if guessed is None:
        raise ConfigError(
            f"{metadata.path}: no channel looks like phase contrast. Fix: name the channel of the cells with "
            "--channel; 'pyama-dask inspect' lists the channels"
        )
    pc = {"channel": guessed["channel"]}
    z = {"z": "max"} if metadata.z_planes > 1 else {}
    document = {"input": metadata.path, "output": f"{metadata.path.stem}_results", "channels": {"pc": pc}}
    return parse_config(document | {"params": {"fovs": "0"} | z | dict(params)}, source=""), metadata


def _channel(text: str, metadata: Metadata) -> int | str:
    """Number of a channel, or its name."""
    is_name = text in [channel.name for channel in metadata.channels]
    return int(text) if text.isdecimal() and not (is_name and int(text) >= len(metadata.channels)) else text


def _with_method(config: Config, metadata: Metadata) -> Config:
    """Config with the segmentation method that suits the movie."""
    from pyama_dask.runs.first_look import first_look
    from pyama_dask.runs.one_frame import phase_channel

    found = first_look(metadata, phase_channel(config), config.params.z)
    params = config.params.model_copy(update=found.params if found else {})
    return config.model_copy(update={"params": params})


def _keys_of(params: str | None) -> dict[str, Any] | None:
    """Parameters given as YAML on the command line."""
    from pyama_dask.config.units import quoted
    from pyama_dask.config.yaml_text import parse_yaml
    from pyama_dask.errors import ConfigError

    if params is None:
        return None
    found = parse_yaml(params, f"--params: {quoted(params)} is not YAML")
    if not isinstance(found, dict):
        raise ConfigError(f"--params: {quoted(params)} is not a set of keys. Fix: write '{{diameter: 20}}'")
    return found


@contextmanager
def _naming_options() -> Iterator[None]:
    """Name options of the command line in messages, where they stand for keys of a config."""
    from pyama_dask.errors import ConfigError

    options = {"fovs": "fovs", "frames": "frames", "segmentation_method": "method", "segmentation_params": "params"}
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for key, option in options.items():
            message = re.sub(rf"params\.{key}\b", f"--{option}", message)
        raise ConfigError(re.sub(r"channels\.pc(\.channel)?", "--channel", message)) from error

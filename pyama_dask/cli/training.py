"""Command that trains a segmentation model on annotated frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pyama_dask.cli.app import app, say
from pyama_dask.cli.signals import cancelled_by_signals

if TYPE_CHECKING:
    from pyama_dask.training.train import Progress, Trained

SELDOM = 30.0
"""Seconds between lines of progress when there is no bar."""
POOR = 0.6
"""F1 on held-back images below which the scores are called poor."""
WARM = 10
"""Steps before the remaining time is shown: the first one compiles."""


@app.command()
def train(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER | IMAGE LABELS ...",
            help="folder of frames NAME.tif with labels NAME_labels.tif (.png, .npy), or frames and labels in turn",
        ),
    ],
    *,
    to: Annotated[Path, typer.Option("-o", "--output", help="model to write")] = Path("model.onnx"),
    minutes: Annotated[float, typer.Option(help="time limit on one core", min=0.1, max=1e4)] = 8.0,
    steps: Annotated[int | None, typer.Option(help="number of steps", min=10, show_default="by --minutes")] = None,
    seed: Annotated[int, typer.Option(help="equal seeds give equal models on one machine", min=0)] = 0,
    unknown: Annotated[int | None, typer.Option(help="label of pixels that are not annotated", min=0)] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="micrometres per pixel", min=1e-4, show_default="from the frames")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the model", show_default="from --output")] = None,
    description: Annotated[str, typer.Option(help="purpose of the model")] = "",
    trained_on: Annotated[str, typer.Option(help="origin of the frames")] = "",
    licence: Annotated[str, typer.Option(help="licence of the model")] = "",
    channel: Annotated[str, typer.Option(help="kind of image: phase or fluorescence")] = "",
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing model")] = False,
) -> None:
    """Train a segmentation model on annotated frames, on one core.

    Holds a part of the frames back, prints the scores on it, and draws it. Ctrl-C keeps the best model so far.
    """
    from pyama_dask.training.packages import prepare_training

    prepare_training()
    check_target(to, force=force)
    from pyama_dask.methods.onnx_model import ModelCard
    from pyama_dask.training.annotated import read_annotated

    annotated = read_annotated(paths, unknown)
    from pyama_dask.training.train import Settings
    from pyama_dask.training.train import train as train_model

    say(described([one.diameters.size for one in annotated]))
    card = ModelCard(
        name=name or to.stem, description=description, trained_on=trained_on, licence=licence, channel=channel,
        pixel_size_um=pixel_size,
    )  # fmt: skip
    signals = cancelled_by_signals("Stopping; the best model so far is written", "Stopped at once; no model is written")
    with signals as cancel:
        with TrainDisplay(Console(stderr=True)) as display:
            settings = Settings(minutes, steps, seed, card)
            trained = train_model(annotated, settings, display.event, is_cancelled=cancel.is_set)
            display.end(complete=trained.complete)
        write(trained, to)
    raise typer.Exit(0 if trained.complete else 130)


def check_target(path: Path, *, force: bool) -> None:
    """Check that a model can be written, before the training.

    Raises
    ------
    ConfigError
        If the file exists, or its folder does not.
    """
    from pyama_dask.errors import ConfigError

    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: is not a name of a model. Fix: end it with .onnx")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: the folder does not exist. Fix: create it, or choose another place with -o")
    if path.exists() and not force:
        raise ConfigError(f"{path}: already exists. Fix: use --force to overwrite it, or choose another name with -o")


def write(trained: Trained, path: Path) -> None:
    """Write a model and the picture of what was held back, and print the scores."""
    from pyama_dask.files.atomic import write_bytes
    from pyama_dask.training.picture import held_back_picture

    write_bytes(path, trained.model)
    say(f"{path}: written ({len(trained.model) / 1000:.0f} kB)")
    say(f"In a config: segmentation_method: unet, segmentation_params: {{model: {path}}}")
    if not trained.judged:
        why = "the training was stopped before" if not trained.complete else "there are too few cells to hold some back"
        say(f"Not judged, as {why}")
        return
    picture = path.with_name(f"{path.stem}_held_back.png")
    write_bytes(picture, held_back_picture(trained.judged, trained.card))
    say(f"{describe_scores(trained.card.held_back, len(trained.judged))}\nPicture: {picture}")


def describe_scores(score: Mapping[str, float], parts: int) -> str:
    """Scores on what was held back, and a warning if they are poor."""
    from pyama_dask.config.units import many

    found = f"{score['found_per_true']:.2f} found per annotated cell"
    lines = [
        f"Held back: SEG {score['seg']:.3f}, F1 {score['f1']:.3f}, {found}",
        f"({many(parts, 'image')}, each judged by a network that was trained without it)",
    ]
    if score["f1"] < POOR:
        lines.append(f"warning: F1 is below {POOR:g}. Fix: train longer (--minutes), or annotate more windows")
    return "\n".join(lines)


def described(cells: list[int]) -> str:
    """Count of frames and cells, and of frames without cells."""
    from pyama_dask.config.units import many

    empty = f"; {cells.count(0)} of the frames without any" if 0 in cells else ""
    return f"{many(len(cells), 'annotated frame')} with {many(sum(cells), 'cell')}{empty}"


class TrainDisplay:
    """Shows a training; give its `event` to `training.train.train` as progress.

    Parameters
    ----------
    console
        Output: a bar on a terminal, otherwise a line every `SELDOM` seconds.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"),
            TimeElapsedColumn(), TextColumn("{task.fields[rest]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bars.add_task("Compiling", total=None, rest="")
        self._first, self._said = 0.0, -SELDOM

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def event(self, event: Progress) -> None:
        """Take the state after a step."""
        from pyama_dask.config.units import duration

        now = time.monotonic()
        self._first = self._first or now
        rest = f"loss {event.loss:.3f}"
        if event.step > WARM:
            rest += f", {duration((now - self._first) / (event.step - 1) * (event.steps - event.step))} left"
        self._bars.update(
            self._task, completed=event.step, total=event.steps, rest=rest, description=event.phase.capitalize()
        )
        if not self._console.is_terminal and now - self._said > SELDOM:
            self._said = now
            self._console.print(f"{event.phase}: step {event.step} of {event.steps}, {rest}", soft_wrap=True)

    def end(self, *, complete: bool) -> None:
        """Show the bar as full if the training is complete, also if the time limit came before the last step."""
        if complete:
            done = self._bars.tasks[0].completed
            self._bars.update(self._task, total=done, rest="")

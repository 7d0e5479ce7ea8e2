"""Commands that process a movie and inspect the output."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyama_dask.cli.app import (
    AsJson,
    ClusterKind,
    ConfigFile,
    Extend,
    Fovs,
    Frames,
    Into,
    MovieFiles,
    OutputFolder,
    OutputFolders,
    Set,
    Wells,
    app,
    check_threads,
    say,
)
from pyama_dask.cli.loaded import likely_kind, loaded_config, loaded_configs
from pyama_dask.cli.signals import cancelled_by_signals
from pyama_dask.files.streams import unfailing

if TYPE_CHECKING:
    from rich.status import Status

    from pyama_dask.config.models import Config
    from pyama_dask.readers import Metadata
    from pyama_dask.runs.method_choice import FirstLook
    from pyama_dask.runs.status import RunReport
    from pyama_dask.runs.timings import Prediction


@app.command()
def inspect(movies: MovieFiles, as_json: AsJson = False) -> None:
    """Show the FOVs, frames, channels, sizes and times of movies, and missing frames."""
    from pyama_dask.cli.movie_text import describe_movie, movie_document
    from pyama_dask.readers import read_metadata

    shown = movie_document if as_json else describe_movie
    say(_joined([shown(read_metadata(movie)) for movie in _each(movies)]))


@app.command()
def init(
    movies: MovieFiles,
    to: Annotated[Path, typer.Option("-o", "--output", help="config to write")] = Path("run.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing config")] = False,
    cluster: Annotated[str, typer.Option(help="kind of cluster, such as slurm")] = "local",
    look: Annotated[
        bool, typer.Option("--look/--no-look", help="try the segmentation methods on three frames of the movie")
    ] = True,
) -> None:
    """Write a config with every default, channels guessed from the movie, and the method that suits its cells.

    Of several movies, which must have the same channels, the shortest one is tried.
    """
    from pyama_dask.errors import ConfigError
    from pyama_dask.files.atomic import longest_name, shortened, write_bytes
    from pyama_dask.readers import movie_stem, read_metadata
    from pyama_dask.runs.method_choice import describe as describe_look
    from pyama_dask.runs.several import alike
    from pyama_dask.runs.template import cluster_keys, config_template, notes_on_channels

    every = [read_metadata(movie) for movie in _each(movies)]
    metadata = alike(every)
    folder, ending = to.absolute().parent.resolve(), "_results"
    stem = movie_stem(metadata.path if len(every) == 1 else metadata.path.parent)
    output = f"{shortened(stem, longest_name(folder) - len(ending))}{ending}"
    _check_new(to, folder, force=force)
    cluster_keys(cluster)  # faults are refused before the look, which takes longer
    found = _look(metadata) if look else None
    paths = [_from(folder, one.path.resolve()) for one in every]
    text = config_template(metadata, paths[0] if len(paths) == 1 else paths, Path(output), cluster, found)
    try:
        write_bytes(to, text.encode())
    except OSError as error:
        raise ConfigError(f"{to}: cannot be written: {error.strerror}. Fix: choose another place with -o") from error
    for note in notes_on_channels(metadata):
        say(note)
    for line in describe_look(found) if found else ():
        say(line)
    say(f"The output will be {folder / output}" + (", with a folder per movie" if len(every) > 1 else ""))
    step = "preview" if found else "plan"
    say(f"{to}: written. Check its channels, then run 'pyama-dask {step} {to}' and 'pyama-dask run {to}'")


@app.command()
def plan(
    config: ConfigFile,
    *,
    as_json: AsJson = False,
    fovs: Fovs = None,
    wells: Wells = None,
    frames: Frames = None,
    extend: Extend = False,
    into: Into = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="process one block, and predict the run from it")
    ] = False,
    jobs: Annotated[int | None, typer.Option(help="number of jobs (or local workers) to predict for", min=1)] = None,
    cluster: ClusterKind = None,
    changes: Set = None,
) -> None:
    """Show what a run would do and need, and look at a frame; writes nothing, except with --calibrate."""
    from rich.console import Console

    from pyama_dask.launch import check_network, script_of
    from pyama_dask.runs.frame_check import looked_at
    from pyama_dask.runs.orchestrator import compiled
    from pyama_dask.runs.planning import plan_run

    configs = loaded_configs(config, changes, fovs=fovs, wells=wells, frames=frames, cluster=cluster, extend=extend)
    check_network(configs[0].cluster)
    shown: list[Any] = []
    for loaded in configs:
        predicted = _calibrate(loaded, jobs, into) if calibrate else None
        with Console(stderr=True).status("Reading the movie") as status:
            made, metadata = plan_run(loaded, extend=extend, into=into, tell=partial(_show_registered, status))
            status.update("Looking at a frame")
            made = looked_at(made, metadata)
        found = compiled(loaded, made, metadata, predicted, jobs)
        script = {"script": script_of(made.job.config.cluster, gpu=made.gpu_tasks > 0)}
        shown.append(found.document() | script if as_json else str(found))
    say(_joined(shown))


@app.command()
def run(
    config: ConfigFile,
    *,
    fovs: Fovs = None,
    wells: Wells = None,
    frames: Frames = None,
    steps: Annotated[str | None, typer.Option(help="only these steps, such as segment,track")] = None,
    workers: Annotated[int | None, typer.Option(help="number of local worker processes")] = None,
    cluster: ClusterKind = None,
    force: Annotated[str | None, typer.Option(help="redo these steps and everything derived from them")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="only the failed FOVs")] = False,
    extend: Extend = False,
    into: Into = False,
    changes: Set = None,
) -> None:
    """Process a movie, or several on the same workers; or resume an interrupted run."""
    from pyama_dask.launch.processes import early_server, forked_reading

    with early_server(wanted=likely_kind(config, changes, cluster) == "local"):
        configs = loaded_configs(
            config, changes, fovs=fovs, wells=wells, frames=frames, workers=workers, cluster=cluster, extend=extend
        )
        options: dict[str, Any] = {
            "steps": steps.split(",") if steps else None, "force": force.split(",") if force else (),
            "retry_failed": retry_failed, "extend": extend, "into": into,
        }  # fmt: skip
        with forked_reading() if configs[0].cluster.kind == "local" else nullcontext():
            if len(configs) > 1:
                from pyama_dask.cli.several import run_all

                raise typer.Exit(run_all(configs, options))
            raise typer.Exit(_run(configs[0], **options).exit_status)


@app.command()
def doctor(
    config: ConfigFile,
    wait: Annotated[float, typer.Option(help="seconds to wait for a worker")] = 300.0,
    into: Into = False,
    cluster: ClusterKind = None,
    changes: Set = None,
) -> None:
    """Check config, memory, disk, network and one worker before a long run."""
    from pyama_dask.launch import script_of
    from pyama_dask.runs.doctor import Finding, findings

    loaded = loaded_config(config, changes, cluster=cluster)
    found: list[Finding] = []
    for finding in findings(loaded, wait, into=into):
        say(f"{'ok' if finding.good else 'FIX':<6}{finding.about + ':':<10}{finding.text}")
        found.append(finding)
    if script := script_of(loaded.cluster):
        say(f"\nscript of a job:\n{script}")
    raise typer.Exit(0 if all(finding.good for finding in found) else 2)


@app.command()
def plugins(as_json: AsJson = False) -> None:
    """List the methods and models that a config can name."""
    from pyama_dask.cli.text import describe_methods
    from pyama_dask.fitting import known_models
    from pyama_dask.methods.registry import known_methods

    found = known_methods() | {"model": known_models()}
    say(json.dumps(found, indent=1) if as_json else describe_methods(found))


@app.command()
def status(outputs: OutputFolders, as_json: AsJson = False) -> None:
    """Show every FOV of outputs, or of all outputs in a folder: done, partial, failed or pending."""
    from pyama_dask.cli.text import describe_status
    from pyama_dask.runs.refused import read_statuses

    found = [document for output in outputs for document in read_statuses(output)]
    say(_joined(found if as_json else [describe_status(document) for document in found]))


@app.command()
def verify(
    output: OutputFolder,
    deep: Annotated[bool, typer.Option("--deep", help="read every file and compare checksums")] = False,
    source: Annotated[bool, typer.Option("--source", help="read the movie again and compare its frames")] = False,
    movie: Annotated[Path | None, typer.Option(help="path of the movie if it was moved (implies --source)")] = None,
) -> None:
    """Check the files of an output; the next run repairs damaged ones.

    Compares sizes, or checksums with --deep.
    """
    from rich.console import Console

    from pyama_dask.cli.text import describe_verification
    from pyama_dask.runs.verify import verify_output

    reading = "Reading the movie" if source or movie else "Reading every file" if deep else "Checking every file"
    signals = cancelled_by_signals("Stopping; the output is unchanged", "Stopped at once; the output is unchanged")
    with signals as cancel, Console(stderr=True).status(reading):
        found = verify_output(output, deep=deep, source=source or movie is not None, movie=movie, cancel=cancel)
    say(describe_verification(found))
    raise typer.Exit(0 if found.is_good else 3)


@app.command()
def demo(
    directory: Annotated[
        Path | None, typer.Argument(help="folder for the movie and its results", show_default="demo, or demo_plate")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="number of local worker processes")] = None,
    plate: Annotated[bool, typer.Option("--plate", help="a plate of 2 wells x 4 sites, which are stitched")] = False,
) -> None:
    """Make a small movie or plate, process it, and compare its traces with the truth."""
    from pyama_dask.demo import MOVIE, PLATE, demo_config, judge, make_movie, make_plate
    from pyama_dask.errors import OutputError
    from pyama_dask.files.atomic import writable
    from pyama_dask.files.manifest import writing_into

    directory = directory or Path("demo_plate" if plate else "demo")
    source, other = (MOVIE, PLATE)[:: -1 if plate else 1]
    if (directory / other).exists() or (
        directory.exists() and not (directory / "truth.csv").exists() and any(directory.iterdir())
    ):
        raise OutputError(f"{directory}: holds other files. Fix: choose another directory")
    with unfailing():
        if not (directory / source).exists():
            made = "a plate of 2 wells x 4 sites, 12 frames" if plate else "a movie of 2 FOVs, 40 frames"
            say(f"Making {made}, phase contrast and one fluorescence channel, in {directory}")
            with writable(directory), writing_into(directory, "demo") as folder:
                (make_plate if plate else make_movie)(folder)
        report = _run(demo_config(directory, workers, plate=plate))
        if not report.exit_status:
            say(judge(directory))
    raise typer.Exit(report.exit_status)


# ------------------------------------------------------------------------------------------------- helpers


def _joined(documents: Sequence[Any]) -> str:
    """Texts, one below the other; or documents as JSON, a single one without a list."""
    if all(isinstance(document, str) for document in documents):
        return "\n\n".join(documents)
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=1)


def _each(movies: Sequence[Path]) -> list[Path]:
    """Movies of the command line; of several, and of globs that no shell has expanded, each must exist."""
    from pyama_dask.config.several import expanded, is_glob

    is_single = len(movies) == 1 and not is_glob(movies[0])
    return list(movies) if is_single else expanded(list(movies))


def _check_new(path: Path, folder: Path, *, force: bool) -> None:
    """Refuse a config that exists, or that cannot be written into its folder."""
    from pyama_dask.errors import ConfigError

    if path.exists() and not force:
        raise ConfigError(f"{path}: already exists. Fix: use --force to overwrite it, or choose another name with -o")
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"{path}: cannot be written: {folder} is no folder to write to. Fix: choose another place with -o"
        )


def _from(folder: Path, movie: Path) -> Path:
    """Path of a movie for a config in a folder: relative, unless they have little of their paths in common."""
    way = Path(os.path.relpath(movie, folder))
    return movie if way.parts[:3] == ("..",) * 3 else way


def _look(metadata: Metadata) -> FirstLook | None:
    """Try the methods on some frames of a movie, if it has a channel in which cells could be found."""
    from rich.console import Console

    from pyama_dask.config.units import many
    from pyama_dask.kernels.first_calls import SCORES
    from pyama_dask.runs.compilation import compile_kernels
    from pyama_dask.runs.first_look import first_look
    from pyama_dask.runs.method_choice import METHODS
    from pyama_dask.runs.template import fitting_params, guess_channels

    pc = guess_channels(metadata)["pc"]
    if pc is None:
        return None
    frames = many(min(metadata.n_frames, 3), "frame")
    say(f"Trying the segmentation methods on {frames}; --no-look skips this", sys.stderr)
    types = [metadata.channels[pc["channel"]].dtype]
    compile_kernels(types, {*METHODS, SCORES}, partial(say, file=sys.stderr), threading.Event())
    with Console(stderr=True).status("") as status:
        found = first_look(metadata, pc["channel"], fitting_params(metadata).get("z"), status.update)
    if found is None:
        say("No method finds cells in the middle of the movie; the config has the default one")
    return found


def _show_registered(status: Status, done: int, wells: int) -> None:
    status.update(f"Registering the sites of wells: {done} of {wells}")


def _calibrate(config: Config, jobs: int | None, into: bool) -> Prediction:
    """Process one block and predict the run, for its own number of workers or for `jobs`."""
    from rich.console import Console

    from pyama_dask.launch import most_jobs, workers_in
    from pyama_dask.runs.calibrate import calibrate
    from pyama_dask.runs.timings import predict

    with cancelled_by_signals() as cancel, Console(stderr=True).status("Processing one block"):
        made, measured = calibrate(config, cancel=cancel, into=into)
    return predict(made, measured, workers_in(config.cluster, jobs or most_jobs(config.cluster)))


def _run(config: Config, **options: Any) -> RunReport:
    """Run with a progress display, and print the report."""
    from rich.console import Console

    from pyama_dask.cli.progress import RunDisplay
    from pyama_dask.cli.text import describe_report
    from pyama_dask.launch import join_allocation
    from pyama_dask.runs.driver import run
    from pyama_dask.workflow.task import WORK

    check_threads()
    join_allocation(
        config.cluster, config.output.absolute() / WORK
    )  # in a scheduler or worker process this call does not return
    with unfailing():
        with cancelled_by_signals() as cancel, RunDisplay(Console(stderr=True)) as display:
            report = run(config, cancel=cancel, **display.options, **options)
        say(describe_report(report, [] if options.get("steps") else display.results(report)))
        if report.stopped:
            say(f"pyama-dask: {report.stopped}", sys.stderr)
    return report

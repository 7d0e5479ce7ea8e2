"""Several movies on the same workers, which are never without work: each has its own output below one folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.several import expanded, names_several
from pyama_dask.errors import ClusterError, ConfigError, DiskError, OutputError, PlanError, PyamaError
from pyama_dask.execute.turns import Turns
from pyama_dask.launch import existing_client
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.driver import run
from pyama_dask.runs.run_workers import SharedPool
from pyama_dask.runs.status import PLAN, RunReport, read_status
from pyama_dask.workflow.task import WORK

GLANCE = 0.1
"""Seconds between looks whether a run has ended, or the next may begin."""
Display = Callable[[Config, int], AbstractContextManager[Mapping[str, Any]]]
"""Makes the display of a run from its config and its number: it yields ``progress`` and ``on_start`` of `run`."""


@dataclass(frozen=True)
class MovieRun:
    """End of the run of one movie."""

    config: Config
    report: RunReport | None = None
    """None if the run was refused, or another one had ended all before it began."""
    error: PyamaError | None = None
    """Reason why it was refused."""

    @property
    def output(self) -> Path:
        """Directory of the results."""
        return self.config.output

    @property
    def ends_all(self) -> bool:
        """True if no other run can go well: cancelled, disk full, or no workers."""
        if self.report is not None:
            return self.report.cancelled or self.report.stopped is not None
        return isinstance(self.error, ClusterError | DiskError)


def configs_of(document: Mapping[str, Any], source: str = "config") -> list[Config]:
    """Configs of the movies that a document names: one, or several with an output for each below its ``output``.

    Parameters
    ----------
    document
        Keys of the config; ``input`` may be a list or a glob.
    source
        Its origin, for messages.

    Raises
    ------
    ConfigError
        If a key is invalid, a movie does not exist or is named twice, or two have the same name.
    OutputError
        If the folder for the outputs is an output itself.
    """
    if not names_several(document.get("input")):
        return [parse_config(document, source)]
    try:
        movies = expanded(document["input"])
    except ConfigError as error:
        raise ConfigError(f"{source}:\n  input: {error}") from error
    each = [parse_config({**document, "input": movie}, source) for movie in movies]
    names: dict[str, Path] = {}
    for config in each:
        name = movie_stem(config.input.path)
        if name in names:
            raise ConfigError(
                f"{source}:\n  input: {names[name]} and {config.input.path} would both have the output "
                f"{config.output / name}. Fix: rename one, or give it a config with another 'output'"
            )
        names[name] = config.input.path
    if (each[0].output / PLAN).exists():
        raise OutputError(
            f"{each[0].output}: is the output of a run of one movie. Fix: choose another 'output', a folder for the "
            "outputs of all movies"
        )
    return [
        parse_config({**document, "input": movie, "output": config.output / name}, source)
        for movie, config, name in zip(movies, each, names, strict=True)
    ]


def run_several(
    configs: Sequence[Config], display: Display, cancel: threading.Event, **options: Any
) -> Iterator[MovieRun]:
    """Run several movies on the same workers; one that is refused or fails harms no other.

    Workers start once and serve all; runs on a given scheduler or allocation share that. They take the FOVs of one
    movie after the other. Each run has a thread of its own, and begins when the one before has submitted its first
    tasks: so it is planned by the time when workers would be without work. Without workers, each waits for the one
    before.

    Parameters
    ----------
    configs
        From `configs_of`; they differ in input and output only.
    display
        Display of each run; it is used in the thread of the run.
    cancel
        Set it to end the runs at work early, and to begin no other.
    options
        As for `run`.

    Yields
    ------
    The end of each run, in order; also of those that did not begin.

    Raises
    ------
    ConfigError
        If the scheduler of the config does not answer.
    """
    cluster, work = configs[0].cluster, configs[0].output.absolute().parent / WORK
    turns, begun = Turns(), list[Future[MovieRun]]()
    client = options.pop("client", None)
    with (
        existing_client(cluster, work, client) as client, SharedPool(cluster, work) as pool,
        ThreadPoolExecutor(len(configs), "pyama-movie") as threads,
    ):  # fmt: skip

        def one(number: int) -> MovieRun:
            turn = turns.turn(number)
            try:
                with display(configs[number], number) as shown:
                    return MovieRun(
                        configs[number],
                        run(configs[number], client=client, pool=pool, turn=turn, cancel=cancel, **shown, **options),
                    )
            except PyamaError as error:
                return MovieRun(configs[number], error=error)
            finally:
                turn.pass_on()

        try:
            for number, config in enumerate(configs):
                while len(begun) <= number or not begun[number].done():
                    if _may_begin(begun, len(configs), turns, overlap=cluster.kind != "serial", cancel=cancel):
                        begun.append(threads.submit(copy_context().run, one, len(begun)))
                    elif len(begun) <= number:
                        break
                    else:
                        wait([begun[number]], timeout=GLANCE)
                yield begun[number].result() if number < len(begun) else MovieRun(config)
        except BaseException:
            cancel.set()
            raise


def _may_begin(
    begun: Sequence[Future[MovieRun]], count: int, turns: Turns, *, overlap: bool, cancel: threading.Event
) -> bool:
    """True if the next run may begin: the one before has begun to work, or has ended without ending all."""
    if not begun or len(begun) == count:
        return not begun
    ended = [future.result() for future in begun if future.done() and not future.exception()]
    if cancel.is_set() or any(one.ends_all for one in ended) or any(of.done() and of.exception() for of in begun):
        return False
    return begun[-1].done() or (overlap and turns.has_begun(len(begun) - 1))


def alike(movies: Sequence[Metadata]) -> Metadata:
    """Shortest of several movies that one config suits.

    Raises
    ------
    ConfigError
        If channels or z planes differ, or two paths lead to the same movie, such as two files of one OME-TIFF.
    """
    first, paths = movies[0], dict[Path, None]()
    for movie in movies:
        for what, of in _COMPARED.items():
            if of(movie) != of(first):
                raise ConfigError(
                    f"{movie.path}: has other {what} than {first.path}. Fix: write a config for each kind of movie"
                )
        if movie.path in paths:
            raise ConfigError(f"{movie.path}: is named twice. Fix: name one file of each movie")
        paths[movie.path] = None
    return min(movies, key=lambda movie: movie.n_frames)


_COMPARED: Mapping[str, Callable[[Metadata], Any]] = {
    "channels": lambda movie: [(channel.name, channel.kind) for channel in movie.channels],
    "z planes": lambda movie: movie.z_planes > 1,
}
"""Properties in which movies with the same config must agree."""


def exit_status(ended: Sequence[MovieRun]) -> int:
    """Exit status of several runs: 0 all complete, 2 all refused, 3 some failed, 4 stopped, 130 cancelled."""
    found = {2 if one.report is None else one.report.exit_status for one in ended}
    if 130 in found:
        return 130
    if 4 in found or any(one.ends_all for one in ended):
        return 4
    return found.pop() if len(found) == 1 else 3


def with_failures(configs: Sequence[Config]) -> list[Config]:
    """Configs whose outputs have FOVs that failed when they were last tried.

    Raises
    ------
    PlanError
        If no output has any.
    """
    found = [config for config in configs if _has_failures(config.output)]
    if not found:
        folder = configs[0].output.parent
        raise PlanError(f"{folder}: no FOV has failed in its outputs. Fix: run without --retry-failed")
    return found


def _has_failures(output: Path) -> bool:
    try:
        return any(fov["status"] == "failed" for fov in read_status(output)["fovs"])
    except OutputError:  # no output yet
        return False


def outputs_below(folder: Path) -> list[Path]:
    """Outputs of runs in a folder, by name; empty if the folder is an output itself, or has none."""
    if (folder / PLAN).exists() or not folder.is_dir():
        return []
    return sorted(output for output in folder.iterdir() if (output / PLAN).is_file())

"""Traces of one output, or of the outputs of several movies, whose cells are told apart by movie, FOV and cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from pyama_dask.analysis.given_outputs import GivenOutputs, Paths, given_outputs, movie_name
from pyama_dask.analysis.overrides import GOOD, load_overrides, movies_named
from pyama_dask.analysis.trace_sources import ALIKE, Sources
from pyama_dask.config.units import quoted
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.runs.plan_settings import other_frames
from pyama_dask.runs.status import read_plan
from pyama_dask.store.trace_csv import PLACE_COLUMNS, TRACK_COLUMNS

MOVIE = "movie"
"""Column with the name of the movie, in tables of several outputs."""
Fovs = Mapping[str, list[int]]
"""FOVs by movie; the only movie of a single output is ''."""


class Outputs:
    """Sources of traces, by movie.

    Parameters
    ----------
    paths
        One output; or several, or a folder above outputs.
    good
        YAML file of overrides; for several outputs, each override in it names its movie. By default, ``good.yaml`` in
        each output, and then the one in the folder above several.
    filled
        False to leave out rows of frames in which the tracker has filled a gap.

    Raises
    ------
    OutputError
        If a path is not the output of a run.
    ConfigError, TableError
        If outputs have the same name, or a file that describes one is invalid.
    """

    def __init__(self, paths: Paths, good: str | Path | None = None, *, filled: bool = True) -> None:
        self.given: GivenOutputs = given_outputs(paths)
        self.warnings: list[str] = []
        shared = None if good is None else Path(good)
        self.movies = {
            name: Sources(path, shared, filled=filled, movie=name, warnings=self.warnings)
            for name, path in self.given.movies.items()
        }
        if self.are_several:
            self._share(shared)

    def _share(self, good: Path | None) -> None:
        """Apply a file of overrides for several outputs: the given one, or that in the folder above."""
        if good is None:
            good = self.given.common / GOOD if self.given.common else None
            if good is None or not good.exists():
                return
            for sources in self.movies.values():
                sources.shared = load_overrides(sources.output, good)
        named = movies_named(good)
        if None in named:
            raise ConfigError(
                f"{good}: overrides.{named.index(None)}: needs 'movie', as there are several outputs. Fix: name one of "
                f"{', '.join(self.movies)}, or all"
            )
        unknown = dict.fromkeys(str(name) for name in named if name != "all" and name not in self.movies)
        self.say(f"{good}: {quoted(name)} is not one of these outputs: {', '.join(self.movies)}" for name in unknown)

    @property
    def are_several(self) -> bool:
        """True if tables have a column `MOVIE`."""
        return self.given.are_several

    @property
    def name(self) -> str:
        """Paths of the outputs, for messages."""
        return str(self.given.common) if self.given.common else ", ".join(map(str, self.given.movies.values()))

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of each movie in ``samples.yaml``: also of the movie of a single output."""
        return {movie: movie or movie_name(sources.output) for movie, sources in self.movies.items()}

    @property
    def all_fovs(self) -> Fovs:
        """All FOVs."""
        return {movie: sorted(sources.fovs) for movie, sources in self.movies.items()}

    @property
    def wells(self) -> list[str]:
        """Wells of all outputs, each once."""
        return list(dict.fromkeys(well for sources in self.movies.values() for well in sources.wells))

    @property
    def cells_set(self) -> int:
        """Number of cells with overridden rows that were read."""
        return sum(len(sources.cells_set) for sources in self.movies.values())

    def say(self, warnings: Iterable[str]) -> None:
        """Add new warnings about all outputs."""
        self.warnings += [warning for warning in dict.fromkeys(warnings) if warning not in self.warnings]

    def of(self, fovs: Fovs) -> Iterator[tuple[Sources, list[int]]]:
        """Yield the sources of each movie with some of its FOVs."""
        return ((self.movies[movie], of) for movie, of in fovs.items())

    def usable(self, fovs: Fovs) -> bool:
        """True if any of these FOVs has usable traces."""
        return any(sources.usable(of) for sources, of in self.of(fovs))

    def reasons(self, fovs: Fovs) -> Iterator[str]:
        """Reasons why FOVs are left out."""
        for sources, of in self.of(fovs):
            yield from (f"{sources.movie}: {reason}" if sources.movie else reason for reason in sources.reasons(of))

    def features(self, fovs: Fovs) -> list[str]:
        """Feature columns of some FOVs, in order of appearance."""
        return list(dict.fromkeys(name for sources, of in self.of(fovs) for name in sources.features(of)))

    def track_columns(self, fovs: Fovs) -> list[str]:
        """Columns of `trace_csv.TRACK_COLUMNS` that some FOVs have, in their order."""
        there = {name for sources, of in self.of(fovs) for name in sources.track_columns(of)}
        return [name for name in TRACK_COLUMNS if name in there]

    def place_columns(self, fovs: Fovs) -> list[str]:
        """Columns that say where cells are: the movie among several, and those of `trace_csv.PLACE_COLUMNS`."""
        there = {name for sources, of in self.of(fovs) for name in sources.place_columns(of)}
        return [*([MOVIE] if self.are_several else []), *(name for name in PLACE_COLUMNS if name in there)]

    def channel_of(self, column: str) -> str:
        """Name of the channel of a feature column; '' if unknown, or if it differs between movies."""
        names = {sources.channel_of(column) for sources in self.movies.values()}
        return names.pop() if len(names) == 1 else ""

    def look(self, fovs: Fovs) -> Iterator[str]:
        """Notes on what differs between the outputs: features, names of channels, frame intervals, settings."""
        features = self.features(fovs)
        for sources, of in self.of(fovs):
            lacks = [name for name in features if of and name not in sources.features(of)]
            yield from (f"{sources.movie}: lacks {name}, which other movies have" for name in lacks)
        for name in features:
            channels = {movie: sources.channel_of(name) for movie, sources in self.movies.items()}
            if len(set(channels.values()) - {""}) > 1:
                said = ", ".join(f"{channel} in {movie}" for movie, channel in channels.items())
                yield f"{name}: is of different channels: {said}. Fix: merge only movies with the same channels"
        yield from self._other_intervals(fovs)
        settings = {movie: _settings(sources.output) for movie, sources in self.movies.items()}
        for (first, a), (second, b) in pairwise(settings.items()):
            if a and b and a != b and other_frames(a, b) is None:
                yield f"{second}: processed with other settings than {first}"

    def _other_intervals(self, fovs: Fovs) -> Iterator[str]:
        found = {sources.movie: sources.interval(of) for sources, of in self.of(fovs)}
        known = {movie: minutes for movie, minutes in found.items() if minutes}
        if known and min(known.values()) < max(known.values()) * (1 - ALIKE):
            said = ", ".join(f"{minutes:.3g} min in {movie}" for movie, minutes in known.items())
            yield f"frame intervals differ: {said}. Fix: compare values by their times, not by frames"


def _settings(output: Path) -> Mapping[str, object] | None:
    """Settings of the last run; None if they are not known."""
    try:
        plan = read_plan(output)
    except OutputError:
        return None
    settings: Mapping[str, object] | None = plan["settings"].get(plan["current"])
    return settings

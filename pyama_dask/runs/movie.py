"""The movie of a run as its config wants it: as it is, without shading, or with stitched wells instead of sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import read_file
from pyama_dask.readers import Metadata, Snapshot, look_at, read_metadata
from pyama_dask.readers.base import Tile
from pyama_dask.readers.registry import fixed_part, is_pattern
from pyama_dask.readers.views.mosaic import stitched
from pyama_dask.readers.views.shared_view import ViewedSnapshot
from pyama_dask.readers.views.view import View
from pyama_dask.runs.output_dir import CONFIG, read_config, recorded_fovs
from pyama_dask.runs.positions import POSITIONS, positions_text
from pyama_dask.runs.shading import find_shading
from pyama_dask.runs.stated import as_stated, contradicted
from pyama_dask.runs.stitching import Registering, find_positions, known_positions, tiles_of
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import IMAGES
from pyama_dask.workflow.task import fov_name


@dataclass(frozen=True)
class Movie:
    """The movie of a run, and what was found out about it."""

    snapshot: Snapshot
    metadata: Metadata
    files: Mapping[str, bytes]
    """Contents of files that the run writes to the output, by name: positions and shading that were found now."""
    warnings: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    """Reasons why FOVs cannot be processed, by name."""


def look_at_movie(config: Config, tell: Registering = lambda _done, _wells: None) -> Movie:
    """Take a snapshot of the movie of a config and read its metadata; find shading and positions of sites if need be.

    Nothing is written. FOVs have the numbers that they have in the output.

    Parameters
    ----------
    config
        Config, not yet resolved.
    tell
        Called as wells are registered; see `find_positions`.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes at this moment.
    ConfigError, TableError, ImageError, OutputError
        If its shading cannot be removed or its wells cannot be stitched as configured.
    """
    check_same_fovs(config)
    known = recorded_fovs(config.output)
    snapshot, in_file = look_at(config.input.path, known)
    metadata, warnings = as_stated(in_file, config), [*contradicted(in_file, config)]
    check_outside(config.output, metadata.path)
    shading = find_shading(config, metadata)
    metadata, files = replace(metadata, flat_field=shading.flat_field), shading.files
    warnings += shading.warnings
    problems: Mapping[str, str] = {}
    if config.params.stitch != "off":
        found = find_positions(config, metadata, known, tell)
        metadata = stitched(metadata, tiles_of(metadata, found.all, known))
        files |= {POSITIONS: positions_text(found.kept).encode()} if found.is_new else {}
        warnings += found.warnings(config)
        problems = found.problems
    is_plain = config.params.stitch == "off" and shading.flat_field is None
    seen = snapshot if is_plain else ViewedSnapshot.of(snapshot, metadata)
    return Movie(seen, metadata, files, tuple(warnings), problems)


def seen_movie(config: Config, choose: Callable[[Metadata], Sequence[int]]) -> tuple[Metadata, tuple[str, ...]]:
    """Metadata of the movie of a config, with some FOVs seen as a run would see them; nothing is written.

    Parameters
    ----------
    config
        Config, not yet resolved.
    choose
        Returns the numbers of those FOVs. It is called with the metadata, in which wells that have no positions yet
        are stitched by the stage; the chosen ones are then registered, if the config says so.

    Returns
    -------
    The metadata, and warnings about the chosen FOVs.

    Raises
    ------
    SourceError, ConfigError, TableError, ImageError
        As for `look_at_movie`.
    """
    known = recorded_fovs(config.output)
    metadata = as_stated(read_metadata(config.input.path, known=known), config)
    shading = find_shading(config, metadata)
    metadata = replace(metadata, flat_field=shading.flat_field)
    if config.params.stitch == "off":
        return metadata, tuple(shading.warnings)
    draft = stitched(metadata, tiles_of(metadata, known_positions(config, metadata, known).every, known))
    chosen = choose(draft)
    found = find_positions(choosing(config, as_ranges(chosen)), metadata, known)
    said = found.warnings(config, [draft.fovs[fov].name for fov in chosen])
    return stitched(metadata, tiles_of(metadata, found.all, known)), (*shading.warnings, *said)


def described_movie(config: Config) -> Metadata:
    """Metadata of the movie of a config, without shading; wells that have no positions yet are stitched by the stage.

    Raises
    ------
    SourceError, ConfigError, TableError
        As for `look_at_movie`.
    """
    known = recorded_fovs(config.output)
    metadata = as_stated(read_metadata(config.input.path, known=known), config)
    if config.params.stitch == "off":
        return metadata
    return stitched(metadata, tiles_of(metadata, known_positions(config, metadata, known).every, known))


def choosing(config: Config, fovs: str) -> Config:
    """Config that chooses some FOVs, whatever wells and sites it chose before."""
    others = {"wells": "all", "exclude_wells": ""} | ({"sites": "all"} if config.params.stitch == "off" else {})
    return config.model_copy(update={"params": config.params.model_copy(update={"fovs": fovs} | others)})


def check_outside(output: Path, movie: Path) -> None:
    """Refuse an output within the folder of the movie, into which nothing is ever written; raises `ConfigError`."""
    folder = fixed_part(movie) if is_pattern(movie) else movie
    if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"output: {output} is within the movie {movie}. Fix: choose an 'output' outside of it")


def check_same_fovs(config: Config) -> None:
    """Refuse an output whose FOVs are sites if those of the config are stitched wells, and the other way round."""
    before = read_config(config.output)
    if before is not None and (before.params.stitch == "off") != (config.params.stitch == "off"):
        raise OutputError(
            f"{config.output}: was made with 'stitch: {before.params.stitch}', so that its FOVs are others. "
            "Fix: choose another 'output'"
        )


def recorded_view(output: Path, metadata: Metadata) -> View:
    """View with which the frames of an output were copied.

    Parameters
    ----------
    output
        Output of a run.
    metadata
        Of its movie with FOVs as they are in the file.

    Raises
    ------
    ConfigError, ImageError
        If a profile of the shading cannot be read.
    """
    config = read_config(output)
    shading = find_shading(config.model_copy(update={"output": output}), metadata).flat_field if config else None
    return View(recorded_wells(output), shading)


def recorded_wells(output: Path) -> dict[str, tuple[Tile, ...]]:
    """Tiles of the stitched wells of an output as they were copied, by name; empty if its FOVs are not stitched."""
    found: dict[str, tuple[Tile, ...]] = {}
    with suppress(OSError, yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        for fov in load_yaml(read_file(output / CONFIG))["metadata"]["fovs"]:
            tiles = fov.get("tiles", [])
            with suppress(OSError, ValueError):  # a FOV that was not processed yet
                tiles = read_attributes(output / fov_name(fov["fov"]) / IMAGES).get("tiles", tiles)
            if tiles:
                found[str(fov["name"])] = tuple(Tile(*tile) for tile in tiles)
    return found

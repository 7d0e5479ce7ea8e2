"""Stitching: where the sites of the wells of a movie lie, from the table of positions, the stage, or registration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from pyama_dask.config.models import Config
from pyama_dask.config.units import many, parse_selection
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import read_file
from pyama_dask.kernels.mosaic import lay_out
from pyama_dask.kernels.placement import place
from pyama_dask.kernels.registration import Offset, pair_offsets
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata, Reader, Snapshot, look_at, read_metadata, reopen
from pyama_dask.readers.base import Tile, planes_of
from pyama_dask.readers.mosaic import Wells, sites_by_well, stitched
from pyama_dask.readers.shared_mosaic import StitchedSnapshot
from pyama_dask.runs.output_dir import CONFIG, read_config, recorded_fovs
from pyama_dask.runs.positions import POSITIONS, Position, positions_text, read_positions
from pyama_dask.steps.copy_frames import read_planes
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import IMAGES
from pyama_dask.workflow.task import fov_name

Positions = Mapping[str, Sequence[Position]]
"""Positions of the sites of each well."""
_REMEDY = "check 'pyama-dask positions', and edit the table if need be"


@dataclass(frozen=True)
class Movie:
    """The movie of a run as its config wants it: with sites as FOVs, or with stitched wells."""

    snapshot: Snapshot
    metadata: Metadata
    tables: Mapping[str, str]
    """Texts of tables that the run writes to the output, by name."""
    warnings: tuple[str, ...] = ()


def look_at_movie(config: Config) -> Movie:
    """Take a snapshot of the movie of a config and read its metadata; stitch its wells if the config wants that.

    Nothing is written. FOVs have the numbers that they have in the output.

    Parameters
    ----------
    config
        Config, not yet resolved.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes at this moment.
    ConfigError, TableError, OutputError
        If its wells cannot be stitched as configured.
    """
    check_same_fovs(config)
    known = recorded_fovs(config.output)
    snapshot, metadata = look_at(config.input, known)
    if config.params.stitch == "off":
        return Movie(snapshot, metadata, {})
    found = find_positions(config, metadata)
    whole = stitched(metadata, tiles_of(metadata, found.all, known))
    tables = {POSITIONS: positions_text(at for of in found.kept.values() for at in of)} if found.is_new else {}
    return Movie(StitchedSnapshot.of(snapshot, whole), whole, tables, tuple(found.warnings(config)))


def metadata_of(config: Config) -> Metadata:
    """Metadata of the movie of a config; wells that have no positions yet are stitched by the stage.

    Raises
    ------
    SourceError, ConfigError, TableError
        As for `look_at_movie`.
    """
    known = recorded_fovs(config.output)
    metadata = read_metadata(config.input, known=known)
    if config.params.stitch == "off":
        return metadata
    return stitched(metadata, tiles_of(metadata, known_positions(config, metadata)[1], known))


def check_same_fovs(config: Config) -> None:
    """Refuse an output whose FOVs are sites if those of the config are stitched wells, and the other way round."""
    before = read_config(config.output)
    if before is not None and (before.params.stitch == "off") != (config.params.stitch == "off"):
        raise OutputError(
            f"{config.output}: was made with 'stitch: {before.params.stitch}', so that its FOVs are others. "
            "Fix: choose another 'output'"
        )


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


# ------------------------------------------------------------------------------------------------- positions


@dataclass(frozen=True)
class Found:
    """Positions of the sites of all wells."""

    kept: Positions
    """Positions that are in the table of the output, or will be."""
    all: Positions
    """The same, and those of other wells as the stage has them."""
    is_new: bool
    """True if wells were added to the table."""
    left_out: Mapping[str, Sequence[int]]
    """Sites of the movie that are not in the table, by well."""
    refused: Mapping[str, int]
    """Number of pairs of neighbours that do not count, in wells that were registered now by other pairs."""

    def warnings(self, config: Config) -> Iterator[str]:
        """Yield warnings about positions."""
        if config.params.stitch == "register":
            if self.kept and all(at.ncc is None for of in self.kept.values() for at in of):
                yield f"{config.output / POSITIONS}: has positions of the stage. Fix: delete it to register the sites"
            yield from filter(None, (_doubt(well, of) for well, of in self.kept.items()))
        for well, count in self.refused.items():
            yield f"{well}: {many(count, 'pair')} of neighbouring sites did not count. Fix: {_REMEDY}"
        for well, sites in self.left_out.items():
            listed = ", ".join(map(str, sites))
            yield f"{well}: left out site {listed}, which {POSITIONS} does not have. Fix: delete the rows of the well"


def _doubt(well: str, positions: Sequence[Position]) -> str | None:
    """Warning about sites of a well that could not be registered; None without such sites."""
    doubtful = [at for at in positions if at.source == "stage" and at.ncc is not None]
    if not doubtful or len(positions) < 2:
        return None
    if len(doubtful) == len(positions):
        best = max(at.ncc or 0 for at in doubtful)
        why = f"largest NCC {best:.2f}" if best else "no overlap, or nothing to see in it"
        what = f"no site could be registered ({why})"
    else:
        listed = ", ".join(str(at.site) for at in doubtful)
        what = f"{many(len(doubtful), 'site')} ({listed}) could not be registered with the others"
    return f"{well}: {what}, so that the stage's positions are used. Fix: {_REMEDY}"


def find_positions(config: Config, metadata: Metadata) -> Found:
    """Find the positions of the sites of all wells.

    Those in the table of the output stay. Others are found for the wells that the config chooses; for wells that are
    left out, the stage's word is enough.

    Parameters
    ----------
    config
        Config, not yet resolved.
    metadata
        Of the movie with sites as FOVs.

    Raises
    ------
    ConfigError
        If the movie has no wells, or lacks positions of the stage.
    TableError
        If the table is wrong.
    """
    held = sites_by_well(metadata)
    kept, every = known_positions(config, metadata)
    left_out = {well: lost for well, of in kept.items() if (lost := sorted({*held[well]} - {at.site for at in of}))}
    draft = stitched(metadata, tiles_of(metadata, every, ()))
    resolved = resolve(config, draft)
    chosen = [draft.fovs[fov].name for fov in parse_selection(resolved.params.fovs)]
    new = {well: every[well] for well in chosen if well not in kept}
    refused: dict[str, int] = {}
    if new and config.params.stitch == "register":
        with reopen(metadata) as reader:
            registration = Registration(resolved, metadata, reader)
            for well in new:
                new[well], refused[well] = registration.of_well(well)
    both = {**kept, **new}
    ordered = {well: both[well] for well in held if well in both}
    some = {
        well: count for well, count in refused.items() if count and any(at.source == "register" for at in new[well])
    }
    return Found(ordered, {**every, **ordered}, bool(new), left_out, some)


def known_positions(config: Config, metadata: Metadata) -> tuple[dict[str, list[Position]], dict[str, list[Position]]]:
    """Positions in the table of the output, and these with those of all other wells as the stage has them.

    Raises
    ------
    ConfigError, TableError
        As for `find_positions`.
    """
    held = sites_by_well(metadata)
    if not held:
        raise ConfigError(f"params.stitch: {metadata.path.name} has no wells. Fix: set it to off")
    if config.params.sites != "all":
        raise ConfigError(f"params.sites: cannot choose sites to stitch. Fix: leave it out, or edit {POSITIONS}")
    kept = read_positions(config.output / POSITIONS, held)
    return kept, {well: kept.get(well) or stage_positions(metadata, well, of) for well, of in held.items()}


def stage_positions(metadata: Metadata, well: str, sites: Mapping[int, int]) -> list[Position]:
    """Positions of the sites of a well as the stage states them.

    Parameters
    ----------
    metadata
        Of the movie with sites as FOVs.
    well
        Name of the well.
    sites
        FOVs of its sites.

    Raises
    ------
    ConfigError
        If the movie states no positions, or no size of pixels.
    """
    at = [metadata.fovs[fov].position_um for fov in sites.values()]
    known = [place for place in at if place is not None]
    if len(sites) == 1:
        return as_positions(well, sites, np.zeros((1, 2)))
    if metadata.pixel_size_um is None or len(known) < len(at):
        lacks = "no size of its pixels" if metadata.pixel_size_um is None else f"no stage position of a site of {well}"
        raise ConfigError(
            f"params.stitch: {metadata.path.name} states {lacks}. Fix: write the positions of all sites to {POSITIONS} "
            "in the output, with the columns well, site, y, x in pixels"
        )
    return as_positions(well, sites, np.array(known)[:, ::-1] / metadata.pixel_size_um)


def as_positions(well: str, sites: Iterable[int], corners: npt.NDArray[np.float64]) -> list[Position]:
    """Positions of sites from (N, 2) y, x of their corners or centres in pixels; they count from the least."""
    relative = np.round(corners - corners.min(0), 2).tolist()
    return [Position(well, site, y, x, "stage") for site, (y, x) in zip(sites, relative, strict=True)]


def tiles_of(metadata: Metadata, positions: Positions, known: Sequence[str]) -> Wells:
    """Places of the sites on whole pixels.

    Parameters
    ----------
    metadata
        Of the movie with sites as FOVs.
    positions
        Of all wells.
    known
        Names of wells whose numbers are known, in this order; others follow.
    """
    held = sites_by_well(metadata)
    order = [*(well for well in known if well in positions), *(well for well in positions if well not in known)]
    found: dict[str, tuple[Tile, ...]] = {}
    for well in order:
        of = positions[well]
        mosaic = lay_out([(at.y, at.x) for at in of], metadata.fovs[held[well][of[0].site]].shape)
        found[well] = tuple(Tile(at.site, *corner) for at, corner in zip(of, mosaic.corners, strict=True))
    return found


# ---------------------------------------------------------------------------------------------- registration


class Registered(NamedTuple):
    """Positions of the sites of a well, and the number of pairs that do not count if others do."""

    positions: list[Position]
    refused: int


def registered_channel(config: Config) -> int:
    """Channel of a resolved config by which sites are registered: by default phase contrast, if there is one."""
    given = config.params.stitch_params.channel
    return int(config.channels.all[0].channel if given is None else given)


class Registration:
    """Registration of the sites of wells: on the mean of a few frames, once per well.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie with sites as FOVs.
    reader
        Open movie.
    """

    def __init__(self, config: Config, metadata: Metadata, reader: Reader) -> None:
        self._params, self._metadata, self._reader = config.params, metadata, reader
        self._sites = sites_by_well(metadata)
        self._channel = registered_channel(config)

    def of_well(self, well: str) -> Registered:
        """Register the sites of a well; those that cannot be registered stay where the stage has them."""
        sites = self._sites[well]
        stage = stage_positions(self._metadata, well, sites)
        at = np.array([(one.y, one.x) for one in stage])
        frames = self._frames(list(sites.values()))
        if not frames or len(sites) < 2:
            return Registered([replace(one, ncc=0.0) for one in stage], 0)
        images = [self._mean(fov, frames) for fov in sites.values()]
        offsets = pair_offsets(images, at, self._params.stitch_params.max_shift)
        placement = place(at, offsets)
        largest = np.bincount(placement.groups).argmax()
        positions = [
            replace(one, source="register" if group == largest and placement.used else "stage", ncc=_best(k, offsets))
            for k, (one, group) in enumerate(
                zip(as_positions(well, sites, placement.positions), placement.groups, strict=True)
            )
        ]
        return Registered(positions, len(placement.refused) if placement.used else 0)

    def _frames(self, fovs: Sequence[int]) -> list[int]:
        """Frames that all sites have, spread over the movie."""
        planes = planes_of(self._params.z, self._metadata.z_planes)
        lacking = set[int]().union(*(self._metadata.fovs[fov].lacking([self._channel], planes) for fov in fovs))
        whole = [frame for frame in parse_selection(self._params.frames) if frame not in lacking]
        wanted = min(self._params.stitch_params.frames, len(whole))
        return [whole[k] for k in np.linspace(0, len(whole) - 1, wanted).astype(int)] if wanted else []

    def _mean(self, fov: int, frames: Sequence[int]) -> npt.NDArray[np.float32]:
        """(H, W) mean of frames of a site."""
        planes = (read_planes(self._reader, fov, frame, [self._channel], self._params.z)[0] for frame in frames)
        total = np.zeros(self._metadata.fovs[fov].shape, np.float32)
        for plane in planes:
            total += plane
        return total / np.float32(len(frames))


def _best(site: int, offsets: Mapping[tuple[int, int], Offset]) -> float:
    """Largest correlation of a site with a neighbour, rounded as in the table."""
    return round(max((of.ncc for pair, of in offsets.items() if site in pair), default=0.0), 2)

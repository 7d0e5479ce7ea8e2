"""Stitching: where the sites of the wells of a movie lie, from the table of positions, the stage, or registration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.config.units import many, parse_selection
from pyama_dask.errors import ConfigError, MissingFrameError, SourceError
from pyama_dask.kernels.mosaic import lay_out
from pyama_dask.kernels.placement import Placement, place
from pyama_dask.kernels.registration import Offset, pair_offsets
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata, Reader, reopen
from pyama_dask.readers.base import Tile, planes_of
from pyama_dask.readers.views.mosaic import Wells, sites_by_well, stitched
from pyama_dask.runs.positions import POSITIONS, Position, read_positions
from pyama_dask.runs.shading import spread
from pyama_dask.steps.copy_frames import read_planes

Positions = Mapping[str, Sequence[Position]]
"""Positions of the sites of each well."""
AT_ONCE = 4
"""Number of wells that are registered together, whose sites are in memory."""
_REMEDY = "check 'pyama-dask positions', and edit the table if need be"


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
    notes: Sequence[str]
    """Warnings about wells that were registered now."""

    def warnings(self, config: Config) -> list[str]:
        """Warnings about positions."""
        found = list(self.notes)
        if config.params.stitch == "register":
            if self.kept and all(at.source == "stage" and at.ncc is None for of in self.kept.values() for at in of):
                found.append(f"{POSITIONS}: has positions of the stage. Fix: delete it to register the sites")
            found += filter(None, (_doubt(well, of) for well, of in self.kept.items()))
        for well, sites in self.left_out.items():
            lost = ", ".join(map(str, sites))
            found.append(f"{well}: left out site {lost}, which {POSITIONS} does not have. Fix: delete the well's rows")
        return found


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
    new, notes = {well: every[well] for well in chosen if well not in kept}, list[str]()
    if new and config.params.stitch == "register":
        new, notes = registered(resolved, metadata, new)
    both = {**kept, **new}
    ordered = {well: both[well] for well in held if well in both}
    return Found(ordered, {**every, **ordered}, bool(new), left_out, notes)


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


def registered(config: Config, metadata: Metadata, wells: Iterable[str]) -> tuple[dict[str, list[Position]], list[str]]:
    """Register the sites of wells.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie with sites as FOVs.
    wells
        Names of the wells.

    Returns
    -------
    Positions by well, without wells that cannot be read now, and warnings.
    """
    names = list(wells)
    with reopen(metadata) as reader, ThreadPoolExecutor(AT_ONCE) as threads:
        every = list(threads.map(Registration(config, metadata, reader).of_well, names))
    found = {well: positions for well, (positions, _) in zip(names, every, strict=True) if positions}
    return found, [note for _, notes in every for note in notes]


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

    def of_well(self, well: str) -> tuple[list[Position], list[str]]:
        """Register the sites of a well; those that cannot be registered stay where the stage has them.

        Returns
        -------
        Positions, none if the well cannot be read now; and warnings.
        """
        try:
            return self._registered(well)
        except (SourceError, MissingFrameError) as error:
            return [], [f"{well}: was not registered: {error}"]

    def _registered(self, well: str) -> tuple[list[Position], list[str]]:
        sites = self._sites[well]
        stage = stage_positions(self._metadata, well, sites)
        if len(sites) < 2:
            return [replace(one, ncc=0.0) for one in stage], []
        at, frames = np.array([(one.y, one.x) for one in stage]), self._frames(list(sites.values()))
        images = [self._mean(fov, frames) for fov in sites.values()]
        offsets = pair_offsets(images, at, self._params.stitch_params.max_shift)
        placement = place(at, offsets)
        together = (placement.groups == np.bincount(placement.groups).argmax()) & bool(placement.used)
        positions = [
            replace(one, source="register" if of else "stage", ncc=_best(k, offsets))
            for k, (one, of) in enumerate(zip(as_positions(well, sites, placement.positions), together, strict=True))
        ]
        return positions, list(_notes(well, list(sites), placement))

    def _frames(self, fovs: Sequence[int]) -> list[int]:
        """Frames that all sites have, spread over the movie."""
        planes = planes_of(self._params.z, self._metadata.z_planes)
        lacking = set[int]().union(*(self._metadata.fovs[fov].lacking([self._channel], planes) for fov in fovs))
        whole = [frame for frame in parse_selection(self._params.frames) if frame not in lacking]
        if not whole:
            raise MissingFrameError("there is no frame that all of its sites have")
        return spread(whole, self._params.stitch_params.frames)

    def _mean(self, fov: int, frames: Sequence[int]) -> npt.NDArray[np.float32]:
        """(H, W) mean of frames of a site."""
        planes = (read_planes(self._reader, fov, frame, [self._channel], self._params.z)[0] for frame in frames)
        total = np.zeros(self._metadata.fovs[fov].shape, np.float32)
        for plane in planes:
            total += plane
        return total / np.float32(len(frames))


def _notes(well: str, sites: Sequence[int], placement: Placement) -> Iterator[str]:
    """Yield a warning about pairs of neighbours that do not count, if others do."""
    if placement.used and placement.refused:
        pairs = [f"{sites[i]} and {sites[j]} {reason}" for (i, j), reason in placement.refused.items()]
        listed = "; ".join([*pairs[:3], *(["..."] if len(pairs) > 3 else [])])
        yield f"{well}: {many(len(pairs), 'pair')} of sites did not count ({listed}). Fix: {_REMEDY}"


def _best(site: int, offsets: Mapping[tuple[int, int], Offset]) -> float:
    """Largest correlation of a site with a neighbour, rounded as in the table."""
    return round(max((of.ncc for pair, of in offsets.items() if site in pair), default=0.0), 2)

"""Stitching: where the sites of the wells of a movie lie, from the table of positions, the stage, or registration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.config.units import many, parse_selection
from pyama_dask.errors import ConfigError, MissingFrameError, SourceError
from pyama_dask.files.threads import Threads
from pyama_dask.kernels.mosaic import lay_out
from pyama_dask.kernels.placement import Placement, place
from pyama_dask.kernels.registration import Offset
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata, Reader, reopen
from pyama_dask.readers.base import Tile, planes_of
from pyama_dask.readers.frames import read_planes
from pyama_dask.readers.views.mosaic import Wells, sites_by_well, stitched
from pyama_dask.runs.positions import POSITIONS, Position, read_positions
from pyama_dask.runs.shading import spread
from pyama_dask.runs.site_offsets import check_method, site_offsets
from pyama_dask.runs.unplaced_sites import why_unplaced

Positions = Mapping[str, Sequence[Position]]
"""Positions of the sites of each well."""
Registering = Callable[[int, int], None]
"""Called with the number of wells that are registered, and of those to register."""
LARGEST_IMAGE = 2**26
"""Pixels of a well's image that are accepted even if most of them are empty."""
SPARSEST = 20
"""Pixels of a larger image for each pixel of a site, at most."""
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
    problems: Mapping[str, str]
    """Reasons why chosen wells cannot be stitched, while others can."""

    def warnings(self, config: Config, wells: Collection[str] | None = None) -> list[str]:
        """Warnings about positions: of all wells, or of some."""
        found = list(self.notes)
        kept = {well: of for well, of in self.kept.items() if wells is None or well in wells}
        if config.params.stitch == "register":
            if kept and all(at.source == "stage" and at.ncc is None for of in kept.values() for at in of):
                found.append(f"{POSITIONS}: has positions of the stage. Fix: delete it to register the sites")
            found += filter(None, (_doubt(well, of) for well, of in kept.items()))
        for well, sites in ((well, of) for well, of in self.left_out.items() if well in kept):
            lost = f"site{'s' * (len(sites) > 1)} {', '.join(map(str, sites))}"
            found.append(f"{well}: left out {lost}, which {POSITIONS} does not have. Fix: delete the well's rows")
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


def find_positions(
    config: Config, metadata: Metadata, names: Sequence[str] = (), tell: Registering = lambda _done, _wells: None
) -> Found:
    """Find the positions of the sites of all wells.

    Those in the table of the output stay. Others are found for the wells that the config chooses; for wells that are
    left out, the stage's word is enough.

    Parameters
    ----------
    config
        Config, not yet resolved.
    metadata
        Of the movie with sites as FOVs.
    names
        Wells whose numbers are known, in this order; others follow.
    tell
        Called before the first well is registered, and after each one.

    Raises
    ------
    ConfigError
        If the movie has no wells, or no chosen well can be stitched: positions of the stage are absent or absurd, or
        its sites differ in size.
    TableError
        If the table is wrong.
    """
    held = sites_by_well(metadata)
    known = known_positions(config, metadata, names)
    kept = known.kept
    left_out = {well: lost for well, of in kept.items() if (lost := sorted({*held[well]} - {at.site for at in of}))}
    to_find = [well for well in known.chosen if well not in kept and well not in known.faults]
    new, notes = {well: list(known.every[well]) for well in to_find}, list[str]()
    if new and config.params.stitch == "register":
        new, notes = registered(known.resolved, metadata, new, tell)
    both: dict[str, Sequence[Position]] = {**kept, **new}
    ordered = {well: both[well] for well in held if well in both}
    used = {well: of for well, of in ordered.items() if well not in known.faults}
    problems = {
        well: why_unplaced(known.resolved, metadata, well, registered_channel(known.resolved)) or known.faults[well]
        for well in known.chosen
        if well in known.faults
    }
    return Found(ordered, {**known.every, **used}, bool(new), left_out, notes, problems)


@dataclass(frozen=True)
class Known:
    """Positions before any well is registered."""

    kept: Positions
    """Those in the table of the output."""
    every: Positions
    """The same, and those of all other wells as the stage has them."""
    resolved: Config
    """Config for the stitched movie."""
    chosen: Sequence[str]
    """Wells that it chooses."""
    faults: Mapping[str, str]
    """Reasons why wells cannot be stitched; their first sites stand for them in `every`."""


def known_positions(config: Config, metadata: Metadata, names: Sequence[str] = ()) -> Known:
    """Find positions without registering wells.

    The first site of a well that cannot be stitched stands for it.

    Parameters
    ----------
    config, metadata, names
        As for `find_positions`.

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
    kept, faults = read_positions(config.output / POSITIONS, held), dict[str, ConfigError]()
    every: dict[str, list[Position]] = {}
    for well, sites in held.items():
        try:
            every[well] = kept.get(well) or stage_positions(metadata, well, sites)
            _check_image(metadata, every[well], sites)
        except ConfigError as error:
            faults[well] = error
            every[well] = [Position(well, min(sites), 0, 0, "stage")]
    draft = stitched(metadata, tiles_of(metadata, every, names))
    resolved = resolve(config, draft)
    chosen = [draft.fovs[fov].name for fov in parse_selection(resolved.params.fovs)]
    if all(well in faults for well in chosen):
        raise faults[chosen[0]]
    return Known(kept, every, resolved, chosen, {well: str(fault) for well, fault in faults.items()})


def _check_image(metadata: Metadata, positions: Sequence[Position], sites: Mapping[int, int]) -> None:
    """Refuse sites that differ in size, or lie so far apart that the image of the well would be empty and huge."""
    of = [metadata.fovs[sites[at.site]] for at in positions]
    well, shape = positions[0].well, of[0].shape
    if other := next((fov for fov in of if fov.shape != shape), None):
        raise ConfigError(
            f"params.stitch: {metadata.path.name}: {other.name} has another size than {of[0].name}. Fix: set it to "
            f"off, leave out {well} with 'exclude_wells', or leave out the site in {POSITIONS}"
        )
    at = np.array([(one.y, one.x) for one in positions])
    height, width = np.ceil(np.ptp(at, axis=0) + shape).tolist()
    if height * width > max(LARGEST_IMAGE, SPARSEST * len(of) * shape[0] * shape[1]):
        raise ConfigError(
            f"params.stitch: the image of {well} would have {width:.3g} x {height:.3g} pixels, most of them empty. "
            f"Fix: check its positions and the size of the pixels, leave out {well} with 'exclude_wells', or write the "
            f"positions to {POSITIONS} in the output"
        )


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
        is_scaled, name = metadata.pixel_size_um is not None, metadata.path.name
        lacks = f"no stage position of a site of {well}" if is_scaled else "no size of its pixels"
        other = f"leave out {well} with 'exclude_wells'" if is_scaled else "set 'params.pixel_size'"
        raise ConfigError(
            f"params.stitch: {name} states {lacks}. Fix: write the positions of all sites to {POSITIONS} in the "
            f"output, with the columns well, site, y, x in pixels, or {other}"
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


def registered(
    config: Config, metadata: Metadata, wells: Iterable[str], tell: Registering
) -> tuple[dict[str, list[Position]], list[str]]:
    """Register the sites of wells.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie with sites as FOVs.
    wells
        Names of the wells.
    tell
        Called before the first well is registered, and after each one.

    Returns
    -------
    Positions by well, without wells that cannot be read now, and warnings.

    Raises
    ------
    ConfigError
        If the method needs a package that is not installed, or that fails.
    """
    check_method(config.params.stitch_params)
    names, every = list(wells), list[tuple[list[Position], list[str]]]()
    tell(0, len(names))
    with reopen(metadata) as reader, Threads(AT_ONCE, "stitching") as threads:
        for of in threads.map(Registration(config, metadata, reader).of_well, names):
            every.append(of)
            tell(len(every), len(names))
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
            return [], [f"{well}: was not registered, so that the stage's positions are used: {error}"]

    def _registered(self, well: str) -> tuple[list[Position], list[str]]:
        sites = self._sites[well]
        stage = stage_positions(self._metadata, well, sites)
        if len(sites) < 2:
            return [replace(one, ncc=0.0) for one in stage], []
        at, frames = np.array([(one.y, one.x) for one in stage]), self._frames(list(sites.values()))
        images = [self._mean(fov, frames) for fov in sites.values()]
        offsets, notes = site_offsets(well, list(sites), images, at, self._params.stitch_params)
        placement = place(at, offsets)
        together = (placement.groups == np.bincount(placement.groups).argmax()) & bool(placement.used)
        positions = [
            replace(one, source="register" if of else "stage", ncc=_best(k, offsets))
            for k, (one, of) in enumerate(zip(as_positions(well, sites, placement.positions), together, strict=True))
        ]
        return positions, [*notes, *_notes(well, list(sites), placement)]

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

"""FOVs that a config chooses: by number or name, by well, and by site; and whether they can be written as a plate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pyama_dask.config.fov_selection import FovPlace, chosen_fov, chosen_fovs
from pyama_dask.config.models import Config, Params
from pyama_dask.config.units import as_ranges, parse_selection
from pyama_dask.config.wells import select_wells
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata
from pyama_dask.store.plate import images_in_plate


def find_fov(fov: int | str, metadata: Metadata) -> int:
    """Number of a FOV of a movie, by number, name, or well with one site.

    Raises
    ------
    ConfigError
        If there is no such FOV, or several.
    """
    try:
        return chosen_fov(str(fov), places_in(metadata), metadata.path.name)
    except ValueError as error:
        raise ConfigError(f"fov: {error}") from error


def places_in(metadata: Metadata) -> list[FovPlace]:
    """Names and wells of a movie's FOVs, by number."""
    return [FovPlace(k, fov.name, fov.well, fov.site) for k, fov in enumerate(metadata.fovs)]


def find_fovs(params: Params, metadata: Metadata) -> list[int]:
    """Numbers of the chosen FOVs, ascending.

    Raises
    ------
    ConfigError
        If a FOV, a well or a site does not exist, or none is left; the message names the key.
    """
    places = places_in(metadata)
    with _named("fovs"):
        fovs = set(chosen_fovs(params.fovs, places, metadata.path.name))
    wells, sites = _wells(params, metadata), _sites(params, metadata)
    left = [
        place.fov
        for place in places
        if place.fov in fovs and (wells is None or place.well in wells) and (sites is None or place.site in sites)
    ]
    if not left:
        raise ConfigError("params.fovs: no FOV is left. Fix: check fovs, wells, exclude_wells and sites together")
    return left


def fovs_by_well(fovs: Iterable[int], metadata: Metadata) -> dict[str, list[int]]:
    """Group FOVs by well, in their order.

    Parameters
    ----------
    fovs
        Numbers of FOVs.
    metadata
        Of their movie.

    Returns
    -------
    FOVs by the name of their well, such as ``B02``; if the FOVs are of several plates, with the name of the plate
    before it: ``Plate1 B02``. A FOV outside of wells has its number: ``FOV 3``.
    """
    chosen = {fov: metadata.fovs[fov] for fov in fovs}
    is_one_plate = len({info.plate for info in chosen.values()}) == 1
    found: dict[str, list[int]] = {}
    for fov, info in chosen.items():
        plate = "" if is_one_plate or info.plate is None else f"{info.plate} "
        found.setdefault(f"FOV {fov}" if info.well is None else f"{plate}{info.well}", []).append(fov)
    return found


def check_plate(config: Config, metadata: Metadata, fovs: Sequence[int]) -> None:
    """Refuse a plate as the result if FOVs have no place in it.

    Raises
    ------
    ConfigError
        If a FOV is in no well, or they are of several plates.
    """
    if config.storage.layout != "plate":
        return
    images, name = images_in_plate(metadata.fovs), metadata.path.name
    if outside := [fov for fov in fovs if fov not in images]:
        what = "has no wells" if not images else f"has no well for FOV {outside[0]} ({metadata.fovs[outside[0]].name})"
        raise ConfigError(
            f"storage.layout: {name} {what}, so that it cannot be written as a plate. "
            "Fix: set storage.layout to fovs, or choose FOVs in wells"
        )
    if len(plates := {metadata.fovs[fov].plate for fov in fovs}) > 1:
        raise ConfigError(
            f"storage.layout: {name} has {len(plates)} plates, but an output has one. Fix: run each plate with its own "
            "params.fovs and 'output'"
        )


def _wells(params: Params, metadata: Metadata) -> set[str] | None:
    """Chosen wells; None if wells do not matter."""
    if params.wells == "all" and not params.exclude_wells:
        return None
    there = list(dict.fromkeys(fov.well for fov in metadata.fovs if fov.well is not None))
    if not there:
        raise ConfigError(f"params.wells: {metadata.path.name} has no wells. Fix: choose with params.fovs")
    with _named("wells"):
        chosen = set(select_wells(params.wells, there))
    with _named("exclude_wells"):
        return chosen.difference(select_wells(params.exclude_wells, there) if params.exclude_wells else ())


def _sites(params: Params, metadata: Metadata) -> set[int] | None:
    """Chosen sites; None if sites do not matter."""
    if params.sites == "all":
        return None
    sites = set(parse_selection(params.sites))
    there = sorted({fov.site for fov in metadata.fovs if fov.site is not None})
    if unknown := sites.difference(there):
        known = f"whose sites are {as_ranges(there)}" if there else "which has no sites. Fix: choose with params.fovs"
        raise ConfigError(f"params.sites: {min(unknown)} is not a site in {metadata.path.name}, {known}")
    return sites


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Name the key in errors about a selection."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"params.{key}: {error}") from error

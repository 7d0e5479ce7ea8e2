"""Notes on ImageXpress plates: what is there and what their HTD file announces, copies, and single images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pyama_dask.config.units import as_ranges, many
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.imagexpress.htd import PlateDescription
from pyama_dask.readers.imagexpress.metaseries import Head
from pyama_dask.readers.imagexpress.sites import Site
from pyama_dask.readers.imagexpress.table import Copies, Table

_NAMED = 12
"""Largest number of items that a note names."""
_LABEL = re.compile(r"([A-Z]{1,2}\d\d) : Site (\d+)")


def announced_notes(description: PlateDescription, table: Table) -> Iterator[str]:
    """Notes on what the HTD file announces.

    Parameters
    ----------
    description
        Content of the HTD file.
    table
        Planes of the plate.
    """
    held = int(np.flatnonzero((table.file != ABSENT).any(axis=(0, 2, 3))).max(initial=-1)) + 1
    if description.frames != held:
        rest = "the others are missing" if description.frames > held else "all are used"
        yield f"announces {many(description.frames, 'frame')}, but holds {held}; {rest}"
    if description.z_planes > 1 and description.z_planes != table.file.shape[3]:
        yield f"announces {many(description.z_planes, 'z plane')}, but holds {table.file.shape[3]}"
    waves = [n for n in range(1, description.channels + 1) if n not in table.waves]
    if waves:
        yield f"announces channels without images: {_listed(_title(description.names.get(n), n) for n in waves)}"
    wells = dict.fromkeys(well for well, _ in table.sites)
    if empty := [well for well in description.wells if well not in wells]:
        yield f"announces wells without images: {_listed(empty)}"
    there = set(table.sites)
    sites = [(well, site) for well in wells for site in range(1, description.sites + 1)]
    if empty := [f"{well} s{site}" for well, site in sites if (well, site) not in there]:
        yield f"announces sites without images: {_listed(empty)}"


def copy_notes(copies: Copies, names: Sequence[str]) -> Iterator[str]:
    """Notes on planes that an export has filled with copies; `names` are the names of channels."""
    for channel, frames in copies.frames.items():
        yield (
            f"{names[channel]} was not taken in frame{'s' * (len(frames) > 1)} {as_ranges(frames)}: the images there "
            "are copies of earlier ones, with the same time; these planes are missing"
        )
    for channel in copies.stacks:
        yield f"{names[channel]} is no stack: the same image is stored for every z plane"


def single_notes(table: Table, heads: Sequence[Head | None], names: Sequence[str]) -> Iterator[str]:
    """Notes on channels with one image for all z planes, and on those with projections instead of planes."""
    for channel in table.single:
        yield f"{names[channel]} is no stack: it has one image, which is used for every z plane"
    for head, name in zip(heads, names, strict=True):
        method = head and head.value("Z Projection Method")
        if method:
            yield f"{name} has projections over z ({method}) instead of planes"


def label_notes(table: Table, sites: Sequence[Site | None]) -> Iterator[str]:
    """Note on images whose stage label names another well or site than their file name."""
    for place, site in zip(table.sites, sites, strict=True):
        label = _LABEL.fullmatch(site.label) if site else None
        if site and label and (label[1], int(label[2])) != place:
            yield f"images of {place[0]} s{place[1]} have the stage label '{site.label}'; the name of the file is used"
            return


def file_notes(problem: str, files: Sequence[str]) -> Iterator[str]:
    """Note on files with a problem, such as ``empty images``."""
    if files:
        yield f"{problem}: {_listed(files, 3)}"


def channel_titles(table: Table, names: Sequence[str]) -> list[str]:
    """Names of channels with their number in the plate, such as ``FITC (w2)``."""
    return [_title(name, wave) for name, wave in zip(names, table.waves, strict=True)]


def _title(name: str | None, wave: int) -> str:
    return f"{name} (w{wave})" if name else f"w{wave}"


def _listed(names: Iterable[str], most: int = _NAMED) -> str:
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")

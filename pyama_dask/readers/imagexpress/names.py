"""Names of files and folders in plates of ImageXpress microscopes."""

from __future__ import annotations

import re
from typing import NamedTuple

_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
# The plate's name takes as much as it can, since it may look like a well itself; a GUID always has 36 characters, since
# its first digits may follow those of the site or the wave at once.
_IMAGE = re.compile(
    r"(?:(?P<plate>.*)_)?(?P<well>[A-Z]{1,2}(?!00)\d\d)(?:_s(?P<site>\d{1,9}))?(?:_w(?P<wave>\d{1,9}))?(?P<thumb>_thumb)?"
    rf"(?:{_GUID}|_\[{_GUID}\])?\.[Tt][Ii][Ff]{{1,2}}",
    re.ASCII,
)
_FOLDER = re.compile(r"(?P<kind>TimePoint|ZStep)_?0*(?P<number>\d{1,9})", re.ASCII | re.IGNORECASE)


class ImageName(NamedTuple):
    """Parts of the name of an image file."""

    plate: str
    """Name of the plate; '' if the name begins with the well."""
    well: str
    site: int
    """Number of the site from 1; 1 if the name has none."""
    wave: int
    """Number of the channel from 1; 1 if the name has none."""
    thumb: bool
    """True for a small copy of an image."""


def parse_image_name(name: str) -> ImageName | None:
    """Take the name of an image file apart.

    Parameters
    ----------
    name
        Such as ``Exp2_P3_B02_s1_w2.TIF`` or ``P_E07_s219DACB95-CB7D-4899-9AB4-D4E10B44145D.tif``.

    Returns
    -------
    Its parts, or None if the file is not an image of a plate.
    """
    match = match_image_name(name)
    if match is None:
        return None
    plate, well, site, wave, thumb = match.groups()
    return ImageName(plate or "", well, int(site or 1), int(wave or 1), thumb is not None)


def match_image_name(name: str) -> re.Match[str] | None:
    """Match of the name of an image file with the groups plate, well, site, wave and thumb; None for other names."""
    return None if name.startswith(".") else _IMAGE.fullmatch(name)


def parse_folder_name(name: str) -> tuple[str, int] | None:
    """Take the name of a folder within a plate apart.

    Parameters
    ----------
    name
        Such as ``TimePoint_2`` or ``ZStep1``.

    Returns
    -------
    ``timepoint`` or ``zstep``, and the number; None for other folders.
    """
    match = _FOLDER.fullmatch(name)
    return None if match is None else (match["kind"].lower(), int(match["number"]))

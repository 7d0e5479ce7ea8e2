"""Descriptions of ImageXpress plates: text files with the ending HTD."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyama_dask.config.well_names import plate_shape, well_name

_LINE = re.compile(r'\s*"([^"]+)"\s*,(.*)')
_VALUE = re.compile(r'"([^"]*)"|([^\s",][^,]*)')
_MARK = b"HTSInfoFile"
_MOST = 1000
"""Most channels, and rows or columns of sites: larger numbers are damage, and lists of them would fill the memory."""
_DIGITS = 15
"""Most digits of any number."""


@dataclass(frozen=True)
class PlateDescription:
    """Announced content of a plate; what is really there may be less."""

    frames: int = 1
    z_planes: int = 1
    plate_shape: tuple[int, int] | None = None
    """Rows and columns of the plate; None if they are not given."""
    wells: tuple[str, ...] = ()
    """Chosen wells by row, then column."""
    sites: int = 1
    """Number of sites in each well."""
    channels: int = 0
    names: Mapping[int, str] = field(default_factory=dict)
    """Names of channels by their number from 1."""


def is_description(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes describes a plate."""
    return _MARK in start.replace(b"\0", b"")


def parse_description(text: bytes) -> PlateDescription:
    """Read the description of a plate; what is absent or unreadable has its default.

    Parameters
    ----------
    text
        Content of the file, in UTF-8, UTF-16 or a Windows code page.
    """
    values = _values(_decoded(text))
    channels = _number(values, "NWavelengths", 0, _MOST)
    named = {n: values.get(f"WaveName{n}", [""])[0] for n in range(1, channels + 1)}
    return PlateDescription(
        frames=max(_number(values, "TimePoints", 1), 1),
        z_planes=max(_number(values, "ZSteps", 1), 1) if _is_true(values, "ZSeries") else 1,
        plate_shape=plate_shape(values.get("YWells", [""])[0], values.get("XWells", [""])[0]),
        wells=tuple(well_name(row, column) for row, column in sorted(_chosen(values, "WellsSelection"))),
        sites=_sites(values) if _is_true(values, "Sites") else 1,
        channels=channels,
        names={number: name for number, name in named.items() if name},
    )


def _decoded(text: bytes) -> str:
    """Text of a description, whatever its encoding: every byte is a character of Latin-1."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return text.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return text.decode(encoding)
        except UnicodeDecodeError:
            continue
    return text.decode("latin-1")


def _values(text: str) -> dict[str, list[str]]:
    """Values of each key; free text may hold any character, so only line feeds end a line."""
    found = {}
    for line in text.split("\n"):
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is not None:
            found[match[1].strip()] = [(quoted or plain).strip() for quoted, plain in _VALUE.findall(match[2])] or [""]
    return found


def _sites(values: Mapping[str, list[str]]) -> int:
    """Number of the chosen sites; all of the grid if the description does not choose."""
    grid = _number(values, "XSites", 1, _MOST) * _number(values, "YSites", 1, _MOST)
    return max(len(_chosen(values, "SiteSelection")) or grid, 1)


def _number(values: Mapping[str, list[str]], key: str, default: int, most: int = 10**_DIGITS) -> int:
    """Number of a key; the default if it is absent, no number, or too large."""
    text = values.get(key, [""])[0]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else default
    return number if number <= most else default


def _is_true(values: Mapping[str, list[str]], key: str) -> bool:
    return values.get(key, [""])[0].upper() == "TRUE"


def _chosen(values: Mapping[str, list[str]], key: str) -> list[tuple[int, int]]:
    """Rows and columns, from 0, that a table of flags has chosen; its lines are numbered from 1."""
    lines = ((re.fullmatch(key + r"([1-9]\d?)", name), flags) for name, flags in values.items())
    return [
        (int(line[1]) - 1, n) for line, flags in lines if line for n, flag in enumerate(flags) if flag.upper() == "TRUE"
    ]

"""Names of measured quantities: from the names and heads of tables to labels with channel and unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyama_dask.analysis.tables import CELL, CHANNEL, TIDY
from pyama_dask.files.atomic import open_file
from pyama_dask.files.checked_csv import split_names
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES

_KNOWN = "|".join((*SHAPE_FEATURES, *INTENSITY_FEATURES))
_QUANTITIES: Mapping[str, tuple[str, str]] = {
    "area": ("area", "pixels"),
    "intensity_total": ("total intensity", "grey levels"),
    "intensity_mean": ("mean intensity", "grey levels"),
    "intensity_max": ("maximum intensity", "grey levels"),
    "intensity_variance": ("variance of intensity", "grey levels²"),
}
"""Words and unit by feature; other features are ratios or come from plugins, and have no known unit."""
_HEAD = 2**16
"""Bytes in which the column names of a table begin."""


@dataclass(frozen=True)
class TableHead:
    """First lines of a table: comments, and names of columns."""

    comments: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path) -> TableHead:
        """Read the first lines of a file; empty if it cannot be read or is not text."""
        try:
            with open_file(path) as file:
                lines = file.read(_HEAD).decode("utf-8-sig", "ignore").splitlines()
        except OSError:
            return cls((), ())
        comments: list[str] = []
        for line in lines:
            if line.strip() and not line.startswith("#"):
                return cls(tuple(comments), tuple(split_names(line)))
            comments.append(line.strip())
        return cls(tuple(comments), ())

    @property
    def has_traces(self) -> bool:
        """True for analysis tables, tidy or wide."""
        if set(TIDY) <= set(self.names):
            return True
        return self.names[:1] in {("",), ("time",), ("Time",)} and all(map(CELL.fullmatch, self.names[1:]))

    @property
    def channel(self) -> str:
        """Name of the channel in the movie; '' if the table does not state it."""
        found = (line.removeprefix(CHANNEL) for line in self.comments if line.startswith(CHANNEL))
        return next(found, "").strip()


def name_parts(stem: str) -> tuple[str, str]:
    """Sample, and feature with channel, from a table name of `merge_samples`; other names are all sample."""
    found = re.fullmatch(rf"(.+?)_((?:{_KNOWN}|[^_]+)_ch_\d+)", stem)
    return (found[1], found[2]) if found else (stem, "")


def feature_of(measured: str) -> str:
    """Feature of a name with channel, such as ``area`` of ``area_ch_0``."""
    return measured.rpartition("_ch_")[0]


def value_label(measured: str, channel: str = "") -> str:
    """Label of an axis: quantity, channel and unit.

    Parameters
    ----------
    measured
        Feature with channel, such as ``intensity_total_ch_1``; '' if unknown.
    channel
        Name of the channel in the movie; '' if unknown.
    """
    feature, _, number = measured.rpartition("_ch_")
    words, unit = _QUANTITIES.get(feature, (feature.replace("_", " "), ""))
    if not words:
        return "value"
    of = "" if feature in SHAPE_FEATURES else f", {channel or f'channel {number}'}"
    return f"{words}{of}{f' ({unit})' if unit else ''}"

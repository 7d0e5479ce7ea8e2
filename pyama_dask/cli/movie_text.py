"""Descriptions of movies, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from pyama_dask.config.units import as_ranges, many
from pyama_dask.config.wells import draw_plate
from pyama_dask.readers import Metadata
from pyama_dask.runs.plan_text import MANY, cut_lines
from pyama_dask.runs.plate import by_well

LEGEND = {"o": "all planes", "!": "some planes missing", ".": "no images"}
"""Marks of wells on the map of a plate."""


def movie_document(metadata: Metadata) -> dict[str, Any]:
    """Metadata as plain values, for JSON."""
    document = asdict(metadata) | {"path": str(metadata.path)}
    times = metadata.times_min
    document["times_min"] = None if times is None else [[None if np.isnan(t) else t for t in row] for row in times]
    return document


def describe_movie(metadata: Metadata) -> str:
    """Summary of a movie, in a few lines."""
    pixel = "not calibrated" if metadata.pixel_size_um is None else f"{metadata.pixel_size_um:.4g} um"
    lines = [
        headline(metadata),
        f"pixel size: {pixel}",
        f"times: {_times(metadata)}",
        *(f"note: {note}" for note in metadata.notes),
        "channels:",
        *(f"  {k}: {c.name} ({c.kind}, {c.dtype})" for k, c in enumerate(metadata.channels)),
        *_wells(metadata),
        *_fovs(metadata),
    ]
    return "\n".join(lines)


def headline(metadata: Metadata) -> str:
    """Name, format and size of a movie, in one line."""
    counts = [many(len(metadata.fovs), "FOV"), many(metadata.n_frames, "frame")]
    counts += [many(len(metadata.channels), "channel")]
    counts += [f"{metadata.z_planes} planes"] if metadata.z_planes > 1 else []
    return f"{metadata.path.name}: {metadata.format}, {', '.join(counts)}"


def count_wells(metadata: Metadata) -> str:
    """Numbers of wells and sites, in a line; '' without wells."""
    wells = Counter(fov.well for fov in metadata.fovs if fov.well is not None)
    if not wells:
        return ""
    sites = sorted(set(wells.values()))
    each = f"{sites[0]} to {sites[-1]} sites" if len(sites) > 1 else many(sites[0], "site")
    return f"wells: {len(wells)}, {each} each"


def _wells(metadata: Metadata) -> list[str]:
    """Map of the plate, if there are wells."""
    found = by_well((fov.well, "!" if fov.missing else "o") for fov in metadata.fovs)
    if not found:
        return []
    marks = {well: min(states) for well, states in found.items()}  # "!" comes before "o"
    drawn = draw_plate(marks, stated=metadata.plate_shape, legend=LEGEND)
    return [count_wells(metadata), *drawn.splitlines()]


def _fovs(metadata: Metadata) -> list[str]:
    """FOVs, line by line; of a plate with many, only those that lack planes."""
    fovs = range(len(metadata.fovs))
    if len(fovs) <= MANY or metadata.fovs[0].well is None:
        return ["FOVs:", *cut_lines([_fov_line(k, metadata) for k in fovs])]
    first, last = metadata.fovs[0], metadata.fovs[-1]
    incomplete = [_fov_line(k, metadata) for k in fovs if metadata.fovs[k].missing]
    about = f"FOVs: 0 ({first.name}) to {fovs[-1]} ({last.name}), by well and site"
    return [about, *cut_lines(incomplete)]


def _times(metadata: Metadata) -> str:
    times = metadata.times_min
    if times is None:
        return "none in the file" + (
            f"; nominal interval {metadata.interval_min:g} min" if metadata.interval_min else ""
        )
    steps = np.diff(times, axis=1)
    known = steps[np.isfinite(steps)]
    source = metadata.time_source
    words = [" or ".join(map(str, dict.fromkeys(source))) if isinstance(source, tuple) else str(source)]
    if known.size:
        unit, size = ("s", 60.0) if 0 < np.median(known) < 1 else ("min", 1.0)
        low, middle, high = (size * float(of(known)) for of in (np.min, np.median, np.max))
        spread = f" ({low:.4g} to {high:.4g})" if f"{low:.4g}" != f"{high:.4g}" else ""
        words.append(f"{middle:.4g} {unit} between frames{spread}")
    if missing := int(np.isnan(times).sum()):
        words.append(f"{many(missing, 'time stamp')} missing")
    if (known <= 0).any():
        words.append("not increasing everywhere")
    return ", ".join(words)


def _fov_line(k: int, metadata: Metadata) -> str:
    fov = metadata.fovs[k]
    line = f"  {k}: {fov.name}, {fov.shape[1]} x {fov.shape[0]} px"
    if fov.position_um is not None:
        line += f", at ({fov.position_um[0]:.1f}, {fov.position_um[1]:.1f}) um"
    incomplete = sorted(set().union(*(frames for _, _, frames in fov.partial)))
    missing = sorted(set(fov.missing).difference(incomplete))
    if missing:
        line += f", {many(len(missing), 'frame')} missing: {as_ranges(missing)}"
    if incomplete:
        line += f", {many(len(incomplete), 'frame')} without some channels or planes: {as_ranges(incomplete)}"
    return line

"""Figures and tables about all FOVs of a run together, from their summaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import Markup

from pyama_dask.analysis.summaries import AREA_EDGES, FovSummary
from pyama_dask.files.palette import SERIES
from pyama_dask.report.axes import Axis
from pyama_dask.report.drift import of_steps
from pyama_dask.report.facts import RunFacts
from pyama_dask.report.figures import Line, Values, band, bars
from pyama_dask.report.maps import heat, timeline
from pyama_dask.steps.standard import GRAPH, in_order, label_of
from pyama_dask.store.layout import channel_of
from pyama_dask.workflow.task import parse_key

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION = range(6)
"""Numbers of the colours of `palette.SERIES`."""
HOURS = 300.0
"""Minutes above which times are shown in hours."""


@dataclass(frozen=True)
class Figure:
    """A figure of a page, with its words."""

    title: str
    text: str
    svg: Markup
    key: tuple[tuple[str, int], ...] = ()
    """Names and colours of what is shown."""


@dataclass(frozen=True)
class Summaries:
    """Summaries of the FOVs that have the frames of most FOVs, or of one FOV."""

    run: RunFacts
    only: int | None = None
    """Number of the FOV; None for all."""

    @cached_property
    def fovs(self) -> dict[int, FovSummary]:
        """Summaries by FOV."""
        every = {fov.number: fov.summary for fov in self.run.fovs if fov.summary}
        if self.only is not None:
            return {self.only: every[self.only]} if self.only in every else {}
        frames = Counter(of.frames.tobytes() for of in every.values())
        usual = frames.most_common(1)[0][0] if frames else b""
        return {fov: of for fov, of in every.items() if of.frames.tobytes() == usual}

    @cached_property
    def frames(self) -> list[int]:
        """Numbers of the frames."""
        return [int(frame) for frame in next(iter(self.fovs.values())).frames] if self.fovs else []

    @cached_property
    def time(self) -> tuple[Values, str]:
        """(T,) median times of the FOVs, and the name of the axis."""
        return in_unit(np.median([of.times_min for of in self.fovs.values()], axis=0))

    def stacked(self, name: str) -> Values:
        """(N, T) values of the FOVs, as a field of `FovSummary`; nan if unknown."""
        values = np.array([getattr(of, name) for of in self.fovs.values()], np.float64)
        return np.where(values < 0, np.nan, values)

    def of_channel(self, name: str, channel: int) -> Values:
        """(N, T) ``level`` or ``spread`` of a channel; nan if unknown."""
        found = []
        for of in self.fovs.values():
            (rows,) = np.nonzero(of.channels == channel)
            found.append(getattr(of, name)[rows[0]] if rows.size else np.full(len(of.frames), np.nan))
        return np.array(found)


def in_unit(minutes: Values) -> tuple[Values, str]:
    """Times in minutes or hours, and the name of the axis."""
    if len(minutes) and np.nanmax(minutes) > HOURS:
        return minutes / 60, "time / h"
    return minutes, "time / min"


def known(values: Values) -> bool:
    """Check that there is a finite value."""
    return bool(np.isfinite(values).any())


def over_fovs(values: Values, name: str, colour: int) -> Line:
    """Median of the FOVs, with a band for the middle half of them and one for nine in ten."""
    quantiles = np.full((5, values.shape[1]), np.nan)
    present = np.isfinite(values).any(axis=0)
    quantiles[:, present] = np.nanquantile(values[:, present], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    several = len(values) > 1
    return Line(
        quantiles[2], ((quantiles[0], quantiles[4]), (quantiles[1], quantiles[3])) if several else (), name, colour
    )


def over_time(all_: Summaries) -> Iterator[Figure]:
    """Objects and cells over time, lengths of tracks, sizes of objects, features, and the drift of the stage."""
    if all_.fovs:
        yield from _of_summaries(all_)
    yield from _drifts(all_)


def _of_summaries(all_: Summaries) -> Iterator[Figure]:
    minutes, name = all_.time
    if known(all_.stacked("found")):
        lines = [
            over_fovs(all_.stacked("kept"), "cells kept", ORANGE),
            over_fovs(all_.stacked("found"), "objects found", BLUE),
        ]
        yield _banded("Cells per frame", minutes, lines, name)
        yield _lengths(all_)
        yield from _dropped(all_)
        yield from _areas(all_)
    yield from _features(all_)


def about_bands(all_: Summaries) -> str:
    """Meaning of lines and bands in the figures over time."""
    if len(all_.fovs) < 2:
        return "Lines of features are the median of the kept cells; bands hold the middle half of them, and 5 to 95 %."
    return (
        "Lines of counts are the median of the FOVs; bands hold the middle half of the FOVs, and 5 to 95 %. Features "
        "are those of the kept cells of the median FOV, with the same bands over its cells."
    )


def _banded(title: str, minutes: Values, lines: Sequence[Line], name: str) -> Figure:
    key = tuple((line.name, line.colour) for line in lines) if len(lines) > 1 else ()
    return Figure(title, "", band(minutes, lines, name, title, zero=True), key)


def _lengths(all_: Summaries) -> Figure:
    kept = np.sum([of.kept_lengths for of in all_.fovs.values()], axis=0)
    every = np.sum([of.lengths for of in all_.fovs.values()], axis=0)
    stacks = [("kept", ORANGE, kept.astype(float)), ("dropped", BLUE, (every - kept).astype(float))]
    edges, counts = binned(len(every) - 1, [of for _, _, of in stacks])
    shown = [(name, colour, of) for (name, colour, _), of in zip(stacks, counts, strict=True)]
    key = tuple((f"{name} ({of.sum():,.0f})", colour) for name, colour, of in shown)
    svg = bars(edges, shown, "frames with the object", "Lengths of tracks")
    return Figure("Lengths of tracks", "Number of tracks by the frames in which they are seen.", svg, key)


def binned(most: int, counts: Sequence[Values], bins: int = 45) -> tuple[Values, list[Values]]:
    """Edges and sums of bins over counts of 0, 1, ... `most`."""
    width = max(1, -(-(most + 1) // bins))
    starts = np.arange(0, most + 1, width)
    edges = np.r_[starts, starts[-1] + width] - 0.5
    return edges, [np.add.reduceat(of, starts) for of in counts]


def _dropped(all_: Summaries) -> Iterator[Figure]:
    minutes, name = all_.time
    small, large, lost = (all_.stacked(field) for field in ("too_small", "too_large", "lost"))
    if known(small) or known(large):
        lines = [over_fovs(large, "too large", VERMILLION), over_fovs(small, "too small", SKY)]
        yield _banded("Objects dropped by size, per frame", minutes, lines, name)
    cover = all_.stacked("foreground")
    if known(lost) or known(cover):
        lines = [over_fovs(100 * lost, "dropped as too large", VERMILLION), over_fovs(100 * cover, "in objects", BLUE)]
        yield _banded("Share of the frame, in %", minutes, lines, name)


def _areas(all_: Summaries) -> Iterator[Figure]:
    counts = np.sum([of.areas for of in all_.fovs.values()], axis=0).astype(float)
    (filled,) = np.nonzero(counts)
    if not filled.size:
        return
    first, last = max(filled[0] - 2, 0), min(filled[-1] + 3, len(counts))
    edges = np.log10(AREA_EDGES[first : last + 1])
    factors = (1, 2, 5) if edges[-1] - edges[0] < 2.5 else (1,)
    ticks = [factor * 10.0**power for power in range(int(edges[0]), int(edges[-1]) + 1) for factor in factors]
    held = [tick for tick in ticks if edges[0] <= np.log10(tick) <= edges[-1]]
    places = tuple(float(place) for place in np.log10(held))
    x = Axis(float(edges[0]), float(edges[-1]), places, tuple(f"{tick:,.0f}" for tick in held))
    shown = [("objects", BLUE, counts[first:last])]
    yield Figure(
        "Areas of objects", "Objects of all frames, by area on a logarithmic scale.",
        bars(edges, shown, "area / pixels", "Areas of objects", x=x),
    )  # fmt: skip


def feature_name(column: str, run: RunFacts) -> str:
    """Name of a feature for readers: ``GFP: intensity total``; of a column of a user's own step: its words."""
    feature, _, number = column.rpartition("_ch_")
    if not feature or not number.isdigit():
        return column.replace("_", " ")
    return f"{run.channels.get(int(number), f'channel {number}')}: {feature.replace('_', ' ')}"


def _features(all_: Summaries) -> Iterator[Figure]:
    """One figure per feature, those of fluorescence first."""
    minutes, name = all_.time
    columns = list(dict.fromkeys(column for of in all_.fovs.values() for column in of.features))
    phase = channel_of(all_.run.phase) if all_.run.phase else None
    for column in sorted(columns, key=lambda column: channel_of(column) == phase):
        held = [of.quantiles[of.features.index(column)] for of in all_.fovs.values() if column in of.features]
        q = typical(np.array(held))
        if known(q):
            colour = BLUE if channel_of(column) == phase else GREEN
            line = Line(q[2], ((q[0], q[4]), (q[1], q[3])), column, colour)
            title = feature_name(column, all_.run)
            yield Figure(title, "", band(minutes, [line], name, title))


def _drifts(all_: Summaries) -> Iterator[Figure]:
    """One figure for each time that the drift was measured; frames without a shift are gaps."""
    fovs = (fov for fov in all_.run.fovs if all_.only in (None, fov.number))
    for step, drifts in of_steps(drift for fov in fovs for drift in fov.drifts).items():
        minutes, name = in_unit(np.median([of.times_min for of in drifts], axis=0))
        shifts = np.array([np.where(of.measured[:, None], of.shifts, np.nan) for of in drifts])
        lines = [over_fovs(shifts[..., 0], "down", BLUE), over_fovs(shifts[..., 1], "to the right", ORANGE)]
        title = "Drift of the stage, in pixels" + (f": {step}" if step else "")
        text = "Shift of the content against the first frame; gaps are frames in which it could not be measured."
        key = tuple((line.name, line.colour) for line in lines)
        yield Figure(title, text, band(minutes, lines, name, title), key)


def typical(values: Values) -> Values:
    """Median over the first axis, without nan; nan where all are."""
    middle = np.full(values.shape[1:], np.nan)
    present = np.isfinite(values).any(axis=0)
    middle[present] = np.nanmedian(values[:, present], axis=0)
    return middle


# --------------------------------------------------------------------------------------------- heat maps

STARTING = 0.2
"""Share of the frames whose median later frames are compared with."""


def maps(all_: Summaries) -> Iterator[Figure]:
    """Cells, sharpness and levels of every FOV and frame."""
    if not all_.fovs:
        return
    fovs = list(all_.fovs)
    if known(kept := all_.stacked("kept")) and all_.run.finds_cells:
        yield Figure("Cells kept", "", heat(kept, fovs, all_.frames, "Cells kept"))
    if known(sharpness := all_.stacked("sharpness")):
        svg = heat(relative(sharpness), fovs, all_.frames, "Sharpness", relative=True)
        yield Figure("Focus: sharpness of phase contrast", "", svg)
    for channel in sorted({int(channel) for of in all_.fovs.values() for channel in of.channels}):
        level = all_.of_channel("level", channel)
        if known(level):
            name = all_.run.channels.get(channel, f"channel {channel}")
            svg = heat(relative(level), fovs, all_.frames, f"Level of {name}", relative=True)
            yield Figure(f"Light: level of {name}", "", svg)


def relative(values: Values) -> Values:
    """(N, T) ratios to the medians of each row's first values; nan if these are not positive."""
    first = max(3, int(np.ceil(STARTING * values.shape[1])))
    start = typical(values[:, :first].T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(start[:, None] > 0, values / start[:, None], np.nan)


# ------------------------------------------------------------------------------------------------ workers


def workers(run: RunFacts) -> Figure | None:
    """Timeline of the tasks of the last run by worker; None if it is not known when they began."""
    since = _begin_of_last(run)
    costs = [cost for cost in run.costs if cost.begun >= since > 0]
    if not costs:
        return None
    kinds = list(dict.fromkeys([*GRAPH.kinds, *(parse_key(cost.key).kind for cost in costs)]))
    start = min(cost.begun for cost in costs)
    spans = [
        (cost.worker, cost.begun - start, cost.begun - start + cost.seconds, kinds.index(parse_key(cost.key).kind))
        for cost in costs
    ]
    used = [kind for kind in kinds if any(kinds[number] == kind for *_, number in spans)]
    names = {worker: str(place + 1) for place, worker in enumerate(sorted({worker for worker, *_ in spans}))}
    hosts = {worker.partition("/")[0] for worker in names}
    place = "one machine" if len(hosts) == 1 else f"{len(hosts)} machines"
    colours = [SERIES[k % len(SERIES)] for k in range(len(kinds))]
    svg = timeline(spans, colours, names.__getitem__, "Timeline of the workers")
    text = f"The latest tasks, on {len(names)} worker{'s' * (len(names) > 1)} of {place}: {_contents(run, used)}."
    return Figure("Timeline by worker", text, svg, tuple((kind, kinds.index(kind) % len(SERIES)) for kind in used))


def _contents(run: RunFacts, kinds: Sequence[str]) -> str:
    """Names of the steps in each kind of task."""
    spent = [(parse_key(cost.key).kind, step) for cost in run.costs for step in cost.spent]
    steps = {kind: in_order(step for of, step in spent if of == kind) for kind in kinds}
    return "; ".join(f"{kind} is {', '.join(map(label_of, held))}" for kind, held in steps.items())


GAP = 600.0
"""Seconds without a task that separate two runs, at least."""


def _begin_of_last(run: RunFacts) -> float:
    """Begin of the last run that did any task; 0 if unknown."""
    begun = sorted((cost.begun, cost.begun + cost.seconds) for cost in run.costs if cost.begun > 0)
    since, busy = begun[0] if begun else (0.0, 0.0)
    for start, stop in begun:
        if start - busy > GAP:
            since = start
        busy = max(busy, stop)
    return since

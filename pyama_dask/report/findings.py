"""Findings: what is wrong with the FOVs of a run, in words, from their summaries.

Each FOV is compared with its own start and with the other FOVs of the run, by medians, so that a few odd frames or FOVs
neither cause a finding nor hide one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.summaries import AREA_EDGES, FovSummary
from pyama_dask.config.units import as_ranges
from pyama_dask.report.drift import Drift

Kind = Literal["light", "merged", "focus", "few", "lost", "drift", "short"]
ORDER: tuple[Kind, ...] = ("light", "merged", "focus", "few", "lost", "drift", "short")
"""Kinds in the order in which findings of equal weight are listed: causes before their consequences."""
START, LEAST = 0.2, 3
"""Share of a FOV's frames, at its start, that later frames are compared with, and the fewest frames of it."""
LASTS = 3
"""Frames in a row that make a finding."""
BLURRED = 0.5
"""Fraction of the sharpness at the start below which frames are out of focus; noise and division stay above it."""
DULL = 0.25
"""Fraction of the other FOVs' sharpness below which a FOV may be out of focus in all frames."""
DARK, FLAT = 0.5, 0.6
"""Fractions of the level, and of its spread, at the start below which the light may be off."""
UNUSUAL = 8.0
"""Change of the level between frames that no drift explains, in units of the median change."""
LOST, MOSTLY_LOST = 0.05, 0.2
"""Fractions of the frame in dropped objects that are worth a word, and that spoil a FOV."""
GIANT = 0.1
"""Fraction of the frame that no single cell covers."""
HARDLY, FEW = 2, 0.2
"""Cells of a FOV that are hardly any, and the fraction of the other FOVs' cells that is few."""
GONE = 0.3
"""Fraction of the objects at the start below which a FOV has lost its cells."""
BROKEN, ENOUGH = 0.6, 20
"""Fraction of tracks that are too short, above which tracking is in doubt, and the fewest tracks to judge it by."""
APART = 3
"""FOVs with findings of one kind that are listed separately; more are put into one sentence."""
NO_DRIFTS: Mapping[int, Sequence[Drift]] = {}
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with one or several FOVs."""

    kind: Kind
    weight: int
    """3: the FOV is of no use; 2: a part of it is; 1: worth a look."""
    fovs: tuple[int, ...]
    head: str
    """The problem, such as ``light off``."""
    tail: str = ""
    """From which frame, or how much."""
    frame: int | None = None
    """Number in the movie of the first frame that shows it; None if all do."""
    index: int | None = None
    """Index among the run's frames of a frame that shows it well; None if any does."""

    @property
    def text(self) -> str:
        """The finding as a sentence without its full stop."""
        return f"{self.head} in FOV{'s' if len(self.fovs) > 1 else ''} {as_ranges(self.fovs)}{self.tail}"


def find(
    summaries: Mapping[int, FovSummary], names: Mapping[int, str], drifts: Mapping[int, Sequence[Drift]] = NO_DRIFTS
) -> list[Finding]:
    """Findings of all FOVs, worst first; those of one kind in many FOVs are one finding.

    Parameters
    ----------
    summaries
        By FOV.
    names
        Names of the channels by their number in the movie.
    drifts
        What was measured of the drift of each FOV.
    """
    fovs = {fov: of for fov, of in sorted(summaries.items()) if len(of.frames)}
    run = _Run(fovs)
    found = [finding for fov in fovs for finding in _of_fov(fov, run, names)]
    found += [finding for fov, of in drifts.items() for drift in of for finding in _drift(fov, drift, fovs.get(fov))]
    return sorted(_together(found), key=lambda one: (-one.weight, ORDER.index(one.kind), one.fovs))


def weights(findings: Iterable[Finding]) -> dict[int, int]:
    """Weight of each FOV: the sum over its findings, where a heavy one outweighs many lighter ones."""
    summed: dict[int, int] = {}
    for finding in findings:
        for fov in finding.fovs:
            summed[fov] = summed.get(fov, 0) + 10**finding.weight
    return summed


class _Run:
    """Medians of each FOV's values, to compare FOVs with each other."""

    def __init__(self, fovs: Mapping[int, FovSummary]) -> None:
        self.fovs = fovs
        self._place = {fov: place for place, fov in enumerate(fovs)}
        channels = sorted({int(channel) for of in fovs.values() for channel in of.channels})
        self._sharpness = np.array([_median(of.sharpness) for of in fovs.values()])
        self._cells = np.array([float(of.cells) for of in fovs.values()])
        self._levels = {channel: np.array([_level(of, channel) for of in fovs.values()]) for channel in channels}

    def sharpness(self, fov: int) -> tuple[float, Values]:
        """Sharpness of a FOV, and of the others."""
        return self._split(self._sharpness, fov)

    def cells(self, fov: int) -> Values:
        """Cells of the other FOVs."""
        return self._split(self._cells, fov)[1]

    def levels(self, fov: int, channel: int) -> Values:
        """Levels of the other FOVs in a channel."""
        return self._split(self._levels[channel], fov)[1]

    def _split(self, values: Values, fov: int) -> tuple[float, Values]:
        place = self._place[fov]
        others = np.delete(values, place)
        return float(values[place]), others[np.isfinite(others)]


def _level(of: FovSummary, channel: int) -> float:
    rows = np.flatnonzero(of.channels == channel)
    return _median(of.level[rows[0]]) if rows.size else float("nan")


def _of_fov(fov: int, run: _Run, names: Mapping[int, str]) -> Iterator[Finding]:
    of = run.fovs[fov]
    by_channel = [_light(fov, row, run, names) for row in range(len(of.channels))]
    phase_is_off = bool(np.isfinite(of.sharpness).any()) and by_channel[0] is not None
    light = [one for one in by_channel if one is not None]
    causes = [*light, *([] if phase_is_off else _focus(fov, run)), *_merged(fov, of)]
    few = list(_few(fov, run))
    yield from (*causes, *few)
    if not causes and not few:
        yield from _gone(fov, of)
        yield from _short(fov, of)


# --------------------------------------------------------------------------------------------- light and focus


def _light(fov: int, row: int, run: _Run, names: Mapping[int, str]) -> Finding | None:
    """Light that is off in a channel: its level falls at once, and stays low."""
    of = run.fovs[fov]
    channel = int(of.channels[row])
    name, level, spread = names.get(channel, f"channel {channel}"), of.level[row], of.spread[row]
    at_start, usual = _at_start(level), _median(np.abs(np.diff(level)))
    falls = at_start - UNUSUAL * max(usual, 1e-3 * at_start)
    found = _longest((level < falls) & ((level < DARK * at_start) | (spread < FLAT * _at_start(spread))))
    if found is not None and found[0]:
        first, stop = found
        before, after = _median(level[max(first - LASTS, 0) : first]), _median(level[first : first + LASTS])
        if before - after > 0.5 * (at_start - np.nanmin(level)):  # else it fades
            weight = 3 if stop - first > len(level) / 2 else 2
            more = f" ({name}: {after / at_start:.0%} of its start)"
            return _from_frame("light", weight, fov, "light off", of, found, more)
    others = run.levels(fov, channel)
    if len(others) >= LEAST and level.max() < DARK * np.median(others) and _is_tight(others):
        return Finding("light", 3, (fov,), "light off", f" in all frames ({name})")
    return None


def _focus(fov: int, run: _Run) -> Iterator[Finding]:
    """Phase contrast that is out of focus."""
    of = run.fovs[fov]
    ratio = _smooth(of.sharpness) / _at_start(of.sharpness)
    own, others = run.sharpness(fov)
    if found := _longest(ratio < BLURRED):
        worst = np.nanmin(ratio[slice(*found)])
        weight = 3 if found[1] - found[0] > len(ratio) / 2 else 2
        yield _from_frame("focus", weight, fov, "out of focus", of, found, f" (sharpness {worst:.0%} of its start)")
    elif len(others) >= LEAST and own < DULL * np.median(others) and _is_tight(others):
        share = own / np.median(others)
        more = f" in all frames, or empty ({share:.0%} of the sharpness of the others)"
        yield Finding("focus", 3, (fov,), "out of focus", more)


def _from_frame(
    kind: Kind, weight: int, fov: int, head: str, of: FovSummary, run: tuple[int, int], more: str
) -> Finding:
    """Finding in a run of frames."""
    first, stop = run
    frame = int(of.frames[first])
    until = "" if stop == len(of.frames) else f" to {of.frames[stop - 1]}"
    return Finding(kind, weight, (fov,), head, f" from frame {frame}{until}{more}", frame, (first + stop - 1) // 2)


# ----------------------------------------------------------------------------------------------------- objects


def _merged(fov: int, of: FovSummary) -> Iterator[Finding]:
    """Cells that are merged into objects too large for a cell."""
    lost = np.where(np.isfinite(of.lost), of.lost, 0)
    typical = float(np.median(lost))
    if typical < LOST and (found := _longest(lost >= LOST)):
        share = float(np.median(lost[slice(*found)]))
        more = f": {share:.0%} of the frame is dropped as too large"
        yield _from_frame("merged", 2, fov, "cells merged", of, found, more)
    elif typical >= LOST:
        middle = int(np.argsort(lost, kind="stable")[len(lost) // 2])
        number = round(_median(of.too_large[lost > 0].astype(float)))
        objects = "one object covers" if number == 1 else f"{number} objects cover" if number > 1 else "objects cover"
        weight = 3 if typical >= MOSTLY_LOST else 2
        more = f": {objects} {typical:.0%} of the frame, dropped as too large"
        yield Finding("merged", weight, (fov,), "cells merged", more, index=middle)
    elif (giants := _giants(of)) >= 0.5:
        objects = "an object" if giants < 1.5 else f"{giants:.0f} objects"
        yield Finding(
            "merged", 3, (fov,), "cells merged", f": {objects} of more than {GIANT:.0%} of the frame, not dropped"
        )


def _giants(of: FovSummary) -> float:
    """Objects per frame that cover more of the frame than a cell could, by the areas of all objects."""
    centres = np.sqrt(AREA_EDGES[:-1] * AREA_EDGES[1:])
    covered = np.nansum(of.foreground)
    if not covered or not of.areas.any():
        return 0.0
    frame = float((of.areas * centres).sum() / covered)
    return float(of.areas[centres > GIANT * frame].sum() / len(of.frames))


def _few(fov: int, run: _Run) -> Iterator[Finding]:
    """FOVs with hardly a cell, or far fewer than the others."""
    of, others = run.fovs[fov], run.cells(fov)
    if (of.found < 0).all():
        return
    fates = [f"{n} {why}" for n, why in ((of.border, "at the border"), (of.short, "too short")) if n > 0]
    of_tracks = f"{of.cells} of {of.tracks} tracks kept" + (f", {', '.join(fates)}" if fates else "")
    if not of.tracks:
        yield Finding("few", 3, (fov,), "no cell found")
    elif of.cells <= HARDLY:
        yield Finding("few", 3, (fov,), "hardly a cell" if of.cells else "no cell kept", f" ({of_tracks})")
    elif len(others) >= LEAST and np.median(others) >= 10 and of.cells < FEW * np.median(others):
        yield Finding("few", 2, (fov,), "few cells", f" ({of.cells}; other FOVs have {np.median(others):.0f})")


def _gone(fov: int, of: FovSummary) -> Iterator[Finding]:
    """Objects that disappear in the course of the movie."""
    found = of.found.astype(float)
    start, end = _at_start(found), _median(found[-max(LEAST, len(found) // 10) :])
    if len(found) > 2 * LEAST and start >= 5 and end < GONE * start:
        gone = _longest(_smooth(found) < GONE * start)
        index = gone[0] if gone else len(found) - 1
        tail = f": {start:.0f} objects at the start, {end:.0f} in the end"
        yield Finding("lost", 2, (fov,), "cells get lost", tail, int(of.frames[index]), index)


def _short(fov: int, of: FovSummary) -> Iterator[Finding]:
    """Tracks that mostly end too early."""
    if of.tracks >= ENOUGH and of.short > BROKEN * of.tracks:
        yield Finding("short", 1, (fov,), "most tracks are too short", f" ({of.short} of {of.tracks})")


def _drift(fov: int, drift: Drift, of: FovSummary | None) -> Iterator[Finding]:
    """Frames in which the drift of the stage could not be measured."""
    unknown = np.flatnonzero(~drift.measured)
    if unknown.size:
        frames = of.frames[unknown] if of and len(of.frames) == len(drift.measured) else unknown
        weight, first = 2 if drift.measured.mean() < 0.5 else 1, int(unknown[0])
        by = f" (step {drift.step})" if drift.step else ""
        tail = f" at frames {as_ranges(frames.tolist())}, where it is interpolated{by}"
        yield Finding("drift", weight, (fov,), "drift of the stage not measured", tail, int(frames[0]), first)


# -------------------------------------------------------------------------------------------------- all together


def _together(found: Sequence[Finding]) -> Iterator[Finding]:
    """Put findings that read the same, or of one kind in many FOVs, into one."""

    def alike(one: Finding) -> tuple[str, int, str]:
        return one.kind, one.weight, one.head

    for _, group in groupby(sorted(found, key=lambda one: (*alike(one), one.fovs)), key=alike):
        ones = list(group)
        same = len({one.tail for one in ones}) == 1
        if same or len(ones) > APART:
            yield _joined(ones, ones[0].tail if same else "")
        else:
            yield from ones


def _joined(ones: Sequence[Finding], tail: str) -> Finding:
    """One finding for several FOVs."""
    fovs = tuple(one.fovs[0] for one in ones)
    frames = [one.frame for one in ones if one.frame is not None]
    if frames and not tail:
        tail = f" from frame {min(frames)} at the earliest"
    return Finding(ones[0].kind, ones[0].weight, fovs, ones[0].head, tail, min(frames, default=None), ones[0].index)


# ------------------------------------------------------------------------------------------------------ numbers


def _at_start(values: npt.NDArray[np.float64]) -> float:
    """Median of the first frames; nan if there are too few frames to compare others with them."""
    first = max(LEAST, int(np.ceil(START * len(values))))
    return _median(values[:first]) if len(values) >= 2 * LEAST else float("nan")


def _smooth(values: Values) -> Values:
    """Median of each frame and its neighbours, which keeps steps where they are."""
    padded = np.r_[values[:1], values, values[-1:]]
    return np.asarray(np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0))


def _longest(mask: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
    """Longest run of frames, half-open, in which no two frames in a row are outside; None if shorter than `LASTS`."""
    filled = mask.copy()
    filled[1:-1] |= mask[:-2] & mask[2:]
    edges = np.flatnonzero(np.diff(np.r_[0, filled.astype(np.int8), 0])).reshape(-1, 2)
    runs = [(int(stop - start), int(start), int(stop)) for start, stop in edges]
    length, start, stop = max(runs, default=(0, 0, 0), key=lambda run: run[0])
    return (start, stop) if length >= LASTS else None


def _is_tight(values: Values) -> bool:
    """Check that values differ little, so that another one is odd."""
    middle = np.median(values)
    return bool(np.median(np.abs(values - middle)) < 0.25 * middle)


def _median(values: npt.NDArray[np.float64]) -> float:
    known = np.sort(values[np.isfinite(values)])  # a tenth of the time of `numpy.median`, for hundreds of FOVs
    middle = len(known) // 2
    if not len(known):
        return float("nan")
    return float(known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2)

"""Remarks on a preview: the setting that looks best, equal settings, and cells that touch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from pyama_dask.config.units import percent
from pyama_dask.kernels.losses import LARGE_LOSS
from pyama_dask.kernels.plausibility import EVEN, LARGEST
from pyama_dask.previews.grid import Setting, in_yaml, short_key
from pyama_dask.previews.objects import Fate
from pyama_dask.previews.panel import Panel
from pyama_dask.runs.method_choice import DOUBTFUL

TOUCHING = 2 * EVEN
"""Unevenness above which the largest objects are taken for merged cells, if they cover `LARGE_LOSS` of a frame."""

FEW = 3
"""Number of objects from which on those that are too large are whole cells if all are alike."""


@dataclass(frozen=True)
class Judged:
    """All frames of one setting."""

    setting: Setting
    panels: tuple[Panel, ...]

    @property
    def failed(self) -> bool:
        """True if a method failed in a frame."""
        return any(panel.failure for panel in self.panels)

    @property
    def plausibility(self) -> float:
        """Mean over the frames."""
        return float(np.mean([panel.plausibility for panel in self.panels]))

    @property
    def seg(self) -> float:
        """Mean over the frames; NaN without truth."""
        return float(np.mean([panel.seg for panel in self.panels]))

    @property
    def digest(self) -> str:
        """Equal for settings that find the same in all frames."""
        return " ".join(panel.digest or panel.failure for panel in self.panels)

    @property
    def touching(self) -> bool:
        """True if cells seem to be merged in most of the frames."""
        return 2 * sum(map(_is_merged, self.panels)) > len(self.panels)


def judged(panels: Sequence[Panel]) -> list[Judged]:
    """Settings with their panels, which stand together."""
    grouped = groupby(panels, key=lambda panel: id(panel.setting))
    found = [tuple(of) for _, of in grouped]
    return [Judged(of[0].setting, of) for of in found]


def with_equals(panels: Iterable[Panel]) -> list[Panel]:
    """Panels that name an earlier one of the same frame, if it shows the same."""
    first, found = dict[tuple[int, str], Panel](), list[Panel]()
    for panel in panels:
        other = first.setdefault((panel.frame, panel.digest or panel.failure), panel)
        same = ", ".join(of for key in panel.setting.values if (of := _value_of(other, key)) != _value_of(panel, key))
        found.append(panel if panel.failure else replace(panel, equal_to=same))
    return found


def _value_of(panel: Panel, key: str) -> str:
    return f"{short_key(key)} {in_yaml(panel.setting.values[key])}"


def best(settings: Sequence[Judged]) -> Judged | None:
    """Setting with the highest SEG, or without truth, the one that looks best.

    Of equal ones, it is the current one, else the first. It is None if all settings fail or find nothing, or if none
    separates the cells and there is no truth.
    """
    alive = [one for one in settings if not one.failed and _merit(one) > 0]
    alive = [one for one in alive if not (one.touching and np.isnan(one.seg))]
    return max(alive, key=lambda one: (_merit(one), one.setting.is_current), default=None)


def _merit(one: Judged) -> float:
    return one.plausibility if np.isnan(one.seg) else one.seg


def _is_merged(panel: Panel) -> bool:
    seen = panel.merged
    if seen is None or not seen.count:
        return False
    lost = panel.extents[Fate.TOO_LARGE].share > LARGE_LOSS and (seen.unevenness > EVEN or seen.count < FEW)
    uneven = seen.unevenness > TOUCHING and seen.covered > LARGE_LOSS
    return bool(lost or seen.largest > LARGEST or uneven)


def notes(settings: Sequence[Judged], keys: Sequence[str], given: Sequence[str]) -> Iterator[str]:
    """Describe settings.

    Parameters
    ----------
    settings
        All settings, with their panels.
    keys
        Dotted keys of the grid.
    given
        ``KEY=VALUE`` of other overrides, which belong to each setting.
    """
    if keys and not any(one.setting.is_current for one in settings):
        yield "The current setting of the config is not among these"
    yield from _without_effect(settings, keys)
    alive = [one for one in settings if not one.failed]
    found = [one for one in alive if one.plausibility > 0]
    if not found:
        yield _nothing_kept(alive)
        return
    chosen = best(settings)
    merged = [one for one in found if one.touching]
    if merged and all(one.touching or one.plausibility < DOUBTFUL for one in found):
        yield _touching(max(merged, key=lambda one: one.plausibility), settings)
    elif chosen and chosen.plausibility < DOUBTFUL and np.isnan(chosen.seg):
        yield "No setting looks right" if len(settings) > 1 else "The objects do not look like cells"
    if chosen and len(settings) > 1:
        yield _choice(chosen, given)


def _nothing_kept(alive: Sequence[Judged]) -> str:
    if not alive:
        return "The method fails"
    lost = max(panel.extents[Fate.TOO_LARGE].share for one in alive for panel in one.panels)
    return "No object is kept" + (
        f": objects on {percent(lost)} of the frame are too large. Fix: raise max_object_size" if lost else ""
    )


def _choice(chosen: Judged, given: Sequence[str]) -> str:
    merit = f"plausibility {chosen.plausibility:.2f}" if np.isnan(chosen.seg) else f"SEG {chosen.seg:.2f}"
    if chosen.setting.is_current:
        return f"The current setting is best ({merit})"
    return f"Best ({merit}): {set_options([*given, *chosen.setting.overrides])}"


def set_options(overrides: Sequence[str]) -> str:
    """``--set`` options of a shell for ``KEY=VALUE`` overrides."""
    return " ".join(f"--set {shlex.quote(one)}" for one in overrides)


def _touching(shown: Judged, settings: Sequence[Judged]) -> str:
    """Description of merged cells, in numbers of the panel where they are the largest."""
    seen, times = max(
        ((panel.merged, panel.largest_times) for panel in shown.panels if panel.merged), key=lambda of: of[0].largest
    )
    what = "No setting here separates the cells" if len(settings) > 1 else "Cells touch"
    with_network = any(one.setting.config.params.segmentation_method == "unet" for one in settings)
    then = "" if with_network else "try '--grid segmentation_method=logstd,bright,unet', or "
    return (
        f"{what}: objects cover {percent(seen.covered)} of the frame, and the largest {percent(seen.largest)}, "
        f"{times:.0f} times the median. Fix: {then}train a model ('pyama-dask annotate', 'pyama-dask train')"
    )


# -------------------------------------------------------------------------------------- equal settings


def _without_effect(settings: Sequence[Judged], keys: Sequence[str]) -> Iterator[str]:
    """Name keys that change nothing, alone or with a value of the other key, and values that give the same."""
    for key in keys:
        others = [other for other in keys if other != key]
        rows = _rows(settings, others)
        working = {row: of for row, of in rows.items() if len(of) > 1 and not any(one.failed for one in of)}
        same = {row: len({one.digest for one in of}) == 1 for row, of in working.items()}
        if same and all(same.values()):
            yield f"{short_key(key)} has no effect here"
            continue
        yield from (f"{short_key(key)} has no effect with {row}" for row, is_same in same.items() if is_same)
        if not any(same.values()):
            yield from _equal_values(key, list(rows.values()))


def _rows(settings: Sequence[Judged], others: Sequence[str]) -> Mapping[str, list[Judged]]:
    """Settings by their values of the other key."""
    rows: dict[str, list[Judged]] = {}
    for one in settings:
        row = ", ".join(f"{short_key(key)}: {in_yaml(one.setting.values[key])}" for key in others)
        rows.setdefault(row, []).append(one)
    return rows


def _equal_values(key: str, rows: Sequence[Sequence[Judged]]) -> Iterator[str]:
    """Values of a key that give the same in all rows."""
    columns: dict[Any, list[str]] = {}
    for column in (of for of in zip(*rows, strict=True) if not any(one.failed for one in of)):
        columns.setdefault(tuple(one.digest for one in column), []).append(in_yaml(column[0].setting.values[key]))
    for values in columns.values():
        if len(values) > 1:
            yield f"{short_key(key)} {', '.join(values[:-1])} and {values[-1]} give the same"

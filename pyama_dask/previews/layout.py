"""Order, titles and legend of the panels, which picture and page share."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

from pyama_dask.files.palette import TRUTH
from pyama_dask.previews.draw import COLOURS
from pyama_dask.previews.grid import in_yaml
from pyama_dask.previews.objects import Fate
from pyama_dask.previews.panel import SHOWN, Panel
from pyama_dask.previews.shown import Shown

IN_LINE, IN_A_ROW = 4, 5
"""Largest number of panels that stand in one line, and of those side by side in several lines."""


def in_rows(panels: Sequence[Panel], keys: Sequence[str]) -> list[list[Panel]]:
    """Arrange panels: the values of the first key across, those of the second one or the frames down.

    Parameters
    ----------
    panels
        All frames of the first setting, then those of the next one.
    keys
        Dotted keys of the grid.
    """
    frames = list(dict.fromkeys(panel.frame for panel in panels))
    by_frame = [[panel for panel in panels if panel.frame == frame] for frame in frames]
    numbers = [len({in_yaml(panel.setting.values[key]) for panel in panels}) for key in keys]
    length = columns(numbers, len(frames))
    together = by_frame if keys else [list(panels)]
    return [of[k : k + length] for of in together for k in range(0, len(of), length)]


def columns(grid: Sequence[int], frames: int) -> int:
    """Panels side by side, for the number of values of each key and of the frames that are shown."""
    count = grid[0] if grid else frames
    return count if count <= IN_LINE or len(grid) == 2 else min(IN_A_ROW, ceil(sqrt(count)))


def title(shown: Shown, panel: Panel) -> str:
    """Title of a panel: its values, or its frame, and if it is the current or the best setting."""
    setting = panel.setting
    parts = [f"frame {panel.frame}"] if shown.has_several_frames or not setting.values else []
    parts += [str(setting)] if setting.values else []
    marks = [word for word, is_so in (("current", setting.is_current), ("best", setting is shown.best)) if is_so]
    return ", ".join(parts) + (f" ({', '.join(marks)})" if marks and setting.values else "")


def legend(shown: Shown) -> list[tuple[str, str]]:
    """Colours and meanings of the outlines that occur."""
    there = {fate for panel in shown.panels for fate, of in panel.extents.items() if of.count}
    words = {Fate.KEPT: "kept"} | {fate: f"dropped: {fate.words}" for fate in SHOWN}
    found = [(colour, words[fate]) for fate, colour in COLOURS.items() if fate in there]
    return [*found, (TRUTH, "truth")] if shown.has_truth else found

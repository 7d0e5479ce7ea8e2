"""Making of panels: settings segment the frames of a preview, one after the other."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import AlgorithmError, CancelledError
from pyama_dask.files.palette import Picture, grey_range
from pyama_dask.kernels.segmentation import segment
from pyama_dask.previews.draw import View, drawn
from pyama_dask.previews.grid import Setting
from pyama_dask.previews.objects import Finder, Found
from pyama_dask.previews.panel import Panel, digest, measure
from pyama_dask.previews.trails import Linker, Tracks
from pyama_dask.runs.one_frame import Labels

CONTRAST = (0.5, 99.5)
"""Percentiles of the pixels that are shown as black and as white."""


@dataclass(frozen=True)
class Scene:
    """Frames that all settings segment, and how they are shown."""

    fov: int
    frames: Mapping[int, np.ndarray]
    """(H, W) frames by number, in their order."""
    shown: tuple[int, ...]
    """Numbers of the frames with a panel: all, or the last one with tracks."""
    truth: Mapping[int, npt.NDArray[np.integer]]
    """(H, W) true labels by number of the frame; empty if unknown."""
    view: View
    replaced: Callable[[int, int, Labels], Labels]
    """Gives the labels that a run stores for those that are found in a frame, from FOV, number and labels."""

    def relabelled(self, frame: int) -> Callable[[Labels], Labels]:
        """Gives the labels that a run stores for those that are found in a frame."""
        return partial(self.replaced, self.fov, frame)

    def where(self, frame: int) -> str:
        """FOV and frame, for messages."""
        return f"FOV {self.fov}, frame {frame}"

    @cached_property
    def grey(self) -> dict[int, Picture]:
        """The shown part of each frame, in the same contrast, by number."""
        limits = grey_range([self.view.part(self.frames[number]) for number in self.shown], CONTRAST)
        return {number: self.view.grey(self.frames[number], limits) for number in self.shown}

    @cached_property
    def textured(self) -> dict[int, float]:
        """Fraction of each shown frame that has texture, by number."""
        return {number: _textured(self.frames[number]) for number in self.shown}


def make_panels(
    scene: Scene, settings: Sequence[Setting], *, tracks: bool, tell: Callable[[str], None], cancel: threading.Event
) -> Iterator[Panel]:
    """Yield the panels of all settings, those of one setting together.

    Parameters
    ----------
    scene
        Frames to segment.
    settings
        Resolved settings.
    tracks
        True to track objects through all frames, up to the one that is shown.
    tell
        Called with the setting that is being tried.
    cancel
        Set it to end early.

    Raises
    ------
    CancelledError
        If `cancel` is set.
    """
    for k, setting in enumerate(settings, 1):
        tell(f"Setting {k} of {len(settings)}" + (f": {setting}" if setting.values else ""))
        finder = Finder(setting.config)
        for number in scene.shown:
            true = scene.truth.get(number)
            try:
                linker = _linked_before(scene, setting, number, finder, cancel) if tracks else None
                found, linked = _found(scene, number, finder, linker, cancel)
            except (AlgorithmError, MemoryError) as error:
                yield Panel(setting, number, scene.grey[number], failure=_reason(error, scene.where(number)))
                continue
            picture = drawn(scene.grey[number], found, scene.view, true, linked)
            panel = Panel(setting, number, picture, tracks=linked, **measure(found, scene.textured[number], true))
            yield replace(panel, digest=panel.digest + (digest(*linked.ids) if linked else ""))


def _linked_before(scene: Scene, setting: Setting, last: int, finder: Finder, cancel: threading.Event) -> Linker:
    """Tracker that has the objects of all frames before the last one."""
    linker = Linker(setting.config)
    for number, frame in scene.frames.items():
        if number < last:
            _check(cancel)
            linker.add(scene.relabelled(number)(finder.labels(frame, scene.where(number))), frame)
    return linker


def _found(
    scene: Scene, number: int, finder: Finder, linker: Linker | None, cancel: threading.Event
) -> tuple[Found, Tracks | None]:
    _check(cancel)
    found = finder.find(scene.frames[number], scene.where(number), scene.relabelled(number))
    if linker is None:
        return found, None
    linker.add(found.labels, scene.frames[number])
    return found, linker.link(scene.fov, list(scene.frames))


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise CancelledError("cancelled; no preview was written")


def _reason(error: BaseException, where: str) -> str:
    return str(error).removeprefix(f"{where}: ") or "not enough memory"


def _textured(frame: np.ndarray) -> float:
    """Fraction of a frame in which `logstd` finds texture; 0 if it cannot tell."""
    with warnings.catch_warnings(action="ignore"), suppress(ValueError, OverflowError):
        return float(np.count_nonzero(segment(frame, max_object_size=None))) / frame.size
    return 0.0

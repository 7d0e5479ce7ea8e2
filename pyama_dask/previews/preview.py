"""Frames as a run would segment them, for the settings of a config, or over a grid of settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.pyama_files import config_of_output, is_of_output
from pyama_dask.config.load import as_config
from pyama_dask.config.models import Config
from pyama_dask.config.units import many
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import check_names, writable, write_bytes
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.files.palette import Picture
from pyama_dask.kernels.first_calls import SCORES
from pyama_dask.methods.unet import maps_kept
from pyama_dask.plan.find_fovs import find_fov, find_fovs, places_in
from pyama_dask.plan.resolve import resolve
from pyama_dask.previews.draw import View, small_png
from pyama_dask.previews.grid import settings
from pyama_dask.previews.layout import columns
from pyama_dask.previews.notes import best, judged, notes, with_equals
from pyama_dask.previews.page import fragment, page
from pyama_dask.previews.panels import Scene, make_panels
from pyama_dask.previews.selection import checked_part, chosen_frames
from pyama_dask.previews.sheet import sheet
from pyama_dask.previews.shown import Shown
from pyama_dask.readers import Metadata
from pyama_dask.runs.compilation import compile_kernels, kernels_for
from pyama_dask.runs.movie import seen_movie
from pyama_dask.runs.one_frame import about_drift, phase_channel, segmented_frames
from pyama_dask.steps.image_place import frames_of

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".png", ".html")
MOST_PANELS = 50
"""Largest number of panels."""
SIZES = {1: 1000, 2: 640, 3: 480, 4: 400}
"""Longer side of a panel in pixels by the number of columns."""
SMALLEST_SIZE = 340
"""The same for more columns."""


class Preview(Shown):
    """Panels of frames by settings; a notebook shows them as a page."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per panel: values of the grid, counts and shares by fate, scores, warnings."""
        import pandas as pd  # noqa: PLC0415  (only where it is needed: it is slow to import)

        return pd.DataFrame([panel.row() for panel in self.panels])

    @property
    def labels(self) -> list[npt.NDArray[np.integer] | None]:
        """(H, W) labels of each panel, as a run stores them; None where a method failed."""
        return [panel.labels for panel in self.panels]

    @cached_property
    def picture(self) -> Picture:
        """(H, W, 3) sheet of all panels with their captions."""
        return sheet(self)

    def page(self) -> str:
        """HTML page of all panels, with the pictures inside."""
        return page(self)

    def __repr__(self) -> str:
        return f"<Preview of {self.movie}, FOV {self.fov}: {many(len(self.panels), 'panel')}>"

    def _repr_html_(self) -> str:
        return fragment(self)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the sheet as ``.png``, or the page as ``.html``.

        Raises
        ------
        ConfigError
            If the path has another ending.
        OutputError
            If there is a file that `save` did not write, unless `force` is True.
        """
        path = check_path(Path(path), force=force)
        content = self.page().encode() if path.suffix.lower() == ".html" else small_png(self.picture)
        with writable(path), writing_into(path.parent, "preview", force=force) as folder:
            write_bytes(folder / path.name, content)
        return path


def check_path(path: Path, *, force: bool) -> Path:
    """Check that a preview may be written to a path; raises as `Preview.save`."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path}: a preview is written as .png or .html. Fix: choose one of these endings")
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OutputError(f"{path}: cannot be written: {there} is no folder to write to. Fix: choose another place")
    check_names(path.parent, [path.name])
    check_free(path.parent, [path.name], force=force)
    return path


def preview(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    fov: int | str | None = None,
    frames: str | int | Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    truth: str | Path | None = None,
    tracks: bool = False,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
    cancel: threading.Event | None = None,
) -> Preview:
    """Segment frames of a movie as a run would, for the config as it is or over a grid of settings.

    Parameters
    ----------
    config
        A config, a mapping with its keys, the path of a YAML file, or the output of a run, whose settings are used.
    grid
        Values for one or two keys, such as ``{"morph_iterations": [0, 1, 3]}``; at most 25 combinations. The keys are
        those of ``segmentation_params``, or dotted, such as ``segmentation_method`` or ``tracking_params.min_size``.
    fov
        Field of view, by number, by name, or by a well with one site; None for the first one that the config chooses.
    frames
        Frames, such as ``"0,90,179"`` or ``[0, 90, 179]``; None for the middle one, or with `tracks` for ten frames
        around it.
    crop
        Part of the frame to show: top, left and size in pixels. The whole frame is segmented nevertheless.
    truth
        True labels, to draw and to score with: see `pyama_dask.score_labels`.
    tracks
        True to link the objects of the frames, which must be consecutive, and to draw trails over the last one.
    overrides
        ``KEY=VALUE`` that were applied to the config, to repeat them beside the best setting.
    tell
        Called with what takes a while, such as compilation.
    progress
        Called with the setting that is being tried.
    cancel
        Set it to end early.

    Raises
    ------
    OutputError
        If `config` is a folder that is not the output of a run.
    ConfigError
        If a key or value of config or grid is invalid, or a FOV, a frame or the part does not exist.
    SourceError, MissingFrameError
        If the movie or a frame cannot be read.
    ImageError
        If the truth cannot be read or does not fit the frames.
    CancelledError
        If `cancel` was set.
    """
    config, grid = _as_config(config), grid or {}
    metadata, said = seen_movie(config, lambda metadata: [_chosen(fov, config, metadata)])
    fov = _chosen(fov, config, metadata)
    resolved = resolve(config, metadata)
    channel, seen = phase_channel(resolved), frames_of("segment", resolved, metadata)
    chosen = chosen_frames(frames, metadata, fov, tracks=tracks)
    every = settings(config, grid, metadata, tracks=tracks)
    shown = chosen[-1:] if tracks else chosen
    if len(every) * len(shown) > MOST_PANELS:
        raise ConfigError(
            f"frames: {len(every)} settings in {len(shown)} frames are {len(every) * len(shown)} panels, and at most "
            f"{MOST_PANELS} fit on a sheet. Fix: give fewer frames or values"
        )
    shape = seen.fovs[fov].shape
    part = checked_part(crop, shape)
    true = {} if truth is None else _read_truth(Path(truth), fov, shown, shape)
    cancel = cancel or threading.Event()
    names = set().union([] if truth is None else [SCORES], *(kernels_for(one.config) for one in every))
    compile_kernels([seen.channels[channel].dtype], names, tell, cancel)
    size = SIZES.get(columns([len(values) for values in grid.values()], len(shown)), SMALLEST_SIZE)
    with segmented_frames(metadata, every[0].config) as movie, maps_kept():
        images = {frame: movie.read(fov, frame) for frame in chosen}
        scene = Scene(fov, images, tuple(shown), true, View.fitting(part, size), movie.relabelled)
        panels = with_equals(make_panels(scene, every, tracks=tracks, tell=progress, cancel=cancel))
    ranked = judged(panels)
    keys = tuple(every[0].values)
    winner = best(ranked)
    return Preview(
        metadata.path.name, fov, tuple(chosen), keys, tuple(panels),
        (*notes(ranked, keys, overrides), *about_drift(resolved), *(f"warning: {warning}" for warning in said)),
        winner.setting if winner else None, shape, truth is not None, part,
        places_in(metadata)[fov].title,
    )  # fmt: skip


def _chosen(fov: int | str | None, config: Config, metadata: Metadata) -> int:
    return find_fovs(config.params, metadata)[0] if fov is None else find_fov(fov, metadata)


def _as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """Config as `as_config`, or of an output."""
    if isinstance(config, str | Path) and is_of_output(Path(config)):
        return config_of_output(Path(config))
    return as_config(config)


def _read_truth(
    path: Path, fov: int, frames: Sequence[int], shape: tuple[int, int]
) -> dict[int, npt.NDArray[np.integer]]:
    from pyama_dask.previews.truth import read_truth  # noqa: PLC0415  (loads pandas, which takes a second)

    return read_truth(path, fov, frames, shape)

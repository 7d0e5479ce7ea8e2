"""Windows of a movie with a first guess of labels, as files for annotation in other programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.atomic import writable
from pyama_dask.files.images import write_tiff
from pyama_dask.kernels.cell_maps import without_gaps
from pyama_dask.kernels.windows import choose_windows, most_windows
from pyama_dask.plan.find_fovs import places_in
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.one_frame import FrameSegmenter, phase_channel, segmented_frames
from pyama_dask.steps.image_place import frames_of

WINDOWS, SIZE = 4, 256
"""Default number of windows per frame, and their width and height in pixels."""
LABELS_END = "_labels.tif"
"""End of the name of a file with labels, beside ``NAME.tif``."""


@dataclass(frozen=True)
class Window:
    """A window that was cut, or that was there already."""

    name: str
    """Name of its files without ending."""
    cells: int
    """Cells of the first guess; 0 if the files were there already."""
    is_new: bool


@dataclass(frozen=True)
class AnnotationReport:
    """Windows in a folder."""

    folder: Path
    size: int
    """Width and height of a window in pixels."""
    method: str
    windows: tuple[Window, ...]
    warnings: tuple[str, ...]


def annotate(
    config: Config,
    metadata: Metadata,
    folder: Path,
    *,
    windows: int | None = None,
    size: int | None = None,
    add: bool = False,
) -> AnnotationReport:
    """Cut windows of frames, and label them with the config's method as a first guess.

    Parameters
    ----------
    config
        Not yet resolved; its FOVs, frames, phase channel and segmentation are used.
    metadata
        Of the movie; see `seen_movie` for the view of a run.
    folder
        Folder for ``NAME.tif`` and ``NAME_labels.tif``, both uint16; created if it does not exist.
    windows
        Number of windows per frame, from the densest to the emptiest; None for `WINDOWS`, or what fits.
    size
        Width and height of a window in pixels; None for `SIZE`, or what fits.
    add
        True to add windows to a folder that has some; those that exist stay as they are.

    Raises
    ------
    ConfigError
        If a FOV, frame, channel, plane, method or parameter does not exist, or windows do not fit into a frame.
    OutputError
        If the folder holds annotations, or is not writable.
    """
    resolved = resolve(config, metadata)
    phase_channel(resolved)
    seen = frames_of("segment", resolved, metadata)
    windows, size = check_windows(resolved, seen, folder, windows, size, add=add)
    fovs, frames = parse_selection(resolved.params.fovs), parse_selection(resolved.params.frames)
    segmenter, places = FrameSegmenter(resolved), places_in(metadata)
    cut, noticed = list[Window](), dict[str, list[str]]()
    with writable(folder), segmented_frames(metadata, resolved) as movie:
        folder.mkdir(parents=True, exist_ok=True)
        for fov, frame in ((fov, frame) for fov in fovs for frame in frames):
            image = movie.read(fov, frame)
            where = f"{places[fov].title}, frame {frame}"
            labels, warnings = segmenter.find(image, where)
            labels = movie.relabelled(fov, frame, labels)
            for warning in warnings:
                noticed.setdefault(warning, []).append(where)
            stem = frame_stem(movie_stem(metadata.path), places[fov], frame)
            cut += _cut(image, labels, folder, stem, seen.pixel_size_um, choose_windows(image, size, windows), size)
    warned = tuple(f"{'; '.join(at)}: {warning}" for warning, at in noticed.items())
    return AnnotationReport(folder, size, resolved.params.segmentation_method, tuple(cut), warned)


def check_windows(
    resolved: Config, metadata: Metadata, folder: Path, windows: int | None, size: int | None, *, add: bool
) -> tuple[int, int]:
    """Check that windows fit into all frames, and that the folder is free; raises as `annotate`.

    Parameters
    ----------
    resolved
        Resolved config with the FOVs.
    metadata
        Of the frames in which cells are found.
    folder, windows, size, add
        As for `annotate`.

    Returns
    -------
    Number of windows per frame, and their width and height in pixels.
    """
    fovs = parse_selection(resolved.params.fovs)
    _check_free(folder, add)
    return _fitting([metadata.fovs[fov].shape for fov in fovs], windows, size)


def _cut(
    image: np.ndarray,
    labels: npt.NDArray[np.integer],
    folder: Path,
    stem: str,
    pixel_size_um: float | None,
    corners: list[tuple[int, int]],
    size: int,
) -> Iterator[Window]:
    """Write the windows of a frame that do not exist yet."""
    for y, x in corners:
        name = f"{stem}_y{y:04d}_x{x:04d}"
        if (folder / f"{name}{LABELS_END}").exists():
            yield Window(name, 0, is_new=False)
            continue
        inside = np.s_[y : y + size, x : x + size]
        cells = write_annotated(folder, name, image[inside], labels[inside], pixel_size_um)
        yield Window(name, cells, is_new=True)


def frame_stem(movie: str, place: FovPlace, frame: int) -> str:
    """Beginning of the names of a frame's files: movie without ending, FOV, and number of the frame in the movie.

    FOVs in wells have their names, too, as stitched wells and their sites have the same numbers.
    """
    name = "" if place.well is None else re.sub(r"[^\w-]+", "-", f"_{place.name}")
    return f"{movie}_fov{place.fov:03d}{name}_t{frame:04d}"


def write_annotated(
    folder: Path, name: str, image: np.ndarray, labels: npt.NDArray[np.integer], pixel_size_um: float | None
) -> int:
    """Write a window and its labels; a picture that is there stays.

    Parameters
    ----------
    folder, name
        Files are ``NAME.tif`` and ``NAME_labels.tif`` in the folder.
    image
        (H, W) grey levels of at most 16 bits.
    labels
        (H, W) labels; they are numbered without gaps.
    pixel_size_um
        Micrometres per pixel; None if unknown.

    Returns
    -------
    Number of cells.
    """
    picture, label_file = folder / f"{name}.tif", folder / f"{name}{LABELS_END}"
    numbered = without_gaps(labels.astype(np.uint16))
    if not picture.exists():
        write_tiff(picture, image.astype(np.uint16), pixel_size_um)
    write_tiff(label_file, numbered, pixel_size_um)
    return int(numbered.max(initial=0))


def _fitting(shapes: list[tuple[int, int]], windows: int | None, size: int | None) -> tuple[int, int]:
    """Number and size of windows: as given, or what fits into all frames."""
    height, width = min(shapes, key=min)
    if size is not None and size > min(height, width):
        raise ConfigError(
            f"--size {size}: is larger than a frame, which has {width} x {height} px. Fix: use --size "
            f"{min(height, width)} or less"
        )
    size = size or min(SIZE, height, width)
    fitting = min(most_windows(shape, size) for shape in shapes)
    if windows is not None and windows > fitting:
        raise ConfigError(
            f"--windows {windows}: a frame holds {fitting} windows of {size} px side by side. Fix: use fewer windows, "
            "a smaller --size, or more frames"
        )
    return windows or min(WINDOWS, fitting), size


def _check_free(folder: Path, add: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file. Fix: choose a folder")
    held = len(list(folder.glob(f"*{LABELS_END}"))) if folder.exists() else 0
    if held and not add:
        raise OutputError(
            f"{folder}: holds {held} label files, which may have been corrected. Fix: use --add to add windows and "
            "keep these files, or choose another folder"
        )

"""Labels wherever they are: files, folders of files, folders of the Cell Tracking Challenge, and outputs of runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.output import open_output
from pyama_dask.errors import ImageError, OutputError
from pyama_dask.files.images import ENDINGS, TIFF, read_labels
from pyama_dask.store.arrays import missing_frames, read_frame
from pyama_dask.store.layout import IMAGES

Labels = npt.NDArray[np.integer]
Frames = Mapping[int, Callable[[], Labels]]
"""Functions that read the (H, W) labels of a frame, by its number."""
ENDS = ("_labels", "_cp_masks", "_masks")
"""Ends of the names of label files, without the ending, that stand beside images."""
_NUMBERED = re.compile(r"(\d+)_(RES|GT)")
_WORDS = "a label image, a folder of them, a folder of the Cell Tracking Challenge, or the output of a run"


@dataclass(frozen=True)
class LabelMovie:
    """Labels of one FOV, movie or single image."""

    name: str
    frames: Frames
    is_tracked: bool | None = None
    """True if a cell has the same label in all frames, False if not; None if unknown."""
    parents: Mapping[int, int] = field(default_factory=dict)
    """Label of the parent of each track that has one."""
    outlined: Frames | None = None
    """Frames whose labels have exact outlines, if these are other labels than `frames`."""


def open_labels(path: Path, *, as_truth: bool = False) -> dict[str, LabelMovie]:
    """Find labels; they are read later.

    Parameters
    ----------
    path
        File, folder or output.
    as_truth
        True to prefer the truth in a folder of the challenge that has results, too.

    Returns
    -------
    Movies by a name that is unique in `path`.

    Raises
    ------
    ImageError
        If there are no labels at this path.
    """
    if path.is_file():
        return _from_file(path)
    if not path.is_dir():
        raise ImageError(f"{path}: does not exist. Fix: give {_WORDS}")
    if (path / "processing_config.yaml").exists():
        return _from_output(path)
    return _from_challenge(path, as_truth) or _from_folder(path)


def _from_file(path: Path) -> dict[str, LabelMovie]:
    labels = read_labels(path)
    if labels.ndim == 4:
        return {str(k): LabelMovie(f"FOV {k}", _held(fov)) for k, fov in enumerate(labels)}
    if labels.ndim > 4:
        raise ImageError(f"{path}: has {labels.ndim} axes. Fix: use (H, W), (frame, H, W) or (FOV, frame, H, W)")
    return {path.stem: LabelMovie(path.stem, _held(labels.reshape(-1, *labels.shape[-2:])))}


def _held(stack: Labels) -> Frames:
    return {t: partial(stack.__getitem__, t) for t in range(len(stack))}


def _from_output(path: Path) -> dict[str, LabelMovie]:
    output = open_output(path)
    found = {str(fov): movie for fov in output.fovs if (movie := _of_fov(output[fov]))}
    if not found:
        raise ImageError(f"{path}: has no labels yet. Fix: run the steps segment and track first")
    return found


def _of_fov(fov: Fov) -> LabelMovie | None:
    """Tracked labels of a FOV if they are complete, else the labels of single frames, else None."""
    for group in sorted(fov.channels, reverse=True):  # seg_tracked before seg_labeled
        array = fov.directory / IMAGES / group / "0"
        if not group.startswith("seg_"):
            continue
        gone = set(missing_frames(array))
        is_tracked = group.startswith("seg_tracked")
        numbers = fov.attributes["frames"]
        frames = {
            number: partial(read_frame, fov.directory / IMAGES, f"{group}/0", k)
            for k, number in enumerate(numbers)
            if k not in gone
        }
        if frames and not (is_tracked and gone):
            return LabelMovie(f"FOV {fov.index}", frames, is_tracked, _mothers(fov) if is_tracked else {})
    return None


def _mothers(fov: Fov) -> Mapping[int, int]:
    """Mothers of divided cells, as far as traces are written."""
    try:
        return fov.parents
    except OutputError:
        return {}


def _from_challenge(path: Path, as_truth: bool) -> dict[str, LabelMovie]:
    """Movies of a folder of the Cell Tracking Challenge; empty if it is another folder."""
    if one := _sequence(path, path.name):
        return {path.name: one}
    inside = {match[0]: match for folder in path.iterdir() if (match := _NUMBERED.fullmatch(folder.name))}
    kinds = {match[2] for match in inside.values()}
    wanted = ("GT" if as_truth else "RES") if len(kinds) > 1 else next(iter(kinds), "")
    of_kind = {str(int(match[1])): name for name, match in inside.items() if match[2] == wanted}
    found = {key: _sequence(path / name, name) for key, name in sorted(of_kind.items())}
    return {key: one for key, one in found.items() if one}


def _sequence(path: Path, name: str) -> LabelMovie | None:
    """Result or truth of one sequence of the challenge; None if the folder is neither."""
    for folder, table in ((path / "TRA", "man_track.txt"), (path, "res_track.txt"), (path, "man_track.txt")):
        if (folder / table).is_file():
            if not (frames := _numbered(folder)):
                raise ImageError(f"{folder}: has {table}, but no label images. Fix: put the TIFF files beside it")
            outlined = _numbered(path / "SEG") if folder.name == "TRA" else {}
            return LabelMovie(name, frames, True, _parents(folder / table), outlined or None)
    return None


def _numbered(folder: Path) -> Frames:
    """Frames by the number at the end of the file's name."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in TIFF)
    found = {int(match[1]): file for file in files if (match := re.search(r"(\d+)$", file.stem))}
    if files and len(found) < len(files):
        raise ImageError(
            f"{folder}: has names of files without the number of their frame at the end, or a number twice. "
            "Fix: rename them, such as to mask000.tif"
        )
    return {number: partial(_flat, file) for number, file in sorted(found.items())}


def _flat(file: Path) -> Labels:
    labels = read_labels(file)
    if labels.ndim != 2:
        raise ImageError(
            f"{file}: has shape {labels.shape}, but the labels of a frame are (H, W). Fix: save one file per frame"
        )
    return labels


def _parents(table: Path) -> dict[int, int]:
    lines = [line.split() for line in table.read_text(errors="replace").splitlines() if line.strip()]
    try:
        return {int(label): int(parent) for label, _, _, parent in lines if int(parent)}
    except ValueError as error:
        raise ImageError(
            f"{table}: has other lines than four whole numbers. Fix: write label, first frame, last frame and parent"
        ) from error


def _from_folder(path: Path) -> dict[str, LabelMovie]:
    """Label images of a folder by their names; those that stand beside images if there are any."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
    beside = [file for file in files if file.stem.endswith(ENDS)]
    named = list(_named(beside or files))
    found = dict(named)
    if not found:
        raise ImageError(f"{path}: holds no labels. Fix: give {_WORDS}")
    if len(found) < len(named):
        double = next(name for name, movie in named if movie is not found[name])
        raise ImageError(f"{path}: holds several labels of {double!r}. Fix: keep one file of each name")
    return found


def _named(files: list[Path]) -> Iterator[tuple[str, LabelMovie]]:
    for file in files:
        end = next((end for end in ENDS if file.stem.endswith(end)), "")
        name = file.stem.removesuffix(end)
        movies = list(_from_file(file).values())
        for k, movie in enumerate(movies):
            full = name if len(movies) == 1 else f"{name} {k}"
            yield full, LabelMovie(full, movie.frames)

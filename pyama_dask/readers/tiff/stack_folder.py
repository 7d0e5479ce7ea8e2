"""Movies that are folders of TIFF stacks, one file per FOV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.base import FovInfo, Metadata, absent_planes
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes, stat_files
from pyama_dask.readers.tiff import movie as tiff_movie


def join_stacks(folder: Path, files: Sequence[str], fovs: Sequence[FovInfo], *, index: bytes, times: bool) -> Folder:
    """Make one movie of stacks.

    A file that is damaged is a FOV without any frame.

    Parameters
    ----------
    folder
        Folder that the names start at.
    files
        Names of the files, by FOV.
    fovs
        Names, wells and sites of the FOVs; the files have the rest.
    index
        Text that describes the movie; see `Planes`.
    times
        False to skip the times of frames.

    Raises
    ------
    SourceError
        If no file can be read.
    UnsupportedSourceError
        If a file has several FOVs, or the files differ in channels or in form.
    """
    read = in_threads(lambda name: _read(folder / name, times=times), files)
    good = [found for found in read if isinstance(found, Folder)]
    if not good:
        raise next(error for error in read if isinstance(error, SourceError))
    for found in good:
        _check(found, good[0])
    shape = (len(files), *np.max([found.planes.file.shape[1:] for found in good], axis=0).tolist())
    file, place = np.full(shape, ABSENT, np.int32), np.zeros(shape, np.int64)
    for fov, stack in enumerate(read):
        if isinstance(stack, Folder) and stack.planes.place is not None:
            frames, channels, heights = map(slice, stack.planes.file.shape[1:])
            file[fov, frames, channels, heights] = np.where(stack.planes.file[0] == ABSENT, ABSENT, fov)
            place[fov, frames, channels, heights] = stack.planes.place[0]
    damaged = [str(error) for error in read if isinstance(error, SourceError)]
    metadata = replace(
        good[0].metadata,
        path=folder,
        fovs=tuple(_fov(*about) for about in zip(fovs, read, [good[0]] * len(read), file != ABSENT, strict=True)),
        n_frames=shape[1],
        z_planes=shape[3],
        notes=(*(note for found in good for note in found.metadata.notes), *damaged),
        **(_times(read, shape[1]) if times else {}),
    )
    states = stat_files(folder, files)
    return Folder(metadata, Planes(folder, files, *states, file, place, index=index, form=good[0].planes.form))


def _read(path: Path, *, times: bool) -> Folder | SourceError:
    try:
        return tiff_movie.scan(path, times=times)
    except UnsupportedSourceError:
        raise
    except SourceError as error:
        return error


def _check(found: Folder, first: Folder) -> None:
    """Refuse a stack that cannot be a FOV beside the first one."""
    info, other = found.metadata, first.metadata
    problem = ""
    if len(info.fovs) > 1 or len(found.planes.files) > 1:
        problem = f"has {many(len(info.fovs), 'FOV')} in {many(len(found.planes.files), 'file')}"
    elif info.channels != other.channels:
        problem = f"has other channels, or pixels of another type, than {other.path}"
    elif found.planes.form != first.planes.form:
        problem = f"is stored in another form than {other.path}, such as compressed"
    if problem:
        raise UnsupportedSourceError(f"{info.path}: {problem}. Fix: save all files in the same way, one per FOV")


def _fov(fov: FovInfo, found: Folder | SourceError, first: Folder, held: npt.NDArray[np.bool_]) -> FovInfo:
    own = (found if isinstance(found, Folder) else first).metadata.fovs[0]
    return replace(fov, shape=own.shape, position_um=own.position_um, **absent_planes(held))


def _times(read: Sequence[Folder | SourceError], n_frames: int) -> dict[str, Any]:
    """Times of each file, counted from its first frame."""
    times, sources = np.full((len(read), n_frames), np.nan), list[str | None]()
    for fov, found in enumerate(read):
        info: Metadata | None = found.metadata if isinstance(found, Folder) else None
        if info is not None and info.times_min is not None:
            times[fov, : info.n_frames] = info.times_min[0]
        sources.append(info.source_of(0) if info is not None else None)
    known = not np.isnan(times).all()
    return {"times_min": times if known else None, "time_source": tuple(sources) if known else None}

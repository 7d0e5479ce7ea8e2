"""Output of a run as a movie: the raw frames that the run has copied, with their names, wells and times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import read_file
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind
from pyama_dask.readers.folders.plane_table import list_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder
from pyama_dask.readers.fov_names import distinct_names
from pyama_dask.readers.zarr_images.documents import read_attributes

NAME = "an earlier run"
RECORDS = ".pyama_dask"
"""Folder of the run's records, which only an output has."""
CONFIG = "processing_config.yaml"
IMAGES = "images.zarr"
_FOV = re.compile(r"fov_(\d{3,})")
_RAW = re.compile(r"(?:pc|fl)_ch_(\d+)")
"""Groups of raw frames, and the number of the channel in the movie of the run."""


class _Fov(NamedTuple):
    """A FOV that has images."""

    number: int
    """In the movie of the run."""
    about: Mapping[str, Any]
    """Attributes of its images."""
    groups: Mapping[int, str]
    """Groups of raw frames, by channel."""


def find(path: Path) -> list[Path]:
    """Find an output.

    Parameters
    ----------
    path
        Its folder.

    Returns
    -------
    The folder, or an empty list for another path.
    """
    return [path] if (path / RECORDS).is_dir() and (path / CONFIG).is_file() else []


def scan(root: Path, *, times: bool = True) -> Folder:
    """Find the raw frames of an output.

    Frames are counted along the arrays: frame 0 is the first one that the run has processed. Frames of blocks that are
    not there, because the run did not get to them, are missing.

    Parameters
    ----------
    root
        The output.
    times
        False to leave out the times of frames.

    Raises
    ------
    SourceError
        If a document or an array is damaged, or there are no images.
    """
    from pyama_dask.readers.zarr_images.planes import Piece, read_arrays  # noqa: PLC0415  (zarr is slow to import)

    fovs = _fovs_of(root)
    numbers = sorted({channel for fov in fovs for channel in fov.groups})
    pieces = [
        Piece(f"fov_{fov.number:03}/{IMAGES}/{group}/0", k, "T", numbers.index(channel))
        for k, fov in enumerate(fovs)
        for channel, group in fov.groups.items()
    ]
    try:
        recorded = load_yaml(read_file(root / CONFIG))["metadata"]
        found = read_arrays(root, pieces, repr([fov.about for fov in fovs]).encode())
        held = found.planes.file != ABSENT
        shapes = {piece.fov: array.shape[-2:] for piece, array in zip(pieces, found.arrays, strict=True)}
        dtypes = {piece.channel: array.dtype for piece, array in zip(pieces, found.arrays, strict=True)}
        metadata = Metadata(
            path=root,
            format="pyama_dask",
            fovs=_described(fovs, recorded, shapes, held),
            n_frames=held.shape[1],
            channels=tuple(_channel(recorded, number, dtypes[k]) for k, number in enumerate(numbers)),
            pixel_size_um=fovs[0].about["pixel_size_um"],
            read_memory=found.read_memory,
            plate_shape=tuple(shape) if (shape := recorded.get("plate_shape")) else None,
            notes=tuple(f"{root.name}: {note}" for note in found.notes),
            **(_times(fovs, held.shape[1]) if times else {}),
        )
    except (OSError, LookupError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{root}: has damaged records ({error!r}). Fix: run again, or pass the movie itself"
        ) from error
    return Folder(metadata, found.planes)


def _fovs_of(root: Path) -> list[_Fov]:
    """FOVs with images, by their numbers."""
    numbers = sorted(int(match[1]) for entry in list_folder(root) if (match := _FOV.fullmatch(entry.name)))
    found = list[_Fov]()
    for number in numbers:
        images = root / f"fov_{number:03}" / IMAGES
        names = sorted(entry.name for entry in list_folder(images))  # of a channel with both roles, the last one
        groups = {int(match[1]): match[0] for match in map(_RAW.fullmatch, names) if match}
        if groups and "frames" in (about := read_attributes(images)):
            found.append(_Fov(number, about, groups))
    if not found:
        raise SourceError(f"{root}: has no images of a run. Fix: pass the movie of the run")
    return found


# ------------------------------------------------------------------------------------------ metadata


def _described(
    fovs: Sequence[_Fov],
    recorded: Mapping[str, Any],
    shapes: Mapping[int, Sequence[int]],
    held: npt.NDArray[np.bool_],
) -> tuple[FovInfo, ...]:
    """FOVs under the names that they had in the movie of the run."""
    plates = {fov["fov"]: fov.get("plate") for fov in recorded["fovs"]}
    names, found = distinct_names([str(fov.about["name"]) for fov in fovs]), []
    for k, (fov, name) in enumerate(zip(fovs, names, strict=True)):
        position, shape = fov.about.get("position_um"), (int(shapes[k][0]), int(shapes[k][1]))
        places: dict[str, Any] = {key: fov.about.get(key) for key in ("well", "site")}
        places |= {"plate": plates.get(fov.number), "position_um": tuple(position) if position else None}
        found.append(FovInfo(name, shape, **places, **absent_planes(held[k])))
    return tuple(found)


def _channel(recorded: Mapping[str, Any], number: int, dtype: str) -> Channel:
    name = str(recorded["channels"][number]["name"])
    return Channel(name, dtype, recorded["channels"][number].get("kind") or channel_kind(name))


def _times(fovs: Sequence[_Fov], n_frames: int) -> dict[str, Any]:
    """Times as the run has recorded them: minutes since the first frame of its movie."""
    minutes = np.full((len(fovs), n_frames), np.nan)
    for k, fov in enumerate(fovs):
        recorded = fov.about["times_min"][:n_frames]
        minutes[k, : len(recorded)] = recorded
    return {"times_min": minutes, "time_source": tuple(fov.about["time_source"] for fov in fovs)}

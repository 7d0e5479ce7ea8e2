"""Table of the planes of a movie that is stored as Zarr arrays, one per FOV, or one per FOV and channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import as_tcz, check_size
from pyama_dask.readers.folders.planes import ABSENT, ZARR, Planes
from pyama_dask.readers.zarr_images.arrays import StoredArray, look_into, read_memory


@dataclass(frozen=True)
class Piece:
    """An array that is a FOV, or one of its channels."""

    path: str
    """From the folder of the movie."""
    fov: int
    axes: str
    """Axes before height and width, from ``TCZ``."""
    channel: int = 0
    """Number of its first channel."""
    fault: str = ""
    """Reason why it cannot be read; '' if none is known."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Planes of all arrays, and the arrays themselves in the order of the pieces."""

    planes: Planes
    arrays: Sequence[StoredArray]
    notes: Sequence[str]

    @property
    def read_memory(self) -> int:
        """Bytes that a process holds while it reads planes, beside the planes."""
        return read_memory(self.arrays)


Pairs = Sequence[tuple[Piece, StoredArray]]


def read_arrays(root: Path, pieces: Sequence[Piece], index: bytes) -> Arrays:
    """Look into all arrays.

    One that cannot be read has no planes, which a note explains; it gets size and pixel type of another one.

    Parameters
    ----------
    root
        Folder of the movie.
    pieces
        Its arrays, at least one.
    index
        Text that describes the movie; see `Planes`.

    Raises
    ------
    SourceError
        If no array can be read, or they announce too many planes.
    UnsupportedSourceError
        If they have other axes than their descriptions.
    """
    read = in_threads(lambda piece: _look_into(root, piece), pieces)
    good = next((array for array in read if isinstance(array, StoredArray)), None)
    faults = [error for error in read if isinstance(error, SourceError)]
    if good is None:
        raise faults[0]
    arrays = [
        array if isinstance(array, StoredArray) else _empty(good, len(piece.axes))
        for piece, array in zip(pieces, read, strict=True)
    ]
    pairs = list(zip(pieces, arrays, strict=True))
    files = [(f"{piece.path}/{name}", *state) for piece, array in pairs for name, state in sorted(array.files.items())]
    names, sizes, written = zip(*files, strict=True)
    file, place = _tables(root, pairs, {name: number for number, name in enumerate(names)})
    states = np.array(sizes, np.int64), np.array(written, np.int64)
    planes = Planes(root, names, *states, file, place, index=index, form=ZARR)
    return Arrays(planes, arrays, [*_notes(pairs), *map(str, faults)])


def _look_into(root: Path, piece: Piece) -> StoredArray | SourceError:
    """Array of a piece, or the reason why it cannot be read."""
    if piece.fault:
        return SourceError(piece.fault)
    try:
        array = look_into(root / piece.path)
    except SourceError as error:
        return error
    if len(array.shape) != len(piece.axes) + 2 or np.dtype(array.dtype).kind not in "iuf":
        return UnsupportedSourceError(
            f"{root / piece.path}: has shape {array.shape} and pixels of type {array.dtype}, which its description "
            "does not fit. Fix: write it again"
        )
    return array


def _empty(other: StoredArray, axes: int) -> StoredArray:
    """Array without planes, like another one."""
    leading = (1,) * axes
    return replace(
        other,
        shape=(*leading, *other.shape[-2:]),
        files={},
        held=np.zeros(leading, np.bool_),
        partial=0,
        is_coarse=False,
    )


def _tables(
    root: Path, pairs: Pairs, numbers: Mapping[str, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(FOVs, frames, channels, z) document of the array that holds each plane, and the plane's number in the array."""
    held = [as_tcz(array.held, piece.axes) for piece, array in pairs]
    frames, _, heights = np.max([table.shape for table in held], axis=0).tolist()
    channels = max(piece.channel + table.shape[1] for (piece, _), table in zip(pairs, held, strict=True))
    shape = max(piece.fov for piece, _ in pairs) + 1, frames, channels, heights
    check_size(root, shape)
    file, place = np.full(shape, ABSENT, np.int32), np.zeros(shape, np.int64)
    for (piece, array), table in zip(pairs, held, strict=True):
        t, c, z = table.shape
        part = piece.fov, slice(t), slice(piece.channel, piece.channel + c), slice(z)
        file[part] = np.where(table, numbers.get(f"{piece.path}/{array.document}", ABSENT), ABSENT)
        place[part] = as_tcz(np.arange(table.size).reshape(array.shape[:-2]), piece.axes)
    return file, place


def _notes(pairs: Pairs) -> Iterator[str]:
    """Notes on planes of which it is not known whether they are there."""
    if coarse := [piece.path for piece, array in pairs if array.is_coarse]:
        yield (
            f"chunks hold several planes in {many(len(coarse), 'array')}, such as {coarse[0]}: planes of a chunk that "
            "were never written cannot be told from black ones"
        )
    if partial := [(piece.path, array.partial) for piece, array in pairs if array.partial]:
        count = sum(number for _, number in partial)
        yield (
            f"parts are not stored in {many(count, 'plane')}, such as in {partial[0][0]}; they are read as the fill "
            "value, whether they are black or were never written"
        )

"""Files between the tasks of a FOV, in ``.pyama_dask/fov_000``: tables, and parts of crops."""

from __future__ import annotations

import errno
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.errors import StoreError
from pyama_dask.files.atomic import open_file, replacing
from pyama_dask.kernels.histogram import Histogram

_PART = re.compile(r"crops_(((pc|fl)_ch_\d+|mask)_b\d{3,}\.npy|filled_b\d{3,}\.npz)")
"""Names as from `part_file` and `filled_file`."""
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP}
"""Errors of opening something that is not a file, and of reading at places that a damaged file names."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError)
"""Errors of `zipfile` and numpy for damaged files, which seem to be encrypted if their flags are wrong."""


def block_file(work: Path, what: str, block: int) -> Path:
    """Path of a block's table: ``objects``, ``pairs``, ``too_large``, ``levels``, ``light`` or ``rows``."""
    return work / f"{what}_b{block:03d}.npz"


def part_file(work: Path, product: str, block: int) -> Path:
    """Path of a block's part of the crops of a product."""
    return work / f"crops_{product}_b{block:03d}.npy"


def filled_file(work: Path, block: int) -> Path:
    """Path of a block's table of the fills that are in its parts of crops."""
    return work / f"crops_filled_b{block:03d}.npz"


def part_files(work: Path) -> list[Path]:
    """All parts of crops of a FOV."""
    return sorted(file for file in work.glob("crops_*") if _PART.fullmatch(file.name))


def windows_file(work: Path) -> Path:
    """Path of the grey levels between which display levels are scaled."""
    return work / "windows.npz"


def tracks_file(work: Path) -> Path:
    """Path of the tracks of a FOV."""
    return work / "tracks.npz"


def cells_file(work: Path) -> Path:
    """Path of the kept cells of a FOV."""
    return work / "cells.npz"


def save(path: Path, **arrays: Any) -> Path:
    """Write arrays by name; the file is either complete or absent."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return path


def load(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read arrays by name; all of them, or only the named ones, if the file has them.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    with undamaged(path), open_file(path) as file, np.load(file) as arrays:  # numpy would leave a damaged file open
        return {name: arrays[name] for name in names or arrays.files if name in arrays}


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file raises within the block into `StoreError`."""
    try:
        yield
    except (OSError, *_DAMAGED) as error:
        if isinstance(error, OSError) and error.errno not in _NO_FILE:
            raise
        raise StoreError(
            f"{path}: is missing or damaged. Fix: run 'pyama-dask verify --deep', then run again"
        ) from error


def ragged(**per_frame: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Join lists of arrays per frame, for `save`; the arrays of one frame have equal lengths."""
    lengths = [len(array) for array in next(iter(per_frame.values()))]
    joined = {name: np.concatenate(arrays) for name, arrays in per_frame.items()}
    return {"lengths": np.array(lengths), **joined}


def by_frame(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Split one of the lists that `ragged` joined into its frames."""
    return np.split(arrays[name], np.cumsum(arrays["lengths"])[:-1])


# -------------------------------------------------------------------------------------------- histograms


def save_levels(path: Path, levels: Mapping[str, Histogram]) -> Path:
    """Write histograms by name."""
    held: dict[str, np.ndarray] = {}
    for name, h in levels.items():
        held[f"{name}.values"], held[f"{name}.counts"] = h.values, h.counts
        held[f"{name}.limits"] = np.array([h.bin_width, h.minimum, h.maximum])
    return save(path, **held)


def load_levels(paths: Sequence[Path], name: str) -> Histogram:
    """Sum of the histograms of a name over all blocks, which are read one by one."""
    return Histogram.sum(_levels(path, name) for path in paths)


def _levels(path: Path, name: str) -> Histogram:
    """Histogram of a name in a block."""
    names = [f"{name}.{what}" for what in ("values", "counts", "limits")]
    held = load(path, *names)
    values, counts, limits = (held[name] for name in names)
    return Histogram(values, counts, *limits.tolist())

"""Maps of the objects that a segmenter dropped, for pictures in reports: one file per block, with a bit per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import StoreError
from pyama_dask.store import intermediate

TOO_LARGE = "too_large"
"""Name of the files; blocks without such objects have none."""
Map = npt.NDArray[np.bool_]


def save_maps(path: Path, maps: Sequence[Map | None]) -> Path:
    """Write the (h, w) maps of a block's frames, all of one shape; None for frames without dropped objects."""
    shape = next(of.shape for of in maps if of is not None)
    bits = [np.zeros(0, np.uint8) if of is None else np.packbits(of) for of in maps]
    return intermediate.save(path, shape=np.array(shape), **intermediate.ragged(bits=bits))


def load_map(path: Path, k: int) -> Map | None:
    """Map of the k-th frame of a block; None without dropped objects, or if there is no such file or it is damaged."""
    try:
        held = intermediate.load(path)
        bits, (height, width) = intermediate.by_frame(held, "bits")[k], held["shape"].tolist()
    except (StoreError, OSError, LookupError, ValueError):
        return None
    if not bits.size:
        return None
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)

"""The movies and settings that are run under blows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from support import steps
from support.movies import INTENSITIES, as_czi, as_nd2, config, pixels, put_in_wells, write_config

DATA = Path(__file__).parents[3] / "shared" / "data"
"""Movies of real microscopes, where they are at hand."""
LOCAL = {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0"}
"""Two workers, and a dashboard at any port."""


@dataclass(frozen=True)
class Case:
    """A movie and settings.

    Parameters
    ----------
    name
        For the table.
    movie
        Gives the movie, made in a directory if need be; None where it is not at hand.
    changes
        Of the config, by dotted key.
    before
        Of the config of a run that is complete before the blows begin; None for an empty output.
    kills
        Number of kills at random moments in the long form; None for a few.
    """

    name: str
    movie: Callable[[Path], Path | None]
    changes: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    kills: int | None = None

    @property
    def local(self) -> bool:
        """Whether it runs on workers."""
        return self.changes.get("cluster", {}).get("kind") == "local"

    def config(self, path: Path, movie: Path, output: Path, changes: Mapping[str, Any] | None = None) -> Path:
        """Write the config of a run."""
        return write_config(path, config(movie, output, self.changes if changes is None else changes))


# -------------------------------------------------------------------------------------------------- movies


@lru_cache(maxsize=1)
def _small() -> np.ndarray:
    return pixels(fovs=2, frames=10, shape=(200, 240), cells=6)


def small_nd2(folder: Path) -> Path:
    """2 FOVs, 10 frames, 200 x 240, phase and one fluorescence channel."""
    return as_nd2(folder / "small.nd2", _small())


def small_czi(folder: Path) -> Path:
    """The same pixels."""
    return as_czi(folder / "small.czi", _small())


def odd_nd2(folder: Path) -> Path:
    """Sizes that no block, chunk or tile divides, and two fluorescence channels."""
    data = pixels(fovs=1, frames=37, shape=(419, 523), fluorescence_channels=2, seed=2)
    return as_nd2(folder / "odd.nd2", data)


def planes_nd2(folder: Path) -> Path:
    """Three planes, of which the middle one is the brightest."""
    data = _small()[:, :, :, None]
    return as_nd2(folder / "planes.nd2", np.concatenate([data // 2, data, data // 3], axis=3), z_step_um=1.0)


@lru_cache(maxsize=1)
def _plate() -> np.ndarray:
    return pixels(fovs=8, frames=6, shape=(120, 140), cells=3)


def plate_czi(folder: Path) -> Path:
    """6 wells, two of which have 2 sites; 6 frames, 120 x 140, phase and one fluorescence channel."""
    wells = ["A1", "A1", "A2", "A3", "B1", "B1", "B2", "B3"]
    return put_in_wells(as_czi(folder / "plate.czi", _plate()), wells)


def three_movies(folder: Path) -> Path:
    """Glob of an ND2, a CZI and a plate of two wells, with the pixels of `small_nd2`."""
    (night := folder / "night").mkdir()
    as_nd2(night / "a.nd2", _small())
    as_czi(night / "b.czi", _small())
    put_in_wells(as_czi(night / "c.czi", _small()), ["A1", "B2"])
    return night / "*"


def real(name: str) -> Callable[[Path], Path | None]:
    """A movie of the shared data."""
    return lambda _: DATA / name if (DATA / name).exists() else None


# --------------------------------------------------------------------------------------------------- cases

ONLY_FLUORESCENCE = {"fl": [{"channel": 0}]}
TWO_CHANNELS = [{"channel": channel, "features": INTENSITIES} for channel in (1, 2)]
FILLED = {
    "params.tracking_method": "lap",
    "params.tracking_params": {"min_frames": 2, "border_margin": 0, "min_size": 1035, "max_size": 1720},
    "storage.block_frames": 3,
}
"""Cells whose areas are near the limits are missed in some frames."""

STEPS = Path(steps.__file__).as_posix()
PIPELINES = [
    {
        "name": "prepare",
        "steps": [
            {"do": "gaussian", "sigma": 1, "channels": ["GFP"]},
            {"do": f"{STEPS}:mean_of_three", "channels": ["GFP"], "halo": 1, "checkpoint": True},
        ],
    },
    {"name": "cells", "input": "prepare", "steps": "seven"},
    {
        "name": "spots",
        "input": "cells",
        "steps": [
            {"do": f"{STEPS}:bright_pixels", "channels": ["GFP"], "above": 150, "to": "mask"},
            {"do": f"{STEPS}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"},
            {"do": f"{STEPS}:light_in_cells", "of": ["GFP", "tracked"], "to": "traces", "name": "largest"},
            {"do": f"{STEPS}:last_frames", "to": "ends"},
            {"do": f"{STEPS}:cells_of_well", "to": "cells"},
        ],
    },
]
"""Three pipelines in sequence: images on the way, a checkpoint with a halo, the seven, and every kind of result."""

STILL = [
    {
        "name": "prepare",
        "steps": [{"do": "drift", "channels": "all", "by": "Phase", "wells": "row:A", "checkpoint": True}],
    },
    {"name": "cells", "input": "prepare", "steps": "seven"},
]
"""Frames are moved by what was measured in all frames of a FOV."""

CASES = [
    Case("small ND2, local 2, blocks of 1", small_nd2, {"storage.block_frames": 1, "cluster": LOCAL}),
    Case(
        "small CZI, local 2, blocks of 4, grid, zip", small_czi,
        {"storage": {"block_frames": 4, "background": "grid", "cells": "zip"}, "cluster": LOCAL},
    ),
    Case("small ND2, serial", small_nd2),
    Case(
        "small CZI, serial, blocks auto, cells and display off", small_czi,
        {"storage": {"cells": "off", "display": "off", "codec": "zstd"}},
    ),
    Case(
        "odd ND2, local 2, two fluorescence channels, blocks of 8", odd_nd2,
        {"channels.fl": TWO_CHANNELS, "storage": {"block_frames": 8, "cells": "zip"}, "cluster": LOCAL},
    ),
    Case("small CZI, local 1, copy_only", small_czi, {"params.copy_only": True, "cluster": LOCAL | {"workers": 1}}),
    Case("three planes ND2, serial, z: max", planes_nd2, {"params.z": "max", "storage.block_frames": 3}),
    Case(
        "real cells ND2, local 2, blocks of 4", real("composite/t98g.nd2"),
        {"storage.block_frames": 4, "cluster": LOCAL},
    ),
    Case(
        "real cells CZI, serial, blocks of 5, grid, batch_size 1", real("composite/t98g.czi"),
        {"storage": {"block_frames": 5, "background": "grid"}, "cluster": {"kind": "serial", "batch_size": 1}},
    ),
    Case(
        "real ND2, 53 frames of fluorescence, local 1, batch_size 1", real("real_nd2/example-timelapse.nd2"),
        {"channels": ONLY_FLUORESCENCE, "storage.block_frames": 6, "cluster": LOCAL | {"workers": 1, "batch_size": 1}},
    ),
    Case(
        "real CZI, scenes of unequal size, serial, z: max", real("real_czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi"),
        {"channels": ONLY_FLUORESCENCE, "params.z": "max", "storage.block_frames": 1},
    ),
    Case(
        "small ND2, serial, another weight and tile size after a complete run", small_nd2,
        {"params.background_weight": 0.5, "params.background_params": {"tile_size": 60}}, before={},
    ),
    Case(
        "small CZI, local 2, another layout after a complete run", small_czi,
        {"storage": {"block_frames": 3, "cells": "zip"}, "cluster": LOCAL}, before={},
    ),
    Case("small CZI, local 2, gaps of tracks filled, blocks of 3", small_czi, FILLED | {"cluster": LOCAL}),
    Case("small CZI, serial, gaps of tracks filled after a complete run with iou", small_czi, FILLED, before={}),
    Case(
        "plate of 6 wells, local 2, three pipelines", plate_czi,
        {"pipelines": PIPELINES, "storage.block_frames": 2, "cluster": LOCAL}, kills=20,
    ),
    Case(
        "plate of 6 wells, serial, pipelines after a complete run without them", plate_czi,
        {"pipelines": PIPELINES, "storage.block_frames": 3}, before={"storage.block_frames": 3},
    ),
    Case(
        "plate of 6 wells, serial, drift of the stage registered, and undone in one row", plate_czi,
        {"pipelines": STILL, "params.register": "drift", "storage.block_frames": 2},
    ),
    Case("small ND2, local 2, through the page cache", small_nd2, {"storage.direct_io": "off", "cluster": LOCAL}),
    Case("small ND2, serial, past the page cache wherever it works", small_nd2, {"storage.direct_io": "on"}),
    Case("ND2, CZI and a plate in one run, local 2", three_movies, {"cluster": LOCAL}, kills=9),
]  # fmt: skip

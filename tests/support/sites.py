"""Plate in memory: sites that are windows of one canvas, so that it is known what a stitched well must show."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pyama_dask.errors import MissingFrameError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, Tile

SHAPE, FRAMES = (20, 24), 3
CORNERS = [(0, 0), (1, 18), (15, 2), (16, 20)]
CANVAS = (36, 44)
TILES = tuple(Tile(site, *corner) for site, corner in enumerate(CORNERS, 1))
CHANNELS = (Channel("Phase", "uint16", "phase"), Channel("GFP", "uint8", "fluorescence"))
SITES = [("B02", 2), ("B02", 1), ("B02", 3), ("B02", 4), ("C03", 1)]
"""Well and site of the FOVs, which are not in order."""


WELLS = {"C03": (Tile(1, 0, 0),), "B02": TILES}
"""Tiles of the wells, as the whole canvas shows them."""


class Sites:
    """Movie in memory, whose sites are windows of one canvas per frame and channel."""

    suffixes = ()
    path = Path("/plate")

    def __init__(self, missing=()):
        rng = np.random.default_rng(0)
        self.canvas = rng.integers(0, 256, (FRAMES, 2, *CANVAS))
        fovs = [FovInfo(f"{well} s{site}", SHAPE, plate="P", well=well, site=site) for well, site in SITES]
        for fov, values in missing:
            fovs[fov] = replace(fovs[fov], **values)
        times = np.arange(len(SITES) * FRAMES, dtype=float).reshape(len(SITES), FRAMES)
        source = tuple(f"{well} {site}" for well, site in SITES)
        self.metadata = Metadata(self.path, "made up", tuple(fovs), FRAMES, CHANNELS, 1, 0.5, None, times, source)
        self.is_open = True

    def read_frame(self, fov, frame, *, channels=None, z=0):
        channels = range(len(CHANNELS)) if channels is None else channels
        info = self.metadata.fovs[fov]
        if frame in info.lacking(channels, [z]):
            raise MissingFrameError(info.name)
        if not 0 <= frame < FRAMES or z:
            raise IndexError("frame or z")
        y, x = CORNERS[SITES[fov][1] - 1]
        window = self.canvas[frame, list(channels), y : y + SHAPE[0], x : x + SHAPE[1]]
        return window.astype(np.result_type(*(CHANNELS[channel].dtype for channel in channels)))

    def read_into(self, out, fov, frame, *, channels=None, z=0):
        for plane, window in zip(out, self.read_frame(fov, frame, channels=channels, z=z), strict=True):
            plane[...] = window

    def close(self):
        self.is_open = False

"""Read some frames of a movie, in a process that a damaged file may take down: ``python read_frames.py MOVIE``.

It imports the readers only, so that its time is theirs. Exit status: 0 for frames as announced, 3 for an error of ours.
"""

from __future__ import annotations

import sys

from pyama_dask.errors import PyamaError
from pyama_dask.readers import open_reader

REFUSED = 3


def read_frames(path: str) -> int:
    """Read first, middle and last frame of the first and last FOV; gives the exit status."""
    try:
        with open_reader(path) as reader:
            info = reader.metadata
            for fov in sorted({0, len(info.fovs) - 1}):
                for frame in sorted({0, info.n_frames // 2, info.n_frames - 1}):
                    pixels = reader.read_frame(fov, frame)
                    assert pixels.shape == (len(info.channels), *info.fovs[fov].shape)
    except PyamaError:
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(read_frames(sys.argv[1]))

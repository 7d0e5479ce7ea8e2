"""Frames of a movie for scripts: the image that `load_microscopy_file` gives beside the metadata."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Self

import numpy as np

from pyama_dask.readers import Metadata, Reader, open_reader


class MicroscopyImage:
    """A movie that is opened when its first frame is read, and closed by `close` or when it is not used any more.

    Parameters
    ----------
    path
        The movie; it is opened for reading only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: Reader | None = None

    @property
    def _reader(self) -> Reader:
        if self._open is None:
            self._open = open_reader(self.path)
            weakref.finalize(self, self._open.close)
        return self._open

    @property
    def metadata(self) -> Metadata:
        """Content of the movie."""
        return self._reader.metadata

    def get_microscopy_frame(self, fov: int, channel: int, time: int, z: int = 0) -> np.ndarray:
        """(H, W) frame of a channel; raises `MissingFrameError` if the movie lacks it, IndexError out of range."""
        frame: np.ndarray = self._reader.read_frame(fov, time, channels=[channel], z=z)[0]
        return frame

    def get_microscopy_channel_stack(self, fov: int, time: int, z: int = 0) -> np.ndarray:
        """(C, H, W) frame with all channels; raises as `get_microscopy_frame`."""
        return self._reader.read_frame(fov, time, z=z)

    def get_microscopy_time_stack(self, fov: int, channel: int, z: int = 0) -> np.ndarray:
        """(T, H, W) frames of a channel, in memory; raises as `get_microscopy_frame`."""
        times = range(self.metadata.n_frames)
        return np.stack([self.get_microscopy_frame(fov, channel, time, z) for time in times])

    def close(self) -> None:
        """Close the movie; the next frame opens it again."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get_microscopy_frame(img: MicroscopyImage, fov: int, channel: int, time: int, z: int = 0) -> np.ndarray:
    """(H, W) frame of a channel; see `MicroscopyImage.get_microscopy_frame`."""
    return img.get_microscopy_frame(fov, channel, time, z)


def get_microscopy_channel_stack(img: MicroscopyImage, fov: int, time: int, z: int = 0) -> np.ndarray:
    """(C, H, W) frame with all channels; see `MicroscopyImage.get_microscopy_channel_stack`."""
    return img.get_microscopy_channel_stack(fov, time, z)


def get_microscopy_time_stack(img: MicroscopyImage, fov: int, channel: int, z: int = 0) -> np.ndarray:
    """(T, H, W) frames of a channel; see `MicroscopyImage.get_microscopy_time_stack`."""
    return img.get_microscopy_time_stack(fov, channel, z)

"""Single phase frames of a movie outside a run, and the labels that a config's method finds in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.errors import ConfigError
from pyama_dask.methods.call import Chosen
from pyama_dask.readers import Metadata, Reader, reopen
from pyama_dask.readers.frames import read_planes
from pyama_dask.steps.segment import segmented


class PhaseFrames:
    """Phase-contrast frames of a movie, read one by one.

    Parameters
    ----------
    reader
        The open movie.
    channel
        Index of the channel.
    z
        Plane, as in the config.
    """

    def __init__(self, reader: Reader, channel: int, z: int | str | None) -> None:
        self._reader, self._channel, self._z = reader, channel, z

    def read(self, fov: int, frame: int) -> np.ndarray:
        """(H, W) grey levels of a frame; raises `MissingFrameError` if the file lacks it."""
        return np.asarray(read_planes(self._reader, fov, frame, [self._channel], self._z)[0])


@contextmanager
def phase_frames(movie: Metadata, channel: int, z: int | str | None) -> Iterator[PhaseFrames]:
    """Open a movie for the block."""
    with reopen(movie) as reader:
        yield PhaseFrames(reader, channel, z)


def phase_channel(config: Config) -> int:
    """Index of the phase channel of a resolved config.

    Raises
    ------
    ConfigError
        If the config names no such channel.
    """
    if config.channels.pc is None:
        raise ConfigError(
            "channels.pc: no channel is phase contrast, where cells are found. Fix: name it, such as "
            "'channels.pc={channel: 0}'; 'pyama-dask inspect' lists the channels"
        )
    return int(config.channels.pc.channel)


class FrameSegmenter:
    """The preprocessors and the segmenter of a resolved config.

    Parameters
    ----------
    config
        Resolved config.
    """

    def __init__(self, config: Config) -> None:
        params = config.params
        self._preprocessors = [Chosen("preprocessor", name) for name in params.preprocess]
        self._segmenter = Chosen("segmenter", params.segmentation_method, **params.segmentation_params)

    def find(self, frame: np.ndarray, where: str) -> tuple[npt.NDArray[np.integer], list[str]]:
        """Find the cells of a frame.

        Parameters
        ----------
        frame
            (H, W) phase contrast.
        where
            FOV and frame, for messages.

        Returns
        -------
        (H, W) labels 1..N, and warnings of the methods.

        Raises
        ------
        AlgorithmError
            If a method fails.
        """
        with warnings.catch_warnings(record=True, action="always") as caught:
            labels, *_ = segmented(self._preprocessors, self._segmenter, frame, where)
        said = [str(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]
        return labels, list(dict.fromkeys(said))

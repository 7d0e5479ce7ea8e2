"""Single phase frames of a movie outside a run, and the labels that a config's method finds in them.

Where pipelines have steps before the segmentation, frames go through these, too, and labels through those that replace
them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import ConfigError, PlanError
from pyama_dask.methods.call import Chosen
from pyama_dask.readers import Metadata, Reader, SharedMovie, reopen
from pyama_dask.readers.frames import read_planes
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.image_place import frames_of
from pyama_dask.steps.own_images import OwnImages, as_stored
from pyama_dask.steps.segment import segmented
from pyama_dask.store.layout import channel_indices
from pyama_dask.workflow.task import Job, Task

Labels = npt.NDArray[np.integer]


class PhaseFrames:
    """Phase-contrast frames of a movie, read one by one.

    Parameters
    ----------
    reader
        The open movie.
    channel
        Index of the channel.
    z
        Plane, as in the config; not ``all``, of which a step makes one (see `segmented_frames`).
    """

    def __init__(self, reader: Reader, channel: int, z: int | str | None) -> None:
        self._reader, self._channel, self._z = reader, channel, z

    def read(self, fov: int, frame: int) -> np.ndarray:
        """(H, W) grey levels of a frame; raises `MissingFrameError` if the file lacks it."""
        return np.asarray(read_planes(self._reader, fov, frame, [self._channel], self._z)[0])

    def relabelled(self, fov: int, frame: int, found: Labels) -> Labels:  # noqa: ARG002
        """(H, W) labels as they were found: no step replaces them."""
        return found


@contextmanager
def phase_frames(movie: Metadata, channel: int, z: int | str | None) -> Iterator[PhaseFrames]:
    """Open a movie for the block."""
    with reopen(movie) as reader:
        yield PhaseFrames(reader, channel, z)


class SeenFrames:
    """Phase-contrast frames as the segmentation of a run sees them, and labels as it stores them.

    Parameters
    ----------
    reader
        The open movie.
    config
        Resolved config with pipelines.
    """

    def __init__(self, reader: Reader, config: Config) -> None:
        self._reader, self._config, self._flow = reader, config, flow_of(config)
        self._image = self._flow.seen["segment"][str(phase_channel(config))]

    def read(self, fov: int, frame: int) -> np.ndarray:
        """(H, W) 16-bit grey levels of a frame of the movie.

        Raises
        ------
        MissingFrameError
            If the file lacks the frame, or one of those around it that a step looks into.
        AlgorithmError
            If a step fails.
        """
        images, number = self._images(fov, frame)
        return as_stored(images.frame(self._image, number))[0]

    def relabelled(self, fov: int, frame: int, found: Labels) -> Labels:
        """(H, W) labels that steps make of those that the segmenter has found in a frame; raises as `read`."""
        if self._flow.relabelled is None:
            return found
        images, number = self._images(fov, frame)
        return images.relabelled(number, found)

    def _images(self, fov: int, frame: int) -> tuple[OwnImages, int]:
        """Images of pipelines, and the place of a frame among those that steps may look into."""
        frames = sorted({*parse_selection(self._config.params.frames), frame})
        return OwnImages(_OneFrame(self._reader, self._config, fov, frames), self._flow), frames.index(frame)


class _OneFrame:
    """Frames for steps of a pipeline outside a task: everything comes from the movie.

    Parameters
    ----------
    reader, config
        As for `SeenFrames`.
    fov
        Field of view.
    frames
        Numbers of the frames in the movie that steps may look into.
    """

    def __init__(self, reader: Reader, config: Config, fov: int, frames: Sequence[int]) -> None:
        shape = reader.metadata.fovs[fov].shape
        self.params, (self.pc, self.fl) = config.params, channel_indices(config)
        self.job = Job(reader.path, config.output, config, tuple(frames), len(frames))
        self.task = Task("look", fov, shape, 0, len(frames), None, {})
        self.frames = range(0)  # no array holds any of them
        self.bytes_read, self.frames_read = 0, dict[int, int]()
        self.movie: SharedMovie = _OpenMovie(reader)

    def get(self, group: str) -> np.ndarray:
        """Never called, as `frames` is empty."""
        raise PlanError(f"{group}: a look at one frame reads no arrays")

    def shifts_for(self, step: str) -> np.ndarray:  # noqa: ARG002
        """(T, 2) zeros: a look at one frame shows it where it was recorded."""
        return np.zeros((self.job.n_frames, 2))

    def at(self, frame: int) -> str:
        """FOV and frame in the movie, for messages."""
        return f"FOV {self.task.fov}, frame {self.job.frames[frame]}"


@dataclass
class _OpenMovie:
    """The movie of a look."""

    reader: Reader

    def check(self) -> None:
        """Nothing is written, so that the movie may change."""


@contextmanager
def segmented_frames(movie: Metadata, config: Config) -> Iterator[PhaseFrames | SeenFrames]:
    """Open a movie for the block, to read frames as the segmentation of a run gets them, and replace labels as it does.

    Parameters
    ----------
    movie
        Metadata of the movie; see `seen_movie` for the view of a run.
    config
        Resolved config.

    Raises
    ------
    ConfigError
        If no channel is phase contrast, or none of the pipelines finds cells.
    """
    channel = phase_channel(config)
    if not config.has_seven:
        raise ConfigError(
            "pipelines: none has the seven steps, so that a run finds no cells. "
            "Fix: add one, such as {name: cells, steps: seven}"
        )
    with reopen(movie) as reader:
        is_plain = frames_of("segment", config, movie) is movie and flow_of(config).relabelled is None
        if is_plain and config.params.z != "all":
            yield PhaseFrames(reader, channel, config.params.z)
        else:
            yield SeenFrames(reader, config)


def about_drift(config: Config) -> Iterator[str]:
    """Say that frames are where they were recorded, if a run moves those in which it finds cells."""
    image = flow_of(config).seen["segment"][str(phase_channel(config))] if config.pipelines else None
    for step in image.moved_by if image else ():
        yield (
            f"Frames are shown as they were recorded: the drift that step {step} undoes is known when a run has "
            "measured all frames of a FOV, so tracks may break here that do not break there"
        )


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

    def find(self, frame: np.ndarray, where: str) -> tuple[Labels, list[str]]:
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

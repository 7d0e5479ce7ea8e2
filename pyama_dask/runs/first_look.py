"""A first look at a movie: the built-in segmentation methods on three frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.errors import AlgorithmError, ConfigError, PyamaError
from pyama_dask.kernels.plausibility import look, plausibility
from pyama_dask.methods.onnx_model import shipped_models
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import Metadata
from pyama_dask.runs.method_choice import Candidate, FirstLook, Tried, candidates, choose, default_candidate, place_of
from pyama_dask.runs.one_frame import FrameSegmenter, phase_frames

FRAMES = 3
"""Consecutive frames that are looked at."""
LARGEST = 2048
"""Height and width in pixels of the centre of a frame that is looked at."""
HOPELESS = 0.1
"""Plausibility on the first frame up to which a method is not tried on the others."""

Labels = npt.NDArray[np.integer]


def first_look(
    metadata: Metadata, channel: int, z: int | str | None, tell: Callable[[str], None] = lambda _: None
) -> FirstLook | None:
    """Try the built-in methods on three frames of a movie.

    Parameters
    ----------
    metadata
        Of the movie.
    channel
        Index of the channel with the cells.
    z
        Plane, as in the config.
    tell
        Called with what is being done.

    Returns
    -------
    Method that suits best; None if the movie has no frames that can be judged, or no method finds anything.
    """
    for fov in dict.fromkeys([0, len(metadata.fovs) // 2]):
        try:
            found = _look_at_fov(metadata, fov, channel, z, tell)
        except PyamaError:  # such as of pixels that cannot be processed, which the plan of a run explains
            continue
        if found and found.chosen.seen.count:
            return found
    return None


def _look_at_fov(
    metadata: Metadata, fov: int, channel: int, z: int | str | None, tell: Callable[[str], None]
) -> FirstLook | None:
    numbers = middle_frames(metadata, fov)
    where = place_of(fov, numbers)
    tell(f"{where}: reading")
    with phase_frames(metadata, channel, z) as movie:
        frames = [_centre(movie.read(fov, number)) for number in numbers]
    if not frames:
        return None
    segmenters = _Segmenters(metadata, channel)
    textured = _covered(segmenters.find(Candidate("logstd", {"max_object_size": None}), frames))
    tried = []
    for candidate in candidates(frames[0].shape, segmenters.network_zooms()):
        tell(f"{where}: trying {candidate}")
        with suppress(ConfigError, AlgorithmError):  # such as of a frame that is too small for a method
            tried.append(_try(candidate, segmenters, frames, textured))
    if not tried or tried[0].candidate != default_candidate():
        return None
    chosen, others = choose(tried)
    return FirstLook(fov, tuple(numbers), textured, tried[0], chosen, tuple(others))


def _try(candidate: Candidate, segmenters: _Segmenters, frames: Sequence[np.ndarray], textured: float) -> Tried:
    """Try a candidate on all frames, or on the first one only if that is hopeless."""
    labels = segmenters.find(candidate, frames[:1])
    seen = look(labels)
    if plausibility(seen, textured) > HOPELESS or candidate == default_candidate():
        seen = look([*labels, *segmenters.find(candidate, frames[1:])])
    return Tried(candidate, seen, plausibility(seen, textured))


class _Segmenters:
    """Segmentation of frames by candidates.

    Parameters
    ----------
    metadata, channel
        Of the movie; pixel sizes decide the scale of networks.
    """

    def __init__(self, metadata: Metadata, channel: int) -> None:
        self._metadata, self._channel = metadata, channel

    def find(self, candidate: Candidate, frames: Sequence[np.ndarray]) -> list[Labels]:
        """(H, W) labels of each frame."""
        segmenter = FrameSegmenter(self._resolved(candidate))
        return [segmenter.find(frame, f"frame {k}")[0] for k, frame in enumerate(frames)]

    def network_zooms(self) -> dict[str, float]:
        """Zoom that fits the movie, for each model of this package that can be opened."""
        found = {}
        for name in shipped_models():
            try:
                params = self._resolved(Candidate("unet", {"model": name})).params.segmentation_params
            except ConfigError:
                continue
            found[name] = float(params["zoom"])
        return found

    def _resolved(self, candidate: Candidate) -> Config:
        document = {
            "input": self._metadata.path,
            "output": f"{self._metadata.path.name}_results",
            "channels": {"pc": {"channel": self._channel}},
            "params": {"segmentation_method": candidate.method, "segmentation_params": dict(candidate.params)},
        }
        return resolve(parse_config(document, source=""), self._metadata)


def middle_frames(metadata: Metadata, fov: int, most: int = FRAMES) -> list[int]:
    """Numbers of up to `most` consecutive frames in the middle of a FOV that are all in the file."""
    gone = set(metadata.fovs[fov].missing)
    for count in range(min(most, metadata.n_frames), 0, -1):
        starts = range(metadata.n_frames - count + 1)
        middle = (metadata.n_frames - count) // 2
        for start in sorted(starts, key=lambda start: abs(start - middle)):
            if not gone.intersection(range(start, start + count)):
                return list(range(start, start + count))
    return []


def _centre(frame: np.ndarray) -> np.ndarray:
    """Centre of a large frame."""
    height, width = (min(length, LARGEST) for length in frame.shape)
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def _covered(labels: Sequence[Labels]) -> float:
    return float(np.mean([np.count_nonzero(frame) / frame.size for frame in labels]))

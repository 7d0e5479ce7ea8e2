"""Tracks through a few frames, as a run's tracker links their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.kernels.drift_path import Pair, PairsOfBlock, solved, without_drift
from pyama_dask.kernels.image_types import Frame
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.tracking import label_areas, within_size
from pyama_dask.methods.tracker_parameters import parameters_of
from pyama_dask.steps.drift import LARGEST
from pyama_dask.steps.standard import registers
from pyama_dask.steps.track import follow, tracker_of


@dataclass(frozen=True)
class Tracks:
    """Tracks through consecutive frames."""

    ids: tuple[npt.NDArray[np.int64], ...]
    """(N,) track ids of the objects of each frame, 0 for those outside all tracks."""
    boxes: tuple[npt.NDArray[np.int32], ...]
    """(N, 4) boxes of the objects of each frame."""

    def __len__(self) -> int:
        return len(self._frames_of())

    @property
    def through_all(self) -> int:
        """Number of tracks that are in every frame."""
        return sum(frames == len(self.ids) for frames in self._frames_of().values())

    def _frames_of(self) -> dict[int, int]:
        every = np.concatenate(self.ids)
        numbers, frames = np.unique(every[every > 0], return_counts=True)
        return dict(zip(numbers.tolist(), frames.tolist(), strict=True))

    def paths(self) -> dict[int, npt.NDArray[np.float64]]:
        """(K, 2) centres (y, x) in pixels of each track's boxes in the order of frames, by id."""
        every, box = np.concatenate(self.ids), np.concatenate(self.boxes).astype(np.float64)
        centres = (box[:, :2] + box[:, 2:] - 1) / 2
        return {track: centres[every == track] for track in self._frames_of()}

    @property
    def at_the_end(self) -> frozenset[int]:
        """Ids in the last frame."""
        return frozenset(self.ids[-1].tolist()) - {0}


class Linker:
    """The tracker of a resolved config, for frames that come one by one.

    Parameters
    ----------
    config
        Resolved config.
    """

    def __init__(self, config: Config) -> None:
        method, given = config.params.tracking_method, config.params.tracking_params
        self._tracker = tracker_of(config)
        self._drift = PairsOfBlock(0, max_shift=LARGEST) if registers(config) else None
        self._pairs: list[Pair] = []
        self._limits = parameters_of(method, given, within_size)
        self._boxes: list[npt.NDArray[np.int32]] = []
        self._chosen: list[npt.NDArray[np.bool_]] = []

    def add(self, labels: npt.NDArray[np.integer], frame: Frame) -> None:
        """Add the (H, W) labels 1..N of the next frame, and the (H, W) phase contrast in which drift is measured."""
        found = boxes(labels)
        if self._drift is not None:
            self._pairs += self._drift.add(len(self._boxes), frame)
        self._boxes.append(found)
        self._chosen.append(within_size(label_areas(labels, len(found)), **self._limits))

    def link(self, fov: int, frames: Sequence[int]) -> Tracks:
        """Link the objects of all frames.

        Raises
        ------
        AlgorithmError, WrongReturnError
            If the tracker fails.
        """
        at = [f"FOV {fov}, frame {frame}" for frame in frames]
        still: list[npt.NDArray[np.int32]] = self._boxes
        if self._drift is not None:
            still = without_drift(still, solved(self._pairs, len(still)).shifts)
        linked = follow(self._tracker, still, f"FOV {fov}", at.__getitem__, self._chosen)
        return Tracks(tuple(linked.ids), tuple(self._boxes))

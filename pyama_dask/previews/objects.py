"""Objects of a frame: those of a run, and those that its limits drop, which no output shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.errors import AlgorithmError
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.tracking import keep_cells, label_areas, within_size
from pyama_dask.methods.tracker_parameters import parameters_of
from pyama_dask.runs.one_frame import FrameSegmenter, Labels

NO_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "logstd": {"min_object_size": None, "max_object_size": None},
    "bright": {"min_object_size": None, "max_object_size": None},
    "unet": {"smallest": 0},
}
"""Parameters with which a method drops no object for its size."""


class Fate(IntEnum):
    """Reason for which an object is dropped, if it is not kept."""

    NOTHING = 0
    KEPT = 1
    TOO_LARGE = 2
    TOO_SMALL = 3
    BORDER = 4

    @property
    def words(self) -> str:
        """Description, for captions."""
        return ("", "kept", "too large", "too small", "at the border")[self]


@dataclass(frozen=True, eq=False)
class Found:
    """Objects of one frame."""

    labels: Labels
    """(H, W) labels 1..N as a run stores them."""
    dropped: Labels
    """(H, W) labels 1..M of objects that the method dropped, 0 elsewhere."""
    fates: npt.NDArray[np.uint8]
    """(N + 1,) `Fate` of each label."""
    dropped_fates: npt.NDArray[np.uint8]
    """(M + 1,) `Fate` of each dropped object."""
    warnings: tuple[str, ...]
    """Warnings of the methods."""

    def areas(self, *fates: Fate) -> npt.NDArray[np.int64]:
        """Pixels of each object of these fates."""
        every = np.concatenate([self.label_areas, self.dropped_areas])
        return every[np.isin(np.concatenate([self.fates[1:], self.dropped_fates[1:]]), fates)]

    @cached_property
    def label_areas(self) -> npt.NDArray[np.int64]:
        """(N,) pixels of the labels."""
        return label_areas(self.labels, len(self.fates) - 1)

    @cached_property
    def dropped_areas(self) -> npt.NDArray[np.int64]:
        """(M,) pixels of the dropped objects."""
        return label_areas(self.dropped, len(self.dropped_fates) - 1)


class Finder:
    """The methods of a resolved config, which also find what the config's limits drop.

    Parameters
    ----------
    config
        Resolved config.
    """

    def __init__(self, config: Config) -> None:
        params = config.params
        self._given, self._tracking = params.segmentation_params, (params.tracking_method, params.tracking_params)
        self._segmenter = FrameSegmenter(config)
        self._without_limits = [
            FrameSegmenter(
                config.model_copy(update={"params": params.model_copy(update={"segmentation_params": free})})
            )
            for free in _lifted(self._given, NO_LIMITS.get(params.segmentation_method, {}))
        ]

    def find(self, frame: np.ndarray, where: str, relabelled: Callable[[Labels], Labels] | None = None) -> Found:
        """Find the objects of a frame.

        Parameters
        ----------
        frame
            (H, W) phase contrast.
        where
            FOV and frame, for messages.
        relabelled
            Gives the labels that a run stores for those that the methods find; None if these are the same.

        Raises
        ------
        AlgorithmError
            If a method fails.
        """
        found, warnings = self._segmenter.find(frame, where)
        dropped, fates = self._dropped(frame, where, found)
        labels = relabelled(found) if relabelled else found
        return Found(labels, dropped, self._fates(labels), fates, tuple(warnings))

    def labels(self, frame: np.ndarray, where: str) -> Labels:
        """(H, W) labels 1..N that the methods find; raises as `find`."""
        return self._segmenter.find(frame, where)[0]

    def _fates(self, labels: Labels) -> npt.NDArray[np.uint8]:
        """(N + 1,) fate of each label: what tracking would drop for its size or place."""
        box = boxes(labels)
        fates = np.full(len(box) + 1, Fate.KEPT, np.uint8)
        fates[0] = Fate.NOTHING
        margin = parameters_of(*self._tracking, keep_cells) | {"min_frames": 1}
        numbers = np.arange(1, len(box) + 1)
        inside = keep_cells([box], [numbers], (labels.shape[0], labels.shape[1]), **margin)
        fates[np.setdiff1d(numbers, inside)] = Fate.BORDER
        limits, areas = parameters_of(*self._tracking, within_size), label_areas(labels, len(box))
        for name, fate in (("min_size", Fate.TOO_SMALL), ("max_size", Fate.TOO_LARGE)):
            if name in limits:
                fates[1:][~within_size(areas, **{name: limits[name]})] = fate
        return fates

    def _dropped(self, frame: np.ndarray, where: str, labels: Labels) -> tuple[Labels, npt.NDArray[np.uint8]]:
        """Objects without limits that are mostly outside of `labels`, and their fates."""
        every = self._of_all_sizes(frame, where)
        if every is None or np.array_equal(every, labels):
            return np.zeros_like(labels), np.zeros(1, np.uint8)
        count = int(every.max(initial=0))
        areas = label_areas(every, count)
        outside = label_areas(np.where(labels > 0, 0, every), count)
        chosen = 2 * outside > areas
        numbers = np.concatenate([[0], np.where(chosen, np.cumsum(chosen), 0)]).astype(np.uint16)
        too_large = areas[chosen] > (self._given.get("max_object_size") or np.inf)
        fates = np.where(too_large, Fate.TOO_LARGE, Fate.TOO_SMALL).astype(np.uint8)
        return np.where(labels > 0, 0, numbers[every]), np.concatenate([[Fate.NOTHING], fates]).astype(np.uint8)

    def _of_all_sizes(self, frame: np.ndarray, where: str) -> Labels | None:
        """(H, W) objects of all sizes; None if the method has no limits."""
        for segmenter in self._without_limits:
            with suppress(AlgorithmError):  # too many specks to number them
                return segmenter.find(frame, where)[0]
        return None


def _lifted(given: Mapping[str, Any], no_limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameters without any limit, then those with the smallest size only; empty if there is no limit to lift."""
    largest = {name: value for name, value in no_limits.items() if name.startswith("max")}
    every = [{**given, **lifted} for lifted in (no_limits, largest)]
    return [lifted for k, lifted in enumerate(every) if lifted not in (given, *every[:k])]

"""Find the cells of every phase-contrast frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import as_ranges
from pyama_dask.kernels.losses import COUNTS, Losses, collected
from pyama_dask.kernels.morphology import boxes_and_areas
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.registry import is_plugin
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.numbering import numbered
from pyama_dask.steps.part import BlockPart
from pyama_dask.store import intermediate
from pyama_dask.store.drop_maps import TOO_LARGE, save_maps
from pyama_dask.store.layout import labels_name, raw_name
from pyama_dask.workflow.graph import Step


class Segmentation(BlockPart):
    """Labels of the cells in every phase-contrast frame, their boxes and areas, and what the segmenter dropped."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        params = context.params
        self._preprocessors = [Chosen("preprocessor", name) for name in params.preprocess]
        self._segmenter = Chosen("segmenter", params.segmentation_method, **params.segmentation_params)
        self._raw, self._labels = raw_name("pc", context.phase), labels_name(context.phase)
        self._is_plugin = is_plugin("segmenter", params.segmentation_method)
        self._boxes: list[np.ndarray] = []
        self._areas: list[np.ndarray] = []
        self._losses: list[Losses] = []
        self._noticed: dict[str, list[int]] = {}

    def frame(self, k: int) -> None:
        """Find the cells of the batch's frame k; with a method of several frames, of those that follow, too."""
        if self._segmenter.batch:
            self._together(k)
        else:
            self._alone(k)

    def _together(self, k: int) -> None:
        context, count = self._context, self._segmenter.batch
        if k % count:
            return
        places = range(k, min(k + count, len(context.frames)))
        frames = [context.frames[place] for place in places]
        planes = [*context.seen(self.step, self._raw)[k : places.stop]]
        with warnings.catch_warnings(record=True, action="always") as caught, collected() as noted:
            found = segmented_together(self._preprocessors, self._segmenter, planes, [context.at(of) for of in frames])
        for place, objects in zip(places, found, strict=True):
            self._keep(place, *objects)
        self._add_losses(noted, len(frames))
        self._notice(caught, frames)

    def _alone(self, k: int) -> None:
        context, frame = self._context, self._context.frames[k]
        with warnings.catch_warnings(record=True, action="always") as caught, collected() as noted:
            plane = context.seen(self.step, self._raw)[k]
            objects = segmented(self._preprocessors, self._segmenter, plane, context.at(frame))
        self._keep(k, *objects)
        self._add_losses(noted, 1)
        self._notice(caught, [frame])

    def _add_losses(self, noted: list[Losses], frames: int) -> None:
        """Add what the segmenter noted of some frames, one by one.

        A plugin may call a segmenter of the package on pieces of a frame, and change what it returns.
        """
        self._losses += noted if len(noted) == frames and not self._is_plugin else [Losses()] * frames

    def _keep(self, k: int, labels: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> None:
        """Keep the labels of the batch's frame k as steps of pipelines leave them, with boxes and areas."""
        context = self._context
        if context.flow.relabelled is not None:
            labels = context.own_images.relabelled(context.frames[k], labels)
            boxes, areas = boxes_and_areas(labels)
        context.room(self._labels)[k] = labels
        self._boxes.append(boxes)
        self._areas.append(areas)

    def _notice(self, caught: Iterable[warnings.WarningMessage], frames: Sequence[int]) -> None:
        """Keep warnings about frames for the report."""
        for warning in caught:
            if not issubclass(warning.category, DeprecationWarning):
                self._noticed.setdefault(str(warning.message), []).extend(frames)

    def batch(self) -> None:
        """Write the labels; no later step needs the phase-contrast frames."""
        self._context.put(self._labels, self._context.room(self._labels))
        self._context.drop(self._raw)

    def end(self) -> None:
        """Write boxes, areas and numbers of dropped objects for `link`, and maps for the report; report warnings."""
        context = self._context
        for message, at in self._noticed.items():
            context.warn(f"{context.task.place}, frames {as_ranges(at)}: {message}")
        file = intermediate.block_file(context.work, "objects", context.block)
        dropped = {name: np.array([getattr(one, name) for one in self._losses]) for name in COUNTS}
        objects = intermediate.ragged(boxes=self._boxes, areas=self._areas)
        context.wrote(intermediate.save(file, **objects, **dropped))
        large = [one.large for one in self._losses]
        if any(of is not None for of in large):
            context.wrote(save_maps(intermediate.block_file(context.work, TOO_LARGE, context.block), large))


def segmented(
    preprocessors: Sequence[Chosen], segmenter: Chosen, frame: np.ndarray, where: str
) -> tuple[np.ndarray, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Run preprocessors and the segmenter on a frame.

    Parameters
    ----------
    preprocessors, segmenter
        Methods from the config.
    frame
        (H, W) phase contrast.
    where
        FOV and frame, for messages.

    Returns
    -------
    (H, W) labels, (N, 4) boxes and (N,) areas, as from `as_stored`.

    Raises
    ------
    AlgorithmError, WrongReturnError
        If a method fails, or returns something else than an image or labels of the frame's shape.
    """
    return segmented_together(preprocessors, segmenter, [frame], [where])[0]


def segmented_together(
    preprocessors: Sequence[Chosen], segmenter: Chosen, frames: Sequence[np.ndarray], places: Sequence[str]
) -> list[tuple[np.ndarray, npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
    """Run preprocessors and the segmenter on frames: in one call if it takes several, else one by one.

    Parameters
    ----------
    preprocessors, segmenter
        Methods from the config.
    frames
        (H, W) phase contrast each, no more than the segmenter takes at once.
    places
        FOV and frame of each, for messages.

    Returns
    -------
    For each frame, as from `segmented`; raises the same.
    """
    images = []
    for frame, where in zip(frames, places, strict=True):
        image = frame
        for method in preprocessors:
            image = preprocessed(method, image, where)
        images.append(image)
    if segmenter.batch:
        where = " to ".join(dict.fromkeys([places[0], places[-1]]))
        stack = segmenter.labels(where, np.stack(images))
        if stack.shape != (len(images), *frames[0].shape):
            raise segmenter.wrong(where, stack, f"labels of shape {(len(images), *frames[0].shape)}")
        made = [*stack]
    else:
        made = [segmenter.labels(where, image) for where, image in zip(places, images, strict=True)]
    for labels, frame, where in zip(made, frames, places, strict=True):
        if labels.shape != frame.shape or labels.dtype.kind not in "iu":
            raise segmenter.wrong(where, labels, f"whole-number labels of shape {frame.shape}")
    return [as_stored(labels, segmenter, where) for labels, where in zip(made, places, strict=True)]


def preprocessed(method: Chosen, frame: np.ndarray, where: str) -> np.ndarray:
    """Run a preprocessor on a frame, and check the result."""
    image = method.array(where, frame)
    if image.shape != frame.shape or image.dtype not in (np.uint8, np.uint16):
        raise method.wrong(where, image, f"uint8 or uint16 {frame.shape}")
    return image


def as_stored(
    labels: np.ndarray, segmenter: Chosen, where: str
) -> tuple[np.ndarray, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Renumber labels as they are stored: 0 for background, objects 1..N in the order of their numbers.

    Parameters
    ----------
    labels
        (H, W) integers, as a segmenter returned them.
    segmenter, where
        For messages.

    Returns
    -------
    (H, W) labels, and (N, 4) int32 boxes and (N,) areas of the objects in pixels.

    Raises
    ------
    WrongReturnError
        If a label is negative, or there are more than 65535 objects.
    """
    found = boxes_and_areas(labels) if labels.dtype == np.uint16 else None
    if found is None or not found[1].all():
        labels = numbered(labels, segmenter, where)
        found = boxes_and_areas(labels)
    return labels, *found

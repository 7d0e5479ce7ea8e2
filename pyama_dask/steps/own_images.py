"""Images that steps of a user's own give, made frame by frame or stack by stack when something asks for them.

Nothing is stored on the way: a frame goes through all steps in the task that needs it, and a function of several
frames gets those of the block with as many before and after it as it looks into. Steps of one type of array pass it on
without conversion, so that a chain of Dask steps is computed as one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyama_dask.config.pipelines import Step
from pyama_dask.errors import PlanError
from pyama_dask.kernels.geometry import undrifted
from pyama_dask.methods.array_types import ArrayType, stacked, to_type, type_of
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.step_functions import read_step
from pyama_dask.methods.step_results import UnfitError, as_result, check_images
from pyama_dask.steps.demand import Demand, is_of_stacks
from pyama_dask.steps.flow import FOUND, MOVIE, NUMBERED, Flow, Image, applies
from pyama_dask.steps.movie_frames import Frames, MovieFrames
from pyama_dask.steps.numbering import numbered
from pyama_dask.steps.read_back import StoredBefore


@dataclass
class Made:
    """Pixels that a call gave: (H, W) or (Z, H, W) of one frame, or (T, H, W) of frames from `start`."""

    pixels: Any
    """Of the type of array that the function works on."""
    start: int = 0
    check: Callable[[np.ndarray], None] | None = None
    """Check of the pixels when they are computed."""
    _converted: dict[ArrayType, Any] = field(default_factory=dict)

    def of_type(self, wanted: ArrayType) -> Any:
        """Pixels as a type of array; each conversion is done once, and lazy ones are computed once."""
        if type_of(self.pixels) == wanted:
            return self.pixels
        if wanted not in self._converted:
            plain = self.pixels if wanted == "numpy" else self.of_type("numpy")
            self._converted[wanted] = made = to_type(plain, wanted)
            if isinstance(made, np.ndarray):
                if self.check:
                    self.check(made)
                made.flags.writeable = False
        return self._converted[wanted]


class OwnImages:
    """Images of a task by frame, each made once as long as the task holds its batch of frames.

    Parameters
    ----------
    context
        Frames, arrays and config of the task.
    flow
        What is made from what.
    stored
        Images that earlier tasks have stored; None without any.
    """

    def __init__(self, context: Frames, flow: Flow, stored: StoredBefore | None = None) -> None:
        self._stored = stored
        self._context, self._flow, self._demand = context, flow, Demand(flow)
        self._calls: dict[int, tuple[Chosen, bool]] = {}
        self._names = {id(own.step): own.name for own in flow.own}
        self._frames: dict[tuple[object, str], dict[int, Made]] = {}
        self._stacks: dict[tuple[object, str], list[Made]] = {}
        self._movie = MovieFrames(context, self._demand)
        self._found: dict[int, np.ndarray] = {}

    def forget(self) -> None:
        """Drop all frames, when the next batch begins; those that it needs again are made again."""
        self._frames.clear()
        self._stacks.clear()
        self._movie.forget()
        if any(own.step.found and own.step.found.array == "dask" for own in self._flow.own):
            collect()

    def frame(self, image: Image, frame: int, wanted: ArrayType = "numpy") -> Any:
        """(H, W) pixels of a frame of the output, or (Z, H, W) where a frame has planes; not to be written to."""
        if image.step is None:
            return to_type(self._source(image, frame), wanted)
        if not self._applies(image):
            return self.frame(image.unchanged, frame, wanted)
        if is_of_stacks(image.step):
            made = self._stack_with(image, frame, frame + 1)
            return made.of_type(wanted)[frame - made.start]
        kept = self._frames.setdefault((id(image.call), image.key), {})
        if frame not in kept:
            if self._is_stored(image, frame, frame + 1):
                self._keep(image, frame, {image.key: self._read_back(image, frame, frame + 1)[0]})
            else:
                self._keep(image, frame, self._of_frame(image, frame))
        return kept[frame].of_type(wanted)

    def relabelled(self, frame: int, found: np.ndarray) -> np.ndarray:
        """(H, W) uint16 labels 1..N of a frame after the steps that replace those that were found."""
        assert self._flow.relabelled is not None
        self._found = {frame: found}
        return self._source(self._flow.relabelled, frame)

    def stack(self, image: Image, start: int, stop: int, wanted: ArrayType = "numpy") -> Any:
        """(T, H, W) pixels of frames start to stop of the output; not to be written to."""
        if image.step is not None and is_of_stacks(image.step) and self._applies(image):
            made = self._stack_with(image, start, stop)
            return made.of_type(wanted)[start - made.start : stop - made.start]
        if self._is_stored(image, start, stop):
            return to_type(self._read_back(image, start, stop), wanted)
        self._prepare(image, start, stop)
        native = wanted if image.step and image.step.planned.array == wanted else "numpy"
        frames = (self.frame(image, frame, native) for frame in range(start, stop))
        return to_type(stacked(frames, stop - start, native), wanted)

    def _prepare(self, image: Image, start: int, stop: int) -> None:
        """Make the stacks of which frames of an image are made, in one call instead of one for each frame."""
        if self._is_stored(image, start, stop):
            return
        for of in image.of:
            if of.step is not None and is_of_stacks(of.step) and self._applies(of):
                self._stack_with(of, start, stop)
            else:
                self._prepare(of, start, stop)

    def _stack_with(self, image: Image, start: int, stop: int) -> Made:
        """Frames that an image is made of, with start to stop among them."""
        known = self._stacks.setdefault((id(image.call), image.key), [])
        for made in known:
            if made.start <= start and stop <= made.start + len(made.pixels):
                return made
        batch, margin = self._context.frames, self._demand.margin(image)
        first, last = max(0, batch.start - margin), min(self._context.job.n_frames, batch.stop + margin)
        is_all = batch and first <= start and stop <= last
        if is_all and (self._is_stored(image, first, last) or not self._is_stored(image, start, stop)):
            start, stop = first, last  # all that will be asked for, at once
        is_stored = self._is_stored(image, start, stop)
        new = {image.key: self._read_back(image, start, stop)} if is_stored else self._of_stack(image, start, stop)
        for key, pixels in new.items():
            self._stacks.setdefault((id(image.call), key), []).append(Made(pixels, start, self._when_computed(image)))
        for of in image.of:
            if of.step is not None and is_of_stacks(of.step) and self._demand.only_by_stack(of):
                self._stacks.pop((id(of.call), of.key), None)
        return known[-1]

    # ----------------------------------------------------------------------------------------- sources

    def _is_stored(self, image: Image, start: int, stop: int) -> bool:
        """Check whether earlier tasks have stored frames start to stop of an image."""
        return self._stored is not None and self._stored.has(image, start, stop)

    def _read_back(self, image: Image, start: int, stop: int) -> np.ndarray:
        """(T, H, W) or (T, Z, H, W) pixels that earlier tasks have stored."""
        assert self._stored is not None
        return self._stored.read(image, start, stop)

    def _source(self, image: Image, frame: int) -> np.ndarray:
        if image.origin == MOVIE:
            return self._movie.read(image, frame)
        if image.origin == FOUND:
            return self._found[frame]
        if image.origin == NUMBERED:
            (made,) = image.of
            return numbered(self.frame(made, frame), self.call(made.author), self._context.at(frame))
        context = self._context
        if frame in context.frames:
            return np.asarray(context.get(image.group)[frame - context.frames.start])
        if not image.is_labels:  # other blocks may not be copied yet
            copied = self._flow.seen["copy"][image.name]
            return as_stored(self.frame(copied, frame))[0]
        raise PlanError(f"{context.task.key}: labels of other blocks cannot be read. Fix: leave out the step's 'halo'")

    # ------------------------------------------------------------------------------------------- calls

    def _applies(self, image: Image) -> bool:
        """Check whether the step of an image is done for this FOV."""
        return applies(image.author, self._context.task.fov)

    def call(self, step: Step) -> Chosen:
        """Function of a step, with its parameters."""
        return self._call(step)[0]

    def _call(self, step: Step) -> tuple[Chosen, bool]:
        """Function of a step, and whether it gets several images one by one."""
        if id(step) not in self._calls:
            by_position = not step.of or read_step(step, "").by_position
            self._calls[id(step)] = step_call(step, self._names[id(step)]), by_position
        return self._calls[id(step)]

    def given_to(self, step: Step, of: Sequence[Image], start: int, stop: int | None = None) -> tuple[Any, ...]:
        """Arguments of the function of a step: one image, several, or a mapping of images by name.

        Parameters
        ----------
        step
        of
            Images that it gets.
        start, stop
            Frame; or first frame of a stack, and the one after its last.
        """
        return self._arguments(step, self._values(step, of, start, stop))

    def _values(self, step: Step, of: Sequence[Image], start: int, stop: int | None = None) -> list[Any]:
        """Images of a frame, or of frames start to stop, in the type of array that a step works on."""
        array = step.planned.array
        if stop is None:
            return [self.frame(image, start, array) for image in of]
        return [self.stack(image, start, stop, array) for image in of]

    def _arguments(self, step: Step, values: Sequence[Any]) -> tuple[Any, ...]:
        if self._call(step)[1]:
            return tuple(values)
        return (dict(zip(step.planned.names, values, strict=True)),)

    def _of_frame(self, image: Image, frame: int) -> Mapping[str, Any]:
        """Images that a call gives for one frame; plane by plane, if it takes single ones of several."""
        step, where = image.author, self._context.at(frame)
        if image.by is not None:
            return {image.key: self._undrifted(image, step, frame)}
        return self._called(image, where, self._values(step, image.of, frame))

    def _called(self, image: Image, where: str, values: Sequence[Any], frames: int | None = None) -> Mapping[str, Any]:
        """Images that a step gives for those of one frame, or of a stack of `frames`.

        A function of single planes is called for one after the other, with (H, W) of (Z, H, W), or (T, H, W) of
        (T, Z, H, W).
        """
        step, count = image.author, image.of[0].planes
        if not count or step.over == "z":
            return self._results(image, where, self._arguments(step, values), frames)
        axis, made = 0 if frames is None else 1, list[Mapping[str, Any]]()
        for z in range(count):
            plane = [_plane(value, z, axis) for value in values]
            made.append(self._results(image, f"{where}, plane {z}", self._arguments(step, plane), frames))
        kinds = {name: type_of(pixels) for name, pixels in made[0].items()}
        return {name: stacked((plane[name] for plane in made), count, kind, axis) for name, kind in kinds.items()}

    def _undrifted(self, image: Image, step: Step, frame: int) -> np.ndarray:
        """Frame, or each of its planes, moved back by the shift that was found for it."""
        shift, pixels = self._context.shifts_for(image.made_by)[frame], self.frame(image.of[0], frame)
        how: dict[str, Any] = {name: step.params[name] for name in ("interpolation", "outside")}
        planes = [undrifted(plane, shift, **how) for plane in (pixels if image.planes else pixels[None])]
        return np.stack(planes) if image.planes else planes[0]

    def _of_stack(self, image: Image, start: int, stop: int) -> Mapping[str, Any]:
        """Images that a call gives for frames start to stop, of a function that also looks at those around them."""
        step = image.author
        first, last = self.window(step, start, stop)
        where = f"FOV {self._context.task.fov}, frames {start}-{stop - 1}"
        made = self._called(image, where, self._values(step, image.of, first, last), last - first)
        return {name: pixels[start - first : stop - first] for name, pixels in made.items()}

    def window(self, step: Step, start: int, stop: int) -> tuple[int, int]:
        """First frame, and the one after the last, that a function gets for frames start to stop."""
        halo = step.halo or 0
        return max(0, start - halo), min(self._context.job.n_frames, stop + halo)

    def _results(self, image: Image, where: str, data: Sequence[Any], frames: int | None = None) -> Mapping[str, Any]:
        """Images that a call returns, by name, which must be as they were found when the run was planned.

        An array of the type that the function works on stays as it is, so that a chain of one type is not converted.
        """
        method = self.call(image.author)
        made = method.lazy(where, *data)
        try:
            results = self._checked(made, method, where, image, frames)
        except UnfitError as error:
            raise method.unfit(where, error.problem, error.fix) from error
        for other in self._flow.steps[image.made_by].gives:
            if other.call is image.call:
                if other.key not in results:
                    names = ", ".join(results) or "one without a name"
                    raise method.wrong(where, f"images {names}", f"an image {other.key!r}, as when it was planned")
                self._check(other, method, where, results[other.key], frames)
        return results

    @staticmethod
    def _checked(made: Any, method: Chosen, where: str, image: Image, frames: int | None) -> Mapping[str, Any]:
        """Images of a result, whose pixels must be numbers, and labels none below 0."""
        if _is_lazy(made):
            return {"": made}  # checked when it is computed
        result = as_result(made)
        if result.table is not None:
            raise method.wrong(where, "a table", "an image, as when it was planned")
        check_images(result, "frame" if frames is None else "stack", frames or 0, image.is_labels)
        return result.images

    def _when_computed(self, image: Image) -> Callable[[np.ndarray], None]:
        """Check of the pixels of a lazy image, for `Made`."""

        def check(pixels: np.ndarray) -> None:
            method, where = self.call(image.author), f"FOV {self._context.task.fov}"
            single = pixels.reshape(-1, *pixels.shape[-2:]) if image.planes else pixels
            try:
                self._checked(single, method, where, image, len(single) if single.ndim > 2 else None)
            except UnfitError as error:
                raise method.unfit(where, error.problem, error.fix) from error

        return check

    def _check(self, image: Image, method: Chosen, where: str, made: Any, frames: int | None) -> None:
        shape = (*(() if frames is None else (frames,)), *image.shape(self._context.task.movie_shape))
        dtype = str(made.dtype).removeprefix("torch.")
        if tuple(made.shape) != shape or np.dtype(dtype) != image.dtype:
            raise method.wrong(where, f"{dtype} {tuple(made.shape)}", f"{image.dtype} {shape}, as when it was planned")

    def _keep(self, image: Image, frame: int, made: Mapping[str, Any]) -> None:
        """Keep the images of a frame for what needs them next; only the last frame, unless it is asked for again."""
        again = self._demand.again(image, inside=frame in self._context.frames)
        for key, pixels in made.items():
            kept = self._frames.setdefault((id(image.call), key), {})
            if not again:
                kept.clear()
            if isinstance(pixels, np.ndarray):
                pixels.flags.writeable = False
            kept[frame] = Made(pixels, check=self._when_computed(image))


def _plane(pixels: Any, z: int, axis: int) -> Any:
    """One plane, in one piece, as a function gets the frames of a movie without planes."""
    if axis == 0:
        return pixels[z]
    plane = pixels[:, z]
    return np.ascontiguousarray(plane) if isinstance(plane, np.ndarray) else plane


def _is_lazy(made: Any) -> bool:
    """Check for an array of another type than NumPy's."""
    return type_of(made) != "numpy" and getattr(made, "ndim", 0) > 1


def step_call(step: Step, name: str) -> Chosen:
    """Function of a step, with its parameters; errors name the step by pipeline and title."""
    method = Chosen("step", step.do, **step.params)
    method.title = f"step {name}, {method.title.removeprefix('the step ')}"
    return method


def as_stored(frame: np.ndarray) -> tuple[np.ndarray, int]:
    """Frame as 16-bit grey levels, rounded and clipped, and the number of pixels that were out of range.

    Parameters
    ----------
    frame
        (H, W) pixels of any type.
    """
    if frame.dtype in (np.uint8, np.uint16):
        return frame, 0
    top = np.iinfo(np.uint16).max
    levels = np.rint(frame) if frame.dtype.kind == "f" else frame
    if levels.min(initial=0) >= 0 and levels.max(initial=0) <= top:  # not with NaN
        return levels.astype(np.uint16), 0
    out_of_range = np.count_nonzero(~((levels >= 0) & (levels <= top)))
    return np.nan_to_num(levels, nan=0.0).clip(0, top).astype(np.uint16), int(out_of_range)


def collect() -> None:
    """Free objects that refer to each other, as what Dask has computed may do.

    Forked workers look through all their objects, as those of their server are frozen and cost nothing. Other processes
    look through young ones only: hundreds of thousands are theirs from imports, which takes longer than a batch.
    """
    gc.collect(2 if gc.get_freeze_count() else 1)

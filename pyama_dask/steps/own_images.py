"""Images that steps of a user's own give, made frame by frame or stack by stack when something asks for them.

Nothing is stored on the way: a frame goes through all steps in the task that needs it, and a function of several
frames gets those of the block with as many before and after it as it looks into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pyama_dask.config.models import Params
from pyama_dask.config.pipelines import Step
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import PlanError
from pyama_dask.methods.array_types import to_numpy, to_type
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.step_functions import read_step
from pyama_dask.methods.step_results import UnfitError, as_result
from pyama_dask.readers import SharedMovie
from pyama_dask.readers.frames import digest_of, read_planes, read_stacks
from pyama_dask.steps.flow import MOVIE, Flow, Image
from pyama_dask.workflow.task import Job, Task


class Frames(Protocol):
    """Frames and arrays of a task, as `TaskContext` has them."""

    task: Task
    job: Job
    params: Params
    pc: int | None
    fl: tuple[int, ...]
    frames: range
    bytes_read: int
    frames_read: dict[int, int]

    @property
    def movie(self) -> SharedMovie:
        """Open movie."""
        ...

    def get(self, group: str) -> np.ndarray:
        """Current batch's piece of an array."""
        ...

    def at(self, frame: int) -> str:
        """Name of a frame for messages."""
        ...


class OwnImages:
    """Images of a task by frame, each made once as long as the task holds its batch of frames.

    Parameters
    ----------
    context
        Frames, arrays and config of the task.
    flow
        What is made from what.
    """

    def __init__(self, context: Frames, flow: Flow) -> None:
        self._context, self._flow = context, flow
        self._calls: dict[int, Chosen] = {}
        self._made: dict[tuple[int, str, int], np.ndarray] = {}
        self._read: dict[int, Mapping[str, np.ndarray]] = {}
        self._keeps_all = any(own.step.found is not None and own.step.found.per == "stack" for own in flow.own)

    def forget(self) -> None:
        """Drop all frames, when the next batch begins; those that it needs again are made again."""
        self._made.clear()
        self._read.clear()

    def frame(self, image: Image, frame: int) -> np.ndarray:
        """(H, W) pixels of a frame of the output, or (Z, H, W) where a frame has planes; not to be written to."""
        if image.step is None:
            return self._source(image, frame)
        if not self._applies(image):
            return self.frame(image.of[0], frame)
        if (id(image.call), image.key, frame) not in self._made:
            batch = self._context.frames
            inside = self._is_of_stack(image) and frame in batch
            self._make(image, *((batch.start, batch.stop) if inside else (frame, frame + 1)))
        return self._made[id(image.call), image.key, frame]

    def stack(self, image: Image, start: int, stop: int) -> np.ndarray:
        """(T, H, W) pixels of frames start to stop of the output."""
        if self._is_of_stack(image) and self._applies(image):
            key = id(image.call), image.key
            if any((*key, frame) not in self._made for frame in range(start, stop)):
                self._make(image, start, stop)
        return np.stack([self.frame(image, frame) for frame in range(start, stop)])

    def _make(self, image: Image, start: int, stop: int) -> None:
        """Call the function of an image for some frames, and keep all images that it gives."""
        if self._is_of_stack(image):
            made = self._of_stack(image, start, stop)
            for frame in range(start, stop):
                self._keep(image, frame, {name: stack[frame - start] for name, stack in made.items()})
        else:
            self._keep(image, start, self._of_frame(image, start))

    def _is_of_stack(self, image: Image) -> bool:
        return image.step is not None and image.step.found is not None and image.step.found.per == "stack"

    # ----------------------------------------------------------------------------------------- sources

    def _source(self, image: Image, frame: int) -> np.ndarray:
        if image.origin == MOVIE:
            return self._of_movie(frame)[image.name]
        context = self._context
        if frame in context.frames:
            return np.asarray(context.get(image.group)[frame - context.frames.start])
        if not image.is_labels:  # other blocks may not be copied yet
            copied = self._flow.seen["copy"][image.name]
            return as_stored(self.frame(copied, frame))[0]
        raise PlanError(f"{context.task.key}: labels of other blocks cannot be read. Fix: leave out the step's 'halo'")

    def _of_movie(self, frame: int) -> Mapping[str, np.ndarray]:
        """Channels of a frame of the movie by name, as planes (Z, H, W) if steps get all of them."""
        if frame not in self._read:
            context = self._context
            channels = [*([] if context.pc is None else [context.pc]), *context.fl]
            number, z = context.job.frames[frame], context.params.z
            reader = context.movie.reader
            fov = context.task.fov
            if z == "all":
                planes = read_stacks(reader, fov, number, channels)
            else:
                planes = read_planes(reader, fov, number, channels, z)
            context.bytes_read += planes.nbytes
            if context.task.start <= frame < context.task.stop:
                context.frames_read[frame] = digest_of(planes)
            if not self._keeps_all:
                self._read.clear()
            planes.flags.writeable = False
            self._read[frame] = {str(channel): planes[k] for k, channel in enumerate(channels)}
        return self._read[frame]

    # ------------------------------------------------------------------------------------------- calls

    def _applies(self, image: Image) -> bool:
        """Check whether the step of an image is done for this FOV."""
        step = image.step
        assert step is not None
        assert step.found is not None
        return step.found.fovs == "all" or self._context.task.fov in parse_selection(step.found.fovs)

    def call(self, step: Step) -> Chosen:
        """Function of a step, with its parameters."""
        if id(step) not in self._calls:
            self._calls[id(step)] = Chosen("step", step.do, **step.params)
        return self._calls[id(step)]

    def given_to(self, step: Step, of: Sequence[Image], pixels: Callable[[Image], Any]) -> tuple[Any, ...]:
        """Arguments of the function of a step: one image, several, or a mapping of images by name."""
        assert step.found is not None
        values = [to_type(pixels(image), step.found.array) for image in of]
        if not step.of or read_step(step, "").by_position:
            return tuple(values)
        return (dict(zip(step.found.names, values, strict=True)),)

    def _of_frame(self, image: Image, frame: int) -> Mapping[str, np.ndarray]:
        """Images that a call gives for one frame; plane by plane, if it takes single ones of several."""
        step, where = image.step, self._context.at(frame)
        assert step is not None
        if not image.of[0].planes or step.over == "z":
            return self._results(image, where, self.given_to(step, image.of, lambda of: self.frame(of, frame)))
        planes = [
            self._results(image, where, self.given_to(step, image.of, lambda of, z=z: self.frame(of, frame)[z]))  # type: ignore[misc]
            for z in range(image.of[0].planes)
        ]
        return {name: np.stack([plane[name] for plane in planes]) for name in planes[0]}

    def _of_stack(self, image: Image, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """Images that a call gives for frames start to stop, of a function that also looks at those around them."""
        first, last = self._window(image, start, stop)
        step, frames = image.step, last - first
        assert step is not None
        if step.found is not None and step.found.array == "dask" and not image.key:
            made = {"": to_numpy(self._lazy(image, first, last))}
        else:
            data = self.given_to(step, image.of, lambda of: self.stack(of, first, last))
            made = dict(self._results(image, self._where(start, stop), data, frames))
        return {name: stack[start - first : stop - first] for name, stack in made.items()}

    def _window(self, image: Image, start: int, stop: int) -> tuple[int, int]:
        halo = (image.step.halo or 0) if image.step else 0
        return max(0, start - halo), min(self._context.job.n_frames, stop + halo)

    def _lazy(self, image: Image, start: int, stop: int) -> Any:
        """(T, H, W) result of a function of Dask arrays; a chain of them is computed as one."""
        step = image.step
        assert step is not None

        def pixels(of: Image) -> Any:
            found = of.step.found if of.step else None
            if found is None or found.per != "stack" or found.array != "dask" or not self._applies(of):
                return self.stack(of, start, stop)
            first, last = self._window(of, start, stop)
            return self._lazy(of, first, last)[start - first : stop - first]

        method, where = self.call(step), self._where(start, stop)
        made = method.lazy(where, *self.given_to(step, image.of, pixels))
        self._check(image, method, where, made, stop - start)
        return made

    def _where(self, start: int, stop: int) -> str:
        return f"FOV {self._context.task.fov}, frames {start}-{stop - 1}"

    def _results(
        self, image: Image, where: str, data: Sequence[Any], frames: int | None = None
    ) -> Mapping[str, np.ndarray]:
        """Images that a call returns, by name, which must be as they were found when the run was planned."""
        assert image.step is not None
        method = self.call(image.step)
        made = method.lazy(where, *data)
        try:
            results = as_result(made).images
        except UnfitError as error:
            raise method.wrong(where, error.problem, "images, as when the run was planned") from error
        if image.key not in results:
            raise method.wrong(where, f"images {', '.join(results)}", f"an image {image.key!r}, as when it was planned")
        self._check(image, method, where, results[image.key], frames)
        return results

    def _check(self, image: Image, method: Chosen, where: str, made: Any, frames: int | None) -> None:
        shape = (*(() if frames is None else (frames,)), *image.shape(self._context.task.movie_shape))
        if tuple(made.shape) != shape or made.dtype != image.dtype:
            raise method.wrong(
                where, f"{made.dtype} {tuple(made.shape)}", f"{image.dtype} {shape}, as when it was planned"
            )

    def _keep(self, image: Image, frame: int, made: Mapping[str, np.ndarray]) -> None:
        """Keep the images of a frame for what needs them next; only the last frame, unless functions get several."""
        if not self._keeps_all:
            for key in [key for key in self._made if key[0] == id(image.call)]:
                del self._made[key]
        for name, pixels in made.items():
            pixels.flags.writeable = False
            self._made[id(image.call), name, frame] = pixels


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
    levels = np.rint(frame)
    out_of_range = np.count_nonzero(~((levels >= 0) & (levels <= top)))
    return np.nan_to_num(levels, nan=0.0).clip(0, top).astype(np.uint16), int(out_of_range)

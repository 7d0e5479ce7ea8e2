"""Demand for the images of pipelines in a task: who asks for them, so that only what is asked for again is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pyama_dask.config.pipelines import Step
from pyama_dask.steps.flow import MOVIE, NUMBERED, Flow, Image, Own

By = tuple[int, ...]
"""Name of an asker: numbers of a call on a stack, and of the calls between it and the image; empty for parts that go
over a batch frame by frame, which ask for the same frame at the same time."""
BY_FRAME: By = ()


class Demand:
    """Askers of each image, and frames beyond a batch that they ask for.

    Parameters
    ----------
    flow
        What is made from what.
    """

    def __init__(self, flow: Flow) -> None:
        self._by: defaultdict[object, set[By]] = defaultdict(set)
        self._of_movie: set[tuple[By, str]] = set()
        self._margin: defaultdict[object, int] = defaultdict(int)
        self._around = 0
        for seen in flow.seen.values():
            self._ask(seen.values(), {BY_FRAME}, 0)
        if flow.relabelled is not None:
            self._ask([flow.relabelled], {BY_FRAME}, 0)
        for own in reversed(flow.own):  # steps come after those whose images they get
            self._add(own)

    def _add(self, own: Own) -> None:
        """Count what a step asks for."""
        if not own.gives:  # rows
            halo = own.step.halo or 0
            for of in own.gets:
                self._ask(of, {(id(of),)} if is_of_stacks(own.step) else {BY_FRAME}, halo)
                self._around += len(of) if halo else 0
        if own.is_stored:
            self._ask(own.gives, {BY_FRAME}, 0)
        for image in own.gives:
            by, reach = self._by[key_of(image)], self._margin[key_of(image)] + (own.step.halo or 0)
            call = id(image.call)
            further: set[By] = (
                {(call,)} if by and is_of_stacks(own.step) else {(*one, call) if one else one for one in by}
            )
            self._ask(image.of, further, reach)
            self._around += len(image.of) if reach else 0

    def _ask(self, images: Iterable[Image], by: set[By], margin: int) -> None:
        for image in images:
            self._by[key_of(image)] |= by
            self._margin[key_of(image)] = max(self._margin[key_of(image)], margin)
            if image.origin == NUMBERED:
                self._ask(image.of, by, margin)
            if image.origin == MOVIE:
                self._of_movie |= {(one, image.name if one else "") for one in by}

    def again(self, image: Image, *, inside: bool) -> bool:
        """Check whether frames are asked for again, after others were; `inside` the batch, or around it."""
        if not inside:
            return self._around > 1
        return len(self._of_movie if image.origin == MOVIE else self._by[key_of(image)]) > 1

    def is_asked(self, channel: str) -> bool:
        """Check whether anything asks for a channel of the movie."""
        return bool(self._by[MOVIE, channel])

    def only_by_stack(self, image: Image) -> bool:
        """Check whether nothing but one call on a stack asks for an image."""
        by = self._by[key_of(image)]
        return len(by) == 1 and BY_FRAME not in by

    def margin(self, image: Image) -> int:
        """Frames before and after a batch for which an image is asked, too."""
        return self._margin[key_of(image)]


def key_of(image: Image) -> object:
    """The same for all images that one call gives, and for all of one channel of the movie."""
    return (MOVIE, image.name) if image.origin == MOVIE else id(image.call) if image.step else id(image)


def is_of_stacks(step: Step | None) -> bool:
    """Check whether a step's function is called for stacks of frames; None is the step of an image that none gives."""
    return step is not None and step.planned.per == "stack"

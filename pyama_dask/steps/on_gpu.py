"""Parts that are done on workers with a GPU, in separate tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pyama_dask.config.models import Config
from pyama_dask.methods.device import needs_of
from pyama_dask.methods.registry import find_method, gpu_problem
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.standard import KEPT, needs_gpu
from pyama_dask.workflow.graph import GPU, Graph, Held, Part, Step

WITH_GPU = {GPU: 1.0}
COPY, SEGMENT = "copy.frames", "segment.labels"
BEFORE_LINKING = ("background.tiles", "crop.counts")
"""Parts on blocks that others of the FOV wait for, as linking does."""
LINKING = ("drift.shifts", "track.link")
LOADED = 4 + KEPT
"""Bytes per pixel of a frame that finding cells holds in a separate task: frames and labels."""


@dataclass(frozen=True)
class GpuNeed:
    """Need of a step that is done on workers with a GPU, if there are any."""

    key: str
    """Config key that asks for it."""
    is_required: bool
    """False if it is done on any worker where there is no GPU."""
    memory: int = 0
    """Bytes on the device; 0 if its method does not say."""
    problem: str = ""
    """Reason why its method cannot use a GPU; '' if it may."""


def gpu_needs(config: Config) -> dict[Step, GpuNeed]:
    """Steps of a resolved config that are done on workers with a GPU, if there are any."""
    found = dict[Step, GpuNeed]()
    if needs_gpu(config):
        name, key = config.params.segmentation_method, "params.segmentation_gpu"
        needs = needs_of(find_method("segmenter", name), key)
        found["segment"] = GpuNeed(
            key, config.params.segmentation_gpu == 1, needs.memory, gpu_problem("segmenter", name)
        )  # fmt: skip
    for own in flow_of(config).own if config.pipelines else ():
        if own.step.is_on_gpu:
            key = f"pipelines.{own.name}.gpu"
            memory = needs_of(find_method("step", own.step.do), key).memory
            found[own.name] = GpuNeed(key, own.step.gpu == 1, memory)
    return found


def placed(parts: Sequence[Part], config: Config) -> list[Part]:
    """Parts of the graph of a resolved config, those for workers with a GPU marked.

    A part after one of these begins another task. So that the tasks of a FOV stay few, and have their usual names, all
    that comes between blocks and their second pass waits for the same parts.
    """
    segmenting = {SEGMENT: WITH_GPU} if needs_gpu(config) else {}
    marked = [replace(part, resources=segmenting.get(part.name, part.resources)) for part in parts]
    if not any(GPU in part.resources for part in marked):
        return marked
    graph = Graph(marked)
    made_from_links = graph.downstream(["track.link"])
    before = tuple(name for name in BEFORE_LINKING if name not in made_from_links)
    waiting = [replace(part, after=before) if part.name in LINKING else part for part in marked]
    return [part if graph.kind_of[part.name] == graph.kind_of[COPY] else _loading(part) for part in waiting]


def _loading(part: Part) -> Part:
    """Part that reads frames, and labels, which its task has not made."""
    if part.name in BEFORE_LINKING:
        return replace(part, reads=("raw", "labels"))
    if part.name != SEGMENT:
        return part

    def memory(config: Config) -> Held:
        held = part.memory(config)
        return replace(held, frame=held.frame + LOADED)

    return replace(part, reads=("raw",), channels=_phase, memory=memory)


def _phase(config: Config) -> Collection[int]:
    return {int(config.channels.pc.channel)} if config.channels.pc else set()

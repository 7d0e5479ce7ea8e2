"""What tasks need: bytes, memory, files, and the length of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from pyama_dask.config.models import Config
from pyama_dask.methods.registry import ready_method
from pyama_dask.store.layout import ArraySpec, layout, products
from pyama_dask.workflow.graph import BLOCKED, Kind, active_steps
from pyama_dask.workflow.task import Job

WORKER_BASE = 335 * 2**20
"""Memory of a worker that has not held a block: Python, the packages, compiled loops, tables of grey levels."""


KEPT = 2.5
"""Bytes a pixel of a frame of a block that were let go of, and that a worker keeps for what comes next."""


GATHERING = 96 * 2**20
"""Memory of the task that puts a FOV's tables and crops together, some at a time."""


BLOCK_MEMORY = 512 * 2**20
"""Most memory that ``block_frames: auto`` gives to one block."""


LONGEST_BLOCK = 16


TASK_SECONDS = 60.0
"""What a task on a queue should take: long against what handing it out costs, short against a walltime."""


SECONDS_A_MEGAPIXEL = 0.05
"""Of a task with all steps, for each channel, where nothing was measured."""


BLOCKS_A_WORKER = 3
"""Blocks that there should be for each worker, so that all have something to do until the end."""


def traffic(job: Job, kind: Kind, shape: tuple[int, int]) -> tuple[int, int]:
    """Bytes of images that a task on a block reads and writes a frame, uncompressed and without crops."""
    specs, steps = layout(job.config, shape, job.n_frames, job.block_frames), active_steps(job.config)
    written = sum(spec.frame_bytes for step in steps for spec in products(specs, kind, step))
    if kind == "ingest":
        return sum(spec.frame_bytes for spec in products(specs, kind, "copy")), written
    measured = {int(choice.channel) for choice in job.config.channels.fl if choice.features}
    seen = bool({"crop", "cache"} & set(steps))

    def is_read(spec: ArraySpec) -> bool:
        if spec.is_labels:
            return not spec.is_tracked
        return (spec.level == "tiles" or spec.is_raw) and (seen or (spec.channel in measured and "extract" in steps))

    return sum(spec.frame_bytes for spec in specs.values() if spec.level != 1 and is_read(spec)), written


def task_memory(config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None) -> int:
    """Peak memory of a worker that does a task on so many frames, all of them or some at once, in bytes."""
    of_method = segmenter_bytes(config, shape) if kind == "ingest" else 0
    return of_method + _memory_of_images(config, kind, shape, frames, at_once)


def _memory_of_images(
    config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None
) -> int:
    """Peak memory of a task, without what a ready segmenter needs."""
    if kind not in BLOCKED:
        return WORKER_BASE + GATHERING
    held = min(at_once or frames, frames)
    of_block = block_bytes(config, kind) + (added_bytes(config, kind) if held < frames else 0)
    return WORKER_BASE + int(prod(shape) * (held * pixel_bytes(config, kind) + frames * of_block))


def segmenter_bytes(config: Config, shape: tuple[int, int]) -> int:
    """Bytes that a ready segmenter's package needs besides; of other people's methods nothing is known."""
    ready = ready_method("segmenter", config.params.segmentation_method)
    return ready.memory + ready.pixel_bytes * prod(shape) if ready and "segment" in active_steps(config) else 0


def pixel_bytes(config: Config, kind: Kind) -> float:
    """Bytes that a task holds for a pixel of a frame it works on: arrays, and what is being compressed."""
    raw, fluorescent = len(config.channels.all), len(config.channels.fl)
    if "segment" not in active_steps(config):
        return 2 * raw + 2 + KEPT
    if kind == "ingest":
        planes = 6 if fluorescent and config.storage.background == "full" else 0  # 4, and 2 compressed
        return max(2 * raw + 2, 2 * fluorescent + 2 + planes) + KEPT
    return 2 * raw + 4.5 + KEPT


def block_bytes(config: Config, kind: Kind) -> float:
    """Bytes that a task holds to its end for a pixel of every frame of its block: parts of crops."""
    if kind == "ingest" or "crop" not in active_steps(config):
        return 0
    return len(config.channels.all)  # boxes of cells on a fourth of the frame


def added_bytes(config: Config, kind: Kind) -> float:
    """Bytes for a pixel of the largest shard of a task, compressed, which is in memory while a piece is added to it."""
    plain = config.storage.codec == "none"
    if kind == "finish":
        return 2 if plain else 0.25
    planes = "background" in active_steps(config) and config.storage.background == "full"
    return 4 if plain and planes else 2.25


def longest_block(config: Config, shape: tuple[int, int], frames: int, pace: Mapping[Kind, float] | None = None) -> int:
    """Most frames that ``block_frames: auto`` gives to a block.

    On a queue, as many as take about a minute, unless workers would run out of blocks before the end.

    Parameters
    ----------
    config
        Resolved config.
    shape
        (H, W) of the largest frames in pixels.
    frames
        Of all FOVs together.
    pace
        Seconds of tasks by kind for each frame, where they were measured.
    """
    if not config.cluster.of_queue:
        return LONGEST_BLOCK
    guess = SECONDS_A_MEGAPIXEL * prod(shape) / 1e6 * len(config.channels.all)
    a_minute = TASK_SECONDS / max((pace[kind] for kind in BLOCKED if kind in pace) if pace else [guess], default=guess)
    a_share = frames / (BLOCKS_A_WORKER * config.cluster.most_jobs * config.cluster.worker_processes)
    return max(1, int(min(a_minute, max(a_share, LONGEST_BLOCK))))


def automatic_block(
    config: Config, shape: tuple[int, int], n_frames: int, worker_memory: int, longest: int = LONGEST_BLOCK
) -> int:
    """Frames of a block: as many as fit comfortably in a worker's memory, and blocks of one FOV about equal."""
    room = 0.6 * (worker_memory - segmenter_bytes(config, shape))
    if not config.cluster.of_queue:  # other programs want to live on this machine, too
        room = min(room, WORKER_BASE + BLOCK_MEMORY)
    one, two = (max(_memory_of_images(config, kind, shape, n) for kind in BLOCKED) for n in (1, 2))
    fits = 1 + int(max(room - one, 0) // (two - one))
    blocks = ceil(n_frames / min(max(fits, 1), longest))
    return ceil(n_frames / blocks)


def count_files(config: Config, specs: Mapping[str, ArraySpec], blocks: int) -> tuple[int, int]:
    """Files of a FOV's results without those of its cells, and files that each cell adds."""
    stored = [spec for spec in specs.values() if prod(spec.shape)]
    groups = {spec.group for spec in specs.values()}
    images = 1 + len(groups) + len(specs) + len(stored) * blocks
    if "segment" not in active_steps(config):
        return images, 0
    with_traces = images + 1
    if config.storage.cells == "off":
        return with_traces, 0
    if config.storage.cells == "zip":
        return with_traces + 1, 0
    products, levels = len(config.channels.all) + 1, 2 if config.storage.display == "on" else 1
    return with_traces + (1 + 1 + 3 * 2 + products), products * (1 + 2 * levels)

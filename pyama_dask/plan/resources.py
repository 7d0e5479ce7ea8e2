"""Resources of tasks: bytes, memory, files, and the length of blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from math import ceil, prod

import numpy as np

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.methods.own_files import calls_plugins
from pyama_dask.steps.batches import frames_together
from pyama_dask.steps.flow import MOVIE, TRACES, flow_of
from pyama_dask.steps.graphs import graph_of
from pyama_dask.steps.own_arrays import own_arrays
from pyama_dask.steps.standard import finds_cells, registers, uses_model
from pyama_dask.store.layout import ArraySpec, layout, products
from pyama_dask.store.plate import half_arrays
from pyama_dask.workflow.graph import Held, Step
from pyama_dask.workflow.kinds import Kind, on_blocks
from pyama_dask.workflow.task import Job, Task

WORKER_BASE = 480 * 2**20
"""Memory of a worker without blocks: Python, packages, compiled loops, tables of grey levels, small pieces."""
FORKED_BASE = 250 * 2**20
"""The same of a forked worker, in which code of packages counts only as far as it runs."""
PACKAGES = 100 * 2**20
"""Memory of further packages that a worker keeps once it has used them: of networks, and of functions."""
BESIDE_BLOCKS = 335 * 2**20
"""Memory that a block may not take of the share of a worker's memory for blocks, with ``block_frames: auto``."""
GATHERING = 64 * 2**20
"""Memory of the task that joins a FOV's tables and crops, some at a time."""
WINDOWS = 4
"""Copies of a cell's crops that it holds: those that are read, compressed, and written."""
WITHIN_GATHERING = 16 * 2**20
"""Bytes of them that `GATHERING` has room for."""
OBJECT = 250
"""Bytes per object of all frames of a FOV, where it is linked, and where its row of the traces is written."""
BLOCK_MEMORY = 512 * 2**20
"""Largest memory of one block with ``block_frames: auto``."""
LONGEST_BLOCK = 16
"""Frames of a local task at most."""
SHORTEST_TASK = 0.5
"""Seconds that a task takes at least, so that the cost of sending it does not count."""
TASK_SECONDS = 60.0
"""Seconds that a task on a queue takes at most: short compared with a walltime."""
SECONDS_A_MEGAPIXEL = 0.05
"""Assumed duration of a task with all steps, per channel, if nothing was measured."""
BLOCKS_A_WORKER = 3
"""Smallest number of blocks per worker, so that all workers are busy until the end."""


def traffic(
    job: Job, kind: Kind, shape: tuple[int, int], movie_shape: tuple[int, int] | None = None,
    steps: Collection[Step] | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Bytes of images that a task on a block reads and writes per frame, uncompressed and without crops.

    Parameters
    ----------
    job
        The run.
    kind
        Kind of the task.
    shape
        (H, W) of a frame in pixels.
    movie_shape
        (H, W) of a frame in the movie, if steps change it.
    steps
        Steps of the task that are to be done; None for all.
    """
    config, specs = job.config, layout(job, shape) | half_arrays(job, shape) | own_arrays(job, movie_shape or shape)
    active = [part for part in graph_of(config).kinds[kind] if part.active(config)]
    parts = active if steps is None else [part for part in active if part.step in steps]
    written = sum(spec.frame_bytes for part in parts for spec in products(specs, part))
    full = [spec for spec in specs.values() if spec.role != "background" or spec.level == "tiles"]
    read = {
        spec.path: spec.frame_bytes
        for part in parts
        for spec in full
        if spec.role in part.reads and (part.channels is None or spec.channel in part.channels(config))
    }
    if not any("raw" in part.reads for part in parts) and any(part.from_movie for part in parts):
        read |= _frames_of_movie(config, movie_shape or shape)
    return sum(read.values()), written


def _frames_of_movie(config: Config, shape: tuple[int, int]) -> dict[str, int]:
    """Bytes of a frame of each channel of the movie that steps of a user's own are made from."""
    made = (image for own in flow_of(config).own for image in (*own.gives, *chain.from_iterable(own.gets)))
    images = {of.name: of for image in made for of in image.upstream() if of.origin == MOVIE}
    return {
        f"movie/{name}": prod(shape) * np.dtype(of.dtype).itemsize * max(1, of.planes) for name, of in images.items()
    }


def traffic_of(job: Job, tasks: Iterable[Task]) -> tuple[int, int]:
    """Bytes of images that the steps of some tasks read and write, uncompressed and without crops."""
    frames = Counter[tuple[Kind, tuple[int, int], tuple[int, int], tuple[Step, ...]]]()
    for task in tasks:
        if task.block is not None:
            frames[task.kind, task.shape, task.movie_shape, tuple(task.digests)] += task.stop - task.start
    found = [(n, *traffic(job, *alike)) for alike, n in frames.items()]
    return sum(n * read for n, read, _ in found), sum(n * written for n, _, written in found)


def task_memory(
    config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None,
    movie_shape: tuple[int, int] | None = None,
) -> int:  # fmt: skip
    """Peak memory of a worker that runs a task, in bytes.

    Parameters
    ----------
    config
        Resolved config.
    kind
        Kind of the task.
    shape
        (H, W) of a frame in pixels.
    frames
        Frames of the task.
    at_once
        Frames that it handles together; None for as many as usual.
    movie_shape
        (H, W) of a frame in the movie, if steps change it.
    """
    base = worker_base(config.cluster) + (PACKAGES if _needs_packages(config) else 0)
    if not on_blocks(kind):
        return base + GATHERING
    return base + _block_memory(config, kind, shape, frames, at_once, movie_shape)


def _needs_packages(config: Config) -> bool:
    """Check for a network, pipelines, or functions of users, whose packages stay in the memory of a worker."""
    return bool(config.pipelines) or uses_model(config) or calls_plugins(config)


def worker_base(cluster: Cluster) -> int:
    """Memory of a worker without blocks, in bytes."""
    return FORKED_BASE if cluster.forks_workers else WORKER_BASE


def _block_memory(
    config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None,
    movie_shape: tuple[int, int] | None = None,
) -> int:  # fmt: skip
    """Bytes that a task on a block holds, with what its methods need."""
    parts = [part.memory(config) for part in graph_of(config).kinds[kind] if part.active(config)]
    in_work = min(at_once or frames_together(config, frames), frames)
    frame = max((held.frame for held in parts), default=0)
    block = sum(held.block for held in parts)
    images = prod(shape) * (in_work * frame + frames * block)
    images += max(prod(shape), prod(movie_shape or shape)) * sum(_made(config, held, in_work) for held in parts)
    return int(images) + fixed_memory(config, shape, kind, movie_shape)


def _made(config: Config, held: Held, in_work: int) -> float:
    """Bytes per pixel of the movie of images that steps of a user's own give, for some frames in work."""
    if not held.made_around:
        return held.made * in_work
    window = min(in_work + held.around, len(parse_selection(config.params.frames)))
    return held.made * in_work + held.made_around * window


def _around_blocks(config: Config, kind: Kind) -> int:
    """Bytes per pixel of the frames around a block that steps look into."""
    parts = [part.memory(config) for part in graph_of(config).kinds[kind] if part.active(config)]
    most = len(parse_selection(config.params.frames)) - 1
    return int(sum(held.made_around * min(held.around, most) for held in parts))


def table_memory(cluster: Cluster, objects: int, frames: int, window: int) -> int:
    """Peak memory of a worker that links the objects of a FOV, or writes their traces and crops, in bytes.

    Parameters
    ----------
    cluster
        Settings of the workers.
    objects
        Of all frames of the FOV together.
    frames
        Frames of the FOV.
    window
        Pixels of the largest crop of a frame: the crops of a cell in all frames are compressed together.
    """
    crops = max(0, WINDOWS * frames * window * np.dtype(np.float32).itemsize - WITHIN_GATHERING)
    return worker_base(cluster) + GATHERING + max(OBJECT * objects, crops)


def fixed_memory(config: Config, shape: tuple[int, int], kind: Kind, movie_shape: tuple[int, int] | None = None) -> int:
    """Bytes that methods hold in a task, independent of the number of frames."""
    largest = max(prod(shape), prod(movie_shape or shape))
    parts = [part.memory(config) for part in graph_of(config).kinds[kind] if part.active(config)]
    return sum(held.fixed + int(held.once * prod(shape) + held.made_once * largest) for held in parts)


def reads_movie(config: Config, kind: Kind) -> bool:
    """True if tasks of a kind read frames from the movie."""
    return any("raw" in part.writes for part in graph_of(config).kinds[kind] if part.active(config))


def longest_block(
    config: Config, shape: tuple[int, int], frames: int, pace: Mapping[Kind, float] | None = None, workers: int = 1
) -> int:
    """Largest number of frames per block with ``block_frames: auto``.

    On a queue, as many as take about a minute. Fewer, if workers would run out of blocks before the end, unless tasks
    became very short.

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
    workers
        Number of tasks that can run at the same time.
    """
    kinds = [kind for kind in graph_of(config).kinds if on_blocks(kind)]
    guess = SECONDS_A_MEGAPIXEL * prod(shape) / 1e6 * len(config.channels.all)
    seconds = max((pace[kind] for kind in kinds if kind in pace) if pace else [guess], default=guess)
    longest = TASK_SECONDS / seconds if config.cluster.of_queue else LONGEST_BLOCK
    a_share = frames / (BLOCKS_A_WORKER * workers) if workers > 1 else longest
    return max(1, int(min(longest, max(a_share, ceil(SHORTEST_TASK / seconds)))))


def automatic_block(
    config: Config,
    shape: tuple[int, int],
    n_frames: int,
    worker_memory: int,
    longest: int = LONGEST_BLOCK,
    reading: int = 0,
    movie_shape: tuple[int, int] | None = None,
    workers: int = 1,
) -> int:
    """Frames per block: as many as fit comfortably in a worker's memory, with blocks of one FOV about equally long.

    Workers that have a FOV for themselves get equal numbers of its blocks, as its linking waits for the last one.

    Parameters
    ----------
    config
        Resolved config.
    shape
        (H, W) of the largest frames in pixels.
    n_frames
        Frames per FOV.
    worker_memory
        Memory of a worker in bytes.
    longest
        Largest number of frames, as from `longest_block`.
    reading
        Bytes that reading the movie needs; see `Metadata.read_memory`.
    movie_shape
        (H, W) of the largest frames in the movie, if steps change it.
    workers
        Number of workers for each FOV; 0 before any has come.
    """
    kinds = [kind for kind in graph_of(config).kinds if on_blocks(kind)]
    largest = max(prod(shape), prod(movie_shape or shape))
    by_kind = {
        kind: fixed_memory(config, shape, kind, movie_shape) + _around_blocks(config, kind) * largest for kind in kinds
    }  # frames around a block are the same for short ones, which would read more of them
    fixed = max(of + reading * reads_movie(config, kind) for kind, of in by_kind.items())
    room = 0.6 * (worker_memory - fixed) - BESIDE_BLOCKS
    if not config.cluster.of_queue:  # other programs want to live on this machine, too
        room = min(room, BLOCK_MEMORY)
    one, two = (
        max(_block_memory(config, kind, shape, n, None, movie_shape) - of for kind, of in by_kind.items())
        for n in (1, 2)
    )
    fits = 1 + int(max(room - one, 0) // max(two - one, 1))
    blocks = ceil(n_frames / min(max(fits, 1), longest))
    if 0 < workers < blocks:
        blocks = ceil(blocks / workers) * workers
    return ceil(n_frames / blocks)


def files_in_plate(job: Job, shape: tuple[int, int]) -> int:
    """Names of files of a FOV's image in the plate; 0 without one.

    Parameters
    ----------
    job
        The run.
    shape
        (H, W) of a frame in pixels.
    """
    halves = half_arrays(job, shape).values()
    labels = sum(half.is_labels for half in halves)
    documents = 3 + (1 + 3 * labels if labels else 0)
    return documents + 2 * len(halves) * len(job.blocks) if halves else 0


def count_files(config: Config, specs: Mapping[str, ArraySpec], blocks: int) -> tuple[int, int]:
    """Files of a FOV's results without those of its cells, and files that each cell adds.

    Parameters
    ----------
    config
        Resolved config.
    specs
        Arrays of the FOV, by path.
    blocks
        Blocks per FOV.
    """
    stored = [spec for spec in specs.values() if prod(spec.shape)]
    groups = {spec.group for spec in specs.values()}
    images = 2 + len(groups) + len(specs) + len(stored) * blocks
    if not finds_cells(config):
        return images, 0
    with_traces = images + 1 + registers(config)
    if config.storage.cells == "off":
        return with_traces, 0
    if config.storage.cells == "zip":
        return with_traces + 1, 0
    products, levels = len(config.channels.all) + 1, 2 if config.storage.display == "on" else 1
    return with_traces + (1 + 1 + 3 * 2 + products), products * (1 + 2 * levels)


def files_of_pipelines(job: Job, shape: tuple[int, int]) -> int:
    """Files of a FOV that steps of a user's own write: stores, groups, arrays with one shard per block, and tables.

    Parameters
    ----------
    job
        The run.
    shape
        (H, W) of a frame in the movie, in pixels.
    """
    specs, own = own_arrays(job, shape).values(), flow_of(job.config).own
    tables = [one for one in own if one.step.found and one.step.found.gives == "table" and one.step.to != TRACES]
    described = {(spec.store, *place) for spec in specs for place in ((), (spec.group,), (spec.path,))}
    of_fovs = [one for one in tables if one.step.found and one.step.found.per != "well"]
    return len(described) + len(specs) * len(job.blocks) + len(of_fovs)
